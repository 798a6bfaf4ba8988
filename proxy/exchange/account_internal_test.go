package exchange

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// asking is a door that takes down what it is asked.
type asking struct{ asked *http.Request }

func (a *asking) ServeHTTP(_ http.ResponseWriter, r *http.Request) { a.asked = r }

func (a *asking) SignIn(*http.Request, string, string) (*auth.Identity, error) {
	return &auth.Identity{}, nil
}

func (a *asking) Client(*http.Request) string { return "" }

// Promise: the request for a ServiceAccount's token has the form of one that came in
// by net/http, which the proxy insists on: its target, as it stands on the wire.
func TestCallHasTheFormOfARequest(t *testing.T) {
	const path = "/api/v1/namespaces/delivery/serviceaccounts/deployer/token"
	door := &asking{}
	s, err := New(Config{URL: "https://gatehouse.example.com:8444", Door: door})
	if err != nil {
		t.Fatal(err)
	}
	outer := httptest.NewRequest(http.MethodPost, TokenPath, nil)
	s.call(outer, path, "token", []byte("{}"))
	r := door.asked
	if u, err := url.ParseRequestURI(r.RequestURI); err != nil || u.Path != path || r.URL.EscapedPath() != path || r.URL.Host != "" {
		t.Errorf("the target is %q, of %s (%v)", r.RequestURI, r.URL, err)
	}
	if r.Header.Get("Authorization") != "Bearer token" || r.ContentLength != 2 || r.RemoteAddr != outer.RemoteAddr {
		t.Errorf("got %v, %d bytes, from %s", r.Header, r.ContentLength, r.RemoteAddr)
	}
}
