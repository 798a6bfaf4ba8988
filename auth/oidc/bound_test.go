package oidc

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// filler fills a cache with tokens of an issuer that has a key.
type filler struct {
	cache  *cache
	issuer *Issuer
	now    time.Time
	last   uint64

	generation uint64 // of the keys that tokens were verified with
}

func newFiller() *filler {
	f := &filler{cache: newCache(), now: time.Unix(1e9, 0), generation: 1}
	now := func() time.Time { return f.now }
	f.issuer = &Issuer{cfg: Config{Now: now}, ring: &keyRing{now: now, maxAge: 24 * time.Hour}}
	f.issuer.ring.current.Store((*keySnapshot)(nil).next(make([]jose.JSONWebKey, 1), f.now))
	return f
}

// add keeps a new token of a user and returns its key.
func (f *filler) add(user auth.User, life time.Duration) digest.Digest {
	var key digest.Digest
	f.last++
	binary.BigEndian.PutUint64(key[:], f.last)
	f.cache.put(&verified{id: &auth.Identity{User: user}, until: f.now.Add(life), issuer: f.issuer, generation: f.generation, key: key})
	return key
}

// held counts those of keys that are still known.
func (f *filler) held(keys []digest.Digest) int {
	count := 0
	for _, key := range keys {
		if f.cache.get(key) != nil {
			count++
		}
	}
	return count
}

// check fails the test if the books of the cache do not agree.
func (f *filler) check(t *testing.T) {
	t.Helper()
	units, tokens := 0, 0
	for holder, own := range f.cache.holders {
		of := 0
		for e := own.tokens.Front(); e != nil; e = e.Next() {
			of += e.Value.(*verified).units
		}
		if of != own.units || own.units > maxShare || own.tokens.Len() == 0 {
			t.Errorf("%s: %d tokens of %d units, %d in the book", holder.name, own.tokens.Len(), of, own.units)
		}
		units += of
		tokens += own.tokens.Len()
	}
	if units != f.cache.units || units > maxUnits || tokens != len(f.cache.entries) {
		t.Errorf("%d tokens of %d units, %d of %d in the book", tokens, units, len(f.cache.entries), f.cache.units)
	}
}

func people(n int) auth.User {
	return auth.User{Name: fmt.Sprintf("user-%d", n), Groups: []string{"staff"}}
}

// Promise: however many tokens are verified, a bounded number is kept, and the
// last one is among them.
func TestCacheIsBounded(t *testing.T) {
	f := newFiller()
	for i := range 3 * maxUnits {
		if key := f.add(people(i), time.Hour); f.cache.get(key) == nil {
			t.Fatal("the last one is not kept")
		}
	}
	f.check(t)
	if got := f.cache.len(); got != maxUnits {
		t.Errorf("%d kept, want %d", got, maxUnits)
	}
}

// Promise: memory is bounded, not only the number of entries: what is large
// counts for more, and what is too large is not kept.
func TestLargeIdentitiesCountForMore(t *testing.T) {
	f := newFiller()
	large := func(i, size int) auth.User {
		return auth.User{
			Name:   fmt.Sprintf("user-%d", i),
			Groups: strings.Split(strings.Repeat("g,", size/64), ","), // 17 bytes each
			Extra:  map[string][]string{"example.org/key": {strings.Repeat("x", size)}},
		}
	}
	const each = 64 << 10
	for i := range 2 * maxUnits * unitBytes / each {
		f.add(large(i, each), time.Hour)
	}
	f.check(t)
	bytes := 0
	for _, v := range f.cache.entries {
		bytes += size(&v.id.User)
	}
	if limit := maxUnits * unitBytes; bytes > limit || bytes < limit/2 {
		t.Errorf("%d bytes kept, the bound is %d", bytes, limit)
	}
	if key := f.add(large(-1, maxShare*unitBytes), time.Hour); f.cache.get(key) != nil {
		t.Error("an identity larger than a share was kept")
	}
}

// Promise: one user with any number of tokens pushes out his own, and a
// sixteenth of the others at most.
func TestOneUserHasAShare(t *testing.T) {
	for name, others := range map[string]int{"half full": maxUnits / 2, "full": maxUnits} {
		t.Run(name, func(t *testing.T) {
			f := newFiller()
			keys := make([]digest.Digest, others)
			for i := range keys {
				keys[i] = f.add(people(i), time.Hour)
			}
			var own []digest.Digest
			for range 2 * maxUnits {
				own = append(own, f.add(auth.User{Name: "mallory"}, time.Hour))
			}
			f.check(t)
			if got := f.held(own); got != maxShare {
				t.Errorf("%d tokens of one user kept, want %d", got, maxShare)
			}
			if got := f.held(own[len(own)-maxShare:]); got != maxShare {
				t.Errorf("%d of his newest kept, want %d", got, maxShare)
			}
			if got, want := f.held(keys), min(others, maxUnits-maxShare); got != want {
				t.Errorf("%d tokens of others kept, want %d", got, want)
			}
		})
	}
}

// Promise: two issuers' users of one name have a share each.
func TestSharesAreByIssuer(t *testing.T) {
	f := newFiller()
	first := f.add(people(1), time.Hour)
	other := newFiller()
	f.issuer = other.issuer
	for range 2 * maxShare {
		f.add(people(1), time.Hour)
	}
	f.check(t)
	if f.cache.get(first) == nil || f.cache.len() != maxShare+1 {
		t.Errorf("%d kept", f.cache.len())
	}
}

// Promise: what has ended makes room, without anybody who waits for it.
func TestEndedTokensAreDropped(t *testing.T) {
	for name, end := range map[string]func(f *filler){
		"expired": func(f *filler) { f.now = f.now.Add(2 * time.Minute) },
		"keys changed": func(f *filler) {
			ring := f.issuer.ring
			ring.current.Store(ring.current.Load().next(make([]jose.JSONWebKey, 2), f.now))
			f.generation = 2
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiller()
			for i := range 1000 {
				f.add(people(i), time.Minute)
			}
			end(f)
			for i := range 1000 {
				f.add(people(i), time.Hour)
			}
			f.check(t)
			if got := f.cache.len(); got > 1200 {
				t.Errorf("%d kept, of which 1000 are good", got)
			}
		})
	}
}

// Promise: a token that is verified again, twice at once too, is kept once.
func TestKeptOnce(t *testing.T) {
	f := newFiller()
	key := f.add(people(1), time.Minute)
	f.last--
	f.add(people(1), time.Hour)
	f.check(t)
	f.now = f.now.Add(2 * time.Minute)
	if f.cache.len() != 1 || f.cache.get(key) == nil {
		t.Errorf("%d kept", f.cache.len())
	}
}
