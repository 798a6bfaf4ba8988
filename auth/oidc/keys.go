package oidc

import (
	"context"
	"crypto"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// keyRing holds an issuer's keys and decides when to ask for them again:
//
//   - at start, and until it succeeds once, with growing pauses;
//   - then every refresh interval, so that a withdrawn key stops working;
//   - on a token that no key verifies, at most once in onDemandPause, whatever
//     the number of tokens, so that forged ones cost the issuer next to nothing.
//
// A fetch that fails leaves the last good keys in use until they are older
// than maxAge.
type keyRing struct {
	// fetch returns nil if no keys could be read; an error may stand beside
	// keys, and beside the empty list of an issuer that withdrew them all.
	fetch   func(ctx context.Context, rediscover bool) ([]jose.JSONWebKey, error)
	refresh time.Duration
	maxAge  time.Duration
	now     func() time.Time
	onFetch func(ok bool)
	onKeys  func() // there are other keys than before
	log     *slog.Logger

	current atomic.Pointer[keySnapshot]
	ready   chan struct{} // closed once there are keys
	first   sync.Once

	mu       sync.Mutex
	flight   *flight   // the fetch under way, if any
	onDemand time.Time // when an unknown key id last caused a fetch
	lastErr  error
}

type keySnapshot struct {
	keys    []jose.JSONWebKey
	fetched time.Time
	// generation counts the changes of keys, from 1 on. Most fetches bring the
	// same again.
	generation uint64
}

type flight struct {
	done chan struct{}
	err  error
}

const (
	firstRetry    = 250 * time.Millisecond
	lastRetry     = 10 * time.Second
	onDemandPause = 10 * time.Second
	onDemandWait  = 2 * time.Second
)

// run keeps the keys fresh until ctx ends.
func (k *keyRing) run(ctx context.Context) {
	retry := firstRetry
	for {
		pause := k.refresh
		if err := k.update(ctx, true); err != nil {
			if ctx.Err() != nil {
				return
			}
			k.log.Warn("issuer's keys could not be fetched", "error", err, "retry_in", retry.String())
			pause = min(retry, k.refresh)
			retry = min(2*retry, lastRetry)
		} else {
			retry = firstRetry
		}
		// Replicas that started together should not ask together for ever.
		pause -= time.Duration(rand.Int64N(int64(pause)/10 + 1))
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// keys returns the keys that may be used now, or nil, and the snapshot that they
// are of.
func (k *keyRing) keys() ([]jose.JSONWebKey, *keySnapshot) {
	snapshot := k.current.Load()
	if k.tooOld(snapshot) {
		return nil, snapshot
	}
	return snapshot.keys, snapshot
}

// generation returns that of the present keys, 0 while none may be used. While it
// stays the same, so does the verdict on each signature.
func (k *keyRing) generation() uint64 {
	keys, snapshot := k.keys()
	if len(keys) == 0 {
		return 0
	}
	return snapshot.generation
}

func (k *keyRing) tooOld(snapshot *keySnapshot) bool {
	return snapshot == nil || k.now().Sub(snapshot.fetched) > k.maxAge
}

// demand asks the issuer again because the snapshot seen verifies no token. It
// reports whether there is another snapshot now.
func (k *keyRing) demand(ctx context.Context, seen *keySnapshot) bool {
	k.mu.Lock()
	f := k.flight
	switch now := k.now(); {
	case k.current.Load() != seen: // somebody else asked meanwhile
		k.mu.Unlock()
		return true
	case f == nil && now.Sub(k.onDemand) < onDemandPause:
		k.mu.Unlock()
		return false
	case f == nil:
		k.onDemand = now
		f = k.launch(ctx, k.tooOld(seen))
	}
	k.mu.Unlock()
	// A slow issuer may not hold a request, which anybody can send, for long.
	ctx, cancel := context.WithTimeout(ctx, onDemandWait)
	defer cancel()
	// An error is already logged by run, or will be at the next refresh.
	_ = f.wait(ctx)
	return k.current.Load() != seen
}

// update fetches once; callers at the same time share one fetch. It ends with
// ctx, while the fetch goes on for the others.
func (k *keyRing) update(ctx context.Context, rediscover bool) error {
	k.mu.Lock()
	f := k.flight
	if f == nil {
		f = k.launch(ctx, rediscover)
	}
	k.mu.Unlock()
	return f.wait(ctx)
}

// launch begins a fetch. The caller holds mu, and there is no flight.
func (k *keyRing) launch(ctx context.Context, rediscover bool) *flight {
	f := &flight{done: make(chan struct{})}
	k.flight = f
	go k.fly(context.WithoutCancel(ctx), f, rediscover)
	return f
}

// wait returns what the fetch met, or the error of ctx.
func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (k *keyRing) fly(ctx context.Context, f *flight, rediscover bool) {
	ctx, cancel := context.WithTimeout(ctx, 2*fetchTimeout)
	defer cancel()
	keys, err := k.fetchSafely(ctx, rediscover)
	others := false
	if keys != nil {
		before := k.current.Load()
		present := before.next(keys, k.now())
		k.current.Store(present)
		others = before == nil || before.generation != present.generation
	}
	if len(keys) > 0 {
		k.first.Do(func() { close(k.ready) })
	}
	k.mu.Lock()
	f.err, k.lastErr, k.flight = err, err, nil
	k.mu.Unlock()
	k.onFetch(err == nil)
	if others {
		k.onKeys()
	}
	close(f.done)
}

// next returns the snapshot that follows s, which may be nil.
func (s *keySnapshot) next(keys []jose.JSONWebKey, now time.Time) *keySnapshot {
	next := &keySnapshot{keys: keys, fetched: now, generation: 1}
	if s != nil {
		next.generation = s.generation
		if !sameKeys(s.keys, keys) {
			next.generation++
		}
	}
	return next
}

// sameKeys reports whether a and b hold the same keys. Some issuers publish them
// in another order each time. How often one is there counts: a token without
// `kid` needs a single one.
func sameKeys(a, b []jose.JSONWebKey) bool {
	if len(a) != len(b) {
		return false
	}
	left := slices.Clone(b)
	for _, key := range a {
		i := slices.IndexFunc(left, func(other jose.JSONWebKey) bool { return sameKey(&key, &other) })
		if i < 0 {
			return false
		}
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// sameKey compares what decides which signatures a key verifies.
func sameKey(a, b *jose.JSONWebKey) bool {
	public, ok := a.Key.(interface{ Equal(x crypto.PublicKey) bool })
	return ok && a.KeyID == b.KeyID && a.Algorithm == b.Algorithm && public.Equal(b.Key)
}

// fetchSafely keeps whatever an issuer may send from ending the process.
func (k *keyRing) fetchSafely(ctx context.Context, rediscover bool) (keys []jose.JSONWebKey, err error) {
	defer func() {
		if recover() != nil {
			keys, err = nil, errors.New("keys: what the issuer sent could not be read")
		}
	}()
	return k.fetch(ctx, rediscover)
}

// status says whether keys are at hand, and what the last fetch met.
func (k *keyRing) status() (fetched time.Time, count int, err error) {
	k.mu.Lock()
	err = k.lastErr
	k.mu.Unlock()
	keys, snapshot := k.keys()
	if snapshot != nil {
		fetched = snapshot.fetched
	}
	switch {
	case err != nil:
	case snapshot == nil:
		err = errors.New("not asked yet")
	case keys == nil:
		err = errors.New("the keys are too old")
	}
	return fetched, len(keys), err
}
