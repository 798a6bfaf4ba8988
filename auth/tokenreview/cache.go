package tokenreview

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
	"time"
)

// digest stands for a token and the audiences that it was reviewed for.
type digest [sha256.Size]byte

// digester makes digests by HMAC-SHA256 with a key of this process, as the
// token cache of kube-apiserver does: no token stays in memory, and nobody can
// aim at another's entry. Each part has its length before it, so that no two
// inputs are one string.
type digester struct {
	audiences []byte
	pool      sync.Pool
}

type hashing struct {
	mac hash.Hash
	buf []byte
}

func newDigester(audiences []string) *digester {
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // it never fails (Go 1.24)
	d := &digester{audiences: binary.BigEndian.AppendUint64(nil, uint64(len(audiences)))}
	for _, audience := range audiences {
		d.audiences = binary.BigEndian.AppendUint64(d.audiences, uint64(len(audience)))
		d.audiences = append(d.audiences, audience...)
	}
	d.pool.New = func() any {
		return &hashing{mac: hmac.New(sha256.New, key[:]), buf: make([]byte, 0, 4<<10)}
	}
	return d
}

func (d *digester) sum(token string) digest {
	h := d.pool.Get().(*hashing)
	defer d.pool.Put(h)
	h.buf = binary.BigEndian.AppendUint64(h.buf[:0], uint64(len(token)))
	h.buf = append(h.buf, token...)
	h.buf = append(h.buf, d.audiences...)
	h.mac.Reset()
	h.mac.Write(h.buf)
	clear(h.buf) // the token
	return digest(h.mac.Sum(h.buf[:0]))
}

// cache keeps values for a time each, the last max of them. The oldest goes
// first: where all are kept equally long, that is the one that ends first.
// Its user locks it.
type cache[V any] struct {
	max     int
	entries map[digest]*entry[V]
	order   *list.List // of *entry[V], the oldest first
}

type entry[V any] struct {
	key   digest
	value V
	until time.Time
	place *list.Element
}

func newCache[V any](size int) cache[V] {
	return cache[V]{max: size, entries: map[digest]*entry[V]{}, order: list.New()}
}

// get returns a value that is still good. It changes nothing.
func (c *cache[V]) get(key digest, now time.Time) (value V, ok bool) {
	if e, found := c.entries[key]; found && now.Before(e.until) {
		return e.value, true
	}
	return value, false
}

// has reports whether there is a value, good or past its time.
func (c *cache[V]) has(key digest) bool {
	_, found := c.entries[key]
	return found
}

func (c *cache[V]) put(key digest, value V, until time.Time) {
	c.drop(key)
	for len(c.entries) >= c.max {
		c.drop(c.order.Front().Value.(*entry[V]).key)
	}
	e := &entry[V]{key: key, value: value, until: until}
	e.place = c.order.PushBack(e)
	c.entries[key] = e
}

func (c *cache[V]) drop(key digest) {
	if e, found := c.entries[key]; found {
		c.order.Remove(e.place)
		delete(c.entries, key)
	}
}

// expire puts every value past its time. The entries stay.
func (c *cache[V]) expire() {
	for _, e := range c.entries {
		var none V
		e.value, e.until = none, time.Time{}
	}
}

func (c *cache[V]) clear() {
	clear(c.entries)
	c.order.Init()
}
