package tokenreview

import (
	"container/list"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// cache keeps values for a time each, the last max of them. The oldest goes
// first: where all are kept equally long, that is the one that ends first.
// Its user locks it.
type cache[V any] struct {
	max     int
	entries map[digest.Digest]*entry[V]
	order   *list.List // of *entry[V], the oldest first
}

type entry[V any] struct {
	key   digest.Digest
	value V
	until time.Time
	place *list.Element
}

func newCache[V any](size int) cache[V] {
	return cache[V]{max: size, entries: map[digest.Digest]*entry[V]{}, order: list.New()}
}

// get returns a value that is still good. It changes nothing.
func (c *cache[V]) get(key digest.Digest, now time.Time) (value V, ok bool) {
	if e, found := c.entries[key]; found && now.Before(e.until) {
		return e.value, true
	}
	return value, false
}

// has reports whether there is a value, good or past its time.
func (c *cache[V]) has(key digest.Digest) bool {
	_, found := c.entries[key]
	return found
}

func (c *cache[V]) put(key digest.Digest, value V, until time.Time) {
	c.drop(key)
	for len(c.entries) >= c.max {
		c.drop(c.order.Front().Value.(*entry[V]).key)
	}
	e := &entry[V]{key: key, value: value, until: until}
	e.place = c.order.PushBack(e)
	c.entries[key] = e
}

func (c *cache[V]) drop(key digest.Digest) {
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
