package serve

import (
	"crypto/tls"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"
)

// gatheredConn writes what comes in short order by one system call. net/http's
// HTTP/2 server writes the header of an answer, and then its body, and each
// stream's for itself; here they leave together (docs/decisions/0021). Over
// HTTP/1.1, where an answer is one write already, it does nothing.
type gatheredConn struct {
	net.Conn
	gathers bool // set before anything is written

	mu      sync.Mutex
	changed sync.Cond
	pending []byte // what is to be written
	writing bool
	err     error // of a write that nobody waited for
}

const (
	// gatherSize is how much may wait. More is waited for, as the peer's buffers
	// would have it.
	gatherSize = 64 << 10
	// lastWrite is how long what was written before Close may take to go out.
	lastWrite = 5 * time.Second
)

func newGathered(conn net.Conn) *gatheredConn {
	c := &gatheredConn{Conn: conn}
	c.changed.L = &c.mu
	return c
}

// gatherHTTP2 has the connection of hello gather what is written if its client
// speaks HTTP/2.
func gatherHTTP2(hello *tls.ClientHelloInfo) {
	if c, ok := hello.Conn.(*gatheredConn); ok {
		c.gathers = slices.Contains(hello.SupportedProtos, "h2")
	}
}

// Write takes p. An error may be that of an earlier write.
func (c *gatheredConn) Write(p []byte) (int, error) {
	if !c.gathers {
		return c.Conn.Write(p)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.err == nil && len(c.pending) > 0 && len(c.pending)+len(p) > gatherSize {
		c.changed.Wait()
	}
	if c.err != nil {
		return 0, c.err
	}
	if c.pending == nil {
		c.pending = make([]byte, 0, max(4<<10, len(p)))
	}
	c.pending = append(c.pending, p...)
	if !c.writing {
		c.writing = true
		go c.flush()
	}
	return len(p), nil
}

// flush writes until nothing is pending.
func (c *gatheredConn) flush() {
	runtime.Gosched() // who is about to write does so first
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.pending) > 0 && c.err == nil {
		out := c.pending
		c.pending = nil
		c.mu.Unlock()
		_, err := c.Conn.Write(out)
		c.mu.Lock()
		c.err = err
		c.changed.Broadcast()
	}
	c.writing = false
	c.changed.Broadcast()
}

// SetWriteDeadline bounds writing. One that is over already is crypto/tls's way to
// have no more written after its last words: what was written before goes out still.
func (c *gatheredConn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.writing && !t.IsZero() && time.Until(t) <= 0 {
		t = time.Now().Add(lastWrite)
	}
	return c.Conn.SetWriteDeadline(t)
}

// Close closes the connection when what was written before is out.
func (c *gatheredConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.writing {
		return c.Conn.Close()
	}
	_ = c.Conn.SetWriteDeadline(time.Now().Add(lastWrite)) // fails if it is closed already
	go func() {
		c.mu.Lock()
		for c.writing {
			c.changed.Wait()
		}
		c.mu.Unlock()
		_ = c.Conn.Close()
	}()
	return nil
}
