package h2server_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2server"
)

// fault returns what of a request may not reach a handler.
func fault(r *http.Request) string {
	switch {
	case strings.IndexFunc(r.Method, func(c rune) bool { return !httpguts.IsTokenRune(c) }) >= 0 || r.Method == "":
		return "the method"
	case !httpguts.ValidHostHeader(r.Host) || strings.Contains(r.Host, "@"):
		return "the host"
	case r.Proto != "HTTP/2.0" || r.ProtoMajor != 2 || r.ProtoMinor != 0 || r.TransferEncoding != nil || r.Trailer != nil:
		return "the protocol"
	case r.ContentLength < -1 || r.Body == nil || r.URL == nil:
		return "the body"
	}
	if r.Method == http.MethodConnect {
		if r.Host == "" || r.RequestURI != r.Host {
			return "the target of CONNECT"
		}
	} else if parsed, err := url.ParseRequestURI(r.RequestURI); err != nil || *parsed != *r.URL {
		return "the path"
	}
	for name, values := range r.Header {
		switch name {
		case "Connection", "Proxy-Connection", "Transfer-Encoding", "Upgrade", "Keep-Alive", "Host", "Trailer", "Cookie":
			return "the field " + name
		case "Te":
			if strings.Join(values, "") != strings.Repeat("trailers", len(values)) {
				return "te"
			}
		case "Content-Length":
			for _, value := range values {
				if value != values[0] || strings.TrimLeft(value, "0") != strings.TrimLeft(fmt.Sprint(r.ContentLength), "0") {
					return "the length"
				}
			}
		}
		if !httpguts.ValidHeaderFieldName(name) || name != http.CanonicalHeaderKey(name) || len(values) == 0 {
			return "a name"
		}
		for _, value := range values {
			if !httpguts.ValidHeaderFieldValue(value) {
				return "a value"
			}
		}
	}
	return ""
}

// paths are what the handler of a fuzzed server does.
var paths = []string{"/echo", "/much", "/early", "/abort", "/wait", "/late", "/trailer", "/close", "/304"}

func fuzzed(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	switch r.URL.Path {
	case "/echo":
		w.Header()["X-Many"] = r.Header["X-A"]
		_ = control.Flush()
		if n, err := io.Copy(w, r.Body); err == nil && r.ContentLength >= 0 && n != r.ContentLength {
			panic("the body has another length")
		}
	case "/much":
		for range 20 {
			if _, err := w.Write(make([]byte, 10_000)); err != nil {
				return
			}
		}
	case "/abort":
		panic(http.ErrAbortHandler)
	case "/wait":
		<-r.Context().Done()
	case "/late":
		_ = control.SetReadDeadline(time.Now().Add(time.Millisecond))
		_ = control.SetWriteDeadline(time.Now().Add(2 * time.Millisecond))
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = w.Write(make([]byte, 100_000))
	case "/trailer":
		w.Header().Set(http.TrailerPrefix+"A", strings.Repeat("b", 20_000))
		_ = r.Body.Close()
	case "/close":
		w.Header().Set("Connection", "close")
	case "/304":
		w.Header().Set("Content-Length", "4")
		w.WriteHeader(http.StatusNotModified)
	}
}

// attacked serves one connection, and returns its other end. The function that it
// returns fails the test unless all ends.
func attacked(t *testing.T) (far net.Conn, end func()) {
	const streams = 4
	var begun sync.WaitGroup
	var count atomic.Int64
	var log journal
	cfg := config(func(w http.ResponseWriter, r *http.Request) {
		defer count.Add(-1)
		if n := count.Add(1); n > streams {
			t.Errorf("%d handlers run at a time", n)
		}
		if what := fault(r); what != "" {
			t.Errorf("%s: %s %q %q of %q reached the handler", what, r.Method, r.RequestURI, r.Header, r.Host)
		}
		fuzzed(w, r)
	})
	cfg.Streams, cfg.HeaderBytes, cfg.Log = streams, 2<<10, slog.New(slog.NewTextHandler(&log, nil))
	near, far := net.Pipe()
	begun.Go(func() { h2server.New(cfg).Serve(t.Context(), near, nil) })
	_ = far.SetDeadline(time.Now().Add(patience))
	return far, func() {
		_ = far.Close()
		done := make(chan struct{})
		go func() {
			begun.Wait()
			close(done)
		}()
		await(t, "the end of the connection", done)
		nothingLeft(t)
		if text := log.String(); text != "" {
			t.Error(text)
		}
	}
}

// Promise: whatever a client sends, nothing panics, the connection and all handlers
// end with it, and these are given nothing but requests.
func FuzzFrames(f *testing.F) {
	for seed := range 6 {
		var data []byte
		for i := range 60 {
			data = append(data, byte(i*i*(seed+3)+i*7))
		}
		f.Add(newScript(data).out.Bytes()[len(http2.ClientPreface):])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		far, end := attacked(t)
		defer end()
		var read sync.WaitGroup
		read.Go(func() { _, _ = io.Copy(io.Discard, far) })
		_, _ = far.Write(append([]byte(http2.ClientPreface), data...)) // it may be closed before all is written
		_ = far.Close()
		read.Wait()
	})
}

// script is a conversation that bytes stand for.
type script struct {
	*http2.Framer
	data    []byte
	out     bytes.Buffer
	block   bytes.Buffer
	encoder *hpack.Encoder
	next    uint32
	allowed int // of all streams together
}

func newScript(data []byte) *script {
	s := &script{data: data, next: 1, allowed: 65535}
	s.Framer, s.encoder = http2.NewFramer(&s.out, nil), hpack.NewEncoder(&s.block)
	s.AllowIllegalWrites = true
	s.out.WriteString(http2.ClientPreface)
	_ = s.WriteSettings()
	for len(s.data) > 0 {
		s.one()
	}
	_ = s.WritePing(false, [8]byte{9})
	return s
}

// take returns the next number, 0 at the end.
func (s *script) take() byte {
	if len(s.data) == 0 {
		return 0
	}
	b := s.data[0]
	s.data = s.data[1:]
	return b
}

func (s *script) bytes() string {
	n := min(int(s.take())%24, len(s.data))
	part := s.data[:n]
	s.data = s.data[n:]
	return string(part)
}

// id returns the number of a stream, most often one that was begun.
func (s *script) id() uint32 {
	b := uint32(s.take())
	if b < 16 {
		return b
	}
	return 2*(b%((s.next+1)/2)) + 1
}

func (s *script) fields(pairs ...string) []byte {
	s.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = s.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(s.block.Bytes())
}

// one writes what the next bytes stand for. Writing to a buffer does not fail.
func (s *script) one() {
	switch flags := s.take(); flags % 16 {
	default:
		s.request(flags)
	case 5, 6:
		data := make([]byte, 3*int(s.take()))
		_ = s.WriteData(s.id(), flags&16 != 0, data)
	case 7:
		_ = s.WriteDataPadded(s.id(), flags&16 != 0, []byte(s.bytes()), make([]byte, s.take()))
	case 8:
		n := uint32(s.take()) << (s.take() % 24)
		id := s.id()
		if id == 0 {
			s.allowed += int(n)
		}
		_ = s.WriteWindowUpdate(id, n)
	case 9:
		_ = s.WriteRSTStream(s.id(), http2.ErrCode(s.take()))
	case 10:
		_ = s.WriteSettings(http2.Setting{ID: http2.SettingID(s.take() % 8), Val: uint32(s.take()) << (s.take() % 25)})
	case 11:
		_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id(), EndHeaders: true, EndStream: flags&16 == 0, BlockFragment: s.fields("a", s.bytes())})
	case 12:
		_ = s.WriteContinuation(s.id(), flags&16 != 0, []byte(s.bytes()))
	case 13:
		_ = s.WriteRawFrame(http2.FrameType(s.take()), http2.Flags(s.take()), s.id(), []byte(s.bytes()))
	case 14:
		_ = s.WritePing(flags&16 != 0, [8]byte{7: s.take()})
	case 15:
		_ = s.WriteGoAway(s.id(), http2.ErrCodeNo, nil)
	}
}

// request writes a request whose header may be anything.
func (s *script) request(flags byte) {
	id := s.next
	s.next += 2
	pairs := []string{":method", []string{"GET", "POST", "HEAD", "CONNECT"}[flags>>4%4], ":scheme", "https", ":authority", "a", ":path", paths[int(s.take())%len(paths)]}
	if pairs[1] == "CONNECT" {
		pairs = []string{":method", "CONNECT", ":authority", "a:1"}
	}
	names := []string{
		"x-a", "te", "cookie", "host", "connection", "content-length", "expect", ":path", ":authority", ":protocol", ":method", "trailer", "x-a", "x-a",
	}
	for more := s.take() % 4; more > 0; more-- {
		switch pick := int(s.take()); {
		case pick < 100:
			pairs = append(pairs, names[pick%len(names)], s.bytes())
		case pick < 150:
			pairs = append(pairs, "content-length", fmt.Sprint(pick-100))
		case pick < 170:
			pairs = append(pairs, "expect", "100-continue")
		case pick < 190:
			pairs = append(pairs, "x-a", strings.Repeat("b", int(s.take())*20))
		case pick < 220:
			pairs = append(pairs, s.bytes(), s.bytes())
		default: // another value for what is there
			pairs[2*(pick%(len(pairs)/2))+1] = s.bytes()
		}
	}
	block := s.fields(pairs...)
	cut := len(block)
	if flags&64 != 0 {
		cut = min(cut, int(s.take()))
	}
	_ = s.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: flags&128 != 0, EndHeaders: cut == len(block), BlockFragment: block[:cut]})
	if cut < len(block) {
		_ = s.WriteContinuation(id, true, block[cut:])
	}
}

// Promise: whatever a client says, what it is answered is HTTP/2: frames where they
// may be, headers that can be decoded, no more than its windows allow, and at last an
// answer to its ping, or the end.
func FuzzConversation(f *testing.F) {
	for seed := range 20 {
		var data []byte
		for i := range 40 + 10*seed {
			data = append(data, byte(i*i*(seed+3)+i*7+seed))
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<10 {
			return
		}
		s := newScript(data)
		far, end := attacked(t)
		defer end()
		c := newClient(t, far)
		c.decoder.SetAllowedMaxDynamicTableSize(4096)
		var write sync.WaitGroup
		defer write.Wait()
		write.Go(func() { _, _ = far.Write(s.out.Bytes()) }) // it may be closed before all is written
		for c.last != [8]byte{9} {
			frame, err := c.ReadFrame()
			if err != nil {
				if _, wrong := err.(http2.ConnectionError); wrong {
					t.Errorf("it is answered with a wrong frame: %v", err)
				}
				break
			}
			if err := c.keep(frame); err != nil {
				t.Errorf("it is answered with a wrong frame: %v", err)
			}
		}
		total := 0
		for _, stream := range c.streams {
			total += len(stream.body)
		}
		if total > s.allowed {
			t.Errorf("%d bytes came, and %d were allowed", total, s.allowed)
		}
		_ = far.Close()
	})
}
