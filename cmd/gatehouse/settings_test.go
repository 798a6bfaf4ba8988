package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// settingTest fails if gatehouse ignores the variable it is named after.
type settingTest func(t *testing.T, w *world, issuer *authtest.Issuer)

// settingTests has one entry for each variable, without the prefix. The issuer
// is shared: a test that changes it makes its own.
func settingTests() map[string]settingTest {
	tests := map[string]settingTest{
		"LISTEN_ADDRESS":         testListenAddress,
		"OPS_ADDRESS":            testOpsAddress,
		"TLS_CERT_FILE":          testServingPair,
		"TLS_KEY_FILE":           testServingPair,
		"KUBECONFIG":             testKubeconfig,
		"TOKEN_AUTH_FILE":        testTokenAuthFile,
		"ALLOWED_RESERVED_NAMES": testAllowedReservedNames,
		"TOKEN_REVIEW":           testTokenReview,
		"API_AUDIENCES":          testAPIAudiences,
		"REVOCATION_FILE":        testRevocationFile,
		"IMPERSONATION":          testImpersonation,
		"END_STREAMS":            testEndStreams,
		"SHUTDOWN_DELAY":         testShutdownDelay,
		"SHUTDOWN_TIMEOUT":       testShutdownTimeout,
		"AUDIT_POLICY_FILE":      testAuditPolicyFile,
		"AUDIT_LOG_PATH":         testAuditLogPath,
		"LOG_LEVEL":              testLogLevel,
		"LOG_FORMAT":             testLogFormat,
	}
	maps.Copy(tests, oidcSettingTests())
	maps.Copy(tests, claimSourceSettingTests())
	maps.Copy(tests, limitSettingTests())
	maps.Copy(tests, addressSettingTests())
	maps.Copy(tests, exchangeSettingTests())
	return tests
}

// Every setting has a test that fails when the code ignores it.
func TestEverySetting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	tests := settingTests()
	for _, v := range variables() {
		test, ok := tests[v.name]
		if !ok {
			t.Errorf("%s%s has no test", envPrefix, v.name)
			continue
		}
		delete(tests, v.name)
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			test(t, w, issuer)
		})
	}
	for name := range tests {
		t.Errorf("%s%s has a test, but is no setting", envPrefix, name)
	}
}

// The proxy serves where LISTEN_ADDRESS says, over TLS.
func testListenAddress(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"LISTEN_ADDRESS": "127.0.0.1:0"})
	host, port, err := net.SplitHostPort(p.address)
	if err != nil || host != "127.0.0.1" || port == "8443" {
		t.Errorf("serves on %s, want a free port of 127.0.0.1", p.address)
	}
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Errorf("status %d, want 200", got.code)
	}
}

// The ops port is where OPS_ADDRESS says. Its paths on the proxy's port belong
// to the API server.
func testOpsAddress(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"OPS_ADDRESS": "127.0.0.1:0"})
	host, port, err := net.SplitHostPort(p.ops)
	if err != nil || host != "127.0.0.1" || port == "8080" {
		t.Errorf("ops port on %s, want a free port of 127.0.0.1", p.ops)
	}
	if code, body := p.opsGet(t, "/livez"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("/livez on the ops port: %d %q, want 200 ok", code, body)
	}
	for _, path := range []string{"/livez", "/metrics"} {
		if got := p.ask(t, anaToken, path); got.seen.Path != path {
			t.Errorf("%s on the proxy's port: %d %q, want the API server's answer", path, got.code, got.body)
		}
	}
}

// The proxy shows the certificate of TLS_CERT_FILE, with the key of
// TLS_KEY_FILE.
func testServingPair(t *testing.T, w *world, _ *authtest.Issuer) {
	pair, err := w.ca.Server("gatehouse.example", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	name := strings.ReplaceAll(t.Name(), "/", "-")
	p := w.start(t, map[string]string{
		"TLS_CERT_FILE": w.write(t, name+".crt", string(pair.Cert)),
		"TLS_KEY_FILE":  w.write(t, name+".key", string(pair.Key)),
	})
	resp, err := p.client.Do(p.request(t, anaToken, "/version"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.TLS.PeerCertificates[0].Subject.CommonName; got != "gatehouse.example" {
		t.Errorf("the certificate names %q, want gatehouse.example", got)
	}
}

// Requests go to the API server of KUBECONFIG, with its credential in the place
// of the caller's.
func testKubeconfig(t *testing.T, w *world, _ *authtest.Issuer) {
	other := newAPIServer(t, w.ca, true)
	p := w.start(t, map[string]string{
		"KUBECONFIG": w.write(t, "other-kubeconfig", kubeconfig(other.URL+"/cluster", "ca.crt", "token: another-token-of-our-own")),
	})
	got := p.ask(t, anaToken, "/version").seen
	if auth := got.Header.Get("Authorization"); auth != "Bearer another-token-of-our-own" || got.Path != "/cluster/version" {
		t.Errorf("the API server saw %q for %q", auth, got.Path)
	}
}

// TOKEN_AUTH_FILE says who a static token is, by the token or its SHA-256.
func testTokenAuthFile(t *testing.T, w *world, _ *authtest.Issuer) {
	const token = "static-token-of-ben-1093"
	sum := sha256.Sum256([]byte(token))
	p := w.start(t, map[string]string{"TOKEN_AUTH_FILE": w.write(t, "other-tokens.csv",
		"cleartext-token-of-cy,cy,uid-cy\nsha256:"+hex.EncodeToString(sum[:])+",ben,uid-ben,\"dev,ops\"\n")})
	got := p.ask(t, token, "/version").seen.Header
	want := http.Header{"Impersonate-User": {"ben"}, "Impersonate-Uid": {"uid-ben"}, "Impersonate-Group": {"dev", "ops"}}
	if diff := cmp.Diff(want, impersonation(got)); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	if got := p.ask(t, "cleartext-token-of-cy", "/version").seen.Header.Get("Impersonate-User"); got != "cy" {
		t.Errorf("user %q, want cy", got)
	}
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusUnauthorized {
		t.Errorf("a token of another file: status %d, want 401", got.code)
	}
}

func impersonation(h http.Header) http.Header {
	found := http.Header{}
	for name, values := range h {
		if strings.HasPrefix(name, "Impersonate-") {
			found[name] = values
		}
	}
	return found
}

// A reserved name is accepted if ALLOWED_RESERVED_NAMES holds it in full, from
// the token file and from a token, and no other is.
func testAllowedReservedNames(t *testing.T, w *world, issuer *authtest.Issuer) {
	settings := w.oidc(issuer, map[string]string{
		"TOKEN_AUTH_FILE":        w.write(t, "reserved.csv", "token-of-the-scraper,scraper,1,system:monitoring\n"),
		"OIDC_GROUPS_CLAIM":      "groups",
		"ALLOWED_RESERVED_NAMES": "system:monitoring,kubeadm:helpers",
	})
	p := w.start(t, settings)
	p.awaitReady(t, http.StatusOK, "[+]issuer")
	for _, allowed := range []string{
		"token-of-the-scraper",
		issuer.Token(authtest.Claims{"groups": []string{"kubeadm:helpers"}}),
	} {
		if got := p.ask(t, allowed, "/version"); got.code != http.StatusOK {
			t.Errorf("allowed group: status %d: %s", got.code, got.body)
		}
	}
	masters := issuer.Token(authtest.Claims{"groups": "system:masters"})
	if got := p.ask(t, masters, "/version"); got.code != http.StatusForbidden {
		t.Errorf("system:masters: status %d, want 403", got.code)
	}
}

// After SIGTERM gatehouse goes on for SHUTDOWN_DELAY: it takes new connections,
// and says that it is not ready.
func testShutdownDelay(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"SHUTDOWN_DELAY": "3s"})
	p.stop()
	began := logTime(t, p.log.awaitMessage(t, "shutting down"))
	if code, report := p.opsGet(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(report, "shutting down") {
		t.Errorf("/readyz in the delay: %d %q, want 503 shutting down", code, report)
	}
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Errorf("a new connection in the delay: status %d, want 200", got.code)
	}
	p.client.CloseIdleConnections()
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
	took := logTime(t, p.log.awaitMessage(t, "stopped")).Sub(began)
	if took < 3*time.Second || took >= 5*time.Second {
		t.Errorf("the end took %s, want the delay of 3s and little more (the default is 5s)", took)
	}
}

// A request that goes on longer than SHUTDOWN_TIMEOUT is cut off, and the exit
// code says so.
func testShutdownTimeout(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	p := w.start(t, map[string]string{"SHUTDOWN_TIMEOUT": "1s"})
	failed := make(chan error, 1)
	go func() {
		resp, err := p.client.Do(p.request(t, anaToken, "/slow"))
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			err = errors.Join(err, resp.Body.Close())
		}
		failed <- err
	}()
	<-w.upstream.arrived
	p.stop()
	began := logTime(t, p.log.awaitMessage(t, "shutting down"))
	if code := p.wait(t); code != exitFault {
		t.Errorf("exit code %d, want 1", code)
	}
	if took := time.Since(began); took < time.Second || took >= 10*time.Second {
		t.Errorf("the end took %s, want 1s and little more (the default is 20s)", took)
	}
	if err := <-failed; err == nil {
		t.Error("the request that was cut off looks complete to its caller")
	}
	if !strings.Contains(p.log.text(), "cut off after 1s") {
		t.Errorf("the log does not say that requests were cut off:\n%s", p.log.text())
	}
}

// LOG_LEVEL hides lines below it, and debug shows more than the default.
func testLogLevel(t *testing.T, w *world, _ *authtest.Issuer) {
	down := newAPIServer(t, w.ca, true)
	down.setDown(true)
	silent := w.launch(t, map[string]string{
		"LOG_LEVEL":  "error",
		"KUBECONFIG": w.write(t, "down-kubeconfig", kubeconfig(down.URL, "ca.crt", "token: x")),
	}, func(line string) bool { return field(line, "level") == "ERROR" })
	silent.stop()
	silent.wait(t)
	for line := range strings.Lines(silent.log.text()) {
		if field(line, "level") != "ERROR" {
			t.Errorf("at level error, gatehouse logged %s", line)
		}
	}

	p := w.start(t, map[string]string{"LOG_LEVEL": "debug"})
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "this is not TLS\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	p.log.await(t, "a line at debug", func(line string) bool { return field(line, "level") == "DEBUG" })
}

// LOG_FORMAT chooses between JSON and text.
func testLogFormat(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.launch(t, map[string]string{"LOG_FORMAT": "text"}, func(line string) bool {
		return strings.Contains(line, "msg=serving") && strings.Contains(line, " address=127.0.0.1:")
	})
	p.stop()
	p.wait(t)
	for line := range strings.Lines(p.log.text()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("not a line of text: %s", line)
		}
	}
}
