package upstream_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// Promise: the connections for callers' own tokens carry nothing of gatehouse's
// credential, its client certificate neither.
func TestCallersConnections(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	pair, err := w.ca.Client("gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "client.crt", string(pair.Cert))
	w.write(t, "client.key", string(pair.Key))
	target := w.load(t, w.cluster(), "client-certificate: client.crt, client-key: client.key")
	for name, transport := range map[string]http.RoundTripper{"requests": target.Callers.Requests, "upgrades": target.Callers.Upgrades} {
		got, err := get(t, target, transport, "/version")
		if err != nil || !strings.HasSuffix(got, `/version "" ""`) {
			t.Errorf("%s: the API server saw %s, %v", name, got, err)
		}
	}
	if got, err := get(t, target, target.Requests, "/version"); err != nil || !strings.HasSuffix(got, `"gatehouse"`) {
		t.Errorf("our own connection: the API server saw %s, %v", got, err)
	}
}

// Promise: what gatehouse asks on its own account goes to the API server's
// address, below its path, with gatehouse's credential alone.
func TestAsOurselves(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	for _, path := range []string{"", "/", "/clusters/a", "/clusters/a/"} {
		live := upstream.Live{ID: "an-id"}
		live.Swap(w.load(t, "server: "+w.URL+path+", certificate-authority: ca.crt", "token: own"))
		r := httptest.NewRequest(http.MethodGet, "https://elsewhere.example/apis/x?y=z", nil)
		r.RequestURI = ""
		r.Header.Set("Authorization", "Bearer another")
		resp, err := live.AsOurselves().RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got, want := resp.Request.URL.String(), w.URL+strings.TrimSuffix(path, "/")+"/apis/x?y=z"; got != want {
			t.Errorf("%q: asked %s, want %s", path, got, want)
		}
		if got := resp.Request.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer own" {
			t.Errorf("%q: Authorization %q", path, got)
		}
		if got := resp.Request.Header["Gatehouse-Via"]; len(got) != 1 || got[0] != "an-id" {
			t.Errorf("%q: by %q it would not know its own question again", path, got)
		}
		if r.Header.Get("Authorization") != "Bearer another" {
			t.Error("the request was changed")
		}
	}
}

// Promise: gatehouse learns its own name from the API server, or that it cannot.
func TestWhoAmI(t *testing.T) {
	for name, tt := range map[string]struct {
		code       int
		body, want string
	}{
		"a name":    {201, `{"status":{"userInfo":{"username":"system:serviceaccount:g:gatehouse"}}}`, "system:serviceaccount:g:gatehouse"},
		"no name":   {201, `{"status":{}}`, ""},
		"refused":   {403, `{"kind":"Status"}`, ""},
		"not found": {404, `404 page not found`, ""},
		"no JSON":   {201, `<html>`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "127.0.0.1")
			w.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost || r.URL.Path != "/apis/authentication.k8s.io/v1/selfsubjectreviews" {
					t.Errorf("asked %s %s", r.Method, r.URL)
				}
				rw.WriteHeader(tt.code)
				_, _ = fmt.Fprint(rw, tt.body)
			})
			got, err := w.load(t, w.cluster(), "token: own").WhoAmI(t.Context())
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}
