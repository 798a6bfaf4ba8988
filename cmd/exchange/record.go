package exchange

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Key stands for everything that a cached token depends on.
type Key [sha256.Size]byte

// KeyOf returns the digest of what a token depends on. No two lists have one: each
// part has its length before it.
func KeyOf(parts ...string) Key {
	digest := sha256.New()
	for _, part := range parts {
		var length [8]byte
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		_, _ = digest.Write(length[:]) // a hash never fails
		_, _ = digest.Write([]byte(part))
	}
	return Key(digest.Sum(nil))
}

// String returns the name of a key in hexadecimal.
func (k Key) String() string { return hex.EncodeToString(k[:]) }

// recordVersion is that of the form of a cached token. Another is not read.
const recordVersion = 1

// maxRecord is the longest cache file that is read, in bytes.
const maxRecord = 2 * auth.MaxTokenBytes

// ahead is how far another clock that wrote the cache may be before this one.
const ahead = time.Minute

// record is a cached token as it is written.
type record struct {
	Version  int       `json:"version"`
	Key      string    `json:"key"`
	Token    string    `json:"access_token"`
	Type     string    `json:"issued_token_type"`
	Scope    string    `json:"scope,omitempty"`
	Obtained time.Time `json:"obtained"`
	Expires  time.Time `json:"expires"`
}

// writeRecord returns the content of a cache file.
func writeRecord(key Key, i *Issued) ([]byte, error) {
	content, err := josejson.Marshal(record{
		Version: recordVersion, Key: key.String(), Token: i.Token, Type: i.Type, Scope: i.Scope,
		Obtained: i.Obtained.UTC(), Expires: i.Expires.UTC(),
	})
	if err != nil {
		return nil, fmt.Errorf("write the token down: %w", err)
	}
	return append(content, '\n'), nil
}

var errDamaged = errors.New("it is damaged, or belongs to something else")

// parseRecord reads a cache file, which must be that of key. The error quotes
// nothing of it.
func parseRecord(content []byte, key Key) (*Issued, error) {
	var r record
	if len(content) > maxRecord || josejson.Unmarshal(content, &r) != nil {
		return nil, errDamaged
	}
	life := r.Expires.Sub(r.Obtained)
	if r.Version != recordVersion || r.Key != key.String() || !auth.IsBearerToken(r.Token) || !isScope(r.Scope) ||
		!strings.HasPrefix(r.Type, tokenTypePrefix) || !isScope(r.Type) || life <= 0 || life > maxLifetime {
		return nil, errDamaged
	}
	return &Issued{Token: r.Token, Type: r.Type, Scope: r.Scope, Obtained: r.Obtained, Expires: r.Expires}, nil
}

// usable reports whether a cached token may be given out at a time. One that was
// obtained later than now tells that a clock was set.
func (i *Issued) usable(now time.Time) bool {
	return now.Before(i.RenewAt()) && !i.Obtained.After(now.Add(ahead))
}
