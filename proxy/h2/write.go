package h2

import (
	"bytes"
	"fmt"
	"runtime"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// writing is what waits to be written.
type writing struct {
	wake    sync.Cond
	queue   bytes.Buffer
	framer  *http2.Framer
	block   bytes.Buffer // a header, compressed
	encoder *hpack.Encoder
	fields  []hpackField // room for those of a request
	control int          // bytes of answers to the peer's control frames
}

func (w *writing) init(mu *sync.Mutex) {
	w.wake.L = mu
	w.framer = http2.NewFramer(&w.queue, nil)
	w.encoder = hpack.NewEncoder(&w.block)
}

// The frames below go to a buffer, and so without an error.

func (w *writing) ping(ack bool, data [8]byte) {
	_ = w.framer.WritePing(ack, data)
	w.wake.Signal()
}

func (w *writing) windowUpdate(id uint32, n int) {
	_ = w.framer.WriteWindowUpdate(id, uint32(n))
	w.wake.Signal()
}

func (w *writing) reset(id uint32, code http2.ErrCode) {
	_ = w.framer.WriteRSTStream(id, code)
	w.wake.Signal()
}

// writeLoop writes what is in the queue, all of it at a time.
func (c *Conn) writeLoop() {
	var chunk bytes.Buffer
	for {
		c.mu.Lock()
		for c.out.queue.Len() == 0 && c.failed == nil {
			c.out.wake.Wait()
		}
		if c.failed != nil {
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		gather()
		c.mu.Lock()
		chunk, c.out.queue = c.out.queue, chunk // the framer writes to the field
		c.out.control = 0
		c.writable.Broadcast()
		c.mu.Unlock()

		_, err := c.net.Write(chunk.Bytes())
		if err != nil {
			c.mu.Lock()
			c.fail(fmt.Errorf("write: %w", err))
			c.mu.Unlock()
			return
		}
		if chunk.Cap() > keptForReuse {
			chunk = bytes.Buffer{}
		}
		chunk.Reset()
	}
}

// gather lets the goroutines that are about to send something do so first, so
// that one system call writes it all. Where nothing waits it costs nothing.
func gather() { runtime.Gosched() }
