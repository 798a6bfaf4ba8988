package proxy

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// tunnel is an upgraded connection to the API server. [httputil.ReverseProxy]
// copies both ways, and gives up both when it cannot go on with one. But the API
// server closes the connection when a command has ended, whatever its caller
// still sends: the copy to it then fails while what the command printed last is
// on its way back. So a tunnel does not tell of that failure. It takes what
// nobody reads any more, until the caller has read all and leaves.
type tunnel struct {
	streamBody
	w      io.Writer
	hangUp func()

	mu     sync.Mutex
	deaf   bool // the API server takes nothing any more
	silent bool // it says nothing any more
	ending bool // hangUp will be called
}

// lastRead is how long a caller may take to read what the API server said last,
// before it closed the connection.
const lastRead = 30 * time.Second

// Read reads what the API server says. A connection that it has reset is at its
// end as well: a client finds out by its own protocol what is missing.
func (t *tunnel) Read(p []byte) (int, error) {
	n, err := t.streamBody.Read(p)
	if err == nil || t.ctx.Err() != nil {
		return n, err
	}
	t.over(!errors.Is(err, io.EOF), true)
	return n, io.EOF
}

// Write sends p, or drops it if the API server takes nothing any more.
func (t *tunnel) Write(p []byte) (int, error) {
	t.mu.Lock()
	deaf := t.deaf
	t.mu.Unlock()
	if deaf {
		return len(p), nil
	}
	n, err := t.w.Write(p)
	if err == nil || t.ctx.Err() != nil {
		return n, err
	}
	t.over(true, false)
	return len(p), nil
}

// CloseWrite ends what is sent and nothing else: what the API server still has to
// say arrives.
func (t *tunnel) CloseWrite() error {
	if c, ok := t.ReadCloser.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return http.ErrNotSupported
}

// over notes which directions are over.
func (t *tunnel) over(deaf, silent bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.deaf, t.silent = t.deaf || deaf, t.silent || silent
	if t.deaf && t.silent && !t.ending {
		t.ending = true
		time.AfterFunc(lastRead, t.hangUp)
	}
}
