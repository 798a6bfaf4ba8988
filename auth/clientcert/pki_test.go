package clientcert_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// now is the hour of every test: verdicts do not depend on the machine's clock.
var now = time.Date(2031, 5, 6, 12, 0, 0, 0, time.UTC)

// entity is a certificate with its key, and those that a client presents after it.
type entity struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	above []*x509.Certificate
}

func (e *entity) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: e.cert.Raw})
}

func (e *entity) chain() []*x509.Certificate { return append([]*x509.Certificate{e.cert}, e.above...) }

// with returns e, presented together with more certificates.
func (e *entity) with(more ...*entity) *entity {
	out := *e
	for _, m := range more {
		out.above = append(out.above, m.cert)
	}
	return &out
}

func (e *entity) tls() tls.Certificate {
	c := tls.Certificate{PrivateKey: e.key}
	for _, cert := range e.chain() {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	return c
}

type option func(*x509.Certificate)

// issue makes a certificate; without a parent it is signed by its own key.
func issue(t testing.TB, parent *entity, options ...option) *entity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issueFor(t, key, parent, options...)
}

func issueFor(t testing.TB, key *ecdsa.PrivateKey, parent *entity, options ...option) *entity {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
	for _, option := range options {
		option(template)
	}
	issuer, signer := template, crypto.Signer(key)
	if parent != nil {
		issuer, signer = parent.cert, parent.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &entity{cert: cert, key: key}
}

func authority(name string) option {
	return func(c *x509.Certificate) {
		c.Subject.CommonName = name
		c.IsCA, c.BasicConstraintsValid = true, true
		c.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
		c.NotBefore, c.NotAfter = now.Add(-24*time.Hour), now.Add(24*time.Hour)
	}
}

func client(name string, groups ...string) option {
	return func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: name, Organization: groups}
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

func valid(from, until time.Duration) option {
	return func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now.Add(from), now.Add(until) }
}

func usage(usages ...x509.ExtKeyUsage) option {
	return func(c *x509.Certificate) { c.ExtKeyUsage = usages }
}

var (
	oidCN  = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidO   = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57683, 2}
)

type rdn = pkix.RelativeDistinguishedNameSET

func attribute(oid asn1.ObjectIdentifier, value any) pkix.AttributeTypeAndValue {
	return pkix.AttributeTypeAndValue{Type: oid, Value: value}
}

// subject gives a client certificate this very subject.
func subject(t testing.TB, rdns ...rdn) option {
	t.Helper()
	der, err := asn1.Marshal(pkix.RDNSequence(rdns))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *x509.Certificate) {
		c.RawSubject = der
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
}

type crlOption func(*x509.RevocationList)

// crl makes a list that is current for an hour.
func (e *entity) crl(t testing.TB, revoked []*entity, options ...crlOption) []byte {
	t.Helper()
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(time.Hour)}
	for _, r := range revoked {
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: r.cert.SerialNumber, RevocationTime: now.Add(-2 * time.Hour)})
	}
	for _, option := range options {
		option(template)
	}
	der, err := x509.CreateRevocationList(rand.Reader, template, e.cert, e.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

func dated(this, next time.Duration) crlOption {
	return func(l *x509.RevocationList) { l.ThisUpdate, l.NextUpdate = now.Add(this), now.Add(next) }
}

func numbered(n int64) crlOption {
	return func(l *x509.RevocationList) { l.Number = big.NewInt(n) }
}

func join(parts ...[]byte) []byte {
	var out []byte
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

func parseCAs(t testing.TB, content ...[]byte) *clientcert.CAs {
	t.Helper()
	cas, err := clientcert.ParseCAs(join(content...))
	if err != nil {
		t.Fatal(err)
	}
	return cas
}

// trusting returns a Live with CAs, and CRLs if any are given.
func trusting(t testing.TB, cas []byte, crls ...[]byte) *clientcert.Live {
	t.Helper()
	live := &clientcert.Live{}
	swap(t, live, cas, crls...)
	return live
}

func swap(t testing.TB, live *clientcert.Live, caFile []byte, crls ...[]byte) {
	t.Helper()
	cas := parseCAs(t, caFile)
	var lists *clientcert.CRLs
	if len(crls) > 0 {
		var err error
		if lists, err = clientcert.ParseCRLs(join(crls...), cas, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := live.Swap(cas, lists); err != nil {
		t.Fatal(err)
	}
}

func at(moment time.Time) func() time.Time { return func() time.Time { return moment } }

type answer struct {
	identity *auth.Identity
	err      error
}

// server is a TLS server that tells what an authenticator says of its requests.
type server struct {
	*httptest.Server
	judge   atomic.Pointer[clientcert.Authenticator]
	answers chan answer
}

func serve(t testing.TB) *server {
	s := &server{answers: make(chan answer, 1)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		identity, err := s.judge.Load().Authenticate(r)
		s.answers <- answer{identity, err}
	}))
	s.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// client returns one that presents e, or nothing if e is nil.
func (s *server) client(t testing.TB, e *entity) *http.Client {
	config := &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	if e != nil {
		cert := e.tls()
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
	}
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: false}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask sends one request of c, to be judged by a.
func (s *server) ask(t testing.TB, a *clientcert.Authenticator, c *http.Client) (*auth.Identity, error) {
	t.Helper()
	s.judge.Store(a)
	response, err := c.Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	got := <-s.answers
	return got.identity, got.err
}

// request is one over a connection on which chain was proved.
func request(chain ...*x509.Certificate) *http.Request {
	return &http.Request{TLS: &tls.ConnectionState{PeerCertificates: chain}}
}
