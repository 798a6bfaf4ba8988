package oracle_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"
)

// certMaker makes certificates that are good, or not, at a moment.
type certMaker struct {
	t  testing.TB
	at time.Time
}

// holder is a certificate with its key, and what its holder presents after it.
type holder struct {
	der   []byte
	cert  *x509.Certificate // nil if the library cannot read it
	key   crypto.Signer     // nil if Go cannot sign with it
	above [][]byte
}

func (h *holder) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: h.der})
}

// with returns h, presented together with more certificates.
func (h *holder) with(more ...*holder) *holder {
	out := *h
	out.above = slices.Clone(h.above)
	for _, m := range more {
		out.above = append(out.above, m.der)
	}
	return &out
}

func (h *holder) tls() tls.Certificate {
	return tls.Certificate{Certificate: append([][]byte{h.der}, h.above...), PrivateKey: h.key}
}

// presented returns what the handshake makes of it, or why there is none.
func (h *holder) presented() ([]*x509.Certificate, error) {
	var all []*x509.Certificate
	for _, der := range append([][]byte{h.der}, h.above...) {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		all = append(all, cert)
	}
	return all, nil
}

// order is what a certificate is made of.
type order struct {
	x509.Certificate
	key crypto.Signer // default: a new one on P-256
}

type certOption func(*order)

// issue makes a certificate; without a parent it is signed by its own key.
func (m certMaker) issue(parent *holder, options ...certOption) *holder {
	m.t.Helper()
	o := &order{}
	o.SerialNumber = m.serial()
	o.NotBefore, o.NotAfter = m.at.Add(-time.Hour), m.at.Add(time.Hour)
	for _, option := range options {
		option(o)
	}
	if o.key == nil {
		o.key = m.must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	issuer, signer := &o.Certificate, o.key
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, &o.Certificate, issuer, o.key.Public(), signer)
	if err != nil {
		m.t.Fatal(err)
	}
	return read(der, o.key)
}

func read(der []byte, key crypto.Signer) *holder {
	cert, _ := x509.ParseCertificate(der) // nil is an answer, too
	return &holder{der: der, cert: cert, key: key}
}

func (m certMaker) must(key *ecdsa.PrivateKey, err error) *ecdsa.PrivateKey {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

func (m certMaker) serial() *big.Int {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		m.t.Fatal(err)
	}
	return serial
}

// rsaKey is one pair for all that need RSA.
var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func (m certMaker) rsa() crypto.Signer {
	key, err := rsaKey()
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

func (m certMaker) ed25519() crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	return key
}

func (m certMaker) curve(c elliptic.Curve) crypto.Signer {
	m.t.Helper()
	return m.must(ecdsa.GenerateKey(c, rand.Reader))
}

func keyed(key crypto.Signer) certOption { return func(o *order) { o.key = key } }

func signed(alg x509.SignatureAlgorithm) certOption {
	return func(o *order) { o.SignatureAlgorithm = alg }
}

// authority is a CA that is valid for two days around the moment.
func (m certMaker) authority(name string) certOption {
	return func(o *order) {
		o.Subject.CommonName = name
		o.IsCA, o.BasicConstraintsValid = true, true
		o.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		o.NotBefore, o.NotAfter = m.at.Add(-24*time.Hour), m.at.Add(24*time.Hour)
	}
}

func (m certMaker) valid(from, until time.Duration) certOption {
	return func(o *order) { o.NotBefore, o.NotAfter = m.at.Add(from), m.at.Add(until) }
}

func named(name string, groups ...string) certOption {
	return func(o *order) {
		o.Subject = pkix.Name{CommonName: name, Organization: groups}
		o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

func usage(usages ...x509.ExtKeyUsage) certOption {
	return func(o *order) { o.ExtKeyUsage = usages }
}

// unknownUsage adds an extended key usage that nobody knows.
func unknownUsage(o *order) {
	o.UnknownExtKeyUsage = append(o.UnknownExtKeyUsage, asn1.ObjectIdentifier{1, 2, 3, 4, 5})
}

func change(f func(*x509.Certificate)) certOption { return func(o *order) { f(&o.Certificate) } }

// extension adds one as it is; CreateCertificate leaves out its own of that id.
func extension(critical bool, value []byte, id ...int) certOption {
	return func(o *order) {
		o.ExtraExtensions = append(o.ExtraExtensions, pkix.Extension{Id: id, Critical: critical, Value: value})
	}
}

var (
	oidCN  = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidO   = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidOU  = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
	// oidUserID is that of RFC 4519, which is not Kubernetes'.
	oidUserID = asn1.ObjectIdentifier{0, 9, 2342, 19200300, 100, 1, 1}
)

type rdn = pkix.RelativeDistinguishedNameSET

func attribute(oid asn1.ObjectIdentifier, value any) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// subject gives a client certificate this very subject.
func (m certMaker) subject(rdns ...rdn) certOption {
	m.t.Helper()
	der, err := asn1.Marshal(pkix.RDNSequence(rdns))
	if err != nil {
		m.t.Fatal(err)
	}
	return func(o *order) {
		o.RawSubject = der
		o.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

// form is the outer form of a certificate.
type form struct {
	Signed, Algorithm asn1.RawValue
	Signature         asn1.BitString
}

// reencoded returns h with other bytes around, or in, its signed part.
func (m certMaker) reencoded(h *holder, change func(form) any) *holder {
	m.t.Helper()
	var parts form
	if _, err := asn1.Unmarshal(slices.Clone(h.der), &parts); err != nil {
		m.t.Fatal(err)
	}
	der, err := asn1.Marshal(change(parts))
	if err != nil {
		m.t.Fatal(err)
	}
	return read(der, h.key)
}
