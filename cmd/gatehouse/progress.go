package main

import (
	"fmt"
	"io"
	"sync"
	"time"
)

// progressAfter is how long something may take before a person is told what
// they are waiting for.
const progressAfter = 2 * time.Second

// progress tells a person what takes its time.
type progress struct {
	mu      sync.Mutex
	w       io.Writer
	timeout time.Duration
}

func newProgress(w io.Writer, timeout time.Duration) *progress {
	return &progress{w: w, timeout: timeout}
}

// during calls ask, and says what it does if it takes long.
func (p *progress) during(what string, ask func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		select {
		case <-done:
		case <-time.After(progressAfter):
			p.mu.Lock()
			defer p.mu.Unlock()
			fmt.Fprintf(p.w, "still %s (--timeout %s)\n", what, p.timeout)
		}
	}()
	ask()
	close(done)
	<-ended
}
