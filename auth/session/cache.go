package session

import (
	"sync"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// maxCached bounds the tokens whose signature is known to be good.
const maxCached = 4 << 10

// cache holds whom verified tokens name. What changes with time, or with what a
// session rests on, is judged each time. Its zero value is empty.
type cache struct {
	mu      sync.RWMutex
	entries map[digest.Digest]*auth.Identity
}

func (c *cache) get(key digest.Digest) *auth.Identity {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.entries[key]
}

// put keeps id. When all is full any entry goes: a map gives its entries in no
// order that a client could choose.
func (c *cache) put(key digest.Digest, id *auth.Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = map[digest.Digest]*auth.Identity{}
	}
	if len(c.entries) >= maxCached {
		for any := range c.entries {
			delete(c.entries, any)
			break
		}
	}
	c.entries[key] = id
}
