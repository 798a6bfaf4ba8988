package h2server

import (
	"encoding/binary"
	"io"
	"runtime"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	// maxQueued is how much may wait to be written before handlers wait too, so that
	// a client that asks without reading fills no memory.
	maxQueued = 64 << 10
	// maxControl is how much of it may be what is no answer to a request: resets,
	// updates of windows, pings and acknowledgements. A client that causes more without
	// reading is not served any more.
	maxControl = 64 << 10
	// flushAt is how much of an answer waits for more of it, as in net/http.
	flushAt = 4 << 10
)

// frameHeader is the length of a frame's header (RFC 9113 section 4.1).
const frameHeader = 9

// writing is what waits to be written.
type writing struct {
	pool    *queues
	queue   []byte
	base    uint64 // how much was written before what is in the queue
	encoder *hpack.Encoder
	control int  // bytes of the queue that count for maxControl
	writing bool // a goroutine is about to write

	// Of the header that is being written:
	id     uint32
	begins int // its first byte in the queue
}

func (w *writing) init(pool *queues) { w.pool, w.encoder = pool, hpack.NewEncoder(w) }

// Write serves the encoder.
func (w *writing) Write(p []byte) (int, error) {
	w.grow(len(p))
	w.queue = append(w.queue, p...)
	return len(p), nil
}

// grow makes room for n more bytes, if lent buffers have it.
func (w *writing) grow(n int) {
	if n += len(w.queue); n <= cap(w.queue) {
		return
	}
	larger := w.pool.get(n)
	larger = append(larger, w.queue...)
	w.pool.put(w.queue)
	w.queue = larger
}

// take returns what waits, to be written and put back.
func (w *writing) take() []byte {
	queue := w.queue
	w.queue, w.control = nil, 0
	w.base += uint64(len(queue))
	return queue
}

// frame begins a frame of n bytes, which follow, and returns its place.
func (w *writing) frame(kind http2.FrameType, flags http2.Flags, id uint32, n int) (place uint64) {
	w.grow(frameHeader + n)
	place = w.base + uint64(len(w.queue))
	w.queue = append(w.queue, byte(n>>16), byte(n>>8), byte(n), byte(kind), byte(flags))
	w.queue = binary.BigEndian.AppendUint32(w.queue, id)
	return place
}

// flag sets a flag of the frame that is at place, and reports whether that is not
// written yet.
func (w *writing) flag(place uint64, flag http2.Flags) bool {
	if place < w.base {
		return false
	}
	w.queue[place-w.base+4] |= byte(flag)
	return true
}

func (w *writing) settings(all []http2.Setting) {
	w.frame(http2.FrameSettings, 0, 0, 6*len(all))
	for _, s := range all {
		w.queue = binary.BigEndian.AppendUint16(w.queue, uint16(s.ID))
		w.queue = binary.BigEndian.AppendUint32(w.queue, s.Val)
	}
}

// controlFrame is frame for what counts for maxControl.
func (w *writing) controlFrame(kind http2.FrameType, flags http2.Flags, id uint32, n int) {
	w.control += frameHeader + n
	w.frame(kind, flags, id, n)
}

func (w *writing) settingsAck() { w.controlFrame(http2.FrameSettings, http2.FlagSettingsAck, 0, 0) }

func (w *writing) ping(ack bool, data [8]byte) {
	var flags http2.Flags
	if ack {
		flags = http2.FlagPingAck
	}
	w.controlFrame(http2.FramePing, flags, 0, len(data))
	w.queue = append(w.queue, data[:]...)
}

func (w *writing) windowUpdate(id uint32, n int) {
	w.controlFrame(http2.FrameWindowUpdate, 0, id, 4)
	w.queue = binary.BigEndian.AppendUint32(w.queue, uint32(n))
}

func (w *writing) reset(id uint32, code http2.ErrCode) {
	w.controlFrame(http2.FrameRSTStream, 0, id, 4)
	w.queue = binary.BigEndian.AppendUint32(w.queue, uint32(code))
}

func (w *writing) goAway(last uint32, code http2.ErrCode) {
	w.frame(http2.FrameGoAway, 0, 0, 8)
	w.queue = binary.BigEndian.AppendUint32(w.queue, last)
	w.queue = binary.BigEndian.AppendUint32(w.queue, uint32(code))
}

// data returns the place of the frame.
func (w *writing) data(id uint32, p []byte) (place uint64) {
	place = w.frame(http2.FrameData, 0, id, len(p))
	w.queue = append(w.queue, p...)
	return place
}

// beginHeaders begins a header, whose fields follow, and returns the place of its
// first frame.
func (w *writing) beginHeaders(id uint32, flags http2.Flags) (place uint64) {
	place = w.frame(http2.FrameHeaders, flags|http2.FlagHeadersEndHeaders, id, 0)
	w.begins, w.id = len(w.queue), id
	return place
}

// field encodes a field of the header that was begun. What each answer has of its own
// would only push out of the table what they have in common.
func (w *writing) field(name, value string) {
	own := name == "audit-id" || name == "content-length" || name == "date"
	_ = w.encoder.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: own}) // to a buffer
}

// endHeaders ends the header that was begun. One that is too large for a frame goes on
// in others.
func (w *writing) endHeaders() {
	begins := w.begins
	n := len(w.queue) - begins
	if n <= maxFrame {
		w.length(begins, n)
		return
	}
	rest := append([]byte(nil), w.queue[begins+maxFrame:]...)
	w.queue = w.queue[:begins+maxFrame]
	w.length(begins, maxFrame)
	w.queue[begins-frameHeader+4] &^= byte(http2.FlagHeadersEndHeaders)
	for len(rest) > 0 {
		part := rest[:min(len(rest), maxFrame)]
		rest = rest[len(part):]
		var flags http2.Flags
		if len(rest) == 0 {
			flags = http2.FlagContinuationEndHeaders
		}
		w.frame(http2.FrameContinuation, flags, w.id, len(part))
		w.queue = append(w.queue, part...)
	}
}

// length sets that of the frame whose content begins at begins.
func (w *writing) length(begins, n int) {
	header := w.queue[begins-frameHeader:]
	header[0], header[1], header[2] = byte(n>>16), byte(n>>8), byte(n)
}

// kick has what waits be written. It has c.mu.
func (c *conn) kick() {
	if !c.out.writing {
		c.out.writing = true
		go c.flush()
	}
}

// flush writes until nothing waits. Who calls it has set c.out.writing.
func (c *conn) flush() {
	runtime.Gosched() // who is about to write does so first
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for len(c.out.queue) > 0 && err == nil && !c.closed {
		queue := c.out.take()
		c.wakeNext()
		c.mu.Unlock()
		err = c.write(queue)
		c.server.queues.put(queue)
		c.mu.Lock()
	}
	c.out.writing = false
	if err != nil {
		c.finish()
	}
	if c.over && !c.out.writing {
		c.out.writing = true // for good
		go c.parted(err)
	}
}

// write writes queue; over TLS, whose records are small, by one system call.
func (c *conn) write(queue []byte) error {
	var err error
	if c.joins != nil {
		_, err = c.joins.Join(c.net, queue)
	} else {
		_, err = c.net.Write(queue)
	}
	return err
}

// joiner is a connection that writes together what a writer above it makes of p.
type joiner interface {
	Join(w io.Writer, p []byte) (int, error)
}

// queues lends buffers, so that a connection that has nothing to write holds none.
type queues struct{ small, large sync.Pool }

const (
	smallQueue = 4 << 10
	largeQueue = maxQueued + 2*maxFrame
)

// get returns an empty buffer for at least n bytes.
func (q *queues) get(n int) []byte {
	switch {
	case n > largeQueue:
		return make([]byte, 0, 2*n) // else each frame that follows would have all copied again
	case n > smallQueue:
		if b, ok := q.large.Get().(*[largeQueue]byte); ok {
			return b[:0]
		}
		return make([]byte, 0, largeQueue)
	}
	if b, ok := q.small.Get().(*[smallQueue]byte); ok {
		return b[:0]
	}
	return make([]byte, 0, smallQueue)
}

func (q *queues) put(b []byte) {
	switch cap(b) {
	case smallQueue:
		q.small.Put((*[smallQueue]byte)(b[:smallQueue]))
	case largeQueue:
		q.large.Put((*[largeQueue]byte)(b[:largeQueue]))
	}
}
