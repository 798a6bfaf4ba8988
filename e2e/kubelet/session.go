package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Sessions are the paths of the exec, attach and port-forward streams that are
// open: for a test that wants to know that the end of one has arrived here.
func (k *Kubelet) Sessions() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Sorted(maps.Values(k.sessions))
}

// session lists a stream until the returned function is called. The context
// ends when the connection of w does: what still runs then, nobody waits for.
func (k *Kubelet) session(parent context.Context, w http.ResponseWriter, r *http.Request) (
	context.Context, http.ResponseWriter, func(),
) {
	ctx, cancel := context.WithCancel(parent)
	id := new(byte)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sessions[id] = r.URL.Path
	k.running.Add(1)
	return ctx, hijacked{w, cancel, k.ctx}, func() {
		cancel()
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.sessions, id)
		k.running.Done()
	}
}

// hijacked has the connection, which the streaming library takes over, tell when
// its other side has ended it. The library itself does not tell.
type hijacked struct {
	http.ResponseWriter
	ended func()
	node  context.Context // with which every connection ends: Stop waits for them
}

// Hijack hands over the connection.
func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	watched := &watchedConn{Conn: conn, ended: make(chan struct{}), tell: h.ended}
	context.AfterFunc(h.node, func() { conn.Close() })
	early, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err != nil {
		return nil, nil, err
	}
	reader := bufio.NewReader(io.MultiReader(bytes.NewReader(bytes.Clone(early)), watched))
	return watched, bufio.NewReadWriter(reader, buffered.Writer), nil
}

// watchedConn is a connection that somebody always reads, as the library does.
type watchedConn struct {
	net.Conn
	once  sync.Once
	ended chan struct{} // closed when there is nothing more to read
	tell  func()
}

func (c *watchedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		c.once.Do(func() {
			c.tell()
			close(c.ended)
		})
	}
	return n, err
}

// lingerTime is how long the other side may take to end its half.
const lingerTime = 2 * time.Second

// Close ends what is sent, and the connection when the other side has ended too.
// A connection that is closed while something arrives is reset, and what was sent
// last may be lost: of a command that ends at once, all it printed.
func (c *watchedConn) Close() error {
	half, ok := c.Conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return c.Conn.Close()
	}
	go func() {
		select {
		case <-c.ended:
		case <-time.After(lingerTime):
		}
		c.Conn.Close()
	}()
	return nil
}
