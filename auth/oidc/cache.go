package oidc

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// Bounds of the cache, in units of unitBytes of identity. An ordinary identity
// is one unit; a larger one counts for as many as it fills.
const (
	unitBytes = 2 << 10
	maxUnits  = 16 << 10
	maxShare  = maxUnits / 16 // of one user
	// looks is how many entries are looked at for each that is added, to drop
	// those that have ended: on the whole no more than half of all have.
	looks = 4
)

// verified is a token that was verified. It does not change.
type verified struct {
	id         *auth.Identity
	until      time.Time // the last moment at which id may be given
	issuer     *Issuer
	generation uint64 // of the keys that it was verified with, or of older ones

	key   digest.Digest
	units int
	place *list.Element // in the tokens of its holder
}

// holds reports whether the token would be accepted if it were verified now.
func (v *verified) holds() bool {
	return v.generation == v.issuer.ring.generation() && !v.until.Before(v.issuer.cfg.Now())
}

// cache holds what was verified. The key is a digest of the whole token: by
// header and payload alone, whoever read them in a log that leaves signatures
// out could present them with any signature.
//
// Who fills it has paid more than it costs others: an entry costs him a token
// that the issuer signed, and gatehouse a verification; the entry that it pushes
// out costs one more. Beyond that, one user has a share only. His next token
// pushes out his own oldest, so that somebody with a million tokens pushes out
// one sixteenth of the others at most. When all is full any entry goes: a map
// gives its entries in no order that a client could choose.
type cache struct {
	mu      sync.RWMutex
	entries map[digest.Digest]*verified
	units   int
	holders map[holder]*holding
}

type holder struct {
	issuer *Issuer
	name   string
}

// holding is the tokens of one user, the oldest first.
type holding struct {
	units  int
	tokens list.List // of *verified
}

func newCache() *cache {
	return &cache{entries: map[digest.Digest]*verified{}, holders: map[holder]*holding{}}
}

// get returns what was verified, nil if there is nothing that still holds.
func (c *cache) get(key digest.Digest) *verified {
	c.mu.RLock()
	v := c.entries[key]
	c.mu.RUnlock()
	if v == nil || !v.holds() {
		return nil
	}
	return v
}

func (c *cache) len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.entries)
}

// put keeps v, and nothing of a user whose share it would exceed alone.
func (c *cache) put(v *verified) {
	v.units = 1 + size(&v.id.User)/unitBytes
	if v.units > maxShare {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.entries[v.key]; before != nil {
		c.drop(before)
	}
	c.sweep()
	for own := c.holders[v.holder()]; own != nil && own.units+v.units > maxShare; {
		c.drop(own.tokens.Front().Value.(*verified))
	}
	for c.units+v.units > maxUnits {
		for _, any := range c.entries {
			c.drop(any)
			break
		}
	}
	own := c.holders[v.holder()]
	if own == nil {
		own = &holding{}
		c.holders[v.holder()] = own
	}
	v.place = own.tokens.PushBack(v)
	c.entries[v.key] = v
	own.units += v.units
	c.units += v.units
}

func (v *verified) holder() holder { return holder{v.issuer, v.id.Name} }

// sweep drops those of a few entries that hold no longer.
func (c *cache) sweep() {
	seen := 0
	for _, v := range c.entries {
		if !v.holds() {
			c.drop(v)
		}
		if seen++; seen == looks {
			return
		}
	}
}

func (c *cache) drop(v *verified) {
	own := c.holders[v.holder()]
	own.tokens.Remove(v.place)
	own.units -= v.units
	c.units -= v.units
	if own.tokens.Len() == 0 {
		delete(c.holders, v.holder())
	}
	delete(c.entries, v.key)
}

// size is about what u takes in memory beside its fixed parts.
func size(u *auth.User) int {
	const stringHeader = 16
	bytes := len(u.Name) + len(u.UID)
	for _, group := range u.Groups {
		bytes += len(group) + stringHeader
	}
	for key, values := range u.Extra {
		bytes += len(key) + 2*stringHeader
		for _, value := range values {
			bytes += len(value) + stringHeader
		}
	}
	return bytes
}

// seal makes id fit to be shared: whoever appends to one of its lists gets a
// list of his own.
func seal(id *auth.Identity) *auth.Identity {
	id.Groups = slices.Clip(id.Groups)
	id.IDs = slices.Clip(id.IDs)
	for key, values := range id.Extra {
		id.Extra[key] = slices.Clip(values)
	}
	return id
}
