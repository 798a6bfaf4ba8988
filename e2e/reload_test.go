package e2e_test

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// testCertificateReload: a new serving certificate is served without a restart,
// and connections that are open go on.
func (w world) testCertificateReload(t *testing.T) {
	g := w.start(t, nil)
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	before := g.get(t, "/api", token)
	serial, err := g.ReplaceCertificate()
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, reloadLimit, func() error {
		served, err := g.servedSerial()
		if err == nil && served != serial {
			err = fmt.Errorf("the certificate %s is served, want %s", served, serial)
		}
		return err
	})
	after := g.get(t, "/api", token)
	if old, present := before.TLS.PeerCertificates[0], after.TLS.PeerCertificates[0]; !old.Equal(present) {
		t.Error("the open connection was closed by the reload")
	}
	if after.StatusCode != http.StatusOK {
		t.Errorf("on the open connection: got %s", after.Status)
	}
}

// servedSerial is the serial number of the certificate that a new connection
// gets.
func (g gate) servedSerial() (string, error) {
	address, err := url.Parse(g.URL())
	if err != nil {
		return "", err
	}
	roots := g.client.Transport.(*http.Transport).TLSClientConfig.RootCAs
	conn, err := tls.Dial("tcp", address.Host, &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String(), nil
}

// testTokenFileReload: a row that is added to the token file works, and one that
// is taken away stops working, within 10 s and without a restart.
func (w world) testTokenFileReload(t *testing.T) {
	tokens := w.tokens(t, "first,ci-robot,1")
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_AUTH_FILE": tokens.Path()})
	status := func(token string) int { return g.get(t, "/api", token).StatusCode }
	if first, second := status("first"), status("second"); first != http.StatusOK || second != http.StatusUnauthorized {
		t.Fatalf("at the start: got %d for the row and %d without one", first, second)
	}
	if err := tokens.Replace("second,ci-robot,1"); err != nil {
		t.Fatal(err)
	}
	eventually(t, reloadLimit, func() error {
		if first, second := status("first"), status("second"); first != http.StatusUnauthorized || second != http.StatusOK {
			return fmt.Errorf("got %d for the row that was taken away, %d for the new one", first, second)
		}
		return nil
	})
}

// testBadTokenFile: a token file that is bad leaves the last good one in
// effect; the log says why with the line, without a token, and a metric shows
// it.
func (w world) testBadTokenFile(t *testing.T) {
	tokens := w.tokens(t, "good-secret,ci-robot,1")
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_AUTH_FILE": tokens.Path()})
	if err := tokens.Replace("good-secret,ci-robot,1", "short-secret,short"); err != nil {
		t.Fatal(err)
	}
	const bad = `gatehouse_reload_last_successful{source="token_auth_file"} 0`
	eventually(t, reloadLimit, func() error {
		_, metrics, err := g.Ops(t.Context(), "/metrics")
		if err == nil && !strings.Contains(metrics, bad) {
			err = errors.New("the metrics do not show the bad file")
		}
		return err
	})
	if _, err := g.AwaitLog(t.Context(), "token_auth_file", "line 2"); err != nil {
		t.Error(err)
	}
	if logs := strings.Join(g.Logs(), "\n"); strings.Contains(logs, "-secret") {
		t.Errorf("the log holds a token: %s", logs)
	}
	if a := g.get(t, "/api", "good-secret"); a.StatusCode != http.StatusOK {
		t.Errorf("the last good row: got %s", a.Status)
	}
}

// testOwnToken: gatehouse takes up a new token of its own account within 10 s
// and without a failed request; the old one may then be revoked.
func (w world) testOwnToken(t *testing.T) {
	g := w.start(t, nil)
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	credential := func() string {
		_, a := g.whoAmI(t, token) // fails the test if it does not succeed
		event := w.auditEvent(t, a.Header.Get("Audit-Id"))
		return strings.Join(event.User.Extra["authentication.kubernetes.io/credential-id"], " ")
	}
	first := credential()
	if first == "" {
		t.Fatal("the API server recorded no credential id of gatehouse's own token")
	}
	if err := w.Cluster.RotateToken(t.Context(), stage.AccountNamespace, stage.AccountName); err != nil {
		t.Fatal(err)
	}
	eventually(t, reloadLimit, func() error {
		if credential() == first {
			return errors.New("the old token is still used")
		}
		return nil
	})
	if err := w.Cluster.RevokeTokens(t.Context(), stage.AccountNamespace, stage.AccountName); err != nil {
		t.Fatal(err)
	}
	if credential() == first {
		t.Error("the old token is used again")
	}
}

// testDeploy: what deploy/ ships is what a real API server accepts.
func (w world) testDeploy(t *testing.T) {
	files, err := os.ReadDir(w.Deploy(""))
	if err != nil {
		t.Fatal(err)
	}
	applied := 0
	for _, file := range files {
		// The rules are Prometheus' own; the chart makes an object of them.
		if !strings.HasSuffix(file.Name(), ".yaml") || file.Name() == "alerts.yaml" {
			continue
		}
		applied++
		out, err := w.Cluster.Admin().Must(t.Context(), "", "apply", "--dry-run=server", "--server-side", "--force-conflicts",
			"--validate=strict", "-f", w.Deploy(file.Name()))
		if err != nil {
			t.Errorf("%s: %v", file.Name(), err)
		}
		t.Logf("%s: %d objects", file.Name(), strings.Count(out, "\n"))
	}
	if applied == 0 {
		t.Error("there is nothing to apply in deploy")
	}
}
