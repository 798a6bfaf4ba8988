package main

import (
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// authority is a CA of people that openssl runs, with its revocation list.
type authority struct {
	t   *testing.T
	dir string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	a.write("ca.cnf", `[ca]
default_ca = d
[d]
database = index.txt
serial = serial
crlnumber = crlnumber
new_certs_dir = .
certificate = ca.crt
private_key = ca.key
default_md = sha256
default_days = 1
default_crl_days = 1
policy = p
x509_extensions = client
[p]
commonName = supplied
organizationName = optional
[client]
extendedKeyUsage = clientAuth
[req]
distinguished_name = dn
[dn]
`)
	a.write("index.txt", "")
	a.write("serial", "1000\n")
	a.write("crlnumber", "01\n")
	a.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
		"-subj", "/CN=people", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign", "-config", "ca.cnf", "-keyout", "ca.key", "-out", "ca.crt")
	a.list()
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

func (a *authority) write(name, content string) {
	a.t.Helper()
	if err := os.WriteFile(a.path(name), []byte(content), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

func (a *authority) openssl(args ...string) {
	a.t.Helper()
	command := exec.CommandContext(a.t.Context(), "openssl", args...)
	command.Dir = a.dir
	if out, err := command.CombinedOutput(); err != nil {
		a.t.Fatalf("openssl %s: %v\n%s", args[0], err, out)
	}
}

// list writes the revocation list anew, in one step.
func (a *authority) list() {
	a.t.Helper()
	a.openssl("ca", "-config", "ca.cnf", "-gencrl", "-out", "ca.crl.new")
	if err := os.Rename(a.path("ca.crl.new"), a.path("ca.crl")); err != nil {
		a.t.Fatal(err)
	}
}

// issue makes a certificate for a subject such as /O=dev/CN=ana.
func (a *authority) issue(name, subject string) tls.Certificate {
	a.t.Helper()
	a.openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", subject,
		"-config", "ca.cnf", "-keyout", name+".key", "-out", name+".csr")
	a.openssl("ca", "-config", "ca.cnf", "-batch", "-notext", "-in", name+".csr", "-out", name+".crt")
	pair, err := tls.LoadX509KeyPair(a.path(name+".crt"), a.path(name+".key"))
	if err != nil {
		a.t.Fatal(err)
	}
	return pair
}

func (a *authority) revoke(name string) {
	a.t.Helper()
	a.openssl("ca", "-config", "ca.cnf", "-revoke", name+".crt")
	a.list()
}

// as returns p asked with a client certificate, over connections of its own.
func (p *process) as(t *testing.T, w *world, pair tls.Certificate) *process {
	t.Helper()
	other := *p
	other.client = w.newClient(t, true)
	// The certificate is shown whatever the server asks for.
	other.client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &pair, nil
	}
	return &other
}

// Certificates of CLIENT_CA_FILE name users; a revoked one of CLIENT_CRL_FILE
// stops working, on the connection that it opened too.
func testClientCertificates(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	people, strangers := newAuthority(t), newAuthority(t)
	p := w.start(t, map[string]string{"CLIENT_CA_FILE": people.path("ca.crt"), "CLIENT_CRL_FILE": people.path("ca.crl")})
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	ana := p.as(t, w, people.issue("ana", "/O=dev/CN=ana"))
	got := ana.ask(t, "", "/version")
	identity := impersonation(got.seen.Header)
	delete(identity, "Impersonate-Extra-Authentication.kubernetes.io%2fcredential-Id")
	if diff := cmp.Diff(http.Header{"Impersonate-User": {"ana"}, "Impersonate-Group": {"dev"}}, identity); diff != "" || got.code != http.StatusOK {
		t.Errorf("status %d %s, identity (-want +got):\n%s", got.code, got.body, diff)
	}
	p.expectRefusal(t, "", http.StatusUnauthorized, "not signed in")
	p.as(t, w, strangers.issue("eve", "/CN=ana")).expectRefusal(t, "", http.StatusUnauthorized, "not accepted")
	p.as(t, w, people.issue("root", "/O=system:masters/CN=root")).expectRefusal(t, "", http.StatusForbidden, "reserved")
	// A certificate wins over a token, and hides no bad one.
	if got := ana.ask(t, anaToken, "/version"); got.seen.Header.Get("Impersonate-Uid") != "" || got.code != http.StatusOK {
		t.Errorf("beside a good token: %d %v", got.code, got.seen.Header)
	}
	ana.expectRefusal(t, "garbage", http.StatusUnauthorized, "not accepted")

	people.revoke("ana")
	p.awaitReload(t, "client_ca")
	ana.expectRefusal(t, "", http.StatusUnauthorized, "was revoked")
}

// A revocation list past its nextUpdate refuses its CA's certificates, unless
// CLIENT_CRL_STALE allows them.
func testClientCRLStale(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	people := newAuthority(t)
	pair := people.issue("ana", "/CN=ana")
	people.openssl("ca", "-config", "ca.cnf", "-gencrl", "-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200102000000Z", "-out", "ca.crl")
	settings := map[string]string{"CLIENT_CA_FILE": people.path("ca.crt"), "CLIENT_CRL_FILE": people.path("ca.crl")}
	w.start(t, settings).as(t, w, pair).expectRefusal(t, "", http.StatusUnauthorized, "cannot be told now")
	settings["CLIENT_CRL_STALE"] = "allow"
	if got := w.start(t, settings).as(t, w, pair).ask(t, "", "/version"); got.code != http.StatusOK {
		t.Errorf("with allow: status %d, want 200: %s", got.code, got.body)
	}
}

// Bad files and settings of client certificates stop the start, each under its
// own variable.
func TestBadClientCertificateSettings(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people, strangers := newAuthority(t), newAuthority(t)
	for name, tt := range map[string]struct {
		settings map[string]string
		want     string
	}{
		"no CA":           {map[string]string{"CLIENT_CA_FILE": w.path("tokens.csv")}, "GATEHOUSE_CLIENT_CA_FILE: " + w.path("tokens.csv")},
		"missing CA":      {map[string]string{"CLIENT_CA_FILE": "/nonexistent"}, "GATEHOUSE_CLIENT_CA_FILE: open /nonexistent"},
		"CRL without CA":  {map[string]string{"CLIENT_CRL_FILE": people.path("ca.crl")}, "GATEHOUSE_CLIENT_CRL_FILE: needs GATEHOUSE_CLIENT_CA_FILE"},
		"CRL of another":  {map[string]string{"CLIENT_CA_FILE": people.path("ca.crt"), "CLIENT_CRL_FILE": strangers.path("ca.crl")}, "GATEHOUSE_CLIENT_CRL_FILE: " + strangers.path("ca.crl")},
		"missing CRL":     {map[string]string{"CLIENT_CA_FILE": people.path("ca.crt"), "CLIENT_CRL_FILE": "/nonexistent"}, "GATEHOUSE_CLIENT_CRL_FILE: open /nonexistent"},
		"unknown staling": {map[string]string{"CLIENT_CRL_STALE": "maybe"}, `GATEHOUSE_CLIENT_CRL_STALE: "maybe" is neither refuse nor allow`},
	} {
		code, _, stderr := once(t, w.environ(tt.settings), "check")
		if code != exitFault || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d, want 1 and %q:\n%s", name, code, tt.want, stderr)
		}
	}
}
