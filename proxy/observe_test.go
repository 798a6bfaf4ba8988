package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// Promise: one log line for each request says who did what and how it went,
// with the id that the API server and the caller got too, and no token.
func TestRequestLog(t *testing.T) {
	var upstreamID string
	g := newGate(t, 2, func(w http.ResponseWriter, r *http.Request) {
		upstreamID = r.Header.Get("Audit-Id")
		w.Header().Set("Audit-Id", "of the API server")
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("12345"))
	})
	r := g.request(http.MethodPost, "/apis/apps/v1/namespaces/dev/deployments/web/scale?token=query-canary", "alice-canary")
	r.Header.Set("Audit-Id", "of the caller")
	r.Header.Set("User-Agent", "kubectl\" evil=1 "+strings.Repeat("x", 2000))
	resp, err := g.client(2).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	refused, err := g.client(1).Do(g.request(http.MethodGet, "/version", "expired"))
	if err != nil {
		t.Fatal(err)
	}
	refused.Body.Close()
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}

	lines := g.requestLines()
	if len(lines) != 2 {
		t.Fatalf("%d lines, want 2", len(lines))
	}
	ids := resp.Header["Audit-Id"]
	if len(ids) != 1 || ids[0] != upstreamID || ids[0] == "of the caller" || len(ids[0]) != 36 {
		t.Errorf("Audit-Id %q to the caller, %q to the API server", ids, upstreamID)
	}
	for key, want := range map[string]any{
		"audit_id": upstreamID, "client": "127.0.0.1", "proto": "HTTP/2.0", "method": "POST", "verb": "create",
		"path": "/apis/apps/v1/namespaces/dev/deployments/web/scale", "group": "apps", "resource": "deployments",
		"subresource": "scale", "namespace": "dev", "name": "web", "credential": "token_file", "user": "alice-canary",
		"groups": 1.0, "status": 201.0, "bytes": 5.0, "level": "INFO",
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
	for _, key := range []string{"ms", "own_ms", "upstream_ms"} {
		if value, ok := lines[0][key].(float64); !ok || value < 0 {
			t.Errorf("%s is %v", key, lines[0][key])
		}
	}
	if agent, _ := lines[0]["user_agent"].(string); len(agent) > 600 {
		t.Errorf("the user agent has %d bytes", len(agent))
	}
	for key, want := range map[string]any{"refused": "expired", "credential": "oidc", "detail": "detail of expired", "status": 401.0, "verb": "get"} {
		if lines[1][key] != want {
			t.Errorf("of the refusal, %s is %v, want %v", key, lines[1][key], want)
		}
	}
	for _, secret := range []string{ownToken, "query-canary", "Bearer"} {
		if strings.Contains(string(g.log.Bytes()), secret) {
			t.Errorf("%q is in the log", secret)
		}
	}
}

// Promise: metrics have closed labels and good form.
func TestMetrics(t *testing.T) {
	g := newGate(t, 2, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/odd" {
			w.WriteHeader(799)
		}
	})
	for _, path := range []string{"/api/v1/pods", "/api/v1/pods/a", "/odd", "/api/v1/pods?watch=true", "/apis/x/y/z/%ff", "/random-path-canary"} {
		resp, err := g.client(2).Do(g.request(http.MethodGet, path, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		labels map[string]string
		want   float64
	}{
		{"gatehouse_requests_total", map[string]string{"verb": "list", "code": "200", "answered_by": "upstream"}, 1},
		{"gatehouse_requests_total", map[string]string{"verb": "watch"}, 1},
		{"gatehouse_requests_total", map[string]string{"code": "other"}, 1},
		{"gatehouse_requests_total", nil, 6},
		{"gatehouse_authentication_attempts_total", map[string]string{"kind": "token_file", "result": "accepted"}, 6},
		{"gatehouse_request_own_duration_seconds", nil, 6},
		{"gatehouse_upstream_response_header_duration_seconds", nil, 6},
		{"gatehouse_requests_in_flight", nil, 0},
	} {
		if got := g.count(tt.name, tt.labels); got != tt.want {
			t.Errorf("%s%v is %v, want %v", tt.name, tt.labels, got, tt.want)
		}
	}
	problems, err := testutil.GatherAndLint(g.metrics)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
	families, err := g.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if strings.Contains(family.String(), "canary") {
			t.Errorf("%s has a label that a caller chose", family.GetName())
		}
	}
}

// Promise: no token is in the log, not even where its holder put it himself.
func TestMisplacedTokenIsNotLogged(t *testing.T) {
	const token = "alice-canary-of-a-token"
	g := newGateFor(t, 2, auth.Bearer(users{}), func(http.ResponseWriter, *http.Request) {}, permitting(impersonate.NewPermits(classic{"x" + token})))
	for _, edit := range []func(*http.Request){
		func(r *http.Request) { r.Header.Set("User-Agent", "curl/"+token) },
		func(r *http.Request) { r.Header.Set("Impersonate-User", "y"+token) },
		func(r *http.Request) { r.Header.Set("Impersonate-User", "x"+token) },
		func(r *http.Request) { r.URL.Path = "/api/v1/namespaces/" + token + "/pods/" + token },
		func(r *http.Request) { r.URL.Path = "/" + token },
	} {
		r := g.request(http.MethodGet, "/api/v1/pods", token)
		edit(r)
		resp, err := g.client(1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	lines := g.requestLines()
	if len(lines) != 5 {
		t.Fatalf("%d lines", len(lines))
	}
	for _, line := range lines {
		hidden := 0
		for key, value := range line {
			text, _ := value.(string)
			if key != "user" && strings.Contains(text, token) { // in this test the token is the name
				t.Errorf("%s is logged as %q", key, text)
			}
			if strings.Contains(text, "not shown") {
				hidden++
			}
		}
		if hidden == 0 {
			t.Errorf("nothing is hidden in %v", line)
		}
	}
}
