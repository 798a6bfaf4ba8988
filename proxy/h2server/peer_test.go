package h2server_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is what a client has got of an answer.
type stream struct {
	status   string
	header   map[string]string // several values of a name follow each other after "; "
	trailer  map[string]string
	informed []string // informational answers
	body     []byte
	whole    bool
	reset    bool
	code     http2.ErrCode // of the reset
}

// client is a client that does what the test tells it, frame by frame. What it
// writes waits until it reads, or is told to send.
type client struct {
	*http2.Framer
	t       testing.TB
	conn    net.Conn
	out     bytes.Buffer
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	next    uint32 // stream

	deaf    bool // does not answer pings
	mute    bool // says nothing of its own
	greedy  bool // gives back the windows of what it reads
	streams map[uint32]*stream
	open    map[uint32]int // what it may send: of all streams together, under 0
	goAways []http2.GoAwayFrame
	greeted bool    // by the server's settings
	acks    int     // of its own
	pongs   int     // of its pings
	last    [8]byte // that was answered
	part    []byte  // of a header
	ends    bool    // with it, the stream
	largest uint32  // frame
	ended   error   // of reading
}

// connect returns a client that has said its settings.
func (w *world) connect(t testing.TB, settings ...http2.Setting) *client {
	t.Helper()
	conn, err := net.Dial("tcp", w.listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn)
	c.out.WriteString(http2.ClientPreface)
	c.do(c.WriteSettings(settings...))
	c.step()
	if !c.greeted {
		t.Fatal("the server does not begin with its settings")
	}
	return c
}

func newClient(t testing.TB, conn net.Conn) *client {
	c := &client{
		t: t, conn: conn, decoder: hpack.NewDecoder(4096, nil), next: 1,
		streams: map[uint32]*stream{}, open: map[uint32]int{0: 65535},
	}
	c.Framer, c.encoder = http2.NewFramer(&c.out, conn), hpack.NewEncoder(&c.block)
	c.AllowIllegalWrites = true
	_ = conn.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { _ = conn.Close() })
	return c
}

func (c *client) do(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

// send sends what waits.
func (c *client) send() error {
	_, err := c.out.WriteTo(c.conn)
	return err
}

// fields returns the header block of names and their values, in turn.
func (c *client) fields(pairs ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // to a buffer
	}
	return bytes.Clone(c.block.Bytes())
}

// headers begins a stream, and returns its number.
func (c *client) headers(end bool, pairs ...string) uint32 {
	c.t.Helper()
	id := c.next
	c.next += 2
	c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: c.fields(pairs...)}))
	return id
}

// of returns the header of a request.
func of(method, path string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "https", ":authority", "api.example", ":path", path}, more...)
}

func (c *client) get(path string, more ...string) uint32 {
	c.t.Helper()
	return c.headers(true, of("GET", path, more...)...)
}

func (c *client) post(path string, more ...string) uint32 {
	c.t.Helper()
	return c.headers(false, of("POST", path, more...)...)
}

// data sends data as the server's windows allow.
func (c *client) data(id uint32, end bool, data []byte) {
	c.t.Helper()
	for first := true; first || len(data) > 0; first = false {
		n := min(len(data), 16<<10)
		for c.open[0] < n || c.window(id) < n {
			c.step()
		}
		c.open[0] -= n
		c.open[id] -= n
		c.do(c.WriteData(id, end && n == len(data), data[:n]))
		data = data[n:]
	}
}

// window returns how much may be sent in a stream.
func (c *client) window(id uint32) int { return c.open[id] + streamWindow }

// streamWindow is what the server allows, as its settings say.
const streamWindow = 256 << 10

// step reads one frame, and keeps what it says.
func (c *client) step() {
	c.t.Helper()
	if err := c.try(); err != nil {
		c.t.Fatalf("reading: %v", err)
	}
}

func (c *client) try() error {
	if c.ended != nil {
		return c.ended
	}
	err := error(nil)
	if !c.mute {
		err = c.send()
	}
	var f http2.Frame
	if err == nil || isReset(err) { // what came before can still be read
		f, err = c.ReadFrame()
	}
	if err != nil {
		c.ended = err
		return err
	}
	c.largest = max(c.largest, f.Header().Length)
	return c.keep(f)
}

func (c *client) keep(f http2.Frame) error {
	id := f.Header().StreamID
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			c.acks++
			return nil
		}
		c.greeted = true
		return c.WriteSettingsAck()
	case *http2.PingFrame:
		if f.IsAck() {
			c.pongs++
			c.last = f.Data
		} else if !c.deaf {
			return c.WritePing(true, f.Data)
		}
	case *http2.GoAwayFrame:
		c.goAways = append(c.goAways, *f)
	case *http2.WindowUpdateFrame:
		c.open[id] += int(f.Increment)
	case *http2.RSTStreamFrame:
		s := c.stream(id)
		if !s.reset {
			s.reset, s.code = true, f.ErrCode
		}
	case *http2.HeadersFrame:
		c.part = bytes.Clone(f.HeaderBlockFragment())
		c.ends = f.StreamEnded()
		if f.HeadersEnded() {
			return c.keepHeader(id)
		}
	case *http2.ContinuationFrame:
		c.part = append(c.part, f.HeaderBlockFragment()...)
		if f.HeadersEnded() {
			return c.keepHeader(id)
		}
	case *http2.DataFrame:
		s := c.stream(id)
		if s.status == "" || s.whole || s.reset {
			return errors.New("data where none may be")
		}
		s.body, s.whole = append(s.body, f.Data()...), f.StreamEnded()
		if n := f.Length; c.greedy && n > 0 {
			return errors.Join(c.WriteWindowUpdate(0, n), c.WriteWindowUpdate(id, n))
		}
	}
	return nil
}

func (c *client) keepHeader(id uint32) error {
	fields, err := c.decoder.DecodeFull(c.part)
	if err != nil {
		return err
	}
	s, got := c.stream(id), map[string]string{}
	for _, field := range fields {
		if field.Name != strings.ToLower(field.Name) {
			return errors.New("capitals in a name: " + field.Name)
		}
		if before, ok := got[field.Name]; ok {
			field.Value = before + "; " + field.Value
		}
		got[field.Name] = field.Value
	}
	status, first := got[":status"]
	switch {
	case first == (s.status != ""):
		return errors.New("a header where none may be")
	case strings.HasPrefix(status, "1"):
		s.informed = append(s.informed, status)
	case first:
		s.status, s.header = status, got
	default:
		s.trailer = got
	}
	s.whole = c.ends
	return nil
}

func (c *client) stream(id uint32) *stream {
	s := c.streams[id]
	if s == nil {
		s = new(stream)
		c.streams[id] = s
	}
	return s
}

// until reads until something is so.
func (c *client) until(what string, so func() bool) {
	c.t.Helper()
	for !so() {
		if err := c.try(); err != nil {
			c.t.Fatalf("waiting for %s: %v", what, err)
		}
	}
}

// answer reads until a stream is over.
func (c *client) answer(id uint32) *stream {
	c.t.Helper()
	s := c.stream(id)
	c.until("an answer", func() bool { return s.whole || s.reset })
	return s
}

// ok fails the test unless a request is answered whole.
func (c *client) ok(id uint32, body string) {
	c.t.Helper()
	if s := c.answer(id); s.status != "200" || !s.whole || string(s.body) != body {
		c.t.Errorf("stream %d: status %q, %d bytes, whole: %t, reset: %t (%s); want 200 and %d bytes",
			id, s.status, len(s.body), s.whole, s.reset, s.code, len(body))
	}
}

// synced reads until the server has dealt with all that was sent.
func (c *client) synced() {
	c.t.Helper()
	want := c.pongs + 1
	c.do(c.WritePing(false, [8]byte{9}))
	c.until("an answer to a ping", func() bool { return c.pongs >= want })
}

// end reads until the connection ends, and returns the code that it ends with.
func (c *client) end() http2.ErrCode {
	c.t.Helper()
	for c.try() == nil {
	}
	if !errors.Is(c.ended, io.EOF) && !isReset(c.ended) {
		c.t.Fatalf("the connection did not end: %v", c.ended)
	}
	if len(c.goAways) == 0 {
		return 0xffff
	}
	return c.goAways[len(c.goAways)-1].ErrCode
}

func isReset(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "reset by peer") || strings.Contains(err.Error(), "broken pipe"))
}
