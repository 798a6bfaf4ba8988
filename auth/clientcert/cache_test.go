package clientcert

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: however many chains are presented, a bounded number of verdicts is
// kept, and refusals push out no identity.
func TestCacheIsBounded(t *testing.T) {
	now := time.Now()
	c := newCache(&trust{})
	leaf := &x509.Certificate{}
	key := func(i int) (k cacheKey) {
		binary.BigEndian.PutUint64(k[:], uint64(i))
		return k
	}
	c.put(key(-1), verdict{identity: &auth.Identity{}, from: now, until: now}, leaf, now)
	for i := range 2 * maxVerdicts {
		c.put(key(i), verdict{refusal: &auth.Refusal{}, from: now, until: now}, leaf, now)
	}
	if _, ok := c.get(key(-1), now); !ok || len(c.accepted) != 1 {
		t.Error("refusals pushed out an identity")
	}
	for i := range 2 * maxVerdicts {
		c.put(key(i), verdict{identity: &auth.Identity{}, from: now, until: now}, leaf, now)
	}
	later := now.Add(1)
	for i := range 2 * maxVerdicts { // all that is kept has ended
		c.put(key(-2-i), verdict{identity: &auth.Identity{}, from: later, until: later}, leaf, later)
	}
	if len(c.accepted) > maxVerdicts || len(c.refused) > maxVerdicts {
		t.Errorf("%d identities, %d refusals", len(c.accepted), len(c.refused))
	}
	c.put(key(1<<40), verdict{identity: &auth.Identity{}, from: later, until: later}, &x509.Certificate{Raw: make([]byte, maxCachedBytes+1)}, later)
	if _, ok := c.get(key(1<<40), later); ok {
		t.Error("the identity of a huge certificate is kept")
	}
}

// Promise: a verdict counts from its first to its last moment, and no longer.
func TestCacheTimes(t *testing.T) {
	now := time.Now()
	c := newCache(&trust{})
	c.put(cacheKey{}, verdict{identity: &auth.Identity{}, from: now, until: now.Add(time.Second)}, &x509.Certificate{}, now)
	for after, want := range map[time.Duration]bool{-1: false, 0: true, time.Second: true, time.Second + 1: false} {
		if _, ok := c.get(cacheKey{}, now.Add(after)); ok != want {
			t.Errorf("after %s: %t", after, ok)
		}
	}
}

// Promise: where one certificate ends and the next begins is part of the key.
func TestKey(t *testing.T) {
	chain := func(raws ...string) cacheKey {
		var certs []*x509.Certificate
		for _, raw := range raws {
			certs = append(certs, &x509.Certificate{Raw: []byte(raw)})
		}
		return keyOf(certs)
	}
	keys := []cacheKey{chain("ab"), chain("a", "b"), chain("b", "a"), chain("ab", ""), chain("", "ab"), chain("a"), chain("")}
	seen := map[cacheKey]bool{}
	for _, key := range keys {
		seen[key] = true
	}
	if len(seen) != len(keys) {
		t.Errorf("%d keys of %d chains", len(seen), len(keys))
	}
}

// Promise: a uid that is no string is refused, as by kube-apiserver. No parsed
// certificate has one: the library gives strings alone.
func TestUIDNotAString(t *testing.T) {
	for _, value := range []any{[]byte{1, 2}, 1, nil} {
		cert := &x509.Certificate{Subject: pkix.Name{CommonName: "a", Names: []pkix.AttributeTypeAndValue{{Type: uidOID, Value: value}}}}
		if user, fault := userOf(cert); fault == "" {
			t.Errorf("%v: %+v", value, user)
		}
	}
}
