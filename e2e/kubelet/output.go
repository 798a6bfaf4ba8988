package kubelet

import (
	"context"
	"io"
	"sync"
)

// output is what a container printed, for any number of readers. The zero value
// is ready.
type output struct {
	mu      sync.Mutex
	b       []byte
	closed  bool
	changed chan struct{}
}

// Write keeps b and tells the readers. It never fails.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.b = append(o.b, b...)
	o.tell()
	return len(b), nil
}

// Close says that nothing comes any more.
func (o *output) Close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.tell()
}

// tell is called with o.mu held.
func (o *output) tell() {
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

func (o *output) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.b)
}

// next returns what was printed from a position on, and a channel that is closed
// when there is more, or nil if there never is.
func (o *output) next(from int) ([]byte, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return o.b[from:], nil
	}
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return o.b[from:], o.changed
}

// copyTo writes what was printed from a position on, and with follow what is
// printed until ctx ends. What is there when ctx ends is written.
func (o *output) copyTo(ctx context.Context, w io.Writer, from int, follow bool) error {
	for {
		b, more := o.next(from)
		if len(b) > 0 {
			if _, err := w.Write(b); err != nil {
				return err
			}
			from += len(b)
			continue
		}
		if more == nil || !follow || ctx.Err() != nil {
			return nil
		}
		select {
		case <-more:
		case <-ctx.Done():
		}
	}
}
