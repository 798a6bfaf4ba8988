package proxy_test

import (
	"context"
	"errors"
	"io"
	"net/http"
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

func permitting(permits *impersonate.Permits) func(*proxy.Config) {
	return func(cfg *proxy.Config) { cfg.Permits = permits }
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
	permits := impersonate.NewPermits(classic{"alice", "dev", "7", "v", "system:admin", "builder"})
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
		"a ServiceAccount": {http.Header{"Impersonate-User": {"system:serviceaccount:ci:builder"}},
			http.Header{"Authorization": own, "Impersonate-User": {"system:serviceaccount:ci:builder"}}, 200, ""},

		"not allowed":        {http.Header{"Impersonate-User": {"root"}}, nil, 403, "You may not act as this user"},
		"not in that group":  {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"ops"}}, nil, 403, "You may not act as this user"},
		"masters":            {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"system:masters"}}, nil, 403, "Nobody can act in the group system:masters"},
		"a node":             {http.Header{"Impersonate-User": {"system:node:n1"}}, nil, 403, "or as a node"},
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
	r.Header.Set("Impersonate-Group", "dev")
	resp, err := g.client(2).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	want := http.Header{"Authorization": {"Bearer callers-token"}, "Impersonate-User": {"alice"}, "Impersonate-Group": {"dev"}}
	if diff := cmp.Diff(want, identityHeaders(got)); diff != "" {
		t.Errorf("the API server got (-want +got):\n%s", diff)
	}
}
