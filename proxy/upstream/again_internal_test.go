package upstream

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// frames is one connection to a server that does what a test wants.
type frames struct {
	*http2.Framer
	conn net.Conn
}

// serveFrames serves each connection by serve, which is told how many there were
// before. most is how many requests one may have.
func (s *servers) serveFrames(listener net.Listener, serve func(n int, f *frames), most uint32) {
	config := s.tls.Clone()
	config.NextProtos = []string{"h2"}
	go func() {
		for n := 0; ; n++ {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				secure := tls.Server(conn, config)
				defer secure.Close()
				f := &frames{http2.NewFramer(secure, secure), secure}
				if _, err := io.ReadFull(secure, make([]byte, len(http2.ClientPreface))); err != nil {
					return
				}
				if f.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: most}) == nil {
					serve(n, f)
				}
			}()
		}
	}()
}

// hold reads until the connection ends.
func (f *frames) hold() { _, _ = io.Copy(io.Discard, f.conn) }

// request reads a request's header, and its body if whole is so.
func (f *frames) request(whole bool) (id uint32, body []byte) {
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return 0, nil
		}
		switch frame := frame.(type) {
		case *http2.HeadersFrame:
			if id = frame.StreamID; !whole || frame.StreamEnded() {
				return id, nil
			}
		case *http2.DataFrame:
			if body = append(body, frame.Data()...); frame.StreamEnded() {
				return id, body
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		}
	}
}

// echo answers requests with their bodies, and those without one by the header
// alone.
func (f *frames) echo() {
	for {
		id, body := f.request(true)
		if id == 0 {
			return
		}
		var block bytes.Buffer
		_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: body == nil})
		if body != nil {
			_ = f.WriteData(id, true, append([]byte("echo "), body...))
		}
	}
}

// Promise: a request that the API server did not begin with is sent again, whatever
// it does, with its whole body; one that may have been carried out is sent again
// only if it changes nothing. What cannot be sent again is not.
func TestPoolSendsAgain(t *testing.T) {
	refuses := func(f *frames) {
		id, _ := f.request(false)
		_ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		f.echo()
	}
	leaves := func(f *frames) {
		f.request(false)
		_ = f.WriteGoAway(0, http2.ErrCodeNo, nil)
		f.hold()
	}
	breaks := func(f *frames) { f.request(false) }
	works := func(f *frames) { // and breaks then
		f.request(false)
		_ = f.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)
	}
	fails := func(f *frames) {
		id, _ := f.request(false)
		_ = f.WriteRSTStream(id, http2.ErrCodeInternal)
		f.hold()
	}
	for name, test := range map[string]struct {
		method string
		stream bool // the body can be read once
		first  func(*frames)
		again  bool
	}{
		"GET, refused":              {http.MethodGet, false, refuses, true},
		"GET, going away":           {http.MethodGet, false, leaves, true},
		"GET, lost":                 {http.MethodGet, false, breaks, true},
		"GET, lost on leaving":      {http.MethodGet, false, works, true},
		"GET, failed":               {http.MethodGet, false, fails, false},
		"HEAD, lost":                {http.MethodHead, false, breaks, true},
		"POST, refused":             {http.MethodPost, false, refuses, true},
		"POST, going away":          {http.MethodPost, false, leaves, true},
		"POST, lost":                {http.MethodPost, false, breaks, false},
		"POST, lost on leaving":     {http.MethodPost, false, works, false},
		"DELETE, lost":              {http.MethodDelete, false, breaks, false},
		"POST of a stream, refused": {http.MethodPost, true, refuses, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t, "127.0.0.2")
			s.serveFrames(s.listen("127.0.0.2"), func(n int, f *frames) {
				if n == 0 {
					test.first(f)
					return
				}
				f.echo()
			}, 100)
			p := s.pool(h2.Config{})
			var body io.Reader
			if test.method == http.MethodPost {
				if body = strings.NewReader("body"); test.stream {
					body = io.NopCloser(body)
				}
			}
			said, err := ask(t.Context(), p, test.method, body)
			if (err == nil) != test.again {
				t.Errorf("error %v, want that it is sent again: %t", err, test.again)
			}
			if want := "echo body"; err == nil && body != nil && said != want {
				t.Errorf("the server says %q, want %q", said, want)
			}
		})
	}
}
