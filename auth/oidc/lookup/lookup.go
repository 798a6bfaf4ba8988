// Package lookup answers: how is somebody else asked about a caller, sparingly
// and safely?
//
// Whoever resolves the claims that a token only refers to asks a server by it:
// with a client that goes nowhere else ([NewClient]), once for all who want to
// know the same, a few at a time, and seldom, since answers are kept for a
// bounded time ([Cache]). Failures are kept too, for a shorter one.
package lookup

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"sync"
	"time"
)

// Config are the bounds of a [Cache].
type Config struct {
	// Keep is the longest that an answer is kept. Default: 5 minutes.
	Keep time.Duration
	// KeepFailure is how long a failure is kept. Default: 10 seconds.
	KeepFailure time.Duration
	// Timeout is how long one question may take, waiting for its turn included.
	// Default: 5 seconds.
	Timeout time.Duration
	// AtOnce is how many questions may be under way. Default: 16.
	AtOnce int
	// MaxSize is what the answers kept may add up to, in bytes. Default: 32 MiB.
	MaxSize int
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// OnAsk hears of each question, and whether it was answered. Default:
	// nobody does.
	OnAsk func(ok bool)
}

// entrySize is counted for each entry besides its answer.
const entrySize = 512

// Key names a question. Make it with [KeyOf].
type Key [sha256.Size]byte

// KeyOf returns the key of parts, of which none can be taken for another's part.
func KeyOf(parts ...string) Key {
	h := sha256.New()
	for _, part := range parts {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		h.Write([]byte(part))
	}
	return Key(h.Sum(nil))
}

// Answer is what was said. It is shared, so nobody may change its value.
type Answer[V any] struct {
	Value V
	// Size is about how many bytes the value takes.
	Size int
	// Until is when the answer ends; zero if it has no end of its own.
	Until time.Time
}

// Cache keeps answers. Make it with [NewCache].
type Cache[V any] struct {
	cfg   Config
	turns chan struct{}

	mu      sync.Mutex
	entries map[Key]*list.Element
	order   *list.List // of *entry, the one that was used last in front
	size    int
	flights map[Key]*flight[V]
}

type entry[V any] struct {
	key    Key
	answer Answer[V]
	err    error
}

type flight[V any] struct {
	done   chan struct{}
	answer Answer[V]
	err    error
}

// NewCache returns an empty cache.
func NewCache[V any](cfg Config) *Cache[V] {
	cfg.Keep = orDefault(cfg.Keep, 5*time.Minute)
	cfg.KeepFailure = orDefault(cfg.KeepFailure, 10*time.Second)
	cfg.Timeout = orDefault(cfg.Timeout, 5*time.Second)
	cfg.AtOnce = orDefault(cfg.AtOnce, 16)
	cfg.MaxSize = orDefault(cfg.MaxSize, 32<<20)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnAsk == nil {
		cfg.OnAsk = func(bool) {}
	}
	return &Cache[V]{
		cfg: cfg, turns: make(chan struct{}, cfg.AtOnce),
		entries: map[Key]*list.Element{}, order: list.New(), flights: map[Key]*flight[V]{},
	}
}

func orDefault[N int | time.Duration](n, fallback N) N {
	if n <= 0 {
		return fallback
	}
	return n
}

// Get returns the answer to key: the one that is kept, or what ask returns. Who
// asks at the same time shares one question, which goes on for the others when
// one leaves; so ask must not depend on who asks.
func (c *Cache[V]) Get(ctx context.Context, key Key, ask func(context.Context) (Answer[V], error)) (Answer[V], error) {
	c.mu.Lock()
	if element, found := c.entries[key]; found {
		kept := element.Value.(*entry[V]) //nolint:errcheck,forcetypeassert // the list holds nothing else
		if c.cfg.Now().Before(kept.answer.Until) {
			c.order.MoveToFront(element)
			c.mu.Unlock()
			return kept.answer, kept.err
		}
		c.remove(element)
	}
	f, flying := c.flights[key]
	if !flying {
		f = &flight[V]{done: make(chan struct{})}
		c.flights[key] = f
		go c.fly(context.WithoutCancel(ctx), key, f, ask)
	}
	c.mu.Unlock()
	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		return Answer[V]{}, ctx.Err()
	}
}

// Drop forgets the answer to key.
func (c *Cache[V]) Drop(key Key) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element, found := c.entries[key]; found {
		c.remove(element)
	}
}

func (c *Cache[V]) fly(ctx context.Context, key Key, f *flight[V], ask func(context.Context) (Answer[V], error)) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	f.answer, f.err = c.askInTurn(ctx, ask)
	keep := c.cfg.Keep
	if f.err != nil {
		f.answer, keep = Answer[V]{}, c.cfg.KeepFailure
	}
	if latest := c.cfg.Now().Add(keep); f.answer.Until.IsZero() || f.answer.Until.After(latest) {
		f.answer.Until = latest
	}
	c.mu.Lock()
	delete(c.flights, key)
	c.add(&entry[V]{key: key, answer: f.answer, err: f.err})
	c.mu.Unlock()
	close(f.done)
}

var (
	errBusy  = errors.New("too many questions are under way")
	errPanic = errors.New("what was answered could not be read")
)

func (c *Cache[V]) askInTurn(ctx context.Context, ask func(context.Context) (Answer[V], error)) (answer Answer[V], err error) {
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return answer, errBusy
	}
	defer func() {
		if recover() != nil { // what another server may send must not end the process
			answer, err = Answer[V]{}, errPanic
		}
		c.cfg.OnAsk(err == nil)
	}()
	return ask(ctx)
}

// add keeps e and takes away what was not used for longest. The caller holds mu.
func (c *Cache[V]) add(e *entry[V]) {
	size := entrySize + e.answer.Size
	if size > c.cfg.MaxSize {
		return
	}
	if old, found := c.entries[e.key]; found {
		c.remove(old)
	}
	for c.size+size > c.cfg.MaxSize {
		c.remove(c.order.Back())
	}
	c.entries[e.key] = c.order.PushFront(e)
	c.size += size
}

func (c *Cache[V]) remove(element *list.Element) {
	e := c.order.Remove(element).(*entry[V]) //nolint:errcheck,forcetypeassert // the list holds nothing else
	delete(c.entries, e.key)
	c.size -= entrySize + e.answer.Size
}
