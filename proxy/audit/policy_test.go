package audit

import (
	"net/url"
	"strings"
	"testing"

	internal "k8s.io/apiserver/pkg/apis/audit"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/kube-gatehouse/gatehouse/auth"
)

const head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n"

// Promise: a policy is read strictly, and every fault is told with its path.
func TestParse(t *testing.T) {
	for _, tt := range []struct{ name, content, want string }{
		{"empty", "", "Kind"},
		{"no rules", head, "0 rules"},
		{"another kind", "apiVersion: v1\nkind: ConfigMap\n", "no kind \"ConfigMap\""},
		{"an old version", "apiVersion: audit.k8s.io/v1beta1\nkind: Policy\nrules: [{level: None}]\n", "v1beta1"},
		{"a misspelt field", head + "rules: [{level: None, user: [ana]}]\n", `unknown field "rules[0].user"`},
		{"a field twice", head + "rules: [{level: None, level: Metadata}]\n", "level"},
		{"an unknown level", head + "rules: [{level: None}, {level: All}]\n", "rules[1].level"},
		{"an unknown stage", head + "omitStages: [Never]\nrules: [{level: None}]\n", "omitStages"},
		{"no YAML", "\t", "yaml"},
	} {
		if _, err := Parse([]byte(tt.content)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want an error with %q", tt.name, err, tt.want)
		}
	}
	_, err := Parse([]byte(head + "rules: [{level: All}, {level: None, nonResourceURLs: [/a, b]}]\n"))
	if joined, ok := err.(interface{ Unwrap() []error }); !ok || len(joined.Unwrap()) != 2 {
		t.Errorf("two faults are told as: %v", err)
	}
	p, err := Parse([]byte(head + "rules: [{level: Request}, {level: RequestResponse}, {level: Metadata}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	if warnings := p.Warnings(); p.Len() != 3 || len(warnings) != 2 || !strings.HasPrefix(warnings[1], "rules[1].level") {
		t.Errorf("%d rules, warnings %q; want one for each level that counts as Metadata", p.Len(), warnings)
	}
}

// Promise: a rule matches what it matches in kube-apiserver: the group of all who
// signed in, the verb of the API, and the resource.
func TestPolicyGoesByWhatKubernetesSees(t *testing.T) {
	p, err := Parse([]byte(head + `omitStages: [RequestReceived]
rules:
- {level: None, userGroups: ["system:authenticated"], nonResourceURLs: ["/healthz*"]}
- {level: None, users: [quiet]}
- {level: Request, verbs: [create], resources: [{group: "", resources: ["pods/exec"]}]}
- {level: Metadata, userGroups: ["system:unauthenticated"]}
- {level: None, resources: [{group: apps}]}
- {level: Metadata, omitStages: [ResponseStarted]}
`))
	if err != nil {
		t.Fatal(err)
	}
	exec := &request.RequestInfo{IsResourceRequest: true, Verb: "create", Resource: "pods", Subresource: "exec", Namespace: "dev", Name: "a"}
	apps := &request.RequestInfo{IsResourceRequest: true, Verb: "list", APIGroup: "apps", Resource: "deployments"}
	health := &request.RequestInfo{Verb: "get", Path: "/healthz/etcd"}
	ana, quiet := &auth.User{Name: "ana", Groups: []string{"dev"}}, &auth.User{Name: "quiet"}
	nobody := &auth.User{Name: auth.AnonymousUser, Groups: []string{auth.UnauthenticatedGroup}}
	for _, tt := range []struct {
		name  string
		user  *auth.User
		info  *request.RequestInfo
		level internal.Level
		omits int
	}{
		{"health, signed in", ana, health, internal.LevelNone, 1},
		{"health, anonymous", nobody, health, internal.LevelMetadata, 1},
		{"health, refused", nil, health, internal.LevelMetadata, 2},
		{"by name", quiet, exec, internal.LevelNone, 1},
		{"bodies are not recorded", ana, exec, internal.LevelMetadata, 1},
		{"by group of the API", ana, apps, internal.LevelNone, 1},
		{"a path that makes no sense", ana, nil, internal.LevelMetadata, 2},
	} {
		r := Request{Method: "get", URL: &url.URL{Path: "/api/v1/watch"}, Info: tt.info, User: tt.user}
		if level, omit := p.judge(r.attributes()); level != tt.level || len(omit) != tt.omits {
			t.Errorf("%s: level %s without the stages %v, want %s without %d", tt.name, level, omit, tt.level, tt.omits)
		}
	}
}

// Promise: what may hold a secret is not in the URI, and what is says how much
// was left out.
func TestRequestURI(t *testing.T) {
	const long = "/api/v1/pods?labelSelector="
	for _, tt := range []struct {
		name, in, want string
		all            bool
		leftOut        int
	}{
		{"as it came", "/api/v1/pods?labelSelector=a%3Db&limit=500&watch=1", "/api/v1/pods?labelSelector=a%3Db&limit=500&watch=1", false, 0},
		{"the command of an exec", "/api/v1/namespaces/dev/pods/a/exec?command=sh&command=-c&command=canary&container=c&stdin=true",
			"/api/v1/namespaces/dev/pods/a/exec?container=c&stdin=true", false, 3},
		{"what nobody knows", "/version?access_token=canary", "/version", false, 1},
		{"a name that is encoded", "/version?%77atch=canary", "/version", false, 1},
		{"what a pod answers", "/api/v1/namespaces/dev/pods/a/proxy/x?limit=canary", "/api/v1/namespaces/dev/pods/a/proxy/x", true, 1},
		{"a name and a password", "https://ana:canary@host/version", "/version", false, 0},
		{"no path", "https://host", "/", false, 0},
		{"an encoded path", "/api/v1/namespaces/d%2Fv", "/api/v1/namespaces/d%2Fv", false, 0},
		{"empty parameters", "/version?&&verbose", "/version?verbose", false, 0},
		{"long", long + strings.Repeat("x", 1<<16) + "&limit=1", long + strings.Repeat("x", maxURI-len(long)) + cut, false, 0},
	} {
		u, err := url.Parse(tt.in)
		if err != nil {
			t.Fatal(err)
		}
		if got, leftOut := requestURI(u, tt.all); got != tt.want || leftOut != tt.leftOut {
			t.Errorf("%s: %q without %d, want %q without %d", tt.name, got, leftOut, tt.want, tt.leftOut)
		}
	}
}

// Promise: whatever the query, what is recorded of it are known parameters as
// they came, and all that is missing is counted.
func FuzzRequestURI(f *testing.F) {
	for _, query := range []string{"", "watch=1", "command=canary&container=c", "&&a&limit", "%77atch=1&watch=%zz", "limit=1;command=x", "=&=", "watch=?limit"} {
		f.Add("/api/v1/pods", query)
	}
	f.Fuzz(func(t *testing.T, path, query string) {
		got, leftOut := requestURI(&url.URL{Path: "/" + path, RawQuery: query}, false)
		if len(got) > maxURI+len(cut) {
			t.Fatalf("%d bytes", len(got))
		}
		if strings.HasSuffix(got, cut) {
			return
		}
		_, recorded, _ := strings.Cut(got, "?")
		given := 0
		for pair := range strings.SplitSeq(query, "&") {
			if pair != "" {
				given++
			}
		}
		kept := 0
		for pair := range strings.SplitSeq(recorded, "&") {
			if pair == "" {
				continue
			}
			kept++
			if !isKnown(pair) || !strings.Contains("&"+query+"&", "&"+pair+"&") {
				t.Errorf("%q is recorded of %q", pair, query)
			}
		}
		if kept+leftOut != given {
			t.Errorf("%d of %d are recorded, and %d left out: %s", kept, given, leftOut, got)
		}
	})
}
