package serve_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// /readyz is 503 if a check fails and 200 otherwise. With ?verbose, or if one
// fails, it has a line for each; a degraded part is shown and does not count.
func TestReadyz(t *testing.T) {
	down := errors.New("is down")
	for _, test := range []struct {
		name   string
		checks []serve.Check
		code   int
		plain  string // empty: as verbose
		want   string
	}{
		{"all pass", []serve.Check{{Name: "a"}, {Name: "b", Degraded: true}}, 200, "ok\n", "[+]a ok\n[+]b ok\nreadyz check passed\n"},
		{"one degraded", []serve.Check{{Name: "a"}, {Name: "b", Err: down, Degraded: true}}, 200, "ok\n",
			"[+]a ok\n[!]b degraded: is down\nreadyz check passed, degraded\n"},
		{"one fails", []serve.Check{{Name: "a", Err: down}, {Name: "b", Err: down, Degraded: true}}, 503, "",
			"[-]a failed: is down\n[!]b degraded: is down\nreadyz check failed\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := httptest.NewServer(serve.Ops(func() []serve.Check { return test.checks }, prometheus.NewRegistry()))
			defer server.Close()
			if test.plain == "" {
				test.plain = test.want
			}
			for path, want := range map[string]string{"/readyz": test.plain, "/readyz?verbose": test.want, "/readyz?verbose=1": test.want} {
				if code, body, _ := ask(t, http.MethodGet, server.URL+path); code != test.code || body != want {
					t.Errorf("%s: %d %q, want %d %q", path, code, body, test.code, want)
				}
			}
			if code, body, _ := ask(t, http.MethodGet, server.URL+"/livez"); code != http.StatusOK || body != "ok\n" {
				t.Errorf("/livez: %d %q, want 200 ok", code, body)
			}
		})
	}
}

// The ops port answers its three paths by GET and HEAD, as text that no browser
// takes for something else and no cache keeps.
func TestOpsPaths(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "seen_total", Help: "Things seen."}))
	server := httptest.NewServer(serve.Ops(func() []serve.Check { return nil }, registry))
	defer server.Close()
	for _, path := range []string{"/livez", "/readyz"} {
		code, _, header := ask(t, http.MethodHead, server.URL+path)
		if code != http.StatusOK || header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(header.Get("Cache-Control"), "no-store") ||
			!strings.HasPrefix(header.Get("Content-Type"), "text/plain") {
			t.Errorf("HEAD %s: %d %v", path, code, header)
		}
		if code, _, _ := ask(t, http.MethodPost, server.URL+path); code != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d, want 405", path, code)
		}
	}
	if code, body, _ := ask(t, http.MethodGet, server.URL+"/metrics"); code != http.StatusOK || !strings.Contains(body, "\nseen_total 0\n") {
		t.Errorf("/metrics: %d %s", code, body)
	}
	for _, path := range []string{"/", "/debug/pprof/", "/healthz", "/api"} {
		if code, _, _ := ask(t, http.MethodGet, server.URL+path); code != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, code)
		}
	}
}

func ask(t *testing.T, method, url string) (code int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(content), resp.Header
}
