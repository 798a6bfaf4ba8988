package h2_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// peer is a server that does what the test tells it, frame by frame.
type peer struct {
	*http2.Framer
	t       *testing.T
	conn    net.Conn
	deaf    bool      // does not answer pings
	pings   [][8]byte // that were not answered
	window  int       // what it may send, of all streams together
	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
}

// connect returns both ends of a connection on a real socket.
func connect(t *testing.T, cfg h2.Config, settings ...http2.Setting) (*h2.Conn, *peer) {
	t.Helper()
	near, far := sockets(t)
	p := &peer{Framer: http2.NewFramer(far, far), t: t, window: 65535, conn: far, decoder: hpack.NewDecoder(4096, nil)}
	p.encoder = hpack.NewEncoder(&p.block)
	_ = far.SetDeadline(time.Now().Add(patience))
	p.do(p.WriteSettings(settings...))
	c, err := h2.New(t.Context(), near, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Retire)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(far, preface); err != nil || string(preface) != http2.ClientPreface {
		t.Fatalf("the preface is %q, error %v", preface, err)
	}
	p.expect("the acknowledgement", func(f http2.Frame) bool {
		ack, ok := f.(*http2.SettingsFrame)
		return ok && ack.IsAck()
	})
	return c, p
}

// sockets returns the ends of a TCP connection.
func sockets(t testing.TB) (near, far net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if near, err = net.Dial("tcp", listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = listener.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near, far
}

func (p *peer) do(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// expect reads frames up to one that is as wanted.
func (p *peer) expect(what string, wanted func(http2.Frame) bool) http2.Frame {
	p.t.Helper()
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", what, err)
		}
		if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
			p.pings = append(p.pings, ping.Data)
			p.pong()
		}
		if update, ok := f.(*http2.WindowUpdateFrame); ok && update.StreamID == 0 {
			p.window += int(update.Increment)
		}
		if wanted(f) {
			return f
		}
	}
}

// pong answers the pings, if p does.
func (p *peer) pong() {
	p.t.Helper()
	for !p.deaf && len(p.pings) > 0 {
		p.do(p.WritePing(true, p.pings[0]))
		p.pings = p.pings[1:]
	}
}

// request reads the next request's header.
func (p *peer) request() (id uint32, header map[string]string) {
	p.t.Helper()
	f := p.expect("a request", func(f http2.Frame) bool { _, ok := f.(*http2.HeadersFrame); return ok }).(*http2.HeadersFrame)
	id = f.StreamID
	block := bytes.Clone(f.HeaderBlockFragment())
	for ends := f.HeadersEnded(); !ends; {
		next, err := p.ReadFrame()
		p.do(err)
		more := next.(*http2.ContinuationFrame)
		block, ends = append(block, more.HeaderBlockFragment()...), more.HeadersEnded()
	}
	fields, err := p.decoder.DecodeFull(block)
	p.do(err)
	header = map[string]string{}
	for _, field := range fields {
		header[field.Name] = field.Value
	}
	return id, header
}

// reset reads up to the reset of a stream, and returns its code.
func (p *peer) reset(id uint32) http2.ErrCode {
	p.t.Helper()
	f := p.expect("a reset", func(f http2.Frame) bool {
		reset, ok := f.(*http2.RSTStreamFrame)
		return ok && reset.StreamID == id
	})
	return f.(*http2.RSTStreamFrame).ErrCode
}

// header writes a header, whose fields are of the form "name: value".
func (p *peer) header(id uint32, end bool, fields ...string) {
	p.t.Helper()
	p.do(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.compress(fields...), EndHeaders: true, EndStream: end}))
}

func (p *peer) compress(fields ...string) []byte {
	p.t.Helper()
	p.block.Reset()
	for _, field := range fields {
		name, value, _ := strings.Cut(field, "= ")
		p.do(p.encoder.WriteField(hpack.HeaderField{Name: name, Value: value}))
	}
	return p.block.Bytes()
}

// data writes data, when the connection's window allows it.
func (p *peer) data(id uint32, end bool, data string) {
	p.t.Helper()
	if p.window -= len(data); p.window < 0 {
		p.expect("a window", func(http2.Frame) bool { return p.window >= 0 })
	}
	p.do(p.WriteData(id, end, []byte(data)))
}

// result is what became of a request.
type result struct {
	status  int
	body    string
	err     error // of the request
	bodyErr error // of its body
	header  http.Header
	trailer http.Header
}

func newRequest(t testing.TB, method, path string, body io.Reader) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://api.example"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send sends a request, and returns what becomes of it.
func send(rt http.RoundTripper, r *http.Request) <-chan result {
	done := make(chan result, 1)
	go func() {
		resp, err := rt.RoundTrip(r)
		if err != nil {
			done <- result{err: err}
			return
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		done <- result{resp.StatusCode, string(body), nil, err, resp.Header, resp.Trailer}
	}()
	return done
}

// await returns what comes.
func await[T any](t *testing.T, what string, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("%s: nothing happened", what)
		panic("unreachable")
	}
}

// whole fails the test unless an answer is whole.
func (r result) whole(t *testing.T, status int, body string) {
	t.Helper()
	if r.err != nil || r.bodyErr != nil || r.status != status || r.body != body {
		t.Errorf("status %d, %d bytes, errors %v and %v; want %d, whole, with %d bytes", r.status, len(r.body), r.err, r.bodyErr, status, len(body))
	}
}

// broken fails the test if an answer looks whole.
func (r result) broken(t *testing.T) {
	t.Helper()
	if r.err == nil && r.bodyErr == nil {
		t.Errorf("status %d and %q look whole", r.status, r.body)
	}
}

// endless is a request's body that goes on until it is closed, by whoever closes
// it first.
type endless struct {
	closed chan struct{}
	end    func()
}

func newEndless() endless {
	closed := make(chan struct{})
	return endless{closed, sync.OnceFunc(func() { close(closed) })}
}

func (e endless) Read(p []byte) (int, error) {
	select {
	case <-e.closed:
		return 0, errors.New("the body is closed")
	default:
		return len(p), nil
	}
}

// Close ends the body.
func (e endless) Close() error {
	e.end()
	return nil
}
