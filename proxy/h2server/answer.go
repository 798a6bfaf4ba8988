package h2server

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
)

// answer is what the handler has said.
type answer struct {
	header   http.Header
	status   int
	bodyless bool   // whatever its Content-Length
	length   int64  // what its Content-Length leaves; -1 if it has none
	place    uint64 // of its latest frame
	unsent   int    // what waits for more
	waits    waits  // what its writer waits for
}

func (a *answer) init(head bool) { a.header, a.length, a.bodyless = http.Header{}, -1, head }

// Header returns the header that WriteHeader sends. What is in it when the handler
// ends and begins with http.TrailerPrefix becomes the trailer.
func (s *stream) Header() http.Header { return s.header }

// WriteHeader begins the answer. Informational ones are not sent.
func (s *stream) WriteHeader(code int) {
	if code < 200 {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.writeHeader(code)
}

// Write sends a part of the body, as far as the client takes it; what is little waits
// for more until Flush. An error says that the stream is over.
func (s *stream) Write(p []byte) (int, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.writeHeader(http.StatusOK)
	switch {
	case s.err != nil:
		return 0, s.err
	case s.status == http.StatusNoContent || s.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case s.length >= 0 && int64(len(p)) > s.length:
		return 0, http.ErrContentLength
	case s.bodyless:
		return len(p), nil
	}
	written := 0
	for written < len(p) {
		n := min(len(p)-written, maxFrame)
		n, err := s.room(n, false)
		if err != nil {
			return written, err
		}
		s.place = c.out.data(s.id, p[written:written+n])
		s.window -= int64(n)
		c.window -= int64(n)
		c.wakeNext()
		written += n
		s.unsent += n
	}
	if s.length >= 0 {
		s.length -= int64(written)
	}
	if s.unsent >= flushAt {
		s.flush()
	}
	return written, nil
}

// Flush sends what was written.
func (s *stream) Flush() { _ = s.FlushError() }

// FlushError sends what was written. An error says that the stream is over.
func (s *stream) FlushError() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.writeHeader(http.StatusOK)
	s.flush()
	return s.err
}

// EnableFullDuplex does nothing: over HTTP/2 it is always so.
func (s *stream) EnableFullDuplex() error { return nil }

// flush has conn.mu.
func (s *stream) flush() {
	s.unsent = 0
	if len(s.conn.out.queue) > 0 {
		s.conn.kick()
	}
}

// waits is what the writer of a stream waits for.
type waits uint8

const (
	forNothing    waits = iota
	forQueue            // what was written before has to go out
	forWindow           // the client has to take more, of the stream
	forConnWindow       // or of all together
)

// room waits until n bytes of a body may be sent, or a header, and returns how many.
// It has conn.mu.
func (s *stream) room(n int, header bool) (int, error) {
	c := s.conn
	for s.err == nil {
		switch {
		case len(c.out.queue) >= maxQueued:
			s.wait(forQueue)
			c.forQueue = append(c.forQueue, s)
		case header:
			return n, nil
		case s.window <= 0:
			s.wait(forWindow)
		case c.window <= 0:
			s.wait(forConnWindow)
			c.forWindow = append(c.forWindow, s)
		default:
			return int(min(int64(n), s.window, c.window)), nil
		}
		c.wakeNext() // it may have been this one's turn
		s.flush()
		c.mu.Unlock()
		<-s.writable
		c.mu.Lock()
	}
	c.wakeNext()
	return 0, s.err
}

func (s *stream) wait(what waits) {
	s.waits = what
	if s.writable == nil {
		s.writable = make(chan struct{}, 1)
	}
}

// stopWaiting takes a stream that is over out of the list of those that wait: the
// others may wait for as long as the client likes. It has conn.mu.
func (s *stream) stopWaiting() {
	c := s.conn
	switch is := func(other *stream) bool { return other == s }; s.waits {
	case forQueue:
		c.forQueue = slices.DeleteFunc(c.forQueue, is)
	case forConnWindow:
		c.forWindow = slices.DeleteFunc(c.forWindow, is)
	}
	s.waits = forNothing
}

// wakeNext lets one of those that wait go on, if there is room for it. That one then
// lets the next. It has c.mu.
func (c *conn) wakeNext() {
	if len(c.out.queue) < maxQueued && !wakeFirst(&c.forQueue, forQueue) && c.window > 0 {
		wakeFirst(&c.forWindow, forConnWindow)
	}
}

// wakeFirst wakes the first of list that still waits for what, if there is one.
func wakeFirst(list *[]*stream, what waits) bool {
	for len(*list) > 0 {
		s := (*list)[0]
		(*list)[0] = nil
		*list = (*list)[1:]
		if s.waits == what && s.err == nil {
			s.waits = forNothing
			signal(s.writable)
			return true
		}
	}
	return false
}

// wakeWriter lets the stream go on if it waits for its own window. It has conn.mu.
func (s *stream) wakeWriter() {
	if s.waits == forWindow && s.window > 0 {
		s.waits = forNothing
		signal(s.writable)
	}
}

// writeHeader sends the header, unless it has been sent. It has conn.mu.
func (s *stream) writeHeader(code int) {
	if s.status != 0 {
		return
	}
	s.status = code
	s.bodyless = s.bodyless || code == http.StatusNoContent || code == http.StatusNotModified
	if _, err := s.room(0, true); err != nil {
		return
	}
	out := &s.conn.out
	s.place = out.beginHeaders(s.id, 0)
	out.field(":status", strconv.Itoa(code))
	leaves := s.writeFields()
	if s.header["Date"] == nil { // RFC 9110 section 6.6.1
		out.field("date", time.Now().UTC().Format(http.TimeFormat))
	}
	out.endHeaders()
	if leaves {
		s.conn.askToLeave()
	}
	s.conn.wakeNext()
}

// writeFields writes those of the header, in the order of their names, so that people
// find them where they did. It reports whether the client is asked to leave.
func (s *stream) writeFields() (leaves bool) {
	names := make([]string, 0, 16) // on the stack
	for name := range s.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values := s.header[name]
		switch name {
		case "Connection":
			leaves = httpguts.HeaderValuesContainsToken(values, "close")
			continue
		case "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Keep-Alive": // RFC 9113 section 8.2.2
			continue
		case "Content-Length":
			s.length = contentLength(values)
		}
		s.writeField(name, values)
	}
	return leaves
}

// writeField leaves out what would not arrive as a field, as net/http does.
func (s *stream) writeField(name string, values []string) {
	lower, ok := s.conn.server.names.Lower(name)
	if !ok { // a trailer has a name that is none
		return
	}
	for _, value := range values {
		if httpguts.ValidHeaderFieldValue(value) {
			s.conn.out.field(lower, value)
		}
	}
}

func contentLength(values []string) int64 {
	if len(values) != 1 {
		return -1
	}
	n, err := strconv.ParseUint(values[0], 10, 63)
	if err != nil {
		return -1
	}
	return int64(n)
}

// end ends the answer. It has conn.mu.
func (s *stream) end() {
	c := s.conn
	s.writeHeader(http.StatusOK)
	if s.err != nil {
		return
	}
	if s.length > 0 && !s.bodyless {
		c.drop(s, http2.ErrCodeInternal, errAborted) // it must not look whole
		return
	}
	if !s.writeTrailer() && !c.out.flag(s.place, http2.FlagDataEndStream) {
		c.out.frame(http2.FrameData, http2.FlagDataEndStream, s.id, 0)
	}
	s.fail(errEnded)
	if !s.heard {
		c.reset(s.id, http2.ErrCodeNo, false) // RFC 9113 section 8.1
	}
	c.forget(s)
}

// writeTrailer sends the trailer, and the end of the stream with it, if there is one.
func (s *stream) writeTrailer() bool {
	begun := false
	for name, values := range s.header {
		name, ok := strings.CutPrefix(name, http.TrailerPrefix)
		if !ok || !httpguts.ValidTrailerHeader(name) {
			continue
		}
		if !begun {
			begun = true
			s.conn.out.beginHeaders(s.id, http2.FlagHeadersEndStream)
		}
		s.writeField(http.CanonicalHeaderKey(name), values)
	}
	if begun {
		s.conn.out.endHeaders()
	}
	return begun
}

// ask asks for the body of a request whose client waits for that. It has conn.mu.
func (s *stream) ask() {
	c := s.conn
	if s.asks = false; s.err != nil {
		return
	}
	before := len(c.out.queue)
	c.out.beginHeaders(s.id, 0)
	c.out.field(":status", "100")
	c.out.endHeaders()
	c.out.control += len(c.out.queue) - before
	if c.answered() != nil {
		c.fault(http2.ErrCodeEnhanceYourCalm)
	}
}
