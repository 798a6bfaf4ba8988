package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// classic lets everybody act as the users it names, by the classic verb; of
// "broken" it gives no answer.
type classic []string

func (c classic) Allowed(_ context.Context, _ *auth.User, a impersonate.Attributes) (bool, error) {
	if a.Name == "broken" {
		return false, errors.New("no answer")
	}
	for _, name := range c {
		if a.Verb == "impersonate" && a.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// ourselves is gatehouse's own account at the API server.
const ourselves = "system:serviceaccount:gatehouse:gatehouse"

func permitting(permits *impersonate.Permits) func(*proxy.Config) {
	return func(cfg *proxy.Config) {
		cfg.Permits = permits
		cfg.Self = func() string { return ourselves }
	}
}

func identityHeaders(h http.Header) http.Header {
	found := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, "Impersonate") || name == "Authorization" {
			found[name] = values
		}
	}
	return found
}

// Promise: whoever may act as another user reaches the API server as exactly
// that user, with his own name beside for the audit log; whoever may not does
// not reach it at all.
func TestActAs(t *testing.T) {
	const original = "Impersonate-Extra-Kube-Gatehouse.github.io%2foriginal-User"
	own := []string{"Bearer " + ownToken}
	permits := impersonate.NewPermits(classic{"alice", "dev", "7", "v", "system:admin", "system:authenticated", "system:unauthenticated", "builder", "gatehouse"})
	for name, tt := range map[string]struct {
		headers http.Header
		want    http.Header // nil: refused
		code    int
		says    string
	}{
		"a user": {http.Header{"Impersonate-User": {"alice"}},
			http.Header{"Authorization": own, "Impersonate-User": {"alice"}, original: {"bob"}}, 200, ""},
		"everything": {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"dev"}, "Impersonate-Uid": {"7"}, "Impersonate-Extra-Example.com%2fk": {"v"}},
			http.Header{"Authorization": own, "Impersonate-User": {"alice"}, "Impersonate-Group": {"dev"}, "Impersonate-Uid": {"7"},
				"Impersonate-Extra-Example.com%2fk": {"v"}, original: {"bob"}}, 200, ""},
		"a reserved name that the cluster allows": {http.Header{"Impersonate-User": {"system:admin"}},
			http.Header{"Authorization": own, "Impersonate-User": {"system:admin"}, original: {"bob"}}, 200, ""},
		"the group that the API server adds": {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"dev", "system:authenticated"}},
			http.Header{"Authorization": own, "Impersonate-User": {"alice"}, "Impersonate-Group": {"dev"}, original: {"bob"}}, 200, ""},
		"the group that it would not add": {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"system:authenticated", "system:unauthenticated"}},
			http.Header{"Authorization": own, "Impersonate-User": {"alice"}, "Impersonate-Group": {"system:authenticated", "system:unauthenticated"}, original: {"bob"}}, 200, ""},
		"a ServiceAccount": {http.Header{"Impersonate-User": {"system:serviceaccount:ci:builder"}},
			http.Header{"Authorization": own, "Impersonate-User": {"system:serviceaccount:ci:builder"}}, 200, ""},

		"not allowed":        {http.Header{"Impersonate-User": {"root"}}, nil, 403, "You may not act as this user"},
		"not in that group":  {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"ops"}}, nil, 403, "You may not act as this user"},
		"masters":            {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"system:masters"}}, nil, 403, "Nobody can act in the group system:masters"},
		"a node":             {http.Header{"Impersonate-User": {"system:node:n1"}}, nil, 403, "or as a node"},
		"gatehouse itself":   {http.Header{"Impersonate-User": {ourselves}}, nil, 403, "or gatehouse itself"},
		"too many groups":    {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": slices.Repeat([]string{"dev"}, 257)}, nil, 400, "takes one user name"},
		"no answer":          {http.Header{"Impersonate-User": {"broken"}}, nil, 503, "cannot be asked now"},
		"a group alone":      {http.Header{"Impersonate-Group": {"dev"}}, nil, 400, "takes one user name"},
		"two users":          {http.Header{"Impersonate-User": {"alice", "alice"}}, nil, 400, "takes one user name"},
		"another spelling":   {http.Header{"Impersonate_user": {"alice"}}, nil, 400, "takes one user name"},
		"our own extra":      {http.Header{"Impersonate-User": {"alice"}, original: {"eve"}}, nil, 400, "takes one user name"},
		"an extra without a": {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Extra-Scopes": {"v"}}, nil, 400, "takes one user name"},
	} {
		t.Run(name, func(t *testing.T) {
			var got http.Header
			g := newGateFor(t, 2, auth.Bearer(users{}), func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, permitting(permits))
			r := g.request(http.MethodGet, "/api/v1/pods", "bob")
			for name, values := range tt.headers {
				r.Header[name] = values
			}
			resp, err := g.client(1).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != tt.code || !strings.Contains(string(body), tt.says) {
				t.Errorf("%d %s, want %d", resp.StatusCode, body, tt.code)
			}
			if tt.want == nil && got != nil {
				t.Errorf("the API server got %v", got)
			}
			if tt.want != nil {
				if diff := cmp.Diff(tt.want, identityHeaders(got)); diff != "" {
					t.Errorf("the API server got (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// Promise: the log says who acted as whom, and who tried to.
func TestActAsIsLogged(t *testing.T) {
	g := newGateFor(t, 2, auth.Bearer(users{}), func(http.ResponseWriter, *http.Request) {}, permitting(impersonate.NewPermits(classic{"alice"})))
	for _, wanted := range []string{"alice", "root"} {
		r := g.request(http.MethodGet, "/api/v1/pods", "bob")
		r.Header.Set("Impersonate-User", wanted)
		resp, err := g.client(2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	lines := g.requestLines()
	if len(lines) != 2 || lines[0]["user"] != "bob" || lines[0]["as"] != "alice" || lines[0]["as_mode"] != "legacy" ||
		lines[1]["not_as"] != "root" || lines[1]["as"] != nil {
		t.Errorf("logged %v", lines)
	}
	for labels, want := range map[[2]string]float64{{"legacy", "allowed"}: 1, {"", "denied"}: 1, {"", "failed"}: 0} {
		if got := g.count("gatehouse_impersonations_total", map[string]string{"mode": labels[0], "decision": labels[1]}); got != want {
			t.Errorf("%v: counted %v, want %v", labels, got, want)
		}
	}
}

// Promise: a ServiceAccount's wish to be somebody goes with its own token to the
// API server, who decides.
func TestServiceAccountActsAs(t *testing.T) {
	var got http.Header
	g := newGateFor(t, 2, auth.Bearer(accounts), func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() }, permitting(impersonate.NewPermits(classic{})))
	r := g.request(http.MethodGet, "/api", "callers-token")
	r.Header.Set("Impersonate-User", "alice")
	r.Header["Impersonate-Group"] = []string{"dev", "system:authenticated"} // each needs a right of the account's
	resp, err := g.client(2).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want := http.Header{"Authorization": {"Bearer callers-token"}, "Impersonate-User": {"alice"}, "Impersonate-Group": {"dev", "system:authenticated"}}
	if diff := cmp.Diff(want, identityHeaders(got)); diff != "" {
		t.Errorf("the API server got (-want +got):\n%s", diff)
	}
}

// Promise: while gatehouse's own name is not known, nobody may act as a
// ServiceAccount, which could be gatehouse's; and a ServiceAccount may never act
// as gatehouse, whoever decides.
func TestNobodyActsAsGatehouse(t *testing.T) {
	var served int
	self := ""
	g := newGateFor(t, 2, auth.Bearer(accounts), func(http.ResponseWriter, *http.Request) { served++ },
		permitting(impersonate.NewPermits(classic{"alice", "builder"})), func(cfg *proxy.Config) { cfg.Self = func() string { return self } })
	as := func(name string) int {
		r := g.request(http.MethodGet, "/api", "callers-token")
		r.Header.Set("Impersonate-User", name)
		resp, err := g.client(2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, step := range []struct {
		self, wanted string
		code         int
	}{
		{"", "system:serviceaccount:ci:builder", 503}, {"", ourselves, 503}, {"", "alice", 200},
		{ourselves, ourselves, 403}, {ourselves, "system:serviceaccount:ci:builder", 200}, {"gatehouse", "gatehouse", 403},
	} {
		self = step.self
		before := served
		if code := as(step.wanted); code != step.code || (served > before) != (code == 200) {
			t.Errorf("own name %q, as %s: %d, want %d; served %d", step.self, step.wanted, code, step.code, served-before)
		}
	}
}

// asked is a Reviewer that keeps what it was asked, and allows nothing.
type asked struct{ questions []impersonate.Attributes }

func (a *asked) Allowed(_ context.Context, _ *auth.User, q impersonate.Attributes) (bool, error) {
	a.questions = append(a.questions, q)
	return false, nil
}

// Promise: what a caller who acts as another is asked about is what the API
// server will read in the request, or the request is refused.
func TestActAsIsAskedAboutTheRequest(t *testing.T) {
	pods := impersonate.Attributes{Version: "v1", Resource: "pods", Namespace: "dev"}
	of := func(verb string, edit func(*impersonate.Attributes)) *impersonate.Attributes {
		a := pods
		a.Verb = "impersonate-on:user-info:" + verb
		if edit != nil {
			edit(&a)
		}
		return &a
	}
	path := func(verb, path string) *impersonate.Attributes {
		return &impersonate.Attributes{Verb: "impersonate-on:user-info:" + verb, Path: path}
	}
	const dev = "/api/v1/namespaces/dev/pods"
	for target, want := range map[string]*impersonate.Attributes{ // nil: refused
		"GET " + dev:                                                    of("list", nil),
		"HEAD " + dev + "/p":                                            of("get", func(a *impersonate.Attributes) { a.Name = "p" }),
		"GET " + dev + "?watch":                                         of("watch", nil),
		"GET " + dev + "?watch=false":                                   of("list", nil),
		"GET " + dev + "?w%61tch=1&limit=x":                             of("watch", nil),
		"GET " + dev + "?watch=0&watch=1&limit=x":                       of("list", nil),
		"GET " + dev + "?fieldSelector=metadata.name%3Dp":               of("list", func(a *impersonate.Attributes) { a.Name, a.FieldSelector = "p", "metadata.name=p" }),
		"GET " + dev + "?labelSelector=a%3Db&watch=1":                   of("watch", func(a *impersonate.Attributes) { a.LabelSelector = "a=b" }),
		"DELETE " + dev + "?labelSelector=a%3Db":                        of("deletecollection", func(a *impersonate.Attributes) { a.LabelSelector = "a=b" }),
		"DELETE " + dev + "?labelSelector=a%3Db&limit=x":                of("deletecollection", func(a *impersonate.Attributes) { a.LabelSelector = "a=b" }),
		"DELETE " + dev + "/p?labelSelector=a%3Db":                      of("delete", func(a *impersonate.Attributes) { a.Name = "p" }),
		"POST " + dev + "/p/exec?command=sh":                            of("create", func(a *impersonate.Attributes) { a.Name, a.Subresource = "p", "exec" }),
		"GET " + dev + "/p/proxy/x/y":                                   of("get", func(a *impersonate.Attributes) { a.Name, a.Subresource = "p", "proxy" }),
		"OPTIONS " + dev:                                                of("", nil),
		"GET /api/v1/watch/namespaces/dev/pods":                         of("watch", nil),
		"GET /api/v1/watch/namespaces/dev/pods?limit=x&labelSelector=a": of("watch", nil),
		"GET " + dev + "?limit=x&fieldSelector=metadata.name%3Dp&labelSelector=c": of("list", func(a *impersonate.Attributes) {
			a.FieldSelector, a.LabelSelector = "metadata.name=p", "c" // no name: the API server, too, reads none here
		}),
		"POST /apis":                                          path("post", "/apis"),
		"GET /healthz/":                                       path("get", "/healthz/"),
		"GET /api/v1/watch":                                   path("get", "/api/v1/watch"),
		"GET " + dev + "/%ff":                                 nil,
		"GET " + dev + "/%C3%A9":                              of("get", func(a *impersonate.Attributes) { a.Name = "é" }),
		"GET " + dev + "?labelSelector=%ff":                   nil,
		"GET " + dev + "?fieldSelector=a%3D%c3":               nil,
		"GET " + dev + "?watch=1" + strings.Repeat("&a", 999): of("watch", nil),
		"GET " + dev + "?watch=1" + strings.Repeat("&", 1000): nil,
	} {
		reviewer := &asked{}
		g := newGateFor(t, 2, auth.Bearer(users{}), func(http.ResponseWriter, *http.Request) { t.Errorf("%.80s: served", target) },
			permitting(impersonate.NewPermits(reviewer)))
		method, uri, _ := strings.Cut(target, " ")
		r := g.request(method, uri, "bob")
		r.Header.Set("Impersonate-User", "alice")
		resp, err := g.client(1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if want == nil {
			if resp.StatusCode != 400 || len(reviewer.questions) > 0 {
				t.Errorf("%.80s: %d, asked %+v", target, resp.StatusCode, reviewer.questions)
			}
			continue
		}
		if len(reviewer.questions) == 0 || resp.StatusCode != 403 {
			t.Fatalf("%.80s: %d, asked nothing", target, resp.StatusCode)
		}
		if diff := cmp.Diff(*want, reviewer.questions[0]); diff != "" {
			t.Errorf("%.80s (-want +asked):\n%s", target, diff)
		}
	}
}
