package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// testOpsPort: health and metrics are on the ops port, with a line for the
// issuer and one for the API server; the same paths on the proxy's port are the
// API server's own, and need a credential.
func (w world) testOpsPort(t *testing.T) {
	g := w.start(t, nil)
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	g.get(t, "/api", token)
	g.get(t, "/api", "this-is-no-token")
	for path, wants := range map[string][]string{
		"/livez":          {"ok"},
		"/readyz":         {"ok"},
		"/readyz?verbose": {"[+]apiserver ok", "[+]issuer/" + w.Issuer.URL + " ok", "readyz check passed"},
		"/metrics": {
			`gatehouse_requests_total{answered_by="upstream",code="200",verb="get"} `,
			`gatehouse_requests_total{answered_by="gatehouse",code="401",verb="get"} `,
			`gatehouse_authentication_attempts_total{kind="oidc",result="accepted"} 1`,
			"gatehouse_request_own_duration_seconds_count ", "gatehouse_upstream_response_header_duration_seconds_count",
			"gatehouse_jwks_fetches_total{", "gatehouse_reloads_total{", "gatehouse_requests_in_flight{", "gatehouse_build_info{",
		},
	} {
		code, body, err := g.Ops(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if code != http.StatusOK || !strings.Contains(body, want) {
				t.Errorf("%s: got %d without %q: %s", path, code, want, body)
			}
		}
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics", "/version"} {
		a, err := g.ask(t.Context(), http.MethodGet, path, "")
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s on the proxy's port without a credential: got %s", path, a.Status)
		}
	}
	if a := g.get(t, "/version", token); !strings.Contains(a.body, `"gitVersion"`) {
		t.Errorf("/version on the proxy's port: got %s: %s, want the API server's", a.Status, a.body)
	}
}

// testLog: there is one JSON line for each request, with the audit id that the
// caller got and the API server recorded, and never a token.
func (w world) testLog(t *testing.T) {
	tokens := w.tokens(t, "robot-secret,ci-robot,1")
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_AUTH_FILE": tokens.Path()})
	good := w.Issuer.Token(stage.Person("alice", "developers"))
	secrets := []string{good, "robot-secret", "this-is-no-token"}
	for _, token := range secrets {
		a := g.get(t, someResourcePath, token)
		id := a.Header.Get("Audit-Id")
		line, err := g.AwaitLog(t.Context(), `"audit_id":"`+id+`"`)
		if err != nil {
			t.Fatal(err)
		}
		var entry struct {
			Msg, Verb, Resource, User string
			Status                    int
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatalf("%q is no JSON: %v", line, err)
		}
		if entry.Msg != "request" || entry.Verb != "list" || entry.Resource != "pods" || entry.Status != a.StatusCode {
			t.Errorf("got the line %s for %s", line, a.Status)
		}
		if a.StatusCode != http.StatusUnauthorized {
			w.auditEvent(t, id)
		}
	}
	_, metrics, err := g.Ops(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(g.Logs(), "\n") + metrics
	for _, secret := range append(secrets, strings.Split(good, ".")...) {
		if strings.Contains(said, secret) {
			t.Errorf("the log or the metrics hold %q", secret)
		}
	}
}

// testSettings: everything that is wrong with the settings is reported at once,
// each with its place, and the process ends with 1.
func (w world) testSettings(t *testing.T) {
	tokens := w.tokens(t, "good-secret,ci-robot,1", "short-secret,short")
	dir, err := w.NewDir()
	if err != nil {
		t.Fatal(err)
	}
	env := w.Env()
	env["GATEHOUSE_LISTEN_ADRESS"] = "127.0.0.1:0"
	env["GATEHOUSE_TOKEN_AUTH_FILE"] = tokens.Path()
	env["GATEHOUSE_OIDC_ISSUER_URL"] = "http://issuer.example"
	env["GATEHOUSE_OIDC_CA_FILE"] = "missing.crt"
	var output proc.Lines
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	p, err := gatehouse.Run(ctx, gatehouse.Config{Binary: w.Binary(), Dir: dir, StopTimeout: time.Second}, env, &output)
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Wait(ctx)
	if err != nil {
		t.Fatal(err)
	}
	said := strings.Join(output.All(), "\n")
	for _, want := range []string{
		"GATEHOUSE_LISTEN_ADRESS", "GATEHOUSE_LISTEN_ADDRESS", // the misspelt one, and what was meant
		"GATEHOUSE_TLS_CERT_FILE", "GATEHOUSE_TLS_KEY_FILE", "line 2", "https", "missing.crt",
	} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not reported", want)
		}
	}
	if code != 1 || slices.ContainsFunc([]string{"good-secret", "short-secret"}, func(s string) bool {
		return bytes.Contains([]byte(said), []byte(s))
	}) {
		t.Errorf("got code %d and %s", code, fmt.Sprintf("%q", said))
	}
}
