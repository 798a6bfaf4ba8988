package proc

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
)

// Lines is an io.Writer that keeps what a process printed as whole lines and
// tells those who wait. The zero value is ready; it is safe for many goroutines.
type Lines struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	changed chan struct{}
}

// Write keeps b. It never fails.
func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, b...)
	for {
		i := bytes.IndexByte(l.partial, '\n')
		if i < 0 {
			break
		}
		l.lines = append(l.lines, string(l.partial[:i]))
		l.partial = l.partial[i+1:]
	}
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
	return len(b), nil
}

// All returns the whole lines so far, and the unfinished one if there is one.
func (l *Lines) All() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.lines)
	if len(l.partial) > 0 {
		all = append(all, string(l.partial))
	}
	return all
}

// Await returns the first line, old or new, that match accepts. It fails when
// ctx ends or when ended is closed; ended may be nil.
func (l *Lines) Await(ctx context.Context, ended <-chan struct{}, match func(string) bool) (string, error) {
	for seen := 0; ; {
		l.mu.Lock()
		if l.changed == nil {
			l.changed = make(chan struct{})
		}
		changed, fresh := l.changed, l.lines[seen:]
		seen = len(l.lines)
		l.mu.Unlock()
		if i := slices.IndexFunc(fresh, match); i >= 0 {
			return fresh[i], nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", fmt.Errorf("await a line: %w", ctx.Err())
		case <-ended:
			return l.lastLook(seen, match)
		}
	}
}

// lastLook searches the lines from seen on once more, after the process ended.
func (l *Lines) lastLook(seen int, match func(string) bool) (string, error) {
	if all := l.All(); seen < len(all) {
		if i := slices.IndexFunc(all[seen:], match); i >= 0 {
			return all[seen+i], nil
		}
	}
	return "", fmt.Errorf("await a line: %w", ErrEnded)
}
