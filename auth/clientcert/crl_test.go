package clientcert_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// revocationCase is one certificate judged by CAs and CRLs.
type revocationCase struct {
	name   string
	cas    []byte
	crls   [][]byte
	stale  clientcert.StalePolicy
	client *entity
	want   auth.Reason // empty: accepted
}

func (tt revocationCase) run(t *testing.T) {
	a := clientcert.New(clientcert.Config{Live: trusting(t, tt.cas, tt.crls...), Stale: tt.stale, Now: at(now)})
	s := serve(t)
	identity, err := s.ask(t, a, s.client(t, tt.client))
	switch {
	case tt.want == "" && (err != nil || identity.Name != tt.client.cert.Subject.CommonName):
		t.Errorf("%+v, %v", identity, err)
	case tt.want != "" && refusalOf(t, err).Reason != tt.want:
		t.Errorf("refused with %v, want %s", err, tt.want)
	}
}

// Promise: a certificate on the newest CRL of its issuer is refused, an
// intermediate as well as a leaf, and nobody else is.
func TestRevocation(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	middle := issue(t, root, authority("middle"))
	leaf, deep := issue(t, root, client("leaf")), issue(t, middle, client("deep")).with(middle)
	spare := issueFor(t, middle.key, root, authority("middle")) // middle, certified again
	renewed := issue(t, nil, authority("root"))                 // root with a new key
	cas, both := root.pem(), join(root.pem(), middle.pem())
	for _, tt := range []revocationCase{
		{"not listed", cas, [][]byte{root.crl(t, nil)}, "", leaf, ""},
		{"leaf", cas, [][]byte{root.crl(t, []*entity{middle, leaf})}, "", leaf, auth.CertificateRevoked},
		{"intermediate", cas, [][]byte{root.crl(t, []*entity{middle})}, "", deep, auth.CertificateRevoked},
		{"leaf of an intermediate", both, [][]byte{root.crl(t, nil), middle.crl(t, []*entity{deep})}, "", deep, auth.CertificateRevoked},
		{"leaf of an intermediate, other leaf", both, [][]byte{root.crl(t, nil), middle.crl(t, []*entity{leaf})}, "", deep, ""},
		{"intermediate that is an anchor too", both, [][]byte{root.crl(t, []*entity{middle}), middle.crl(t, nil)}, "", deep, auth.CertificateRevoked},
		{"one of two certificates of an intermediate", both, [][]byte{root.crl(t, []*entity{spare}), middle.crl(t, nil)}, "", deep.with(spare), ""},
		{"both certificates of an intermediate", both, [][]byte{root.crl(t, []*entity{spare, middle}), middle.crl(t, nil)}, "", deep.with(spare), auth.CertificateRevoked},
		{"intermediate without a CRL below a root with one", cas, [][]byte{root.crl(t, nil)}, "", deep, auth.CRLMissing},
		{"anchor without a CRL below a root with one", both, [][]byte{root.crl(t, nil)}, "", deep, ""},
		{"intermediate below a CA without a CRL", join(root.pem(), other.pem()), [][]byte{other.crl(t, nil)}, "", deep, ""},
		{"CA without a CRL", join(root.pem(), other.pem()), [][]byte{other.crl(t, nil)}, "", leaf, ""},
		{"serial number on the CRL of another CA", join(root.pem(), other.pem()), [][]byte{root.crl(t, nil), other.crl(t, []*entity{leaf})}, "", leaf, ""},
		{"CRL signed by the new key of the same CA", join(root.pem(), renewed.pem()), [][]byte{renewed.crl(t, []*entity{leaf})}, "", leaf, auth.CertificateRevoked},
		{"root on its own CRL", cas, [][]byte{root.crl(t, []*entity{root})}, "", leaf, ""},

		{"newest by date", cas, [][]byte{root.crl(t, []*entity{leaf}, numbered(1)), root.crl(t, nil, numbered(2), dated(-2*time.Hour, time.Hour))}, "", leaf, auth.CertificateRevoked},
		{"newest by number", cas, [][]byte{root.crl(t, []*entity{leaf}, numbered(9)), root.crl(t, nil, numbered(8))}, "", leaf, auth.CertificateRevoked},
		{"newest no longer lists it", cas, [][]byte{root.crl(t, []*entity{leaf}, dated(-2*time.Hour, time.Hour)), root.crl(t, nil)}, "", leaf, ""},
	} {
		t.Run(tt.name, tt.run)
	}
}

// Promise: while a CRL is stale, the certificates of its issuer, and of no
// other, are refused, unless the policy allows them; a stale CRL still revokes.
func TestStale(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	middle := issue(t, root, authority("middle"))
	leaf, deep := issue(t, root, client("leaf")), issue(t, middle, client("deep")).with(middle)
	renewed := issue(t, nil, authority("root"))            // root with a new key
	alias := issueFor(t, root.key, nil, authority("toor")) // root's key under another name
	cas, both := root.pem(), join(root.pem(), middle.pem())
	old := dated(-2*time.Hour, -time.Second)
	for _, tt := range []revocationCase{
		{"stale", cas, [][]byte{root.crl(t, nil, old)}, "", leaf, auth.CRLStale},
		{"stale, unknown policy", cas, [][]byte{root.crl(t, nil, old)}, "maybe", leaf, auth.CRLStale},
		{"stale, allowed", cas, [][]byte{root.crl(t, nil, old)}, clientcert.StaleAllow, leaf, ""},
		{"stale, allowed, listed", cas, [][]byte{root.crl(t, []*entity{leaf}, old)}, clientcert.StaleAllow, leaf, auth.CertificateRevoked},
		{"stale, listed", cas, [][]byte{root.crl(t, []*entity{leaf}, old)}, "", leaf, auth.CertificateRevoked},
		{"last second of a CRL", cas, [][]byte{root.crl(t, nil, dated(-time.Hour, 0))}, "", leaf, ""},
		{"stale CRL of the root, leaf of an intermediate", both, [][]byte{root.crl(t, nil, old), middle.crl(t, nil)}, "", deep, auth.CRLStale},
		{"stale CRL of another CA", join(root.pem(), other.pem()), [][]byte{root.crl(t, nil), other.crl(t, nil, old)}, "", leaf, ""},
		{"stale CRL of another key of the CA's name", join(root.pem(), renewed.pem()), [][]byte{renewed.crl(t, nil, old)}, "", leaf, ""},
		{"stale CRL of another name of the CA's key", join(root.pem(), alias.pem()), [][]byte{alias.crl(t, nil, old)}, "", leaf, ""},
	} {
		t.Run(tt.name, tt.run)
	}
}

func extension(oid asn1.ObjectIdentifier, critical bool) crlOption {
	return func(l *x509.RevocationList) {
		l.ExtraExtensions = append(l.ExtraExtensions, pkix.Extension{Id: oid, Critical: critical, Value: []byte{0x30, 0}})
	}
}

func entryExtension(oid asn1.ObjectIdentifier, critical bool) crlOption {
	return func(l *x509.RevocationList) {
		l.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: big.NewInt(7), RevocationTime: now,
			ExtraExtensions: []pkix.Extension{{Id: oid, Critical: critical, Value: []byte{0x30, 0}}}}}
	}
}

// broken changes the last byte of a PEM block, which is of the signature.
func broken(t *testing.T, content []byte) []byte {
	t.Helper()
	block, _ := pem.Decode(content)
	der := slices.Clone(block.Bytes)
	der[len(der)-1] ^= 1
	return pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: der})
}

// oddCRL makes a list with dates that the library does not make; a zero
// nextUpdate is left out.
func (e *entity) oddCRL(t *testing.T, nextUpdate time.Time) []byte {
	t.Helper()
	algorithm := pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}} // ecdsa-with-SHA256
	list := struct {
		Version    int
		Signature  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
		NextUpdate time.Time `asn1:"optional"`
	}{1, algorithm, asn1.RawValue{FullBytes: e.cert.RawSubject}, now.Add(-time.Hour), nextUpdate}
	signed, err := asn1.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(signed)
	signature, err := ecdsa.SignASN1(rand.Reader, e.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		Signed    asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: signed}, algorithm, asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// badCRLs is a file of CRLs that is refused.
type badCRLs struct {
	name    string
	content []byte
	want    []string // each in the error
}

func (tt badCRLs) run(cas *clientcert.CAs) func(*testing.T) {
	return func(t *testing.T) {
		_, err := clientcert.ParseCRLs(tt.content, cas, now)
		if err == nil {
			t.Fatal("accepted")
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q lacks %q", err, want)
			}
		}
	}
}

// Promise: a file of CRLs that is not whole, or whose CRLs are not those of a
// trusted CA, is refused, and the error says which CRL and why.
func TestParseCRLsForeign(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	namesake := issue(t, nil, authority("root"))
	mute := issue(t, nil, authority("mute"), func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCertSign })
	// The library does not sign with mute, so another certificate of its key does.
	voice := issueFor(t, mute.key, nil, authority("mute"))
	cas := parseCAs(t, root.pem(), mute.pem())
	good := root.crl(t, nil)
	block, _ := pem.Decode(good)
	for _, tt := range []badCRLs{
		{"empty", nil, []string{"no PEM block X509 CRL"}},
		{"white space", []byte("\n \n"), []string{"no PEM block X509 CRL"}},
		{"text before", join([]byte("hello\n"), good), []string{"line 1: neither"}},
		{"text after", join(good, []byte("hello\n")), []string{"neither a PEM block nor a comment"}},
		{"cut off", good[:len(good)-10], []string{"line 1: the PEM block is damaged or cut off"}},
		{"damaged before a whole one", join(good[:len(good)/2], []byte("\n"), good), []string{"line 1: the PEM block is damaged"}},
		{"a certificate", root.pem(), []string{"line 1: a PEM block other than X509 CRL"}},
		{"garbage", pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: []byte("x")}), []string{"CRL 1: x509: malformed crl"}},
		{"DER with more", append(slices.Clone(block.Bytes), 0), []string{`CRL 1: of issuer "CN=root": data follows`}},
		{"of a CA that is not trusted", other.crl(t, nil), []string{`CRL 1: of issuer "CN=other": no CA of that name is trusted`}},
		{"of another CA of that name", namesake.crl(t, nil), []string{`CRL 1: of issuer "CN=root": check the signature`}},
		{"bad signature", broken(t, good), []string{`CRL 1: of issuer "CN=root": check the signature`}},
		{"CA that may not sign CRLs", voice.crl(t, nil), []string{`CRL 1: of issuer "CN=mute"`, "key usage"}},
		{"every fault at once", join(other.crl(t, nil), good, broken(t, good)), []string{"CRL 1: ", "CRL 3: "}},
	} {
		t.Run(tt.name, tt.run(cas))
	}
	if _, err := clientcert.ParseCRLs(good, nil, now); err == nil {
		t.Error("accepted without CAs")
	}
}

// Promise: a CRL that does not say, in full and for certain, which certificates
// of its CA are revoked is refused.
func TestParseCRLsUnclear(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	cas := parseCAs(t, root.pem())
	good := root.crl(t, nil)
	for _, tt := range []badCRLs{
		{"without a nextUpdate", root.oddCRL(t, time.Time{}), []string{`CRL 1: of issuer "CN=root"`, "no nextUpdate"}},
		{"nextUpdate before thisUpdate", root.oddCRL(t, now.Add(-2*time.Hour)), []string{"before its thisUpdate"}},
		{"from the future", root.crl(t, nil, dated(time.Second, time.Hour)), []string{"thisUpdate 2031-05-06T12:00:01Z is in the future"}},
		{"delta", root.crl(t, nil, extension(asn1.ObjectIdentifier{2, 5, 29, 27}, true)), []string{"delta"}},
		{"partial or indirect", root.crl(t, nil, extension(asn1.ObjectIdentifier{2, 5, 29, 28}, true)), []string{"indirect or partial"}},
		{"partial, not critical", root.crl(t, nil, extension(asn1.ObjectIdentifier{2, 5, 29, 28}, false)), []string{"indirect or partial"}},
		{"unknown critical extension", root.crl(t, nil, extension(asn1.ObjectIdentifier{1, 2, 3}, true)), []string{"critical extension 1.2.3"}},
		{"entry of another issuer", root.crl(t, nil, entryExtension(asn1.ObjectIdentifier{2, 5, 29, 29}, true)), []string{"entry 1 is of another issuer"}},
		{"unknown critical extension of an entry", root.crl(t, nil, entryExtension(asn1.ObjectIdentifier{1, 2, 3}, true)), []string{"entry 1: the critical extension 1.2.3"}},
		{"two newest", join(good, root.crl(t, []*entity{other})), []string{"CRL 2: ", "neither is the newest"}},
	} {
		t.Run(tt.name, tt.run(cas))
	}
}

// Promise: a file of CRLs may hold comments, DER, the same CRL twice and
// extensions that are not critical; it tells which CAs it leaves out.
func TestParseCRLsGood(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	cas := parseCAs(t, root.pem(), other.pem())
	good := root.crl(t, []*entity{other}, extension(asn1.ObjectIdentifier{1, 2, 3}, false), dated(-time.Hour, time.Minute))
	block, _ := pem.Decode(good)
	for name, content := range map[string][]byte{
		"PEM": good, "DER": block.Bytes, "twice": join(good, good),
		"comment": join([]byte("# of root\n\n"), good, []byte("  \n# end")),
		"CRLF":    bytes.ReplaceAll(good, []byte("\n"), []byte("\r\n")),
	} {
		crls, err := clientcert.ParseCRLs(content, cas, now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := crls.Uncovered(); !slices.Equal(got, []string{"CN=other"}) {
			t.Errorf("%s: uncovered %q", name, got)
		}
		if got := crls.Stale(now.Add(time.Minute)); len(got) != 0 {
			t.Errorf("%s: stale too early: %q", name, got)
		}
		if got := crls.Stale(now.Add(time.Minute + 1)); !slices.Equal(got, []string{"CN=root"}) {
			t.Errorf("%s: stale %q", name, got)
		}
		if got := crls.NextUpdate(); !got.Equal(now.Add(time.Minute)) {
			t.Errorf("%s: next update %s", name, got)
		}
		if got := crls.String(); !strings.Contains(got, `"CN=root": 1 revoked`) {
			t.Errorf("%s: %s", name, got)
		}
	}
}

// Promise: a file of CAs is read whole or not at all.
func TestParseCAs(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	good := root.pem()
	for _, tt := range []struct {
		name    string
		content []byte
		want    string // in the error; empty: two CAs
	}{
		{"two", join(good, other.pem()), ""},
		{"comments and white space", join([]byte("# root\n"), good, []byte("\n\t# other\n"), other.pem(), []byte("\n \n")), ""},
		{"no newline at the end", join(good, bytes.TrimSpace(other.pem())), ""},
		{"CRLF", bytes.ReplaceAll(join(good, other.pem()), []byte("\n"), []byte("\r\n")), ""},
		{"empty", nil, "no PEM block CERTIFICATE"},
		{"comments alone", []byte("# none\n"), "no PEM block CERTIFICATE"},
		{"text", join(good, []byte("text\n"), other.pem()), "neither a PEM block nor a comment"},
		{"text of openssl", join([]byte("Certificate:\n    Data:\n"), good), "line 1: neither"},
		{"byte order mark", join([]byte("\xef\xbb\xbf"), good), "line 1: neither"},
		{"DER", root.cert.Raw, "line 1: neither"},
		{"a key", join(good, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("canary")})), "other than CERTIFICATE"},
		{"cut off", join(good, other.pem()[:100]), "damaged or cut off"},
		{"damaged before a whole one", join(good[:100], []byte("\n"), other.pem()), "line 1: the PEM block is damaged or cut off"},
		{"headers", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Headers: map[string]string{"a": "b"}, Bytes: root.cert.Raw}), "headers"},
		{"no certificate inside", join(good, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})), "certificate 2: x509"},
		{"more inside", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: append(slices.Clone(root.cert.Raw), 0)}), "certificate 1: x509: trailing data"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cas, err := clientcert.ParseCAs(tt.content)
			switch {
			case tt.want == "" && (err != nil || cas.Len() != 2):
				t.Errorf("%v", err)
			case tt.want != "" && err == nil:
				t.Error("accepted")
			case tt.want != "" && !strings.Contains(err.Error(), tt.want):
				t.Errorf("error %q lacks %q", err, tt.want)
			case err != nil && strings.Contains(err.Error(), "canary"):
				t.Errorf("error %q holds a key", err)
			}
		})
	}
}
