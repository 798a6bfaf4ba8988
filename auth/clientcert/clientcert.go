// Package clientcert answers: whom does this certificate name, and is it revoked?
//
// The verdict is that of kube-apiserver's --client-ca-file
// (k8s.io/apiserver v0.37.2, pkg/authentication/request/x509): the certificate
// must chain to a CA of the file and allow client authentication; the common
// name is the user, the organizations are the groups. The chain is verified for
// each request against the present CAs, whatever the handshake said.
//
// Beyond kube-apiserver it reads certificate revocation lists (RFC 5280), and a
// certificate that was presented and is bad refuses the request: kube-apiserver
// goes on to the next authenticator, and to anonymous.
package clientcert

import (
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// StalePolicy says what becomes of a certificate whose CRL is past its
// nextUpdate. A certificate on that CRL is refused whatever the policy.
type StalePolicy string

// The policies for a stale CRL.
const (
	StaleRefuse StalePolicy = "refuse" // the certificates of that issuer are refused
	StaleAllow  StalePolicy = "allow"  // the CRL counts as if it were current
)

// maxPresented is the most certificates that a client may present. It bounds
// the signatures that a stranger can have checked.
const maxPresented = 10

// Config says how an [Authenticator] judges.
type Config struct {
	// Live holds the CAs and CRLs. Default: none, so that every certificate is
	// refused.
	Live *Live
	// Stale is the policy for stale CRLs. Default, and for any unknown value:
	// StaleRefuse.
	Stale StalePolicy
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Live holds the CAs and CRLs that count at present. They can be replaced while
// requests are running: each request is judged by one complete version. Its
// zero value trusts nobody.
type Live struct {
	current atomic.Pointer[trust]
}

// trust is one version of what is trusted. It is never changed.
type trust struct {
	cas  *CAs
	crls *CRLs // nil if revocation is not checked
}

// Swap makes cas and crls the version that counts from now on, and drops every
// cached verdict. crls may be nil: revocation is not checked. It returns an error,
// and changes nothing, if crls were verified against other CAs than cas: they
// could come from an authority that is no longer trusted.
func (l *Live) Swap(cas *CAs, crls *CRLs) error {
	if cas == nil {
		return errors.New("no CAs to trust")
	}
	if crls != nil && crls.cas != cas {
		return errors.New("the CRLs were verified against other CAs: parse them again with the present ones")
	}
	l.current.Store(&trust{cas: cas, crls: crls})
	return nil
}

// CAs returns the present CAs, or nil.
func (l *Live) CAs() *CAs {
	if t := l.current.Load(); t != nil {
		return t.cas
	}
	return nil
}

// CRLs returns the present CRLs, or nil.
func (l *Live) CRLs() *CRLs {
	if t := l.current.Load(); t != nil {
		return t.crls
	}
	return nil
}

// Authenticator is an [auth.Authenticator] for the client certificate of a TLS
// connection.
type Authenticator struct {
	live  *Live
	stale StalePolicy
	now   func() time.Time
	cache atomic.Pointer[cache]
}

// New returns an Authenticator.
func New(c Config) *Authenticator {
	a := &Authenticator{live: c.Live, stale: StaleRefuse, now: c.Now}
	if c.Stale == StaleAllow {
		a.stale = StaleAllow
	}
	if a.live == nil {
		a.live = &Live{}
	}
	if a.now == nil {
		a.now = time.Now
	}
	return a
}

// Authenticate returns whom the certificate of r's connection names. Without a
// certificate it returns auth.ErrNotMine; a certificate that is not accepted
// gives an [*auth.Refusal]. The identity may be shared with other requests.
//
// The certificate and its intermediates are those that the client proved in the
// TLS handshake, which must be at least tls.RequestClientCert. Headers play no
// part. Ask again with the same r after [Live.Swap], to learn whether a stream
// may go on.
func (a *Authenticator) Authenticate(r *http.Request) (*auth.Identity, error) {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return nil, auth.ErrNotMine
	}
	presented := r.TLS.PeerCertificates
	if len(presented) > maxPresented {
		return nil, refuse(presented[0], auth.BadCertificate, "presented with more certificates than the limit")
	}
	present := a.live.current.Load()
	if present == nil {
		return nil, refuse(presented[0], auth.CertificateNotTrusted, "no CA is configured")
	}

	now := a.now()
	cache := a.cacheOf(present)
	key := keyOf(presented)
	if v, ok := cache.get(key, now); ok {
		return v.answer()
	}
	v := judge(present, a.stale, presented, now)
	cache.put(key, v, presented[0], now)
	return v.answer()
}

// cacheOf returns the verdicts that were reached under present, and forgets
// those of another version.
func (a *Authenticator) cacheOf(present *trust) *cache {
	c := a.cache.Load()
	if c != nil && c.trust == present {
		return c
	}
	fresh := newCache(present)
	if a.cache.CompareAndSwap(c, fresh) {
		return fresh
	}
	if c = a.cache.Load(); c.trust == present {
		return c
	}
	return fresh // a third version came between: judge by ours, keep nothing
}
