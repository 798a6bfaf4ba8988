package rawbytes

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// naive is a reverse proxy as one writes it at first: it authenticates, and
// sets the identity in a Director. It exists to be caught.
func naive(t *testing.T, up *Upstream) *Target {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: shared.pki.Roots}, ForceAttemptHTTP2: true}
	t.Cleanup(tr.CloseIdleConnections)
	proxy := &httputil.ReverseProxy{
		//lint:ignore SA1019 its faults are what the suite has to find
		Director: func(r *http.Request) {
			r.URL = &url.URL{Scheme: "https", Host: up.Addr, Path: r.URL.Path, RawQuery: r.URL.RawQuery}
			r.Header.Set("Authorization", "Bearer "+proxyToken)
			r.Header.Set("Impersonate-User", alice.User)
			r.Header.Set("Impersonate-Uid", alice.UID)
			for _, g := range alice.Groups {
				r.Header.Add("Impersonate-Group", g)
			}
		},
		Transport: tr,
	}
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+aliceToken {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{shared.pki.Serving}}
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	return &Target{Addr: srv.Listener.Addr().String(), Roots: shared.pki.Roots, Up: up, Secrets: shared.secrets}
}

// TestTheSuiteCanFail holds that a proxy with the well-known faults is caught,
// each by the oracle that is meant to catch it.
func TestTheSuiteCanFail(t *testing.T) {
	up, err := StartUpstream(shared.pki, false, proxyToken)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	to := naive(t, up)
	strip := "Impersonate-User, Impersonate-Group, Impersonate-Uid"
	for _, row := range []struct {
		name  string
		c     Carrier
		req   Request
		wants string // in one of the faults
	}{
		{"identity stripped", H1, ask(Field{"Connection", strip}), ExecutedAsProxy},
		{"identity stripped on an upgrade", WebSocket, ask(Field{"Connection", strip}), ExecutedAsProxy},
		{"identity stripped on SPDY", SPDY, ask(Field{"Connection", strip}), ExecutedAsProxy},
		{"credential stripped", H1, ask(Field{"Connection", "authorization"}), "O3: refused, yet"},
		{"group added", H1, ask(Field{"Impersonate-Group", "system:masters"}), "O1: identity"},
		{"group added on h2", H2, ask(Field{"Impersonate-Group", "system:masters"}), "O1: identity"},
		{"extra added", H2, ask(Field{"Impersonate-Extra-Scopes", "all"}), "O1: identity"},
		{"underscore", H1, ask(Field{"Impersonate_User", "root"}), "O2"},
		{"front proxy", H2, ask(Field{"X-Remote-User", "root"}), "O2"},
		{"spoofed address", H1, ask(Field{"X-Forwarded-For", "10.9.8.7"}), "O2"},
		{"trailer", H1, Request{Method: "POST", Target: "/", Fields: ask().Fields, Body: "x",
			Trailers: Fields{{"Impersonate-Group", "system:masters"}}}.With(Field{"Trailer", "Impersonate-Group"}), "trailers upstream"},
		{"foreign host", H1, Request{Target: "/", Host: "elsewhere.invalid", Fields: ask().Fields}, "host upstream"},
		{"own answer is no Status", H1, Request{Target: "/"}, "own answer: "},
		{"secret told onward", H1, ask(Field{"X-Copy", bobToken}), "O4"},
	} {
		t.Run(row.name, func(t *testing.T) {
			want := served(alice)
			want.Codes = []int{401}
			faults, err := to.Try(row.c, Case{Request: row.req, Want: want})
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(faults, "\n"), row.wants) {
				t.Fatalf("the oracles said %q, and nothing of %q", faults, row.wants)
			}
		})
	}
}

// TestTheSuiteCanPass holds that the oracles are silent where nothing is wrong.
func TestTheSuiteCanPass(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		up, err := StartUpstream(shared.pki, h2, proxyToken)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(up.Close)
		to := naive(t, up)
		for _, c := range Carriers {
			if c == SPDY && h2 {
				continue // net/http's transport cannot carry it by HTTP/2
			}
			faults, err := to.Try(c, Case{Request: Request{Target: "/x", Host: up.Addr, Fields: ask().Fields}, Want: served(alice)})
			if err != nil || len(faults) > 0 {
				t.Errorf("%s, h2 upstream %v: %v %q", c, h2, err, faults)
			}
		}
	}
}
