package proxy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// lender is a TokenAuthenticator whose every token is alice's, lent to agent with
// this scope.
type lender string

func (l lender) AuthenticateToken(context.Context, string) (*auth.Identity, error) {
	narrow, err := scope.Parse(string(l))
	if err != nil {
		return nil, err
	}
	user := auth.User{Name: "alice", Extra: map[string][]string{"example.com/team": {"a"}}}
	return &auth.Identity{Kind: auth.KindSession, User: user, Scope: narrow, Actors: []string{"agent", "robot"}}, nil
}

const (
	scopeExtra    = "Impersonate-Extra-Kube-Gatehouse.github.io%2fscope"
	actorExtra    = "Impersonate-Extra-Kube-Gatehouse.github.io%2factor"
	originalExtra = "Impersonate-Extra-Kube-Gatehouse.github.io%2foriginal-User"
	teamExtra     = "Impersonate-Extra-Example.com%2fteam"
)

// toWebSocket asks for a connection that goes both ways.
var toWebSocket = http.Header{
	"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"}, "Sec-Websocket-Key": {"MDEyMzQ1Njc4OWFiY2RlZg=="},
}

// Promise: what a token's scope does not allow never reaches the API server,
// whatever the cluster's rules would say, and the refusal names the word.
func TestScopeIsEnforced(t *testing.T) {
	for _, test := range []struct {
		scope, method, path string
		header              http.Header
		says                string // "": forwarded
	}{
		{"", "DELETE", "/api/v1/namespaces/dev/secrets/s", nil, ""},
		{"read-only no-secrets", "GET", "/api/v1/namespaces/dev/pods", nil, ""},
		{"read-only no-secrets", "GET", "/api/v1/namespaces/dev/pods?watch=1", nil, ""},
		{"read-only no-secrets", "GET", "/api/v1/namespaces/dev/pods/p/log?follow=1", nil, ""},
		{"read-only no-secrets", "HEAD", "/version", nil, ""},
		{"read-only no-secrets", "GET", "/api/v1/namespaces/dev/secrets/s", nil, "its scope has the word no-secrets."},
		{"read-only no-secrets", "GET", "/api/v1/secrets?watch=1", nil, "its scope has the word no-secrets."},
		{"read-only no-secrets", "GET", "/api/v1/watch/namespaces/dev/secrets/s", nil, "its scope has the word no-secrets."},
		{"read-only no-secrets", "GET", "/api/v1/namespaces/dev/%73ecrets", nil, "its scope has the word no-secrets."},
		{"read-only no-secrets", "GET", "/api/v1//namespaces/dev/secrets", nil, "its scope has the word"},
		{"read-only", "DELETE", "/api/v1/namespaces/dev/pods/p", nil, "its scope has the word read-only."},
		{"read-only", "POST", "/api/v1/namespaces/dev/pods/p/exec?command=sh", nil, "its scope has the word read-only."},
		{"read-only", "GET", "/api/v1/namespaces/dev/pods/p/exec?command=sh", toWebSocket, "its scope has the word read-only."},
		{"read-only", "GET", "/api/v1/proxy/namespaces/dev/pods/p", nil, "its scope has the word read-only."},
		{"read-only", "GET", "/apis/subresources.kubevirt.io/v1/namespaces/dev/virtualmachineinstances/v/console", toWebSocket, "its scope has the word read-only."},
		{"no-exec", "GET", "/apis/subresources.kubevirt.io/v1/namespaces/dev/virtualmachineinstances/v/vnc", toWebSocket, "its scope has the word no-exec."},
		{"no-exec", "GET", "/apis/example.com/v1", toWebSocket, "its scope has the word no-exec."},
		{"read-only", "POST", "/apis/example.com/v1/watch/namespaces/dev/things/t", nil, "its scope has the word read-only."},
		{"verbs=watch", "DELETE", "/api/v1/watch/namespaces/dev/pods/p", nil, "its scope has the word verbs=watch."},
		{"verbs=watch", "GET", "/api/v1/watch/namespaces/dev/pods/p", nil, ""},
		{"namespaces=dev", "GET", "/api/v1/namespaces/prod/pods", nil, "its scope has the word namespaces=dev."},
		{"namespaces=dev", "GET", "/api/v1/namespaces/dev/../prod/pods", nil, "its scope has the word namespaces=dev."},
		{"namespaces=dev", "GET", "/api/v1/namespaces/dev/services/s/proxy//x", nil, "its scope has the word namespaces=dev."},
		{"namespaces=dev", "GET", "/api/v1/pods?namespace=dev&fieldSelector=metadata.namespace%3Ddev", nil, "its scope has the word namespaces=dev."},
		{"namespaces=dev", "GET", "/api/v1/proxy", nil, "its scope has the word namespaces=dev."},
		{"no-exec", "POST", "/api/v1/namespaces/dev/serviceaccounts/s/token", nil, "used to make other credentials"},
		{"no-impersonation", "GET", "/api/v1/namespaces/dev/pods", http.Header{"Impersonate-User": {"root"}}, "its scope has the word no-impersonation."},
		{"no-impersonation", "GET", "/api/v1/namespaces/dev/pods", http.Header{"Impersonate_user": {"root"}}, "its scope has the word no-impersonation."},
		{"read-only", "DELETE", "/api/v1/namespaces/dev/pods/p", http.Header{"Impersonate-User": {"root"}}, "its scope has the word read-only."},
		{"read-only", "POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", nil, ""},
	} {
		t.Run(test.scope+" "+test.method+" "+test.path, func(t *testing.T) {
			forwarded := 0
			g := newGateFor(t, 2, auth.Bearer(lender(test.scope)), func(http.ResponseWriter, *http.Request) { forwarded++ },
				permitting(impersonate.NewPermits(classic{"root"})))
			r := g.request(test.method, test.path, "session")
			for name, values := range test.header {
				r.Header[name] = values
			}
			resp, err := g.client(1).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			if test.says == "" {
				if resp.StatusCode != http.StatusOK || forwarded != 1 {
					t.Errorf("%d %s, %d forwarded", resp.StatusCode, body, forwarded)
				}
				return
			}
			if resp.StatusCode != http.StatusForbidden || forwarded != 0 || !strings.Contains(string(body), test.says) ||
				!strings.Contains(resp.Header.Get("Warning"), test.says) {
				t.Errorf("%d %s %v, %d forwarded, want %q", resp.StatusCode, body, resp.Header, forwarded, test.says)
			}
			if lines := g.requestLines(); len(lines) != 1 || lines[0]["out_of_scope"] == nil {
				t.Errorf("the log says %v", lines)
			}
		})
	}
}

// Promise: the API server, and so its audit log and whoami, hear what a token is
// narrowed to and who acts by it, of those who act as another user too; and what
// one request adds, no other has.
func TestScopeIsTold(t *testing.T) {
	for name, test := range map[string]struct {
		scope  string
		header http.Header
		want   http.Header
	}{
		"oneself": {"read-only no-secrets", nil, http.Header{
			"Impersonate-User": {"alice"}, teamExtra: {"a"}, scopeExtra: {"no-secrets", "read-only"}, actorExtra: {"agent", "robot"},
		}},
		"without a scope": {"", nil, http.Header{"Impersonate-User": {"alice"}, teamExtra: {"a"}, actorExtra: {"agent", "robot"}}},
		"as another": {"read-only", http.Header{"Impersonate-User": {"root"}}, http.Header{
			"Impersonate-User": {"root"}, scopeExtra: {"read-only"}, actorExtra: {"agent", "robot"}, originalExtra: {"alice"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			var got http.Header
			g := newGateFor(t, 2, auth.Bearer(lender(test.scope)), func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() },
				permitting(impersonate.NewPermits(classic{"root"})))
			for range 2 {
				r := g.request(http.MethodGet, "/api/v1/pods", "session")
				for name, values := range test.header {
					r.Header[name] = values
				}
				resp, err := g.client(2).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				test.want["Authorization"] = []string{"Bearer " + ownToken}
				if diff := cmp.Diff(test.want, identityHeaders(got)); diff != "" {
					t.Errorf("the API server got (-want +got):\n%s", diff)
				}
			}
		})
	}
}
