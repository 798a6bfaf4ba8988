package revocation_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
	"github.com/kube-gatehouse/gatehouse/auth/revocation"
)

var (
	oidCN = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidL  = asn1.ObjectIdentifier{2, 5, 4, 7}
	oidO  = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOU = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidC  = asn1.ObjectIdentifier{2, 5, 4, 6}
	oidST = asn1.ObjectIdentifier{2, 5, 4, 8}
	oidDC = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 25}
	email = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	title = asn1.ObjectIdentifier{2, 5, 4, 12}
)

func part(oid asn1.ObjectIdentifier, value any) pkix.RelativeDistinguishedNameSET {
	return pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}}
}

func ia5(text string) asn1.RawValue {
	return asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(text)}
}

// names are distinguished names, in the order of a certificate.
var names = map[string]pkix.RDNSequence{
	"one part":    {part(oidCN, "kubernetes")},
	"openssl req": {part(oidC, "DE"), part(oidST, "Bayern"), part(oidL, "München"), part(oidO, "corp"), part(oidOU, "it"), part(oidCN, "ca")},
	"two units":   {part(oidO, "corp"), part(oidOU, "first"), part(oidOU, "second"), part(oidCN, "ca")},
	"directory":   {part(oidDC, ia5("com")), part(oidDC, ia5("corp")), part(oidCN, "corp-CA")},
	"e-mail":      {part(oidCN, "ca"), part(email, ia5("ca@corp.example"))},
	"specials":    {part(oidO, `a, b+c "d" <e>; f\g=h#`), part(oidCN, "# ca")},
	"several":     {{{Type: oidO, Value: "corp"}, {Type: oidCN, Value: "ca"}}},
	"two names":   {part(oidCN, "a"), part(oidCN, "b")},
	"empty part":  {part(oidO, ""), part(oidCN, "ca")},
	"others":      {{{Type: asn1.ObjectIdentifier{2, 5, 4, 97}, Value: "VATDE-1"}}, part(title, "root \U0001F600"), part(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}, "x"), part(oidCN, "ca")},
}

// selfSigned returns a certificate whose issuer is name.
func selfSigned(t *testing.T, name pkix.RDNSequence, serial *big.Int) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := asn1.Marshal(name)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{RawSubject: raw, SerialNumber: serial, NotBefore: noon, NotAfter: noon.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// identityOf is what auth/clientcert makes of a certificate.
func identityOf(cert *x509.Certificate) *auth.Identity {
	return &auth.Identity{
		User: auth.User{Name: "alice"}, Kind: auth.KindClientCert,
		Credential: auth.Credential{
			IDs: clientcert.CredentialIDs(cert), IssuerName: cert.Issuer.String(), Serial: cert.SerialNumber.Text(16), Issued: cert.NotBefore,
		},
	}
}

func serialFile(serial, issuer string) string {
	return fmt.Sprintf("revoked:\n- certificateSerial: %q\n  certificateIssuer: '%s'\n", serial, strings.ReplaceAll(issuer, "'", "''"))
}

// Promise: what openssl prints of a certificate, and what Go does, can be pasted
// into the file and denies that certificate.
func TestCertificateAsPrinted(t *testing.T) {
	_, err := exec.LookPath("openssl")
	withOpenSSL := err == nil
	serials := []int64{0x0a1b2c, 0x1001, 7, 0x80}
	for i, name := range slices.Sorted(maps.Keys(names)) {
		cert := selfSigned(t, names[name], big.NewInt(serials[i%len(serials)]))
		id := identityOf(cert)
		files := map[string]string{"Go": serialFile(cert.SerialNumber.Text(16), cert.Issuer.String())}
		if withOpenSSL {
			files["openssl"] = serialFile(openssl(t, cert, "-serial"), openssl(t, cert, "-issuer", "-nameopt", "RFC2253"))
			files["openssl fingerprint"] = fmt.Sprintf("revoked:\n- certificateSHA256: %s\n", openssl(t, cert, "-fingerprint", "-sha256"))
		}
		for form, file := range files {
			if list := parse(t, file); !denied(t, id, list.Check(id)) {
				t.Errorf("%s, %s: %s passed, want %s", name, form, file, id.IssuerName)
			}
		}
	}
	if !withOpenSSL {
		t.Skip("what openssl prints was not tried: there is no openssl")
	}
}

// openssl prints one thing of a certificate, without what stands before it.
func openssl(t *testing.T, cert *x509.Certificate, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "openssl", append([]string{"x509", "-noout", "-in", file}, args...)...).Output()
	if err != nil {
		t.Fatal(err)
	}
	_, value, _ := strings.Cut(strings.TrimSuffix(string(out), "\n"), "=")
	return value
}

// Promise: the other certificate that anybody can make of an ECDSA one is denied
// with it.
func TestTwinFingerprint(t *testing.T) {
	id := identityOf(selfSigned(t, names["one part"], big.NewInt(7)))
	if len(id.IDs) < 2 {
		t.Fatalf("ids %v", id.IDs)
	}
	for _, one := range id.IDs {
		if list := parse(t, "revoked:\n- credentialID: "+one+"\n"); !denied(t, id, list.Check(id)) {
			t.Errorf("passed by %s", one)
		}
	}
}

// Promise: a name in any other form is refused, not taken for another name.
func TestBadName(t *testing.T) {
	for name, want := range map[string]string{
		"C = DE, CN = ca":     "an unknown type, or one with white space",
		"C=DE, CN=ca":         "an unknown type, or one with white space",
		"CN=ca ,C=DE":         "begins or ends with a blank",
		"CN= ca":              "begins or ends with a blank",
		"/C=DE/CN=ca":         "an unknown type",
		"issuer=CN=ca":        "an unknown type",
		"CN=ca,":              "has no =",
		"CN=ca,DE":            "has no =",
		"=ca":                 "an unknown type",
		"2..4=ca":             "an unknown type",
		`CN="ca"`:             "after a backslash",
		`CN=a;O=b`:            "after a backslash",
		`CN=a\`:               "a special character or two hex digits",
		`CN=a\zz`:             "a special character or two hex digits",
		"CN=#zz":              "hex digits",
		"CN=#0203010203":      "a text in DER",
		"CN=#0c0161ff":        "a text in DER",
		"CN=":                 "names nobody",
		"2.99999999999.4=abc": "an unknown type",
	} {
		_, err := revocation.Parse([]byte(serialFile("7", name)))
		if err == nil || !strings.Contains(err.Error(), "revoked[0].certificateIssuer: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %s", name, err, want)
		}
	}
}
