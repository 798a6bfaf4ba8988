package oracle_test

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// opensslConfig serves "openssl req" and "openssl ca". UID here is that of
// Kubernetes.
const opensslConfig = `
oid_section = oids
[oids]
kubernetesUID = 1.3.6.1.4.1.57683.2
[req]
distinguished_name = dn
prompt = no
string_mask = utf8only
[teletex]
distinguished_name = dn
prompt = no
string_mask = MASK:4
[bmp]
distinguished_name = dn
prompt = no
string_mask = MASK:2048
[dn]
CN = unused
[ca]
default_ca = root
[root]
dir = .
certificate = root.pem
private_key = root.key
database = index
serial = serial
new_certs_dir = .
default_md = sha256
policy = policy
unique_subject = no
preserve = yes
copy_extensions = none
[policy]
commonName = optional
[ca_ext]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[client]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[server]
extendedKeyUsage = serverAuth
[nothing]
`

// openssl is a directory with an authority of the openssl command.
type openssl struct {
	certMaker
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

// block returns what the first PEM block of a file holds.
func (o openssl) block(name string) []byte {
	o.t.Helper()
	content, err := os.ReadFile(filepath.Join(o.dir, name))
	if err != nil {
		o.t.Fatal(err)
	}
	block, _ := pem.Decode(content)
	if block == nil {
		o.t.Fatalf("%s is not PEM", name)
	}
	return block.Bytes
}

// sign has the authority certify a subject and returns the holder; args are
// added to what makes the request, and signing to what makes the certificate.
func (o openssl) sign(subject, extensions string, args, signing []string) *holder {
	o.t.Helper()
	const form = "20060102150405Z"
	o.run(append([]string{"req", "-config", "conf", "-new", "-utf8", "-nodes", "-subj", subject, "-keyout", "key", "-out", "csr"}, args...)...)
	o.run(append([]string{
		"ca", "-config", "conf", "-batch", "-utf8", "-notext", "-preserveDN", "-extensions", extensions, "-in", "csr", "-out", "cert",
		"-startdate", o.at.AddDate(0, 0, -1).UTC().Format(form), "-enddate", o.at.AddDate(0, 0, 1).UTC().Format(form),
	}, signing...)...)
	parsed, _ := x509.ParsePKCS8PrivateKey(o.block("key")) // Go has no Ed448
	key, _ := parsed.(crypto.Signer)
	return read(o.block("cert"), key)
}

// newOpenSSL makes an authority with a key of RSA.
func (m certMaker) newOpenSSL() (openssl, *holder) {
	m.t.Helper()
	o := openssl{m, m.t.TempDir()}
	for name, content := range map[string]string{"conf": opensslConfig, "index": "", "serial": "1000\n"} {
		if err := os.WriteFile(filepath.Join(o.dir, name), []byte(content), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	o.run("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "root.key")
	root := o.sign("/CN=openssl root", "ca_ext", []string{"-key", "root.key"}, []string{"-selfsign", "-keyfile", "root.key"})
	if err := os.WriteFile(filepath.Join(o.dir, "root.pem"), root.pem(), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return o, root
}

// opensslRows are certificates of another library, and the CA that issued them.
func (m certMaker) opensslRows() ([]byte, []certRow) {
	m.t.Helper()
	o, root := m.newOpenSSL()
	p256 := []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"}
	made := func(subject string, more ...string) *holder {
		return o.sign(subject, "client", append(p256[:3:3], append([]string{"ec_paramgen_curve:P-256"}, more...)...), nil)
	}
	with := func(extensions string, request, signing []string) *holder {
		return o.sign("/CN=alice/O=dev", extensions, request, signing)
	}
	return root.pem(), []certRow{
		{is: "openssl: groups and uid", holder: made("/O=dev/O=Ñandú/CN=alice/kubernetesUID=42"), user: auth.User{Name: "alice", UID: "42", Groups: []string{"dev", "Ñandú"}}},
		{is: "openssl: teletex", holder: made("/CN=Zoë/O=dev", "-section", "teletex"), user: auth.User{Name: "Zoë", Groups: []string{"dev"}}},
		{is: "openssl: BMP", holder: made("/CN=Zoë/O=dev", "-section", "bmp"), user: auth.User{Name: "Zoë", Groups: []string{"dev"}}},
		{is: "openssl: several values in one RDN", holder: made("/CN=alice+O=dev", "-multivalue-rdn"), user: alice},
		{is: "openssl: UID of RFC 4519 and DC", holder: made("/DC=example/UID=42/CN=alice"), user: auth.User{Name: "alice"}},
		{is: "openssl: no common name", holder: made("/O=dev"), refused: noOpinion},
		{is: "openssl: RSA", holder: with("client", []string{"-newkey", "rsa:2048"}, nil), user: alice},
		{is: "openssl: RSA-PSS", holder: with("client", p256, []string{"-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32"}), user: alice},
		{is: "openssl: RSA-PSS with the longest salt", holder: with("client", p256, []string{"-sigopt", "rsa_padding_mode:pss"}), refused: "unknown authority"},
		{is: "openssl: Ed25519", holder: with("client", []string{"-newkey", "ed25519"}, nil), user: alice},
		{is: "openssl: Ed448", holder: with("client", []string{"-newkey", "ed448"}, nil), user: alice},
		{is: "openssl: secp256k1", holder: with("client", []string{"-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, nil), refused: "x509: "},
		{is: "openssl: SHA-1", holder: with("client", p256, []string{"-md", "sha1"}), refused: "insecure algorithm"},
		{is: "openssl: MD5", holder: with("client", p256, []string{"-md", "md5"}), refused: "algorithm"},
		{is: "openssl: SHA3-256", holder: with("client", p256, []string{"-md", "sha3-256"}), refused: "algorithm"},
		{is: "openssl: for servers", holder: with("server", p256, nil), refused: "incompatible key usage"},
		{is: "openssl: no extensions", holder: with("nothing", p256, nil), user: alice},
	}
}
