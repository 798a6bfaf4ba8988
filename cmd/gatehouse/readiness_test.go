package main

import (
	"net/http"
	"strings"
	"testing"
)

// /livez and /readyz say ok, and with ?verbose there is a line for each part.
func TestReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	p := signIn(t, w, issuer, nil)
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	for path, want := range map[string]string{
		"/livez":          "ok\n",
		"/readyz":         "ok\n",
		"/readyz?verbose": "[+]serving ok\n[+]apiserver ok\n[+]rights ok\n[+]issuer/" + issuer.URL + " ok\nreadyz check passed\n",
	} {
		if code, body := p.opsGet(t, path); code != http.StatusOK || body != want {
			t.Errorf("%s: %d %q, want 200 %q", path, code, body, want)
		}
	}
	if code, _ := p.opsGet(t, "/api"); code != http.StatusNotFound {
		t.Errorf("/api on the ops port: %d, want 404", code)
	}
}

// An issuer that is down at the start does not stop it. Where its tokens are
// the only credential the replica is not ready until it is reached; the reason
// is named.
func TestIssuerDownAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	issuer.SetDown(true)
	p := w.start(t, w.oidc(issuer, nil))
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]issuer/"+issuer.URL+" failed: discovery: get "+issuer.URL)
	if code, report := p.opsGet(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(report, "status 503") {
		t.Errorf("/readyz without ?verbose: %d %q, want 503 with the reason", code, report)
	}
	p.expectRefusal(t, issuer.Token(nil), http.StatusServiceUnavailable, "issuer's keys are not known")
	if code, _ := p.opsGet(t, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d, want 200: a restart would mend nothing", code)
	}
	issuer.SetDown(false)
	p.awaitReady(t, http.StatusOK, "readyz check passed\n")
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
}

// With a token file, an issuer that is down leaves the replica ready, and those
// who have static tokens are served.
func TestIssuerDownBesidesTokenFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	issuer.SetDown(true)
	p := w.start(t, w.oidc(issuer, map[string]string{"TOKEN_AUTH_FILE": w.path("tokens.csv")}))
	p.awaitReady(t, http.StatusOK, "[!]issuer/"+issuer.URL+" degraded: discovery: get "+issuer.URL)
	p.awaitReady(t, http.StatusOK, "readyz check passed, degraded\n")
	if code, body := p.opsGet(t, "/readyz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/readyz: %d %q, want 200 ok", code, body)
	}
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Errorf("a static token: status %d, want 200", got.code)
	}
}

// A token file in which nobody stands serves nobody: it does not make a replica
// ready whose issuer is down.
func TestIssuerDownBesidesEmptyTokenFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	issuer.SetDown(true)
	empty := w.write(t, "empty.csv", "")
	p := w.start(t, w.oidc(issuer, map[string]string{"TOKEN_AUTH_FILE": empty}))
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]issuer/"+issuer.URL+" failed: discovery: get "+issuer.URL)
}

// An issuer that goes down later leaves the replica ready: its last keys are
// used, and the report says since when.
func TestIssuerGoesDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	p := signIn(t, w, issuer, map[string]string{"JWKS_REFRESH_INTERVAL": "1s"})
	issuer.SetDown(true)
	p.awaitReady(t, http.StatusOK, "[!]issuer/"+issuer.URL+" degraded: keys of 2")
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
}

// An API server that refuses gatehouse's own credential, is not ready, or
// cannot be reached takes the replica out, each by its name; it comes back by
// itself. Changes are logged, and nothing else is.
func TestAPIServerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.upstream.readyCode.Store(http.StatusUnauthorized)
	p := w.start(t, nil)
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]apiserver failed: does not accept gatehouse's own credential (401)")
	w.upstream.readyCode.Store(http.StatusInternalServerError)
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]apiserver failed: is not ready: /readyz answers 500")
	w.upstream.setDown(true)
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]apiserver failed: cannot be reached: ")
	w.upstream.setDown(false)
	// 403: who gatehouse is was accepted, and a bare /readyz needs a right.
	w.upstream.readyCode.Store(http.StatusForbidden)
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	w.upstream.setDown(true)
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]apiserver failed: cannot be reached: ")

	text := p.log.text()
	if failures := strings.Count(text, "the API server fails its check"); failures != 2 {
		t.Errorf("the failure was logged %d times, want once for each of two times that it began:\n%s", failures, text)
	}
	mustNotHold(t, "the log", text)
	_, report := p.opsGet(t, "/readyz?verbose")
	mustNotHold(t, "the report", report)
}
