package h2server

import (
	"context"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// stream is a request and its answer. All of it but the handler's own belongs to
// conn.mu.
type stream struct {
	conn    *conn
	id      uint32
	handler http.Handler
	request *http.Request // nil once the handler has it
	cancel  context.CancelFunc

	started bool
	err     error // why it is over; nil while it is not
	heard   bool  // the whole request has come

	// The request's body.
	body     wire.Waiting
	open     int   // what the client may still send
	credit   int   // what was read of that, and not given back
	left     int64 // what its Content-Length leaves; -1 if it has none
	deaf     error // why it is read no more
	readable chan struct{}
	asks     bool // the client waits to be asked for it
	readBy   *time.Timer

	// The answer.
	window   int64 // what may be sent
	writable chan struct{}
	writeBy  *time.Timer
	answer
}

// begin begins to serve a request. It has c.mu.
func (c *conn) begin(id uint32, r *http.Request, handler http.Handler, ends bool) {
	ctx, cancel := context.WithCancel(c.ctx)
	s := &stream{
		conn: c, id: id, handler: handler, cancel: cancel,
		heard: ends, open: streamWindow, left: -1, window: c.initialWindow,
	}
	r.RemoteAddr, r.TLS, r.Body = c.remote, c.tls, http.NoBody
	if !ends {
		s.left = r.ContentLength
		r.Body = requestBody{s}
	}
	if httpguts.HeaderValuesContainsToken(r.Header["Expect"], "100-continue") {
		s.asks = !ends
		delete(r.Header, "Expect")
	}
	s.request = r.WithContext(ctx)
	s.answer.init(r.Method == http.MethodHead)
	c.streams[id] = s
	if c.running >= c.server.cfg.Streams {
		c.queue = append(c.queue, s)
		return
	}
	c.start(s)
}

// start has c.mu.
func (c *conn) start(s *stream) {
	s.started = true
	c.running++
	r := s.request
	s.request = nil
	go s.serve(r)
}

// serve has the handler answer.
func (s *stream) serve(r *http.Request) {
	defer s.served()
	s.handler.ServeHTTP(s, r)
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.end()
}

// served ends what the handler did not end, and begins what waits for its place.
func (s *stream) served() {
	if fault := recover(); fault != nil && fault != http.ErrAbortHandler { //nolint:errorlint // as net/http does
		// The value may hold anything, a token too; the stack names functions.
		s.conn.server.cfg.Log.Error("panic while serving a request", "stack", string(debug.Stack()))
	}
	c := s.conn
	c.mu.Lock()
	c.abort(s, errAborted) // unless it has ended
	s.stopTimers()
	c.wasted = 0
	c.running--
	for len(c.queue) > 0 && c.running < c.server.cfg.Streams {
		next := c.queue[0]
		c.queue[0] = nil
		c.queue = c.queue[1:]
		c.start(next)
	}
	writes := !c.out.writing && len(c.out.queue) > 0
	c.out.writing = c.out.writing || writes
	c.mu.Unlock()
	if writes {
		c.flush()
	}
}

func (s *stream) stopTimers() {
	for _, timer := range []*time.Timer{s.readBy, s.writeBy} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// fail ends the stream because of err. It has conn.mu.
func (s *stream) fail(err error) {
	if s.err != nil {
		return
	}
	s.err = err
	s.cancel()
	signal(s.readable)
	signal(s.writable)
}

// drop resets s, unless it is over. It has c.mu.
func (c *conn) drop(s *stream, code http2.ErrCode, err error) {
	if c.streams[s.id] != s {
		return
	}
	s.fail(err)
	c.reset(s.id, code, s.heard)
	c.kick()
	c.forget(s)
}

// abort drops s, which its handler has not ended, unless it is over. It has c.mu.
func (c *conn) abort(s *stream, err error) {
	if c.streams[s.id] != s {
		return
	}
	c.drop(s, http2.ErrCodeInternal, err)
	if c.answered() != nil {
		c.fault(http2.ErrCodeEnhanceYourCalm)
	}
}

// reset tells the client that a stream is over. heard says that nothing more of it can
// be on its way. It has c.mu.
func (c *conn) reset(id uint32, code http2.ErrCode, heard bool) {
	c.out.reset(id, code)
	if !heard {
		c.cut(id)
	}
}

// cut notes a stream of which more may come that nobody wants. It has c.mu.
func (c *conn) cut(id uint32) {
	if len(c.short) >= c.server.cfg.Streams {
		c.short = c.short[1:] // it is too late for that
	}
	c.short = append(c.short, id)
}

// cutShort reports whether the server ended a stream before its client did, so that
// more of it may be on its way. It has c.mu.
func (c *conn) cutShort(id uint32) bool { return slices.Contains(c.short, id) }

// forget takes out of c a stream that is over. It has c.mu.
func (c *conn) forget(s *stream) {
	delete(c.streams, s.id)
	c.giveBack(s.body.Drop(&c.server.chunks))
	s.stopWaiting()
	if !s.started {
		c.wasted++
		if i := slices.Index(c.queue, s); i >= 0 {
			c.queue = slices.Delete(c.queue, i, i+1)
		}
	}
	if len(c.streams) == 0 {
		c.idle = c.age()
	}
	c.finishIfDone()
}

// take takes a part of the request's body. size is what it counts in the windows, its
// padding included. It returns for what the stream has to be reset. It has conn.mu.
func (s *stream) take(data []byte, size int, ends bool) http2.ErrCode {
	if s.open -= size; s.open < 0 {
		return http2.ErrCodeFlowControl
	}
	if s.left >= 0 {
		if s.left -= int64(len(data)); s.left < 0 || ends && s.left > 0 {
			return http2.ErrCodeProtocol // RFC 9113 section 8.1.1
		}
	}
	back := size - len(data)
	if s.deaf != nil || s.err != nil {
		back = size
	} else {
		s.body.Append(&s.conn.server.chunks, data)
	}
	s.heard = ends
	s.giveBack(back)
	if len(data) > 0 || ends {
		signal(s.readable)
	}
	return http2.ErrCodeNo
}

// giveBack lets the client send n more bytes. It has conn.mu.
func (s *stream) giveBack(n int) {
	s.conn.giveBack(n)
	if s.credit += n; s.heard || s.err != nil || s.credit < streamWindow/4 {
		return
	}
	s.conn.out.windowUpdate(s.id, s.credit)
	s.open += s.credit
	s.credit = 0
	s.conn.kick()
}

// requestBody is the body of a request.
type requestBody struct{ *stream }

// Read reads what came.
func (b requestBody) Read(p []byte) (int, error) {
	s, c := b.stream, b.conn
	if len(p) == 0 {
		return 0, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.asks && s.status == 0 && s.deaf == nil && s.err == nil {
		s.ask()
	}
	for {
		chunk := s.body.First()
		switch {
		case s.deaf != nil:
			return 0, s.deaf
		case s.err != nil:
			return 0, s.err
		case chunk != nil:
			n, empty := chunk.Read(p)
			if empty {
				c.server.chunks.Put(s.body.Take())
			}
			s.giveBack(n)
			return n, nil
		case s.heard:
			return 0, io.EOF
		}
		if s.readable == nil {
			s.readable = make(chan struct{}, 1)
		}
		c.mu.Unlock()
		<-s.readable
		c.mu.Lock()
	}
}

// Close has nothing more be read. What comes is taken, and dropped.
func (b requestBody) Close() error {
	b.conn.mu.Lock()
	defer b.conn.mu.Unlock()
	b.stopReading(http.ErrBodyReadAfterClose)
	return nil
}

// stopReading has conn.mu.
func (s *stream) stopReading(err error) {
	if s.deaf != nil {
		return
	}
	s.deaf = err
	s.giveBack(s.body.Drop(&s.conn.server.chunks))
	signal(s.readable)
}

// SetReadDeadline bounds how long the request's body may take; the zero Time lifts
// that. Once it is over, the body is read no more.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.setTimer(&s.readBy, t, func() { s.stopReading(os.ErrDeadlineExceeded) })
	return nil
}

// SetWriteDeadline bounds how long the answer may take; the zero Time lifts that. Once
// it is over, the stream is reset.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.setTimer(&s.writeBy, t, func() { s.conn.abort(s, os.ErrDeadlineExceeded) })
	return nil
}

// setTimer has over called at t, with conn.mu, unless the timer is set again before.
// It has conn.mu.
func (s *stream) setTimer(timer **time.Timer, t time.Time, over func()) {
	if *timer != nil {
		(*timer).Stop()
		*timer = nil
	}
	wait := time.Until(t)
	switch {
	case t.IsZero():
	case wait <= 0:
		over()
	default:
		var mine *time.Timer
		mine = time.AfterFunc(wait, func() {
			s.conn.mu.Lock()
			defer s.conn.mu.Unlock()
			if *timer == mine {
				over()
			}
		})
		*timer = mine
	}
}

// signal wakes who waits, if anybody does or will.
func signal(wake chan struct{}) {
	select {
	case wake <- struct{}{}:
	default: // nobody does, or one signal is there
	}
}
