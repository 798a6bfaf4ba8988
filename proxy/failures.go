package proxy

import (
	"context"
	"encoding/base64"
	"hash/maphash"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/address"
)

// Failed authentications are counted for each address. Many people may come from
// one address, and among them somebody who floods it with forged tokens: so an
// address is never shut out. While too many of its credentials fail,
//
//   - a credential that was accepted lately is judged as ever, and
//   - any other waits in a lane of the address's own, where a few are judged at
//     a time in the order in which they came. Only if that lane is full, or the
//     wait too long, is the answer 429.
//
// What a flood can take is thereby bounded: the signature checks of a few
// requests at a time. Someone new behind the same address waits for a moment.
const (
	failureSpan  = 10 * time.Second // over which the rate of failures is taken
	laneWidth    = 4                // judged at one time
	laneQueue    = 1024             // waiting
	laneWait     = 5 * time.Second  // how long
	maxAddresses = 8192             // that are remembered
	knownSlots   = 1 << 14          // credentials that are remembered, 8 bytes each
	sweepEvery   = time.Second
	// fingerprinted is how much of a credential's end is looked at. A token ends
	// with its signature, or is one secret.
	fingerprinted = 64
)

// failures is what is remembered of addresses and credentials.
type failures struct {
	rate, burst float64
	seed        maphash.Seed
	// known holds fingerprints of credentials that were accepted. It decides
	// about nothing but the way to the authenticator, so that it may forget
	// some when two want one place.
	known [knownSlots]atomic.Uint64
	// until is when the last address stops having too many failures, in
	// nanoseconds since 1970: in peace nothing else is looked at.
	until atomic.Int64

	mu        sync.Mutex
	addresses map[netip.Addr]*origin
	swept     time.Time
}

// origin is an address whose credentials failed.
type origin struct {
	level   float64 // failures that are not forgotten yet
	at      time.Time
	waiting int
	lane    chan struct{}
}

func newFailures(l Limits) *failures {
	rate := float64(l.FailuresPerAddress)
	return &failures{rate: rate, burst: rate * failureSpan.Seconds(), seed: maphash.MakeSeed(), addresses: map[netip.Addr]*origin{}}
}

// look returns what stands for the credentials of r, 0 if there are none, and
// whether a token among them is longer than limit.
func (f *failures) look(r *http.Request, limit int) (credential uint64, long bool) {
	for _, value := range r.Header["Authorization"] {
		credential = credential*31 + maphash.String(f.seed, value[max(0, len(value)-fingerprinted):])
		long = long || len(value) > limit+len("Bearer ")
	}
	for _, value := range r.Header["Sec-Websocket-Protocol"] {
		credential = credential*31 + maphash.String(f.seed, value)
		long = long || len(value) > limit && holdsLongToken(value, limit)
	}
	if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 {
		raw := r.TLS.PeerCertificates[0].Raw
		credential = credential*31 + maphash.Bytes(f.seed, raw[max(0, len(raw)-fingerprinted):])
	}
	return credential, long
}

// holdsLongToken reports whether one of a list of protocols is longer than a
// token within limit makes it.
func holdsLongToken(protocols string, limit int) bool {
	limit = len(auth.WebSocketBearerPrefix) + base64.RawURLEncoding.EncodedLen(limit)
	for entry := range strings.SplitSeq(protocols, ",") {
		if len(strings.TrimSpace(entry)) > limit {
			return true
		}
	}
	return false
}

// begin lets a request of client through to the authenticator, at once or after
// a wait. The caller ends what it began with done.
func (f *failures) begin(ctx context.Context, client string, credential uint64, now time.Time) (done func(), fault *rejection) {
	nothing := func() {}
	if now.UnixNano() > f.until.Load() || credential == 0 || f.known[credential%knownSlots].Load() == credential {
		return nothing, nil
	}
	f.mu.Lock()
	a := f.addresses[address.Network(client)]
	if a == nil || !f.overrun(a, now) {
		f.mu.Unlock()
		return nothing, nil
	}
	if a.waiting >= laneQueue {
		f.mu.Unlock()
		return nil, tooManyFailures
	}
	a.waiting++
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		a.waiting--
	}()
	timer := time.NewTimer(laneWait)
	defer timer.Stop()
	select {
	case a.lane <- struct{}{}:
		return func() { <-a.lane }, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil, tooManyFailures
}

// judged hears what became of a credential.
func (f *failures) judged(client string, credential uint64, now time.Time, err error) {
	if credential == 0 {
		return
	}
	slot := &f.known[credential%knownSlots]
	refusal := refusalOf(err)
	switch {
	case refusal == nil:
		if slot.Load() != credential {
			slot.Store(credential)
		}
		return
	case refusal.NoVerdict(), refusal.Reason == auth.NoCredential:
		return
	}
	slot.CompareAndSwap(credential, 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.of(address.Network(client), now)
	f.overrun(a, now) // forgets what is long ago
	// A bound on what is held against an address: it ends within failureSpan.
	if a.level = min(a.level+1, 2*f.burst); a.level > f.burst {
		end := now.Add(time.Duration((a.level - f.burst) / f.rate * float64(time.Second)))
		f.until.Store(max(f.until.Load(), end.UnixNano()))
	}
}

// overrun lets time pass for a, and reports whether it has too many failures.
func (f *failures) overrun(a *origin, now time.Time) bool {
	if passed := now.Sub(a.at).Seconds(); passed > 0 {
		a.level = max(0, a.level-passed*f.rate)
		a.at = now
	}
	return a.level > f.burst
}

// of returns what is remembered of an address. If too many are remembered, one
// of them is forgotten.
func (f *failures) of(where netip.Addr, now time.Time) *origin {
	a := f.addresses[where]
	if a != nil {
		return a
	}
	if len(f.addresses) >= maxAddresses && now.Sub(f.swept) > sweepEvery {
		f.swept = now
		for other, a := range f.addresses {
			if f.overrun(a, now); a.level == 0 {
				delete(f.addresses, other)
			}
		}
	}
	if len(f.addresses) >= maxAddresses {
		for other := range f.addresses {
			delete(f.addresses, other)
			break
		}
	}
	a = &origin{at: now, lane: make(chan struct{}, laneWidth)}
	f.addresses[where] = a
	return a
}

// signIn returns whom the request's credential names, if the header's limits
// allow to look at it, and when those on failures do.
func (p *Proxy) signIn(x *exchange, r *http.Request) (*auth.Identity, error) {
	if headerLines(r.Header) > p.cfg.Limits.HeaderLines {
		return nil, tooManyLines
	}
	credential, long := p.failures.look(r, p.cfg.Limits.TokenBytes)
	if long {
		return nil, auth.Refuse(auth.KindUnknown, auth.TokenTooLong, "the token is longer than the limit")
	}
	done, fault := p.failures.begin(r.Context(), x.client, credential, x.start)
	if fault != nil {
		return nil, fault
	}
	defer done()
	identity, err := p.authenticate(r)
	p.failures.judged(x.client, credential, x.start, err)
	return identity, err
}
