package scope_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

func parse(t *testing.T, text string) scope.Scope {
	t.Helper()
	s, err := scope.Parse(text)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return s
}

// Promise: a scope has one form in which it is written, whatever the order of
// its words and values.
func TestParse(t *testing.T) {
	for _, test := range []struct{ in, want string }{
		{"", ""},
		{"  ", ""},
		{"read-only", "read-only"},
		{"read-only  no-secrets read-only", "no-secrets read-only"},
		{"namespaces=test,dev,test", "namespaces=dev,test"},
		{"verbs=list,get", "verbs=get,list"},
		{"groups=core,apps,cert-manager.io", "groups=apps,cert-manager.io,core"},
		{"resources=pods/log,pods,deployments.apps/scale,pods/*", "resources=deployments.apps/scale,pods,pods/*,pods/log"},
	} {
		s := parse(t, test.in)
		if s.String() != test.want || s.Unlimited() != (test.want == "") || !parse(t, s.String()).Equal(s) {
			t.Errorf("%q: %q, want %q", test.in, s, test.want)
		}
		if words := s.Words(); strings.Join(words, " ") != test.want {
			t.Errorf("%q: words %q", test.in, words)
		}
	}
}

// Promise: what nobody knows is refused, so that no misspelt word is taken for
// no restriction.
func TestParseFaults(t *testing.T) {
	for _, in := range []string{
		"readonly", "Read-Only", "read-only=true", "openid", "namespaces", "namespaces=", "namespaces=dev,", "namespaces=,dev",
		"namespaces=Dev", "namespaces=*", "namespaces=dev.x", "namespaces=-dev", "namespaces=" + strings.Repeat("a", 64),
		"groups=", "groups=\"\"", "groups=*", "groups=.apps", "resources=", "resources=*", "resources=*/*", "resources=pods/", "resources=/log",
		"resources=pods/log/x", "resources=Pods", "verbs=", "verbs=*", "verbs=GET", "verbs=impersonate", "verbs=get,watches",
		"read-only\tno-secrets", "read-only,no-secrets", "read-only\nno-secrets", "\x00", "no-secrets\u00a0",
		strings.Repeat("x", 3000), strings.Repeat("read-only ", 300),
	} {
		if s, err := scope.Parse(in); err == nil {
			t.Errorf("%q is taken for %q", in, s)
		} else if len(err.Error()) > 400 {
			t.Errorf("%q: the error has %d bytes", in, len(err.Error()))
		}
	}
	var many []string
	for i := range 33 {
		many = append(many, "namespaces=n"+string(rune('a'+i%26))+string(rune('a'+i/26)))
	}
	if _, err := scope.Parse(strings.Join(many, " ")); err == nil {
		t.Error("33 words are accepted")
	}
	if _, err := parse(t, strings.Join(many[:20], " ")).And(parse(t, strings.Join(many[15:], " "))); err == nil {
		t.Error("33 words together are accepted")
	}
}

func resource(verb, resource, namespace string) scope.Request {
	r := scope.Request{OfResource: true, Verb: verb, Namespace: namespace}
	name, sub, _ := strings.Cut(resource, "/")
	r.Resource, r.Group, _ = strings.Cut(name, ".")
	r.Subresource = sub
	return r
}

func upgrading(r scope.Request) scope.Request {
	r.Upgrades = true
	return r
}

func path(verb, path string) scope.Request { return scope.Request{Verb: verb, Path: path} }

// Promise: each word restricts what it says, and nothing else.
func TestDenies(t *testing.T) {
	for _, test := range []struct {
		scope   string
		allowed []scope.Request
		denied  []scope.Request
	}{
		{
			scope: "", allowed: []scope.Request{
				resource("delete", "secrets", "dev"), resource("create", "pods/exec", "dev"), path("post", "/anything"),
				resource("create", "serviceaccounts/token", "dev"), resource("create", "certificatesigningrequests.certificates.k8s.io", ""),
				{},
			},
		},
		{
			scope: "read-only", allowed: []scope.Request{
				resource("get", "pods", "dev"), resource("list", "pods", ""), resource("watch", "secrets", "dev"), resource("get", "pods/log", "dev"),
				path("get", "/healthz"), path("head", "/metrics"), path("get", "/apis"),
				upgrading(resource("watch", "pods", "dev")), upgrading(resource("get", "pods/log", "dev")),
				resource("create", "selfsubjectreviews.authentication.k8s.io", ""),
				resource("create", "selfsubjectaccessreviews.authorization.k8s.io", ""),
				resource("create", "selfsubjectrulesreviews.authorization.k8s.io", ""),
			},
			denied: []scope.Request{
				resource("create", "pods", "dev"), resource("update", "pods", "dev"), resource("patch", "pods/status", "dev"),
				resource("delete", "pods", "dev"), resource("deletecollection", "pods", "dev"), resource("", "pods", "dev"),
				resource("get", "pods/exec", "dev"), resource("get", "pods/attach", "dev"), resource("get", "pods/portforward", "dev"),
				resource("get", "pods/proxy", "dev"), resource("get", "services/proxy", "dev"), resource("get", "nodes/proxy", ""),
				resource("proxy", "pods", "dev"), resource("create", "subjectaccessreviews.authorization.k8s.io", ""),
				resource("create", "selfsubjectreviews.authorization.k8s.io", ""), resource("create", "selfsubjectreviews", ""),
				resource("update", "selfsubjectreviews.authentication.k8s.io", ""),
				path("post", "/apis"), path("put", "/healthz"), path("options", "/"), {},
				upgrading(resource("get", "machines.example.com/console", "dev")), upgrading(path("get", "/healthz")), upgrading(path("get", "/apis")),
			},
		},
		{
			scope: "no-secrets", allowed: []scope.Request{
				resource("delete", "pods", "dev"), resource("get", "configmaps", "dev"), path("get", "/metrics"), path("post", "/x"),
			},
			denied: []scope.Request{
				resource("get", "secrets", "dev"), resource("list", "secrets", ""), resource("watch", "secrets", ""),
				resource("create", "secrets", "dev"), resource("get", "secrets/x", "dev"), resource("get", "secrets.example.com", "dev"),
			},
		},
		{
			scope:   "no-exec",
			allowed: []scope.Request{resource("delete", "pods", "dev"), resource("get", "pods/log", "dev"), path("get", "/metrics")},
			denied: []scope.Request{
				resource("create", "pods/exec", "dev"), resource("get", "pods/exec", "dev"), resource("create", "pods/attach", "dev"),
				resource("create", "pods/portforward", "dev"), resource("get", "nodes/proxy", ""), resource("update", "pods/ephemeralcontainers", "dev"),
				resource("proxy", "nodes", ""), upgrading(resource("get", "machines.example.com/vnc", "dev")), upgrading(path("get", "/x")),
			},
		},
		{
			scope:   "no-impersonation",
			allowed: []scope.Request{resource("delete", "secrets", "dev"), path("post", "/x")},
		},
		{
			scope: "namespaces=dev,test",
			allowed: []scope.Request{
				resource("delete", "secrets", "dev"), resource("get", "pods", "test"), resource("get", "namespaces", "dev"), path("get", "/api/v1"),
				resource("create", "selfsubjectaccessreviews.authorization.k8s.io", ""),
			},
			denied: []scope.Request{
				resource("list", "pods", ""), resource("get", "pods", "prod"), resource("get", "pods", "de"), resource("list", "namespaces", ""),
				resource("get", "nodes", ""), path("get", "/metrics"), path("get", "/"),
			},
		},
		{
			scope:   "groups=apps,core",
			allowed: []scope.Request{resource("delete", "deployments.apps", "dev"), resource("get", "pods", "dev")},
			denied:  []scope.Request{resource("get", "jobs.batch", "dev"), path("get", "/logs/")},
		},
		{
			scope: "resources=pods,pods/log,deployments.apps,jobs/*",
			allowed: []scope.Request{
				resource("delete", "pods", "dev"), resource("get", "pods/log", "dev"), resource("get", "deployments.apps", ""),
				resource("get", "jobs.batch/status", "dev"), resource("list", "pods.metrics.k8s.io", "dev"),
			},
			denied: []scope.Request{
				resource("create", "pods/exec", "dev"), resource("get", "deployments.other", "dev"), resource("get", "deployments.apps/scale", "dev"),
				resource("get", "jobs.batch", "dev"), resource("get", "nodes", ""), path("get", "/healthz"),
			},
		},
		{
			scope:   "verbs=get,list",
			allowed: []scope.Request{resource("get", "secrets", "dev"), path("get", "/metrics"), path("head", "/version")},
			denied:  []scope.Request{resource("watch", "secrets", "dev"), resource("delete", "pods", "dev"), path("head", "/metrics"), path("post", "/metrics")},
		},
		{
			scope:   "namespaces=dev namespaces=test",
			allowed: []scope.Request{path("get", "/api")},
			denied:  []scope.Request{resource("get", "pods", "dev"), resource("get", "pods", "test")},
		},
	} {
		s := parse(t, test.scope)
		for _, r := range test.allowed {
			if d := s.Denies(r); d != nil {
				t.Errorf("%q denies %+v by %+v", test.scope, r, *d)
			}
		}
		for _, r := range test.denied {
			d := s.Denies(r)
			if d == nil || d.Credentials || !slices.Contains(s.Words(), d.Word) {
				t.Errorf("%q: %+v for %+v", test.scope, d, r)
			}
		}
	}
}

// Promise: no scope allows what nobody can be sure of.
func TestUnclear(t *testing.T) {
	for _, text := range []string{"no-impersonation", "read-only", "namespaces=dev"} {
		if parse(t, text).Denies(scope.Request{Unclear: true, Verb: "get", Path: "/api"}) == nil {
			t.Errorf("%q allows it", text)
		}
	}
	if parse(t, "").Denies(scope.Request{Unclear: true}) != nil {
		t.Error("no scope denies it")
	}
}

// Promise: a narrowed token makes no credential that is not narrowed.
func TestCredentials(t *testing.T) {
	for _, text := range []string{"no-secrets", "no-impersonation", "namespaces=dev", "verbs=create", "resources=serviceaccounts/token", "groups=core,certificates.k8s.io"} {
		for _, r := range []scope.Request{
			resource("create", "serviceaccounts/token", "dev"),
			resource("create", "certificatesigningrequests.certificates.k8s.io", ""),
			resource("update", "certificatesigningrequests.certificates.k8s.io/approval", ""),
			resource("patch", "certificatesigningrequests.certificates.k8s.io/status", ""),
			resource("proxy", "x.certificates.k8s.io", ""),
			resource("", "serviceaccounts/token", "dev"),
		} {
			if d := parse(t, text).Denies(r); d == nil || !d.Credentials {
				t.Errorf("%q: %+v for %+v", text, d, r)
			}
		}
	}
	if d := parse(t, "no-exec").Denies(resource("list", "certificatesigningrequests.certificates.k8s.io", "")); d != nil {
		t.Errorf("reading is denied by %+v", *d)
	}
}

func TestDeniesImpersonation(t *testing.T) {
	if d := parse(t, "no-impersonation read-only").DeniesImpersonation(); d == nil || d.Word != "no-impersonation" {
		t.Errorf("%+v", d)
	}
	if d := parse(t, "read-only").DeniesImpersonation(); d != nil {
		t.Errorf("%+v", d)
	}
}

// Promise: scopes together allow what each of them allows, and nothing else.
func TestAndNarrows(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	word := func() string {
		return one("read-only", "no-secrets", "no-exec", "no-impersonation", "namespaces=dev", "namespaces=dev,test", "groups=core",
			"groups=apps,core", "resources=pods", "resources=pods,pods/*,secrets", "verbs=get", "verbs=get,create,delete")
	}
	some := func() scope.Scope {
		var words []string
		for range random.IntN(4) {
			words = append(words, word())
		}
		return parse(t, strings.Join(words, " "))
	}
	allowed := 0
	for range 20000 {
		a, b := some(), some()
		both, err := a.And(b)
		if err != nil {
			t.Fatal(err)
		}
		r := resource(one("get", "list", "create", "delete"), one("pods", "pods/log", "pods/exec", "secrets", "deployments.apps", "serviceaccounts/token"), one("", "dev", "test", "prod"))
		if random.IntN(8) == 0 {
			r = path(one("get", "post"), one("/api", "/metrics"))
		}
		want := a.Denies(r) == nil && b.Denies(r) == nil
		if got := both.Denies(r) == nil; got != want {
			t.Fatalf("%q and %q: %t, want %t, for %+v", a, b, got, want, r)
		}
		if (both.DeniesImpersonation() != nil) != (a.DeniesImpersonation() != nil || b.DeniesImpersonation() != nil) {
			t.Fatalf("%q and %q: impersonation", a, b)
		}
		if want {
			allowed++
		}
	}
	if allowed < 1000 {
		t.Errorf("only %d were allowed", allowed)
	}
}

// Promise: whatever is parsed is written in a form that means the same, and is
// never taken for more than it says.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "read-only no-secrets", "namespaces=dev,test verbs=get", "resources=pods/*,deployments.apps/scale groups=core", "x=y"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := scope.Parse(text)
		if err != nil {
			return
		}
		again, err := scope.Parse(s.String())
		if err != nil || !again.Equal(s) {
			t.Fatalf("%q: %q and %q, %v", text, s, again, err)
		}
		if s.Unlimited() && strings.Trim(text, " ") != "" {
			t.Fatalf("%q restricts nothing", text)
		}
		if both, err := s.And(s); err != nil || !both.Equal(s) {
			t.Fatalf("%q and itself is %q, %v", s, both, err)
		}
	})
}
