package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// A row that is added or removed takes effect while gatehouse runs. A file that
// is bad leaves the last good one in effect, is logged once, and shows in a
// metric.
func TestTokenFileReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, nil)
	w.write(t, "tokens.csv", "static-token-of-gus,gus,1\n")
	p.awaitReload(t, "token_auth_file")
	p.expectRefusal(t, anaToken, http.StatusUnauthorized, "not accepted")
	w.write(t, "tokens.csv", "static-token-of-gus,gus\nstatic-token-of-hal,hal,1\n")
	line := p.log.awaitMessage(t, "changed files are bad, the last good content stays in effect")
	if want := w.path("tokens.csv") + ": line 1: 2 columns"; field(line, "source") != "token_auth_file" || !strings.Contains(field(line, "error"), want) {
		t.Errorf("want %q in %s", want, line)
	}
	if got := p.ask(t, "static-token-of-gus", "/version"); got.code != http.StatusOK {
		t.Errorf("the last good row: status %d, want 200", got.code)
	}
	p.expectRefusal(t, "static-token-of-hal", http.StatusUnauthorized, "not accepted")
	_, metrics := p.opsGet(t, "/metrics")
	for series, want := range map[string]string{
		`gatehouse_reload_last_successful{source="token_auth_file"}`:         "0",
		`gatehouse_reloads_total{result="failure",source="token_auth_file"}`: "1",
		`gatehouse_reloads_total{result="success",source="token_auth_file"}`: "1",
	} {
		if got, _ := seriesValue(metrics, series); got != want {
			t.Errorf("%s is %q, want %q", series, got, want)
		}
	}
	mustNotHold(t, "the log", p.log.text(), "static-token-of")
}

// A kubeconfig that changes takes effect: another API server and another
// credential. A token in a file that it names now is followed as it rotates,
// though the old kubeconfig had none.
func TestKubeconfigReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, nil)
	p.expectOwnToken(t, ownToken)
	w.write(t, "own-token", "rotated-token-1\n")
	w.write(t, "kubeconfig", kubeconfig(w.upstream.URL+"/moved", "ca.crt", "tokenFile: own-token"))
	p.awaitReload(t, "upstream_token")
	p.expectOwnToken(t, "rotated-token-1")
	if got := p.ask(t, anaToken, "/version").seen.Path; got != "/moved/version" {
		t.Errorf("the API server saw %q, want /moved/version", got)
	}
	w.write(t, "own-token", "rotated-token-2\n")
	eventually(t, func() bool { return p.ownToken(t) == "Bearer rotated-token-2" }, func() string { return p.ownToken(t) })
	w.write(t, "own-token", "\n")
	p.log.awaitMessage(t, "changed files are bad, the last good content stays in effect")
	p.expectOwnToken(t, "rotated-token-2")
	mustNotHold(t, "the log", p.log.text(), "rotated-token")
}

// The CA of the API server is read again when its file changes, and the kubeconfig
// does not.
func TestUpstreamCAReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second, err := authtest.NewCA("second")
	if err != nil {
		t.Fatal(err)
	}
	moved := newAPIServer(t, second, true)
	w.write(t, "upstream-ca.crt", string(w.ca.PEM()))
	w.write(t, "kubeconfig", kubeconfig(moved.URL, "upstream-ca.crt", "token: "+ownToken))
	p := w.start(t, nil)
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusBadGateway {
		t.Errorf("status %d, want 502: the CA did not sign the API server's certificate", got.code)
	}
	w.write(t, "upstream-ca.crt", string(second.PEM()))
	p.awaitReload(t, "upstream")
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Errorf("status %d after the CA was renewed, want 200", got.code)
	}
}

// A serving certificate that is renewed is shown to new connections; one that
// does not fit its key is not.
func TestServingCertificateReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, nil)
	p.ask(t, anaToken, "/version")
	w.writePair(t, "127.0.0.1")
	p.awaitReload(t, "serving_certificate")
	before := p.servingSerial(t)
	other, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "tls.crt", string(other.Cert))
	p.log.awaitMessage(t, "changed files are bad, the last good content stays in effect")
	if after := p.servingSerial(t); after != before {
		t.Errorf("serial %s, want the last good one, %s", after, before)
	}
	w.write(t, "tls.key", string(other.Key))
	eventually(t, func() bool { return p.servingSerial(t) != before }, func() string { return "the mended pair is not shown" })
}

// When the issuer's CA file changes, its keys are fetched anew by the new CA;
// until then the old ones answer, so that nobody is turned away.
func TestIssuerCAReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	p := signIn(t, w, issuer, nil)
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
	fetches := issuer.KeyFetches.Load()
	second, err := authtest.NewCA("second")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "ca.crt", string(second.PEM())+string(w.ca.PEM()))
	p.awaitReload(t, "oidc_ca_file")
	eventually(t, func() bool { return issuer.KeyFetches.Load() > fetches }, func() string { return "the keys are not fetched anew" })
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")

	w.write(t, "ca.crt", "no certificate any more\n")
	p.log.await(t, "the bad CA file", func(line string) bool {
		return field(line, "source") == "oidc_ca_file" && strings.Contains(field(line, "error"), "GATEHOUSE_OIDC_CA_FILE: "+w.path("ca.crt")+" holds no certificate")
	})
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
}

// awaitReload returns once the files of source have taken effect anew.
func (p *process) awaitReload(t *testing.T, source string) {
	t.Helper()
	p.log.await(t, "the reload of "+source, func(line string) bool {
		return field(line, "msg") == "changed files took effect" && field(line, "source") == source
	})
}

// ownToken returns the credential that the API server sees.
func (p *process) ownToken(t *testing.T) string {
	t.Helper()
	return p.ask(t, anaToken, "/version").seen.Header.Get("Authorization")
}

func (p *process) expectOwnToken(t *testing.T, want string) {
	t.Helper()
	if got := p.ownToken(t); got != "Bearer "+want {
		t.Errorf("the API server saw %q, want Bearer %s", got, want)
	}
}

// servingSerial returns the serial number of the certificate that a new
// connection is shown.
func (p *process) servingSerial(t *testing.T) string {
	t.Helper()
	p.client.CloseIdleConnections()
	resp, err := p.client.Do(p.request(t, anaToken, "/version"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.TLS.PeerCertificates[0].SerialNumber.String()
}
