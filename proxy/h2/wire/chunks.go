// Package wire holds what both ends of HTTP/2 need, towards the API server and
// towards callers: room for data that wait, and the names of headers.
package wire

import "sync"

// Sizes of chunks: most events of watches fit into the smallest, so that one event to
// thousands of watches takes no more memory than it needs, and no frame takes much
// more than it has; the more data wait, the larger are the pieces in which they are
// passed on.
const (
	smallChunk  = 2 << 10
	mediumChunk = 4 << 10
	frameChunk  = 16 << 10
	largeChunk  = 64 << 10
)

// Chunk is data that wait to be read.
type Chunk struct {
	data       []byte
	start, end int
	next       *Chunk
}

// Bytes returns what was not read yet.
func (c *Chunk) Bytes() []byte { return c.data[c.start:c.end] }

// Filled returns how many bytes were put into c, read or not.
func (c *Chunk) Filled() int { return c.end }

// Read reads from c, and reports whether all of it was read.
func (c *Chunk) Read(p []byte) (n int, empty bool) {
	n = copy(p, c.Bytes())
	c.start += n
	return n, c.start == c.end
}

// Chunks lends them, so that a stream on which nothing comes holds none. The zero
// value is ready for use.
type Chunks struct{ small, medium, frame, large sync.Pool }

// get returns an empty chunk for n bytes, if one has as much.
func (p *Chunks) get(n int) *Chunk {
	pool, size := p.of(n)
	if c, ok := pool.Get().(*Chunk); ok {
		c.start, c.end, c.next = 0, 0, nil
		return c
	}
	return &Chunk{data: make([]byte, size)}
}

// Put takes back a chunk that nobody reads any more.
func (p *Chunks) Put(c *Chunk) {
	pool, _ := p.of(len(c.data))
	pool.Put(c)
}

func (p *Chunks) of(n int) (pool *sync.Pool, size int) {
	switch {
	case n <= smallChunk:
		return &p.small, smallChunk
	case n <= mediumChunk:
		return &p.medium, mediumChunk
	case n <= frameChunk:
		return &p.frame, frameChunk
	default:
		return &p.large, largeChunk
	}
}

// Waiting is data in the order in which they came. The zero value is empty. It is
// used by one goroutine at a time.
type Waiting struct{ first, last *Chunk }

// Empty reports whether there are none.
func (w *Waiting) Empty() bool { return w.first == nil }

// Append takes a copy of data.
func (w *Waiting) Append(pool *Chunks, data []byte) {
	for len(data) > 0 {
		switch {
		case w.last == nil:
			w.grow(pool.get(len(data)))
		case w.last.end == len(w.last.data):
			w.grow(pool.get(max(len(data), len(w.last.data)+1)))
		}
		n := copy(w.last.data[w.last.end:], data)
		w.last.end += n
		data = data[n:]
	}
}

func (w *Waiting) grow(c *Chunk) {
	if w.last == nil {
		w.first = c
	} else {
		w.last.next = c
	}
	w.last = c
}

// First returns the chunk that came first, or nil. It stays where it is.
func (w *Waiting) First() *Chunk { return w.first }

// Take returns the chunk that came first, or nil. It is the caller's to Put back.
func (w *Waiting) Take() *Chunk {
	c := w.first
	if c == nil {
		return nil
	}
	if w.first = c.next; w.first == nil {
		w.last = nil
	}
	return c
}

// Drop puts all of them back, and returns how many bytes of them were not read.
func (w *Waiting) Drop(pool *Chunks) (unread int) {
	for c := w.Take(); c != nil; c = w.Take() {
		unread += c.end - c.start
		pool.Put(c)
	}
	return unread
}
