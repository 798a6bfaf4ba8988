package clientcert_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// Promise: a request without a certificate is not judged here, whatever its
// headers say.
func TestNoCertificate(t *testing.T) {
	root := issue(t, nil, authority("root"))
	a := clientcert.New(clientcert.Config{Live: trusting(t, root.pem()), Now: at(now)})
	leaf := issue(t, root, client("alice"))
	headers := http.Header{"X-Remote-User": {"alice"}, "Ssl-Client-Cert": {string(leaf.pem())}, "X-Forwarded-Client-Cert": {string(leaf.pem())}}
	for name, r := range map[string]*http.Request{
		"no TLS": {Header: headers}, "TLS": {Header: headers, TLS: &tls.ConnectionState{}},
		"chain of the handshake's verdict alone": {TLS: &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{leaf.cert, root.cert}}}},
	} {
		if identity, err := a.Authenticate(r); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%s: %+v, %v", name, identity, err)
		}
	}
	s := serve(t)
	if identity, err := s.ask(t, a, s.client(t, nil)); !errors.Is(err, auth.ErrNotMine) {
		t.Errorf("handshake without a certificate: %+v, %v", identity, err)
	}
}

// Promise: while no CA is known, every certificate is refused, and CRLs never
// count beside CAs that they were not verified by.
func TestFailClosed(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice"))
	for name, config := range map[string]clientcert.Config{"zero Config": {}, "zero Live": {Live: &clientcert.Live{}}} {
		_, err := clientcert.New(config).Authenticate(request(leaf.chain()...))
		if refusal := refusalOf(t, err); refusal.Reason != auth.CertificateNotTrusted {
			t.Errorf("%s: %v", name, err)
		}
	}
	live := &clientcert.Live{}
	if live.CAs() != nil || live.CRLs() != nil {
		t.Error("the zero Live holds something")
	}
	swap(t, live, root.pem(), root.crl(t, []*entity{leaf}))
	crls := live.CRLs()
	if err := live.Swap(parseCAs(t, root.pem()), crls); err == nil {
		t.Error("CRLs of other CAs accepted")
	}
	if err := live.Swap(nil, nil); err == nil {
		t.Error("no CAs accepted")
	}
	if live.CRLs() != crls || live.CAs() == nil {
		t.Error("a refused Swap changed something")
	}
}

// Promise: a CA that is taken away, a CRL that is added and a date that passes
// count for the next request of an open connection, and of a resumed session.
func TestWhileConnected(t *testing.T) {
	root, other := issue(t, nil, authority("root")), issue(t, nil, authority("other"))
	leaf := issue(t, root, client("alice"))
	live := trusting(t, root.pem())
	clock := now
	a := clientcert.New(clientcert.Config{Live: live, Now: func() time.Time { return clock }})
	s := serve(t)
	c := s.client(t, leaf)
	expect := func(what string, want auth.Reason) {
		t.Helper()
		identity, err := s.ask(t, a, c)
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case want == "" && !identity.Expires.Equal(leaf.cert.NotAfter):
			t.Errorf("%s: expires %s", what, identity.Expires)
		case want != "" && refusalOf(t, err).Reason != want:
			t.Errorf("%s: %v, want %s", what, err, want)
		}
	}
	expect("at first", "")
	swap(t, live, other.pem())
	expect("CA taken away", auth.CertificateNotTrusted)
	swap(t, live, join(root.pem(), other.pem()), root.crl(t, nil))
	expect("CA back", "")
	swap(t, live, root.pem(), root.crl(t, []*entity{leaf}))
	expect("revoked", auth.CertificateRevoked)
	c.CloseIdleConnections()
	expect("revoked, session resumed", auth.CertificateRevoked)
	swap(t, live, root.pem(), root.crl(t, nil, dated(-time.Hour, time.Minute)))
	expect("no longer revoked", "")
	clock = now.Add(time.Minute)
	expect("last moment of the CRL", "")
	clock = now.Add(time.Minute + 1)
	expect("CRL stale", auth.CRLStale)
	swap(t, live, root.pem())
	clock = leaf.cert.NotAfter
	expect("last moment", "")
	clock = leaf.cert.NotAfter.Add(1)
	expect("expired", auth.CertificateExpired)
	clock = leaf.cert.NotAfter
	expect("clock set back", "")
}

// Promise: a session is resumed in the test above's manner at all.
func TestResumedSession(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice"))
	s := serve(t)
	live := trusting(t, root.pem())
	a := clientcert.New(clientcert.Config{Live: live, Now: at(now)})
	c := s.client(t, leaf)
	for _, resumed := range []bool{false, true} {
		s.judge.Store(a)
		response, err := c.Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if got := <-s.answers; got.err != nil {
			t.Errorf("resumed %t: %v", resumed, got.err)
		}
		if response.TLS.DidResume != resumed {
			t.Errorf("resumed: %t, want %t", response.TLS.DidResume, resumed)
		}
		c.CloseIdleConnections()
	}
}

// Promise: the identity ends with the first certificate of its chain, and of
// several good chains with the one that lasts longest.
func TestExpires(t *testing.T) {
	root := issue(t, nil, authority("root"))
	short := issue(t, root, authority("middle"), valid(-time.Hour, 10*time.Minute))
	long := issueFor(t, short.key, root, authority("middle"), valid(-time.Hour, 20*time.Minute))
	leaf := issue(t, short, client("alice"))
	a := clientcert.New(clientcert.Config{Live: trusting(t, root.pem()), Now: at(now)})
	for name, tt := range map[string]struct {
		client *entity
		want   time.Time
	}{
		"leaf": {issue(t, root, client("bob")), now.Add(time.Hour)}, "intermediate": {leaf.with(short), now.Add(10 * time.Minute)},
		"two chains": {leaf.with(short, long), now.Add(20 * time.Minute)}, "two chains, other order": {leaf.with(long, short), now.Add(20 * time.Minute)},
	} {
		identity, err := a.Authenticate(request(tt.client.chain()...))
		if err != nil || !identity.Expires.Equal(tt.want) {
			t.Errorf("%s: %+v, %v", name, identity, err)
		}
	}
}

// Promise: a certificate that was too early is accepted from its first moment.
func TestFromItsFirstMoment(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice"), valid(time.Second, time.Hour))
	clock := now
	a := clientcert.New(clientcert.Config{Live: trusting(t, root.pem()), Now: func() time.Time { return clock }})
	_, err := a.Authenticate(request(leaf.cert))
	if refusal := refusalOf(t, err); refusal.Reason != auth.NotYetValid || !refusal.At.Equal(leaf.cert.NotBefore) {
		t.Errorf("early: %+v", refusal)
	}
	clock = leaf.cert.NotBefore
	if _, err := a.Authenticate(request(leaf.cert)); err != nil {
		t.Errorf("at its first moment: %v", err)
	}
}

// Promise: an identity shares nothing with the connection's certificate, and
// refusals nothing with each other.
func TestNothingShared(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice", "dev"))
	a := clientcert.New(clientcert.Config{Live: trusting(t, root.pem()), Now: at(now)})
	identity, err := a.Authenticate(request(leaf.chain()...))
	if err != nil {
		t.Fatal(err)
	}
	leaf.cert.Subject.Organization[0] = "system:masters"
	if identity.Groups[0] != "dev" {
		t.Error("the groups are those of the certificate")
	}
	stranger := issue(t, nil, client("mallory"))
	_, first := a.Authenticate(request(stranger.cert))
	refusalOf(t, first).Detail = "changed"
	if _, second := a.Authenticate(request(stranger.cert)); refusalOf(t, second).Detail == "changed" {
		t.Error("a refusal is shared")
	}
}

// Promise: swaps and requests at the same time are free of races, and each
// request is judged by one complete version.
func TestConcurrent(t *testing.T) {
	root := issue(t, nil, authority("root"))
	var clients []*entity
	for i := range 8 {
		clients = append(clients, issue(t, root, client("user"+strconv.Itoa(i))))
	}
	live := trusting(t, root.pem())
	a := clientcert.New(clientcert.Config{Live: live, Now: at(now)})
	list := root.crl(t, clients[:4])
	var work sync.WaitGroup
	for i, c := range clients {
		work.Go(func() {
			for range 200 {
				identity, err := a.Authenticate(request(c.cert))
				if err == nil && identity.Name != "user"+strconv.Itoa(i) || err != nil && i >= 4 {
					t.Errorf("user%d: %+v, %v", i, identity, err)
				}
			}
		})
	}
	for range 50 {
		swap(t, live, root.pem(), list)
		swap(t, live, root.pem())
	}
	work.Wait()
	swap(t, live, root.pem(), list)
	if _, err := a.Authenticate(request(clients[0].cert)); refusalOf(t, err).Reason != auth.CertificateRevoked {
		t.Errorf("after the last swap: %v", err)
	}
}
