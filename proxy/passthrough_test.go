package proxy_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
)

const builder = "system:serviceaccount:ci:builder"

// accounts takes every token for one of a ServiceAccount.
var accounts = tokens(func(context.Context, string) (*auth.Identity, error) {
	return &auth.Identity{Kind: auth.KindServiceAccount, User: auth.User{
		Name: builder, UID: "u-1", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:ci", "system:authenticated"},
	}}, nil
})

// Promise: a ServiceAccount's request reaches the API server with the caller's
// own token alone: nothing of gatehouse's credential, and no impersonation.
func TestPassedThrough(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		var got http.Header
		g := newGateFor(t, upstream, auth.Bearer(accounts), func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
		r := g.request(http.MethodGet, "/api", "callers-token")
		r.Header.Set("X-Remote-User", "system:admin")
		resp, err := g.client(client).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if diff := cmp.Diff([]string{"Bearer callers-token"}, got["Authorization"]); resp.StatusCode != http.StatusOK || diff != "" {
			t.Errorf("%d, Authorization (-want +got):\n%s", resp.StatusCode, diff)
		}
		for name, values := range got {
			if strings.HasPrefix(name, "Impersonate") || strings.HasPrefix(name, "X-Remote") || strings.Contains(strings.Join(values, ""), ownToken) {
				t.Errorf("the API server got %s: %q", name, values)
			}
		}
	})
}

// Promise: a token from a browser's WebSocket is passed on as a bearer token,
// and not in the protocol list.
func TestPassedThroughFromWebSocket(t *testing.T) {
	var got http.Header
	g := newGateFor(t, 1, auth.Bearer(accounts), func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
	r := g.request(http.MethodGet, "/api/v1/namespaces/d/pods/p/exec", "")
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-Websocket-Protocol", "base64url.bearer.authorization.k8s.io.dG9rZW4, v5.channel.k8s.io")
	resp, err := g.client(1).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if got.Get("Authorization") != "Bearer token" || got.Get("Sec-Websocket-Protocol") != "v5.channel.k8s.io" {
		t.Errorf("the API server got %v", got)
	}
}

// Promise: an API server that refuses the caller's own token refuses the caller,
// not gatehouse; and the token is reviewed again.
func TestPassedThroughAndRefused(t *testing.T) {
	g := newGateFor(t, 2, auth.Bearer(accounts), func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
	})
	resp, err := g.client(2).Do(g.request(http.MethodGet, "/api", "callers-token"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(body), "Your credential was not accepted") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if diff := cmp.Diff([]string{"callers-token"}, g.forgotten); diff != "" {
		t.Errorf("forgotten (-want +got):\n%s", diff)
	}
	if got := g.count("gatehouse_upstream_errors_total", nil); got != 0 {
		t.Errorf("%v errors of the API server", got)
	}
}

// Promise: a 401 of a pod or service behind the API server is that backend's: it
// is passed on, and neither gatehouse's credential nor the caller's is blamed.
func TestBackends401IsPassedOn(t *testing.T) {
	for name, authenticator := range map[string]auth.Authenticator{"a user": auth.Bearer(users{}), "a ServiceAccount": auth.Bearer(accounts)} {
		g := newGateFor(t, 2, authenticator, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "the backend's own words")
		})
		resp, err := g.client(2).Do(g.request(http.MethodGet, "/api/v1/namespaces/d/services/s/proxy/login", "alice"))
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized || string(body) != "the backend's own words" {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		if got := g.count("gatehouse_upstream_errors_total", nil); got != 0 || len(g.forgotten) != 0 {
			t.Errorf("%s: %v errors of the API server, forgotten %q", name, got, g.forgotten)
		}
	}
}
