package clientcert_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

// Promise: the same certificates are verified once for a version of the CAs and
// CRLs; another chain, or another version, is verified anew.
func TestVerifiedOnce(t *testing.T) {
	root := issue(t, nil, authority("root"))
	middle := issue(t, root, authority("middle"))
	leaf := issue(t, middle, client("alice")).with(middle)
	live := trusting(t, root.pem())
	a := clientcert.New(clientcert.Config{Live: live, Now: at(now)})
	ask := func() *auth.Identity {
		t.Helper()
		identity, err := a.Authenticate(request(leaf.chain()...))
		if err != nil {
			t.Fatal(err)
		}
		return identity
	}
	first := ask()
	if ask() != first {
		t.Error("verified again")
	}
	if _, err := a.Authenticate(request(leaf.cert)); refusalOf(t, err).Reason != auth.CertificateNotTrusted {
		t.Errorf("without its intermediate: %v", err)
	}
	if ask() != first {
		t.Error("verified again after another chain")
	}
	swap(t, live, root.pem())
	if ask() == first {
		t.Error("not verified again after a swap")
	}
}

// Promise: two authenticators with one Live and different policies do not take
// over each other's verdicts.
func TestPoliciesApart(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice"))
	live := trusting(t, root.pem(), root.crl(t, nil, dated(-2*time.Hour, -time.Hour)))
	lax := clientcert.New(clientcert.Config{Live: live, Stale: clientcert.StaleAllow, Now: at(now)})
	strict := clientcert.New(clientcert.Config{Live: live, Now: at(now)})
	for range 2 {
		if _, err := lax.Authenticate(request(leaf.cert)); err != nil {
			t.Error(err)
		}
		if _, err := strict.Authenticate(request(leaf.cert)); refusalOf(t, err).Reason != auth.CRLStale {
			t.Error(err)
		}
	}
}

// Promise: no file, however broken, crashes the parser or yields no CA at all.
func FuzzParseCAs(f *testing.F) {
	root := issue(f, nil, authority("root"))
	for _, seed := range [][]byte{root.pem(), join([]byte("# a\n"), root.pem(), root.pem()), root.pem()[:100], nil, root.cert.Raw} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		cas, err := clientcert.ParseCAs(content)
		if err == nil && (cas.Len() == 0 || cas.Pool() == nil) {
			t.Errorf("%q gives no CA", content)
		}
	})
}

// Promise: no file, however broken, crashes the parser, and one that is
// accepted holds at least one CRL that still revokes what it lists.
func FuzzParseCRLs(f *testing.F) {
	root := issue(f, nil, authority("root"))
	leaf := issue(f, root, client("alice"))
	cas := parseCAs(f, root.pem())
	good := root.crl(f, []*entity{leaf})
	block, _ := pem.Decode(good)
	for _, seed := range [][]byte{good, block.Bytes, join(good, good), join([]byte("#\n"), good), good[:80], nil, {0x30, 0}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		crls, err := clientcert.ParseCRLs(content, cas, now)
		if err != nil {
			return
		}
		live := &clientcert.Live{}
		if err := live.Swap(cas, crls); err != nil {
			t.Fatal(err)
		}
		a := clientcert.New(clientcert.Config{Live: live, Now: at(now)})
		if _, err := a.Authenticate(request(leaf.cert)); err == nil {
			t.Errorf("%q un-revokes", content)
		}
	})
}

func benchmark(b *testing.B, chain []*x509.Certificate, live *clientcert.Live, between func()) {
	a := clientcert.New(clientcert.Config{Live: live, Now: at(now)})
	r := request(chain...)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authenticate(r); err != nil {
			b.Fatal(err)
		}
		if between != nil {
			between()
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	root := issue(b, nil, authority("root"))
	middle := issue(b, root, authority("middle"))
	leaf := issue(b, root, client("alice", "dev"))
	deep := issue(b, middle, client("alice", "dev")).with(middle)
	live := trusting(b, join(root.pem(), middle.pem()), root.crl(b, nil), middle.crl(b, nil))
	cas, crls := live.CAs(), live.CRLs()
	forget := func() {
		if err := live.Swap(cas, crls); err != nil {
			b.Fatal(err)
		}
	}
	b.Run("cached/leaf", func(b *testing.B) { benchmark(b, leaf.chain(), live, nil) })
	b.Run("cached/intermediate", func(b *testing.B) { benchmark(b, deep.chain(), live, nil) })
	b.Run("uncached/leaf", func(b *testing.B) { benchmark(b, leaf.chain(), live, forget) })
	b.Run("uncached/intermediate", func(b *testing.B) { benchmark(b, deep.chain(), live, forget) })
}
