package h2

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"sync"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// errBodyClosed is what reading a body gives that was closed.
var errBodyClosed = errors.New("read from a closed body")

// stream is a request and its answer.
type stream struct {
	conn *Conn
	id   uint32

	// Of conn.mu:
	window      int64 // what may be sent
	requestOver bool  // nothing of the request will be sent any more

	wake chan struct{} // holds one value if something has changed

	mu       sync.Mutex
	response *http.Response // once its header came
	waiting  wire.Waiting   // what came and was not read yet
	open     int            // what the peer may still send
	credit   int            // what was read, and not given back to the peer
	left     int64          // what the answer's Content-Length leaves; negative if it has none
	err      error          // io.EOF after the whole answer; what is in the chunks comes before
	deaf     bool           // nobody reads any more
	bodyless bool           // the answer has no body, whatever its Content-Length
	interims int            // informational answers
}

// maxInterims is how many informational answers may come before the real one.
const maxInterims = 8

func newStream(c *Conn, r *http.Request) *stream {
	return &stream{conn: c, bodyless: r.Method == http.MethodHead, wake: make(chan struct{}, 1), open: streamWindow, left: -1}
}

func (s *stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default: // one is there
	}
}

// fail ends the stream with err, unless it has ended.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
		s.signal()
	}
}

// empty reports whether the whole answer has come, and nothing of it is left to
// be read.
func (s *stream) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err == io.EOF && s.waiting.Empty() //nolint:errorlint // set as it is
}

// finish ends the answer properly, if it is whole.
func (s *stream) finish(trailer http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil:
		return
	case s.response == nil:
		s.err = errMalformed
	case s.left > 0 && !s.bodyless:
		s.err = io.ErrUnexpectedEOF
	default:
		s.response.Trailer = trailer
		s.err = io.EOF
	}
	s.signal()
}

// onHeader takes an answer's header, or its trailer.
func (s *stream) onHeader(f *fields) (informational bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case f.wrong != nil:
		return false, f.wrong
	case s.response != nil:
		if f.status != 0 || !f.ends {
			return false, errMalformed
		}
		return false, nil
	case f.status == 0 || f.status == http.StatusSwitchingProtocols: // RFC 9113 section 8.6
		return false, errMalformed
	case f.status < 200:
		if s.interims++; s.interims > maxInterims {
			return false, errMalformed
		}
		return true, nil
	}
	s.response, err = s.newResponse(f)
	if err != nil {
		return false, err
	}
	if !f.ends {
		s.signal() // else the end is signalled
	}
	return false, nil
}

// newResponse has s.mu.
func (s *stream) newResponse(f *fields) (*http.Response, error) {
	header := f.header.Fields()
	if header == nil {
		header = http.Header{}
	}
	resp := &http.Response{
		Status: statusLine(f.status), StatusCode: f.status,
		Proto: "HTTP/2.0", ProtoMajor: 2, Header: header, ContentLength: -1,
	}
	if f.status == http.StatusNoContent || f.status == http.StatusNotModified { // RFC 9110 section 6.4.1
		s.bodyless = true
	}
	if lengths := header["Content-Length"]; len(lengths) > 0 {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil || len(lengths) > 1 || lengths[0][0] == '+' {
			return nil, errMalformed
		}
		resp.ContentLength = int64(n)
		s.left = int64(n)
	} else if f.ends && !s.bodyless {
		resp.ContentLength = 0
	}
	return resp, nil
}

func statusLine(code int) string { return strconv.Itoa(code) + " " + http.StatusText(code) }

// push takes data. size is what they count in the window, their padding
// included, which is the peer's again at once.
func (s *stream) push(data []byte, size int) error {
	s.mu.Lock()
	err := s.keep(data, size)
	credit := s.owed(size - len(data))
	s.mu.Unlock()
	s.allow(credit)
	return err
}

// keep has s.mu.
func (s *stream) keep(data []byte, size int) error {
	if s.response == nil {
		return errMalformed
	}
	if s.open -= size; s.open < 0 {
		return http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl}
	}
	if s.left >= 0 {
		if s.left -= int64(len(data)); s.left < 0 {
			return errMalformed
		}
	}
	if s.bodyless && len(data) > 0 {
		return errMalformed
	}
	if s.deaf || s.err != nil {
		return nil
	}
	s.waiting.Append(&s.conn.chunks, data)
	s.signal()
	return nil
}

// wait waits for a change.
func (s *stream) wait(ctx context.Context) error {
	select {
	case <-s.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitResponse returns the answer when its header has come.
func (s *stream) awaitResponse(ctx context.Context) (*http.Response, error) {
	for {
		s.mu.Lock()
		resp, err, empty := s.response, s.err, s.waiting.Empty()
		s.mu.Unlock()
		switch {
		case resp != nil && (err == nil || err == io.EOF || !empty): //nolint:errorlint // set as it is
			return resp, nil
		case err != nil:
			return nil, err
		}
		if err := s.wait(ctx); err != nil {
			s.cancel(err)
			return nil, err
		}
	}
}

// cancel gives the stream up.
func (s *stream) cancel(err error) {
	s.conn.mu.Lock()
	s.conn.drop(s, http2.ErrCodeCancel, err)
	s.conn.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deaf = true
	s.waiting.Drop(&s.conn.chunks)
	s.err = err // what nobody has read does not look whole
}

// take returns the data that came first, when there are any. The caller gives the
// chunk back.
func (s *stream) take(ctx context.Context) (*wire.Chunk, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err // however fast the answer comes
		}
		s.mu.Lock()
		c, err := s.waiting.Take(), s.err
		s.mu.Unlock()
		switch {
		case c != nil:
			return c, nil
		case err != nil:
			return nil, err
		}
		if err := s.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// give puts a chunk back, and lets the peer send as much again.
func (s *stream) give(c *wire.Chunk) {
	n := c.Filled()
	s.conn.chunks.Put(c)
	s.mu.Lock()
	credit := s.owed(n)
	s.mu.Unlock()
	s.allow(credit)
}

// owed counts n more bytes that the peer may send again, and returns how many to
// tell it of. It has s.mu.
func (s *stream) owed(n int) (credit int) {
	if s.credit += n; s.err != nil || s.credit < streamWindow/2 {
		return 0
	}
	credit, s.credit = s.credit, 0
	s.open += credit
	return credit
}

// allow lets the peer send credit more bytes.
func (s *stream) allow(credit int) {
	if credit == 0 {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	if s.conn.streams[s.id] == s {
		s.conn.out.windowUpdate(s.id, credit)
	}
}

// body is the body of an answer. It is read by one goroutine at a time.
type body struct {
	*stream
	ctx     context.Context // of the request
	held    *wire.Chunk     // of which a part was read
	request io.Closer       // the body of the request; nil if it has none
}

// Read reads what came.
func (b *body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if b.held == nil {
		c, err := b.take(b.ctx)
		if err != nil {
			return 0, err
		}
		b.held = c
	}
	n, empty := b.held.Read(p)
	if empty {
		b.give(b.held)
		b.held = nil
	}
	return n, nil
}

// WriteTo writes what comes to w, each time as much as has come. While nothing
// does, it holds no buffer.
func (b *body) WriteTo(w io.Writer) (written int64, err error) {
	for {
		c := b.held
		b.held = nil
		if c == nil {
			if c, err = b.take(b.ctx); err != nil {
				if err == io.EOF { //nolint:errorlint // set as it is
					err = nil
				}
				return written, err
			}
		}
		n, err := w.Write(c.Bytes())
		written += int64(n)
		if err != nil {
			// The writer may be reading the chunk still, as net/http's HTTP/2 server does
			// after a reset. So it is not used again: what came for another caller would
			// go to this one.
			return written, err
		}
		b.give(c)
	}
}

// Close gives up what was not read.
func (b *body) Close() error {
	b.cancel(errBodyClosed)
	if b.request != nil {
		return b.request.Close()
	}
	return nil
}
