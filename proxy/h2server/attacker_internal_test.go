package h2server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// attacker writes the frames that a test wants. What the server says it reads only
// where the test does.
type attacker struct {
	*http2.Framer
	t      *testing.T
	conn   net.Conn
	server *Server
	ended  chan struct{} // closed when the server has done with the connection
}

// attack serves one connection to who has not said anything yet. Nothing is written
// to it that it does not read.
func attack(t *testing.T, s *Server) *attacker {
	t.Helper()
	ours, theirs := net.Pipe()
	return attackOver(t, s, ours, theirs)
}

func attackOver(t *testing.T, s *Server, ours, theirs net.Conn) *attacker {
	t.Helper()
	_ = ours.SetDeadline(time.Now().Add(patience))
	a := &attacker{http2.NewFramer(ours, ours), t, ours, s, make(chan struct{})}
	go func() {
		defer close(a.ended)
		s.Serve(context.Background(), theirs, nil)
	}()
	t.Cleanup(func() {
		_ = ours.Close()
		<-a.ended
	})
	return a
}

func serverFor(streams int, handler http.HandlerFunc) *Server {
	return New(Config{
		Handler: handler, HeaderBytes: 64 << 10, HeaderTime: time.Hour, IdleTime: time.Hour, Streams: streams,
		PingAfter: time.Hour, PingTimeout: time.Hour, Log: slog.New(slog.DiscardHandler),
	})
}

func (a *attacker) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// greet says what a client begins with.
func (a *attacker) greet(settings ...http2.Setting) {
	a.t.Helper()
	_, err := io.WriteString(a.conn, http2.ClientPreface)
	a.must(err)
	a.must(a.WriteSettings(settings...))
}

func request(method string, more ...string) []byte {
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for i, all := 0, append([]string{":method", method, ":scheme", "https", ":path", "/"}, more...); i < len(all); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1], Sensitive: true}) // to a buffer
	}
	return block.Bytes()
}

func (a *attacker) ask(id uint32, ends bool, block []byte) {
	a.t.Helper()
	a.must(a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: ends, EndHeaders: true, BlockFragment: block}))
}

// until waits until something is so of the one connection, or that has ended.
func (a *attacker) until(what string, so func(c *conn) bool) {
	a.t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		a.server.mu.Lock()
		for c := range a.server.conns {
			c.mu.Lock()
			is := so(c)
			c.mu.Unlock()
			if is {
				a.server.mu.Unlock()
				return
			}
		}
		a.server.mu.Unlock()
		select {
		case <-a.ended:
			return
		default:
		}
	}
	a.t.Fatalf("it never came to pass: %s", what)
}

// readUntil reads frames until one is as wanted.
func (a *attacker) readUntil(what string, wanted func(http2.Frame) bool) {
	a.t.Helper()
	for {
		f, err := a.ReadFrame()
		if err != nil {
			a.t.Fatalf("waiting for %s: %v", what, err)
		}
		if wanted(f) {
			return
		}
	}
}

// goAway reads until the server says good-bye with code, and returns the last stream.
func (a *attacker) goAway(code http2.ErrCode) (last uint32) {
	a.t.Helper()
	a.readUntil("a GOAWAY with "+code.String(), func(f http2.Frame) bool {
		away, ok := f.(*http2.GoAwayFrame)
		if ok {
			last = away.LastStreamID
		}
		return ok && away.ErrCode == code
	})
	return last
}

func (a *attacker) awaitEnd() {
	a.t.Helper()
	select {
	case <-a.ended:
	case <-time.After(patience):
		a.t.Fatal("the connection never ends")
	}
}
