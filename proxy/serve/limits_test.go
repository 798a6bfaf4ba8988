package serve_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// from returns a connection from a loopback address, by HTTP/1.1.
func (f *fixture) from(t *testing.T, address string) *tls.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
	conn, err := dialer.DialContext(t.Context(), "tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return tls.Client(conn, &tls.Config{RootCAs: f.ca.Pool(), ServerName: "gatehouse"})
}

// served reports whether the server speaks TLS on a connection.
func served(conn *tls.Conn) bool { return conn.Handshake() == nil }

// Promise: connections have a limit; an address that opens all that it can
// leaves as many to others, and what was closed counts no more.
func TestConnectionLimit(t *testing.T) {
	f := newFixture(t)
	rejected := make(chan struct{}, 8)
	f.limits.Connections, f.onRejected = 4, func() { rejected <- struct{}{} }
	f.start(t)
	first := f.from(t, "127.0.0.1")
	if !served(first) || !served(f.from(t, "127.0.0.1")) {
		t.Fatal("an address does not get half of the connections")
	}
	if served(f.from(t, "127.0.0.1")) {
		t.Error("an address gets more than half")
	}
	<-rejected
	if !served(f.from(t, "127.0.0.2")) {
		t.Error("another address is shut out")
	}
	if served(f.from(t, "127.0.0.2")) {
		t.Error("who comes late gets more than is left")
	}
	<-rejected
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !served(f.from(t, "127.0.0.3")); {
		if time.Now().After(end) {
			t.Fatal("a closed connection still counts")
		}
	}
}

// rawH2 is a connection on which a test sends frames of its own.
type rawH2 struct {
	*http2.Framer
	conn    *tls.Conn
	out     bytes.Buffer // what is written, until flush
	encoder *hpack.Encoder
	block   bytes.Buffer
	streams uint32 // the server's limit
}

func (f *fixture) rawH2(t *testing.T) *rawH2 {
	t.Helper()
	h := new(rawH2)
	tcp, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	h.conn = tls.Client(tcp, &tls.Config{RootCAs: f.ca.Pool(), ServerName: "gatehouse", NextProtos: []string{"h2"}})
	h.Framer, h.encoder = http2.NewFramer(&h.out, h.conn), hpack.NewEncoder(&h.block)
	h.out.WriteString(http2.ClientPreface)
	h.must(t, h.WriteSettings())
	h.must(t, h.flush())
	frame, err := h.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	h.streams, _ = frame.(*http2.SettingsFrame).Value(http2.SettingMaxConcurrentStreams)
	h.must(t, h.WriteSettingsAck())
	return h
}

func (h *rawH2) must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (h *rawH2) flush() error {
	_, err := h.out.WriteTo(h.conn)
	return err
}

func (h *rawH2) header(name, value string) []byte {
	h.block.Reset()
	_ = h.encoder.WriteField(hpack.HeaderField{Name: name, Value: value, Sensitive: true}) // a buffer takes everything
	return bytes.Clone(h.block.Bytes())
}

// get is the header block of a request.
func (h *rawH2) get() []byte {
	return bytes.Join([][]byte{
		h.header(":method", "GET"), h.header(":scheme", "https"), h.header(":authority", "gatehouse"), h.header(":path", "/"),
	}, nil)
}

// end returns with what code the server ends the connection.
func (h *rawH2) end() (http2.ErrCode, error) {
	code := http2.ErrCode(0xffff)
	for {
		switch frame, err := h.ReadFrame(); {
		case err != nil && (errors.Is(err, io.EOF) || strings.Contains(err.Error(), "reset by peer")):
			return code, nil
		case err != nil:
			return code, err
		default:
			if goaway, ok := frame.(*http2.GoAwayFrame); ok {
				code = goaway.ErrCode
			}
		}
	}
}

// Promise: requests that are reset as soon as they are made (CVE-2023-44487) run
// no more handlers at a time than one connection may, even if each goes on after
// its reset; and the connection is ended.
func TestRapidReset(t *testing.T) {
	const streams, resets = 20, 5000
	f := newFixture(t)
	release := make(chan struct{})
	var entered atomic.Int64
	f.limits.Streams = streams
	f.handler = func(http.ResponseWriter, *http.Request) {
		entered.Add(1)
		<-release
	}
	f.start(t)
	before := runtime.NumGoroutine()
	h := f.rawH2(t)
	if h.streams != streams {
		t.Errorf("the server offers %d streams, want %d", h.streams, streams)
	}
	go func() {
		for id := uint32(1); id < 2*resets; id += 2 {
			_ = h.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.get(), EndHeaders: true, EndStream: true})
			_ = h.WriteRSTStream(id, http2.ErrCodeCancel)
			if h.flush() != nil {
				return
			}
		}
	}()
	if code, err := h.end(); code != http2.ErrCodeEnhanceYourCalm || err != nil {
		t.Errorf("the connection ended by %s, %v", code, err)
	}
	if got := entered.Load(); got > streams {
		t.Errorf("%d handlers ran at a time, want at most %d", got, streams)
	}
	if got := runtime.NumGoroutine() - before; got > 2*streams+20 {
		t.Errorf("%d goroutines more than before", got)
	}
	close(release)
}

// Promise: what a connection makes the server keep is bounded: a header that
// never ends (CVE-2023-45288), and questions whose answers nobody reads, end it.
func TestFrameFloods(t *testing.T) {
	for name, flood := range map[string]func(h *rawH2, i int) error{
		"continuation": func(h *rawH2, i int) error {
			if i == 0 {
				return h.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: h.get()})
			}
			return h.WriteContinuation(1, false, bytes.Repeat(h.header("x-a", strings.Repeat("b", 100)), 100))
		},
		"ping":     func(h *rawH2, i int) error { return h.WritePing(false, [8]byte{byte(i)}) },
		"settings": func(h *rawH2, _ int) error { return h.WriteSettings() },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.start(t)
			h := f.rawH2(t)
			var memory runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&memory)
			before := memory.HeapAlloc
			h.must(t, h.conn.SetWriteDeadline(time.Now().Add(20*time.Second)))
			err := error(nil)
			frames := 0
			for ; err == nil && frames < 3000000; frames++ {
				if err = flood(h, frames); err == nil && h.out.Len() > 16<<10 {
					err = h.flush()
				}
			}
			// Ended, or not read any more: either bounds it.
			if err == nil {
				t.Errorf("after %d frames: %v", frames, err)
			}
			runtime.GC()
			runtime.ReadMemStats(&memory)
			if grown := int64(memory.HeapAlloc) - int64(before); grown > 32<<20 {
				t.Errorf("%d frames made the server keep %d bytes", frames, grown)
			}
			if body, _ := f.get(t, f.client(t, true, &tls.Config{})); body != "HTTP/2.0" {
				t.Errorf("the next client got %q", body)
			}
		})
	}
}

// The defaults are as the documents say.
func TestDefaultLimits(t *testing.T) {
	const want = "{HeaderBytes:262144 HeaderTime:32s IdleTime:1m30s Streams:250 Connections:10000}"
	if got := fmt.Sprintf("%+v", serve.DefaultLimits()); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
