package impersonate

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

const (
	// memoryTime is how long what was allowed is believed, as long as
	// kube-apiserver does.
	memoryTime = 10 * time.Second
	maxMemory  = 4096
)

// memory is a Reviewer that remembers what another one allowed. What it denied
// is asked again: a right that was just given counts at once.
type memory struct {
	next Reviewer
	now  func() time.Time

	mu      sync.Mutex
	allowed map[[sha256.Size]byte]time.Time // until when
}

func newMemory(next Reviewer, now func() time.Time) *memory {
	return &memory{next: next, now: now, allowed: map[[sha256.Size]byte]time.Time{}}
}

// Allowed answers from memory, or asks.
func (m *memory) Allowed(ctx context.Context, user *auth.User, a Attributes) (bool, error) {
	// JSON keeps every part of the identity and of the question apart.
	question, err := json.Marshal(struct {
		User       *auth.User
		Attributes Attributes
	}{user, a})
	if err != nil {
		return false, fmt.Errorf("write the question of an access review: %w", err)
	}
	key := sha256.Sum256(question)
	m.mu.Lock()
	until, known := m.allowed[key]
	m.mu.Unlock()
	if known && m.now().Before(until) {
		return true, nil
	}
	began := m.now()
	allowed, err := m.next.Allowed(ctx, user, a)
	if err != nil || !allowed {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.allowed) >= maxMemory {
		clear(m.allowed) // rare, and costs a few reviews
	}
	m.allowed[key] = began.Add(memoryTime)
	return true, nil
}
