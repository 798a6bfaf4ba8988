package h2

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// hpackField is one line of a header.
type hpackField = hpack.HeaderField

// RoundTrip sends a request and returns the answer. An error that is
// [ErrUnprocessed] says that it may be sent again; after [ErrNotTaken] its body is
// as it was. Nothing is added to its header but Content-Length; the request's own
// trailer is not sent.
func (c *Conn) RoundTrip(r *http.Request) (*http.Response, error) {
	s := newStream(c, r)
	if err := c.open(s, r); err != nil {
		if !errors.Is(err, ErrNotTaken) {
			closeBody(r)
		}
		return nil, err
	}
	var request io.Closer
	if hasBody(r) {
		request = r.Body
		go s.send(r)
	}
	resp, err := s.awaitResponse(r.Context())
	if err != nil {
		closeBody(r)
		return nil, err
	}
	resp.Request = r
	if s.empty() {
		resp.Body = http.NoBody
		return resp, nil
	}
	resp.Body = &body{stream: s, ctx: r.Context(), request: request}
	return resp, nil
}

func hasBody(r *http.Request) bool { return r.Body != nil && r.Body != http.NoBody }

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // the request has failed already
	}
}

// open gives s a number and sends the header of r.
func (c *Conn) open(s *stream, r *http.Request) error {
	err := r.Context().Err()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrive()
	switch {
	case err != nil:
		return err
	case !c.usable():
		return ErrNotTaken
	}
	if err := c.encode(r); err != nil {
		return err
	}
	s.id, s.window = c.nextID, c.peer.initialWindow
	if c.nextID += 2; c.nextID > 1<<31-1 {
		c.retired = true // RFC 9113 section 5.1.1
	}
	c.streams[s.id] = s
	s.requestOver = !hasBody(r)
	block := c.out.block.Bytes()
	for first := true; first || len(block) > 0; first = false {
		part := block[:min(len(block), c.peer.maxFrame)]
		block = block[len(part):]
		// To a buffer, and so without an error.
		if first {
			_ = c.out.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: s.id, BlockFragment: part, EndHeaders: len(block) == 0, EndStream: s.requestOver,
			})
		} else {
			_ = c.out.framer.WriteContinuation(s.id, len(block) == 0, part)
		}
	}
	c.out.wake.Signal()
	return nil
}

// encode compresses the header of r into c.out.block. It has c.mu.
//
// A header that is not sent must not be known to the encoder: then nothing that
// follows could be read. So all of it is judged first.
func (c *Conn) encode(r *http.Request) error {
	list, size, err := c.out.list(r, c.names)
	switch {
	case err != nil:
		return err
	case size > c.peer.maxHeader: // RFC 9113 section 6.5.2
		return errors.New("the request's header is larger than the server accepts")
	}
	c.out.block.Reset()
	for i := range list {
		_ = c.out.encoder.WriteField(list[i]) // to a buffer
	}
	clear(list) // nothing of a request is kept
	return nil
}

// list returns the fields of r as they go onto the wire, and their size. What
// would not arrive as one header line is refused. The list holds until the next
// one is made.
func (w *writing) list(r *http.Request, names *wire.Names) (list []hpackField, size uint64, err error) {
	host := r.Host
	if host == "" {
		host = r.URL.Host
	}
	// What each request has of its own would only push out of the table what they
	// have in common: Sensitive keeps it from that.
	list = append(w.fields[:0],
		hpackField{Name: ":authority", Value: host}, hpackField{Name: ":method", Value: r.Method},
		hpackField{Name: ":path", Value: r.URL.RequestURI(), Sensitive: true}, hpackField{Name: ":scheme", Value: "https"},
	)
	for name, values := range r.Header {
		switch name {
		case "Host", "Content-Length", "Connection", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Keep-Alive":
			continue // RFC 9113 section 8.2.2
		}
		lower, ok := names.Lower(name)
		if !ok {
			return nil, 0, errors.New("the request has a header with an invalid name")
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return nil, 0, fmt.Errorf("the request has an invalid value of %s", name)
			}
			list = append(list, hpackField{Name: lower, Value: value, Sensitive: name == "Audit-Id"})
		}
	}
	if n, known := bodyLength(r); known {
		list = append(list, hpackField{Name: "content-length", Value: strconv.FormatInt(n, 10)})
	}
	w.fields = list
	for i := range list {
		size += uint64(list[i].Size())
	}
	return list, size, nil
}

// bodyLength returns the Content-Length that r has to have, as net/http gives
// it.
func bodyLength(r *http.Request) (n int64, known bool) {
	switch {
	case hasBody(r):
		return r.ContentLength, r.ContentLength > 0
	case r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch:
		return 0, true
	default:
		return 0, false
	}
}

// bodyBuffer is how much of a request's body is read at a time.
const bodyBuffer = 16 << 10

// send sends the body of r, and closes it.
func (s *stream) send(r *http.Request) {
	err := s.sendBody(r)
	_ = r.Body.Close() // what it has said is sent
	if err == nil || errors.Is(err, errOver) {
		return
	}
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.conn.drop(s, http2.ErrCodeCancel, err)
}

// errOver says that nobody wants more of a request.
var errOver = errors.New("the request is over")

func (s *stream) sendBody(r *http.Request) error {
	left, known := bodyLength(r)
	size := int64(bodyBuffer)
	if known {
		size = min(size, left+1) // one more finds out whether it is longer
	}
	buffer := make([]byte, size)
	for {
		n, err := r.Body.Read(buffer)
		left -= int64(n)
		ends := err == io.EOF //nolint:errorlint // an error that wraps it is not the end
		switch {
		case err != nil && !ends:
			return fmt.Errorf("read the request's body: %w", err)
		case known && left < 0:
			return errors.New("the request's body is longer than its Content-Length")
		case known && ends && left > 0:
			return fmt.Errorf("read the request's body: %w", io.ErrUnexpectedEOF)
		}
		if err := s.sendData(r.Context(), buffer[:n], ends); err != nil || ends {
			return err
		}
	}
}

// sendData sends data when the peer's windows allow it.
func (s *stream) sendData(ctx context.Context, data []byte, ends bool) error {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for !s.requestOver && c.failed == nil && len(data) > 0 && (min(s.window, c.window) <= 0 || c.out.queue.Len() > maxQueued) {
			c.writable.Wait() // what cancels a stream tells of it
		}
		if s.requestOver || c.failed != nil || ctx.Err() != nil {
			return errOver
		}
		// A window may be negative (RFC 9113 section 6.9.2).
		n := max(0, int(min(int64(len(data)), s.window, c.window, int64(c.peer.maxFrame))))
		last := ends && n == len(data)
		if n > 0 || last {
			_ = c.out.framer.WriteData(s.id, last, data[:n]) // to a buffer
			c.out.wake.Signal()
		}
		s.window, c.window = s.window-int64(n), c.window-int64(n)
		if data = data[n:]; len(data) == 0 {
			s.requestOver = last
			return nil
		}
	}
}
