package clientcert_test

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// opensslConfig serves "openssl ca" for the root and the intermediate.
const opensslConfig = `
oid_section = oids
[oids]
kubernetesUID = 1.3.6.1.4.1.57683.2
[req]
distinguished_name = dn
prompt = no
string_mask = utf8only
[dn]
CN = unused
[root]
dir = root
%[1]s
[middle]
dir = middle
%[1]s
[policy]
commonName = supplied
organizationName = optional
kubernetesUID = optional
[ca_ext]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[client_ext]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[crl_ext]
authorityKeyIdentifier = keyid
`

const opensslAuthority = `certificate = $dir/cert.pem
private_key = $dir/key.pem
database = $dir/index
serial = $dir/serial
crlnumber = $dir/crlnumber
new_certs_dir = $dir
default_md = sha256
default_days = 30
default_crl_days = 7
policy = policy
unique_subject = no
preserve = yes
crl_extensions = crl_ext`

// openssl is a directory with two authorities of the openssl command.
type openssl struct {
	t   *testing.T
	dir string
}

func (o openssl) run(args ...string) {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), "openssl", args...)
	cmd.Dir = o.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		o.t.Fatalf("openssl %v: %v\n%s", args, err, out)
	}
}

func (o openssl) read(name string) []byte {
	o.t.Helper()
	content, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	return content
}

func (o openssl) crl(ca string) []byte {
	o.t.Helper()
	o.run("ca", "-config", "conf", "-name", ca, "-gencrl", "-out", ca+".crl")
	return o.read(ca + ".crl")
}

func (o openssl) revoke(ca, cert string) {
	o.t.Helper()
	o.run("ca", "-config", "conf", "-name", ca, "-revoke", cert, "-crl_reason", "keyCompromise")
}

// sign has ca certify the request of a subject; the key is made by args.
func (o openssl) sign(ca, subject, extensions, key, cert string, args ...string) {
	o.t.Helper()
	o.run(append([]string{"req", "-config", "conf", "-new", "-utf8", "-nodes", "-subj", subject, "-keyout", key, "-out", "csr"}, args...)...)
	o.run("ca", "-config", "conf", "-name", ca, "-batch", "-utf8", "-notext", "-extensions", extensions, "-in", "csr", "-out", cert)
}

// newOpenSSL makes a root (ECDSA), an intermediate (RSA) and a client
// certificate, alice.pem, of the intermediate.
func newOpenSSL(t *testing.T) openssl {
	t.Helper()
	o := openssl{t, t.TempDir()}
	write := func(name, content string) {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("conf", fmt.Sprintf(opensslConfig, opensslAuthority))
	for _, ca := range []string{"root", "middle"} {
		if err := os.Mkdir(filepath.Join(o.dir, ca), 0o700); err != nil {
			t.Fatal(err)
		}
		write(ca+"/index", "")
		write(ca+"/serial", "1000\n")
		write(ca+"/crlnumber", "01\n")
	}
	p256 := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	o.run(append([]string{"req", "-config", "conf", "-x509", "-new", "-nodes", "-days", "30", "-subj", "/CN=openssl root", "-extensions", "ca_ext", "-keyout", "root/key.pem", "-out", "root/cert.pem"}, p256...)...)
	o.sign("root", "/CN=openssl middle", "ca_ext", "middle/key.pem", "middle/cert.pem", "-newkey", "rsa:2048")
	o.sign("middle", "/O=dev/O=Ñandú/CN=alice/kubernetesUID=42", "client_ext", "alice.key", "alice.pem", p256...)
	return o
}

// client returns what alice presents: her certificate and the intermediate.
func (o openssl) client() *entity {
	o.t.Helper()
	pair, err := tls.X509KeyPair(join(o.read("alice.pem"), o.read("middle/cert.pem")), o.read("alice.key"))
	if err != nil {
		o.t.Fatal(err)
	}
	middle, err := x509.ParseCertificate(pair.Certificate[1])
	if err != nil {
		o.t.Fatal(err)
	}
	return &entity{cert: pair.Leaf, key: pair.PrivateKey.(*ecdsa.PrivateKey), above: []*x509.Certificate{middle}}
}

// use makes these CAs and CRLs count.
func (o openssl) use(live *clientcert.Live, caFile []byte, content ...[]byte) {
	o.t.Helper()
	cas := parseCAs(o.t, caFile)
	crls, err := clientcert.ParseCRLs(join(content...), cas, time.Now())
	if err != nil {
		o.t.Fatal(err)
	}
	if err := live.Swap(cas, crls); err != nil {
		o.t.Fatal(err)
	}
}

// Promise: certificates and CRLs of the openssl command are judged right: they
// name their user, and a revoked leaf or intermediate is refused.
func TestOpenSSL(t *testing.T) {
	o := newOpenSSL(t)
	alice := o.client()
	live := &clientcert.Live{}
	a := clientcert.New(clientcert.Config{Live: live})
	s := serve(t)
	c := s.client(t, alice)
	both := join(o.read("root/cert.pem"), o.read("middle/cert.pem"))
	rootCRL, middleCRL := o.crl("root"), o.crl("middle")

	o.use(live, both, rootCRL, middleCRL)
	if uncovered := live.CRLs().Uncovered(); len(uncovered) != 0 {
		t.Errorf("uncovered: %q", uncovered)
	}
	identity, err := s.ask(t, a, c)
	if err != nil {
		t.Fatal(err)
	}
	want := auth.User{Name: "alice", UID: "42", Groups: []string{"dev", "Ñandú"}, Extra: map[string][]string{
		"authentication.kubernetes.io/credential-id": {clientcert.CredentialID(alice.cert)},
	}}
	if diff := cmp.Diff(want, identity.User); diff != "" {
		t.Errorf("user (-want +got):\n%s", diff)
	}

	o.revoke("middle", "alice.pem")
	o.use(live, both, o.crl("middle"), rootCRL, middleCRL) // the newer counts, wherever it stands
	if _, err := s.ask(t, a, c); refusalOf(t, err).Reason != auth.CertificateRevoked {
		t.Errorf("revoked leaf: %v", err)
	}
	o.revoke("root", "middle/cert.pem")
	rootCRL = o.crl("root")
	o.use(live, both, rootCRL, middleCRL)
	if _, err := s.ask(t, a, c); refusalOf(t, err).Reason != auth.CertificateRevoked {
		t.Errorf("revoked intermediate that is an anchor: %v", err)
	}
	o.use(live, o.read("root/cert.pem"), rootCRL)
	if _, err := s.ask(t, a, c); refusalOf(t, err).Reason != auth.CertificateRevoked {
		t.Errorf("revoked intermediate: %v", err)
	}
}
