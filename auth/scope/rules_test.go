package scope_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// universe is everything that the properties below are tried with.
var (
	someVerbs     = []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "proxy", "use", "impersonate", "impersonate-on:user-info:get"}
	someGroups    = []string{"", "apps", "certificates.k8s.io", "authorization.k8s.io", "example.com"}
	someResources = []string{
		"pods", "pods/log", "pods/exec", "pods/proxy", "pods/ephemeralcontainers", "secrets", "secrets/status", "serviceaccounts", "serviceaccounts/token",
		"namespaces", "namespaces/status", "nodes", "nodes/proxy", "deployments", "deployments/scale", "things", "things/status",
		"selfsubjectaccessreviews", "certificatesigningrequests", "users",
	}
	someNames = []string{"", "dev", "prod"}
	somePaths = []string{"/", "/api", "/api/v1", "/apis", "/apis/apps", "/apisx", "/healthz", "/metrics", "/version", "/version/x", "/openapi/v3", "/logs/"}
	someHTTP  = []string{"get", "head", "post", "put", "delete", "patch", "options"}
)

func someScope(t *testing.T, random *rand.Rand) scope.Scope {
	t.Helper()
	of := []string{
		"read-only", "no-secrets", "no-exec", "no-impersonation", "namespaces=dev", "namespaces=dev,test", "namespaces=test", "groups=core", "groups=apps,core",
		"groups=example.com", "resources=pods", "resources=pods,pods/*,secrets", "resources=deployments.apps,deployments.apps/scale,namespaces", "verbs=get", "verbs=get,create,delete",
	}
	words := make([]string, 1+random.IntN(3))
	for i := range words {
		words[i] = of[random.IntN(len(of))]
	}
	return parse(t, strings.Join(words, " "))
}

// covers reports whether rule says that somebody may do this, as RBAC reads it
// (k8s.io/kubernetes v1.37, pkg/apis/rbac/v1/evaluation_helpers.go).
func covers(rule scope.Rule, verb, group, resource, name string) bool {
	has := func(list []string, value string) bool {
		return slices.Contains(list, value) || slices.Contains(list, "*")
	}
	_, sub, isSub := strings.Cut(resource, "/")
	return has(rule.Verbs, verb) && has(rule.Groups, group) && (len(rule.Names) == 0 || slices.Contains(rule.Names, name)) &&
		(has(rule.Resources, resource) || isSub && slices.Contains(rule.Resources, "*/"+sub))
}

func coversPath(rule scope.PathRule, verb, path string) bool {
	return (slices.Contains(rule.Verbs, verb) || slices.Contains(rule.Verbs, "*")) && slices.ContainsFunc(rule.Paths, func(p string) bool {
		begin, all := strings.CutSuffix(p, "*")
		return p == path || all && strings.HasPrefix(path, begin)
	})
}

// Promise: what a scope leaves of a list of rules is allowed by the scope and was
// in the list; and if the list is not called incomplete, all that is allowed is
// in it.
func TestNarrowedRules(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 7))
	some := func(of []string, wild ...string) []string {
		list := make([]string, 1+random.IntN(3))
		for i := range list {
			if list[i] = of[random.IntN(len(of))]; len(wild) > 0 && random.IntN(3) == 0 {
				list[i] = wild[random.IntN(len(wild))]
			}
		}
		return list
	}
	kept, complete := 0, 0
	for range 250 {
		s := someScope(t, random)
		var rules, left []scope.Rule
		n := s.Narrow("dev")
		for range 1 + random.IntN(3) {
			rule := scope.Rule{Verbs: some(someVerbs, "*"), Groups: some(someGroups, "*"), Resources: some(someResources, "*", "*", "*/status", "*/scale")}
			if random.IntN(4) == 0 {
				rule.Names = some(someNames[1:])
			}
			rules = append(rules, rule)
			more, changed := n.Rule(rule)
			if !changed && !cmp.Equal(more, []scope.Rule{rule}) {
				t.Fatalf("%q: %+v has become %+v, and is called the same", s, rule, more)
			}
			left = append(left, more...)
		}
		eachQuestion(func(q scope.Question) {
			was := slices.ContainsFunc(rules, func(r scope.Rule) bool { return covers(r, q.Verb, q.Group, q.Resource, q.Name) })
			is := slices.ContainsFunc(left, func(r scope.Rule) bool {
				// All of a namespace is not what is in none.
				return covers(r, q.Verb, q.Group, q.Resource, q.Name) && (!outside(q) || slices.Contains(r.Resources, q.Resource))
			})
			allowed := s.Denies(q.Request()) == nil
			switch {
			case is && !was:
				t.Fatalf("%q makes %+v of %+v, with %+v", s, left, rules, q)
			case is && !allowed:
				t.Fatalf("%q denies %+v, which is in %+v", s, q, left)
			case was && allowed && !is && !n.Incomplete() && !outside(q):
				t.Fatalf("%q allows %+v, of which %+v says nothing, made of %+v", s, q, left, rules)
			}
			if is {
				kept++
			}
		})
		if !n.Incomplete() {
			complete++
		}
	}
	if kept < 10_000 || complete < 50 {
		t.Errorf("only %d were kept, %d complete", kept, complete)
	}
}

func eachQuestion(try func(scope.Question)) {
	for _, verb := range someVerbs {
		for _, group := range someGroups {
			for _, resource := range someResources {
				for _, name := range someNames {
					try(scope.Question{Verb: verb, Group: group, Resource: resource, Namespace: "dev", Name: name})
				}
			}
		}
	}
}

// outside reports whether q is about something that is in no namespace.
func outside(q scope.Question) bool {
	return scope.ClusterWide(q.Group, q.Resource)
}

// Promise: the same of rules about paths.
func TestNarrowedPaths(t *testing.T) {
	random := rand.New(rand.NewPCG(8, 8))
	for range 3000 {
		s := someScope(t, random)
		n := s.Narrow("dev")
		rule := scope.PathRule{}
		for range 1 + random.IntN(3) {
			rule.Paths = append(rule.Paths, append([]string{"*", "/*", "/api*", "/api/*", "/apis/*", "/version*", "/open*", "/h*"}, somePaths...)[random.IntN(8+len(somePaths))])
			rule.Verbs = append(rule.Verbs, append([]string{"*"}, someHTTP...)[random.IntN(1+len(someHTTP))])
		}
		left, changed := n.Path(rule)
		if !changed && !cmp.Equal(left, []scope.PathRule{rule}) {
			t.Fatalf("%q: %+v has become %+v, and is called the same", s, rule, left)
		}
		for _, path := range somePaths {
			for _, verb := range someHTTP {
				was, allowed := coversPath(rule, verb, path), s.Denies(scope.Request{Verb: verb, Path: path}) == nil
				is := slices.ContainsFunc(left, func(r scope.PathRule) bool { return coversPath(r, verb, path) })
				if is != (was && allowed) {
					t.Fatalf("%q, %s %s: %t, of %+v was made %+v", s, verb, path, is, rule, left)
				}
			}
		}
		if n.Incomplete() {
			t.Fatalf("%q: %+v is incomplete", s, left)
		}
	}
}

// Promise: a question about all is answered with yes only if each of them may be
// done.
func TestDeniesAll(t *testing.T) {
	random := rand.New(rand.NewPCG(9, 9))
	yes := 0
	for range 2000 {
		s := someScope(t, random)
		one := func(of ...string) string { return of[random.IntN(len(of))] }
		all := scope.Question{
			Verb: one(append(someVerbs, "*", "*")...), Group: one(append(someGroups, "*", "*")...),
			Resource: one(append(someResources, "*", "*", "*", "pods/*", "*/status", "*/proxy")...), Namespace: one("", "dev"), Name: one("", "dev", "prod"),
		}
		if s.Denies(all.Request()) != nil {
			continue
		}
		yes++
		rule := scope.Rule{Verbs: []string{all.Verb}, Groups: []string{all.Group}, Resources: []string{all.Resource}}
		eachQuestion(func(q scope.Question) {
			q.Namespace = all.Namespace
			base, ofAll := strings.CutSuffix(all.Resource, "/*")
			within := covers(rule, q.Verb, q.Group, q.Resource, q.Name) || ofAll && strings.HasPrefix(q.Resource, base+"/") &&
				covers(scope.Rule{Verbs: rule.Verbs, Groups: rule.Groups, Resources: []string{q.Resource}}, q.Verb, q.Group, q.Resource, q.Name)
			if !within || all.Name != "" && all.Name != q.Name || strings.HasPrefix(all.Resource, "*") && outside(q) {
				return
			}
			if s.Denies(q.Request()) != nil {
				t.Fatalf("%q allows %+v, and denies %+v of it", s, all, q)
			}
		})
	}
	if yes < 200 {
		t.Errorf("only %d were allowed", yes)
	}
}

// Promise: people ask about a thing in words of their own, and are told about the
// request that it takes.
func TestQuestions(t *testing.T) {
	for _, test := range []struct {
		scope   string
		asked   scope.Question
		allowed bool
	}{
		{"no-exec", scope.Question{Verb: "create", Resource: "pods/exec", Namespace: "dev"}, false},
		{"no-exec", scope.Question{Verb: "create", Resource: "pods/exec", Subresource: "x", Namespace: "dev"}, false},
		{"no-exec", scope.Question{Verb: "create", Resource: "pods", Subresource: "log/exec", Namespace: "dev"}, false},
		{"no-exec", scope.Question{Verb: "get", Resource: "pods/", Namespace: "dev"}, false},
		{"no-exec", scope.Question{Verb: "get", Resource: "pods/log", Namespace: "dev"}, true},
		{"no-exec", scope.Question{Verb: "get", Resource: "*", Namespace: "dev"}, false},
		{"no-exec", scope.Question{Verb: "get", Resource: "*/status", Namespace: "dev"}, true},
		{"no-secrets", scope.Question{Verb: "get", Resource: "*", Namespace: "dev"}, false},
		{"no-secrets", scope.Question{Verb: "get", Resource: "*/status", Namespace: "dev"}, false},
		{"no-secrets", scope.Question{Verb: "*", Resource: "configmaps", Namespace: "dev"}, true},
		{"no-secrets", scope.Question{Verb: "create", Group: "*", Resource: "*", Subresource: "scale"}, false},
		{"namespaces=dev", scope.Question{Verb: "get", Resource: "pods", Namespace: "dev"}, true},
		{"namespaces=dev", scope.Question{Verb: "get", Resource: "pods"}, false},
		{"namespaces=dev", scope.Question{Verb: "get", Resource: "pods", Namespace: "*"}, false},
		{"namespaces=dev", scope.Question{Verb: "list", Group: "*", Resource: "*", Namespace: "dev"}, true},
		{"namespaces=dev", scope.Question{Verb: "*", Group: "*", Resource: "*", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "list", Resource: "nodes", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "list", Group: "*", Resource: "nodes", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "get", Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "get", Resource: "namespaces", Name: "dev"}, true},
		{"namespaces=dev", scope.Question{Verb: "get", Resource: "namespaces", Name: "prod", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "update", Resource: "namespaces/status", Name: "prod", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "list", Resource: "namespaces", Name: "dev", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "get", Resource: "namespaces", Namespace: "dev"}, false},
		{"namespaces=dev", scope.Question{Verb: "get", Group: "*", Resource: "namespaces", Name: "dev", Namespace: "prod"}, false},
		{"no-impersonation", scope.Question{Verb: "impersonate", Resource: "users", Name: "root"}, false},
		{"no-impersonation", scope.Question{Verb: "impersonate:user-info", Group: "authentication.k8s.io", Resource: "users"}, false},
		{"no-impersonation", scope.Question{Verb: "impersonate-on:user-info:get", Resource: "pods"}, false},
		{"no-impersonation", scope.Question{Verb: "*", Resource: "users"}, false},
		{"no-impersonation", scope.Question{Verb: "get", Resource: "users"}, true},
		{"no-exec", scope.Question{Verb: "sign", Group: "certificates.k8s.io", Resource: "signers"}, false},
		{"no-exec", scope.Question{Verb: "create", Resource: "serviceaccounts", Subresource: "*"}, false},
		{"no-exec", scope.Question{Verb: "create", Resource: "serviceaccounts"}, true},
	} {
		if got := parse(t, test.scope).Denies(test.asked.Request()) == nil; got != test.allowed {
			t.Errorf("%q: %+v: %t, want %t", test.scope, test.asked, got, test.allowed)
		}
	}
}

// Promise: a list that a scope narrows stays readable, and what cannot be written
// in it is not forgotten.
func TestNarrow(t *testing.T) {
	admin := scope.Rule{Verbs: []string{"*"}, Groups: []string{"*"}, Resources: []string{"*"}}
	deployments := scope.Rule{Verbs: []string{"*"}, Groups: []string{"apps"}, Resources: []string{"deployments"}}
	whoAmI := scope.Rule{Verbs: []string{"create"}, Groups: []string{"authentication.k8s.io"}, Resources: []string{"selfsubjectreviews"}}
	whatMayI := scope.Rule{
		Verbs: []string{"create"}, Groups: []string{"authorization.k8s.io"}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"},
	}
	for _, test := range []struct {
		scope, namespace string
		rule             scope.Rule
		want             []scope.Rule
		incomplete       bool
	}{
		{"no-secrets", "dev", deployments, []scope.Rule{deployments}, false},
		{"namespaces=dev", "dev", deployments, []scope.Rule{deployments}, false},
		{"namespaces=dev", "prod", deployments, nil, false},
		{"namespaces=dev", "", deployments, nil, false},
		{"read-only", "dev", deployments, []scope.Rule{{[]string{"get", "list", "watch"}, []string{"apps"}, []string{"deployments"}, nil}}, false},
		{"no-exec", "dev", deployments, []scope.Rule{{scope.Verbs(), []string{"apps"}, []string{"deployments"}, nil}}, true},
		{
			"groups=apps verbs=list", "dev", admin, []scope.Rule{{[]string{"list"}, []string{"apps"}, []string{"*"}, nil}, whoAmI, whatMayI}, false,
		},
		{
			"namespaces=dev resources=pods,things.example.com", "dev", admin, []scope.Rule{
				{[]string{"get", "list", "watch"}, []string{"*"}, []string{"pods"}, nil},
				{[]string{"*"}, []string{""}, []string{"pods"}, nil},
				{[]string{"*"}, []string{"metrics.k8s.io"}, []string{"pods"}, nil},
				{[]string{"*"}, []string{"example.com"}, []string{"pods", "things"}, nil}, whoAmI, whatMayI,
			}, true,
		},
		{
			"namespaces=dev", "dev", scope.Rule{Verbs: []string{"get", "list"}, Groups: []string{""}, Resources: []string{"namespaces", "nodes", "pods"}}, []scope.Rule{
				{[]string{"get"}, []string{""}, []string{"namespaces"}, []string{"dev"}},
				{[]string{"get", "list"}, []string{""}, []string{"pods"}, nil},
			}, false,
		},
		{
			"no-secrets", "dev", scope.Rule{Verbs: []string{"get"}, Groups: []string{""}, Resources: []string{"pods", "secrets", "services"}},
			[]scope.Rule{{[]string{"get"}, []string{""}, []string{"pods", "services"}, nil}}, false,
		},
		{
			"no-secrets", "dev", scope.Rule{Verbs: []string{"get"}, Groups: []string{"example.com"}, Resources: []string{"*"}}, nil, true,
		},
	} {
		n := parse(t, test.scope).Narrow(test.namespace)
		left, _ := n.Rule(test.rule)
		if diff := cmp.Diff(test.want, left); diff != "" || n.Incomplete() != test.incomplete {
			t.Errorf("%q, incomplete %t: (-want +got):\n%s", test.scope, n.Incomplete(), diff)
		}
	}
}

// Promise: no list of rules takes long.
func TestNarrowIsBounded(t *testing.T) {
	many := make([]string, 40_000)
	for i := range many {
		many[i] = "*"
	}
	n := parse(t, "no-secrets").Narrow("dev")
	if left, _ := n.Rule(scope.Rule{Verbs: many, Groups: many, Resources: many}); left != nil || !n.Incomplete() {
		t.Errorf("%d rules are left", len(left))
	}
	if left, _ := n.Path(scope.PathRule{Verbs: many, Paths: many}); left != nil {
		t.Errorf("%d rules about paths are left", len(left))
	}
	n, answered := parse(t, "no-secrets").Narrow("dev"), 0
	for range 10_000 {
		if left, _ := n.Rule(scope.Rule{Verbs: []string{"*"}, Groups: []string{"*"}, Resources: []string{"*"}}); left != nil {
			answered++
		}
	}
	if answered == 0 || answered > 1000 || !n.Incomplete() {
		t.Errorf("%d rules were expanded", answered)
	}
}
