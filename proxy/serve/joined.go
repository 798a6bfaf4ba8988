package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
)

// joinedConn writes by one system call what a Join makes of it: crypto/tls makes one
// for each 16 KiB, and 64 KiB at a time cost the kernel little more
// (docs/decisions/0025).
type joinedConn struct {
	net.Conn
	buffers *sync.Pool // of *[joinedSize]byte

	mu       sync.Mutex
	held     []byte // nil while nothing is held
	released bool   // it is being written
	later    []byte // what follows it
	broken   error  // of what was held and is not written whole: what follows would be taken for the rest
}

// maxLater is how much crypto/tls may want to say by itself while what was released is
// being written: an alert, and its part in changes of keys.
const maxLater = 4 << 10

var errNotRead = errors.New("the client does not read what answers it")

// joinedSize is how much may be held. What was held goes out when more comes.
const joinedSize = 128 << 10

// maxRecord is the most that one record of TLS holds (RFC 8446 section 5.1).
const maxRecord = 16 << 10

// Join writes p to w, which writes to c as TLS does, and has what comes of it leave
// together.
func (c *joinedConn) Join(w io.Writer, p []byte) (int, error) {
	if len(p) <= maxRecord {
		return w.Write(p)
	}
	c.hold()
	n, err := w.Write(p)
	return n, errors.Join(err, c.release())
}

// hold has what is written wait for release, which must follow.
func (c *joinedConn) hold() {
	c.mu.Lock()
	defer c.mu.Unlock()
	buffer, ok := c.buffers.Get().(*[joinedSize]byte)
	if !ok {
		buffer = new([joinedSize]byte)
	}
	c.held = buffer[:0]
}

// release writes what was held. Who closes the connection meanwhile does not wait for
// that: crypto/tls says good-bye first, and that is written when there is time.
func (c *joinedConn) release() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	held := c.held
	c.released = true
	for next := held; len(next) > 0 && c.broken == nil; {
		c.mu.Unlock()
		_, err := c.Conn.Write(next)
		c.mu.Lock()
		c.broken = err
		next, c.later = c.later, nil
	}
	c.buffers.Put((*[joinedSize]byte)(held[:joinedSize]))
	c.held, c.released, c.later = nil, false, nil
	return c.broken
}

// Write writes p, or holds it.
func (c *joinedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken != nil {
		return 0, c.broken
	}
	if c.held == nil {
		return c.Conn.Write(p)
	}
	if c.released {
		if len(c.later)+len(p) > maxLater {
			return 0, errNotRead
		}
		c.later = append(c.later, p...)
		return len(p), nil
	}
	if len(c.held)+len(p) > joinedSize {
		if _, c.broken = c.Conn.Write(c.held); c.broken != nil {
			return 0, c.broken
		}
		c.held = c.held[:0]
	}
	if len(p) > joinedSize {
		return c.Conn.Write(p)
	}
	c.held = append(c.held, p...)
	return len(p), nil
}

type joinedKey struct{}

// withJoined has the contexts of a connection's requests know it.
func withJoined(ctx context.Context, conn net.Conn) context.Context {
	if secure, ok := conn.(*tls.Conn); ok {
		return context.WithValue(ctx, joinedKey{}, secure.NetConn())
	}
	return ctx
}

// joinLarge has each large part of an answer over HTTP/1.1 leave by one system call.
func joinLarge(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(joinedKey{}).(*joinedConn); ok {
			w = &joinedWriter{w, conn}
		}
		handler.ServeHTTP(w, r)
	})
}

// joinedWriter is the writer of an answer on conn.
type joinedWriter struct {
	http.ResponseWriter
	conn *joinedConn
}

// Unwrap serves http.ResponseController.
func (w *joinedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Write writes p.
func (w *joinedWriter) Write(p []byte) (int, error) { return w.conn.Join(w.ResponseWriter, p) }
