// Package digest answers: by what may a cache know a credential that it must
// not keep?
package digest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"sync"
)

// Digest stands for a token in one place of one process.
type Digest [sha256.Size]byte

// Digester makes digests by HMAC-SHA256 with a key of its own, as the token
// cache of kube-apiserver does: no token stays in memory, and nobody can aim at
// another's entry. Each part has its length before it, so that no two inputs
// are one string.
type Digester struct {
	context []byte
	pool    sync.Pool
}

type hashing struct {
	mac hash.Hash
	buf []byte
}

// New returns a Digester. The digest of a token depends on context too: on what
// else a verdict about the token rests.
func New(context ...string) *Digester {
	var key [sha256.Size]byte
	_, _ = rand.Read(key[:]) // it never fails (Go 1.24)
	d := &Digester{context: binary.BigEndian.AppendUint64(nil, uint64(len(context)))}
	for _, part := range context {
		d.context = binary.BigEndian.AppendUint64(d.context, uint64(len(part)))
		d.context = append(d.context, part...)
	}
	d.pool.New = func() any {
		return &hashing{mac: hmac.New(sha256.New, key[:]), buf: make([]byte, 0, 4<<10)}
	}
	return d
}

// Sum returns the digest of token, to its last byte.
func (d *Digester) Sum(token string) Digest {
	h := d.pool.Get().(*hashing)
	defer d.pool.Put(h)
	h.buf = binary.BigEndian.AppendUint64(h.buf[:0], uint64(len(token)))
	h.buf = append(h.buf, token...)
	h.buf = append(h.buf, d.context...)
	h.mac.Reset()
	h.mac.Write(h.buf)
	clear(h.buf) // the token
	return Digest(h.mac.Sum(h.buf[:0]))
}
