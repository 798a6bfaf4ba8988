package main

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/proxies"
	"github.com/kube-gatehouse/gatehouse/e2e/bench/stub"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

// TestMain lets the test binary be the upstream and the generator of load, as
// the program is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == roleStub || os.Args[1] == roleLoad) {
		main()
		return
	}
	os.Exit(m.Run())
}

// miniature is a short run: what it measures is worth nothing.
func miniature(t *testing.T) options {
	t.Helper()
	o, err := parse([]string{"-rounds", "1", "-warm", "10ms", "-for", "50ms", "-docs", t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	o.gatehouse = filepath.Join(t.TempDir(), "gatehouse")
	if err := build.Gatehouse(t.Context(), o.gatehouse, build.Options{}); err != nil {
		t.Fatal(err)
	}
	o.people, o.watchSteps, o.settle = 32, []int{100, 300}, 10*time.Millisecond
	o.groups, o.issuers, o.slopeTokens = steps{3, 13}, steps{1, 2}, 40
	return o
}

// Promise: every experiment runs, and its figures get into the documents.
func TestRun(t *testing.T) {
	o := miniature(t)
	m, err := describe(t.Context(), o.gatehouse)
	if err != nil {
		t.Fatal(err)
	}
	outcomes, err := measureAll(t.Context(), o, &m)
	if err != nil {
		t.Fatal(err)
	}
	for name, out := range outcomes {
		for figure, value := range out.figures {
			if strings.HasPrefix(name, "get-") && value <= 0 {
				t.Errorf("%s: CPU of %s: got %v µs", name, figure, value)
			}
		}
		for _, row := range out.table.Rows {
			if len(row) != len(out.table.Head) {
				t.Errorf("%s: a row of %d cells below a head of %d", name, len(row), len(out.table.Head))
			}
		}
	}
	if err := writeDocuments(o, m, outcomes); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"benchmarks.md": append(slices.Clone(o.proxies), "start to ready", "2.6.", "a thousand tokens", "at 300"),
		"scaling.md":    {"known tokens", "replicas**", "| 13 |", "2 issuers"},
	} {
		b, err := os.ReadFile(filepath.Join(o.docs, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, text := range append(want, "# ") {
			if !bytes.Contains(b, []byte(text)) {
				t.Errorf("%s: there is no %q", name, text)
			}
		}
		for _, text := range []string{"NaN", "Inf", "<no value>", "%!"} {
			if bytes.Contains(b, []byte(text)) {
				t.Errorf("%s: there is %q", name, text)
			}
		}
	}
}

// Promise: what is compared does the same job. Each proxy presents its own
// credential, speaks the same TLS, gatehouse and HAProxy name the token's user and groups, and refuse
// the tokens that must be refused.
func TestSameJob(t *testing.T) {
	o := miniature(t)
	w, err := newWorld(t.Context(), t.TempDir(), o.workers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	b := &bench{world: w, o: o}
	t.Cleanup(b.stopAll)
	running, err := b.started(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	good, bad := w.credentials(t)
	for _, proxy := range running {
		for _, http2 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/http2=%v", proxy.Name, http2), func(t *testing.T) {
				refused := http.StatusUnauthorized
				if proxy.Name == nginxName {
					refused = http.StatusOK // it looks at no token, which the document says
				}
				b.checkGood(t, proxy, http2, good)
				for name, token := range bad {
					if code, _ := b.ask(t, proxy, http2, token); code != refused {
						t.Errorf("a token %s: got %d, want %d", name, code, refused)
					}
				}
			})
		}
	}
}

// credentials are a token of a user in two groups, and some that differ from it
// in one thing that makes them bad.
func (w *world) credentials(t *testing.T) (good string, bad map[string]string) {
	t.Helper()
	stranger, err := authtest.NewIssuer(w.Authority.CA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Close() })
	claims := authtest.Claims{"email": "alice@example.com", "groups": []string{"dev", "ops"}}
	with := func(name string, value any) string {
		changed := maps.Clone(claims)
		changed[name] = value
		return w.issuer.Token(changed)
	}
	payload := w.issuer.Payload(claims)
	return w.issuer.Token(claims), map[string]string{
		"expired":            with("exp", time.Now().Add(-time.Minute).Unix()),
		"of another issuer":  with("iss", stranger.URL),
		"for another client": with("aud", "another"),
		"without a user":     with("email", nil),
		"of another key":     stranger.Key().Sign(payload),
		"unsigned":           w.issuer.Key().SignHeader(map[string]any{"alg": "none"}, payload),
		"that is none":       "",
	}
}

// checkGood sends a good token and looks at what reaches the upstream.
func (b *bench) checkGood(t *testing.T, proxy *proxies.Proxy, http2 bool, token string) {
	t.Helper()
	user, groups := "oidc:alice@example.com", []string{"oidc:dev", "oidc:ops"}
	var forged []string
	switch {
	case proxy.Name == nginxName:
		user, groups = "oidc:nobody-was-asked", []string{"oidc:any"}
	case isHAProxy(proxy.Name): // gatehouse takes such headers for what they are, and judges them
		forged = []string{"Impersonate-Group", "system:masters", "Impersonate-Extra-Scopes", "all"}
	}
	code, header := b.ask(t, proxy, http2, token, forged...)
	if code != http.StatusOK {
		t.Fatalf("a good token: got %d", code)
	}
	if got := header["Impersonate-User"]; !slices.Equal(got, []string{user}) {
		t.Errorf("user: got %q, want %q", got, user)
	}
	if got := header["Impersonate-Group"]; !slices.Equal(got, groups) {
		t.Errorf("groups: got %q, want %q", got, groups)
	}
	if got := header["Impersonate-Extra-Scopes"]; got != nil {
		t.Errorf("a header of the caller's reached the upstream: %q", got)
	}
	if got := header["Authorization"]; !slices.Equal(got, []string{"Bearer " + b.Token}) {
		t.Error("the credential upstream is not the proxy's own, and that alone")
	}
}

// ask sends a request with a token and more of a header, and returns the status
// and, of a success, the header that reached the upstream. It uses a connection of
// its own: HAProxy closes one of HTTP/2 after a refusal, and a request that is
// just under way on it is lost.
func (b *bench) ask(t *testing.T, proxy *proxies.Proxy, http2 bool, token string, more ...string) (int, http.Header) {
	t.Helper()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!http2)
	protocols.SetHTTP2(http2)
	client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: b.Authority.Pool(), MinVersion: tls.VersionTLS12}, Protocols: protocols,
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+proxy.Address+stub.EchoPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i < len(more); i += 2 {
		req.Header.Add(more[i], more[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// A stronger cipher would cost more.
	if resp.TLS.Version != tls.VersionTLS13 || resp.TLS.CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Errorf("it speaks %s with %s", tls.VersionName(resp.TLS.Version), tls.CipherSuiteName(resp.TLS.CipherSuite))
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	var header http.Header
	if err := json.Unmarshal(body, &header); err != nil {
		t.Fatalf("what the upstream saw: %v", err)
	}
	return resp.StatusCode, header
}
