package clientcert

import (
	"crypto/sha256"
	"crypto/x509"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

const (
	// maxVerdicts is the most verdicts of each sort that are kept.
	maxVerdicts = 4096
	// maxCachedBytes is the longest leaf whose identity is kept: subjects of any
	// length must not fill the memory. Refusals hold nothing of a subject.
	maxCachedBytes = 16 << 10
	// refusalLife is how long a refusal is kept, so that one connection of a
	// stranger cannot have signatures checked by each of its requests.
	refusalLife = 10 * time.Second
)

// verdict is what was found about one chain, and while when it holds, both ends
// included. Exactly one of identity and refusal is set.
type verdict struct {
	identity    *auth.Identity
	refusal     *auth.Refusal
	from, until time.Time
}

func (v verdict) answer() (*auth.Identity, error) {
	if v.refusal != nil {
		refusal := *v.refusal
		return nil, &refusal
	}
	return v.identity, nil
}

// cacheKey is the SHA-256 of all certificates that the client presented.
type cacheKey [sha256.Size]byte

func keyOf(presented []*x509.Certificate) cacheKey {
	// The sum of the sums: where one certificate ends is part of the key.
	var buffer [maxPresented * sha256.Size]byte
	sums := buffer[:0]
	for _, cert := range presented {
		sum := sha256.Sum256(cert.Raw)
		sums = append(sums, sum[:]...)
	}
	return sha256.Sum256(sums)
}

// cache holds the verdicts that were reached under one version of trust.
// Refusals stand apart, so that strangers cannot push out identities.
type cache struct {
	trust *trust

	mu       sync.RWMutex
	accepted map[cacheKey]verdict
	refused  map[cacheKey]verdict
}

func newCache(t *trust) *cache {
	return &cache{trust: t, accepted: map[cacheKey]verdict{}, refused: map[cacheKey]verdict{}}
}

func (c *cache) get(key cacheKey, now time.Time) (verdict, bool) {
	c.mu.RLock()
	v, ok := c.accepted[key]
	if !ok {
		v, ok = c.refused[key]
	}
	c.mu.RUnlock()
	if !ok || now.Before(v.from) || now.After(v.until) {
		return verdict{}, false
	}
	return v, true
}

func (c *cache) put(key cacheKey, v verdict, leaf *x509.Certificate, now time.Time) {
	if v.refusal == nil && len(leaf.Raw) > maxCachedBytes {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.accepted, key)
	delete(c.refused, key)
	verdicts := c.accepted
	if v.refusal != nil {
		verdicts = c.refused
	}
	if len(verdicts) >= maxVerdicts {
		evict(verdicts, now)
	}
	verdicts[key] = v
}

// evict makes room for one: it drops those of a few that have ended, or else
// any one. A map gives its entries in no order that a client could choose.
func evict(verdicts map[cacheKey]verdict, now time.Time) {
	const looks = 8
	seen, dropped := 0, false
	for key, v := range verdicts {
		if seen++; now.After(v.until) {
			delete(verdicts, key)
			dropped = true
		}
		if seen == looks {
			if !dropped {
				delete(verdicts, key)
			}
			return
		}
	}
}
