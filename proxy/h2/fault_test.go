package h2_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// Promise: a server that breaks the protocol, so that nothing it says can be relied
// on, is not listened to: all its requests fail, and none is sent again unasked.
func TestConnectionFaults(t *testing.T) {
	faults := map[string]func(p *peer, id uint32){
		"data for nobody":     func(p *peer, _ uint32) { p.data(101, false, "x") },
		"data of no stream":   func(p *peer, _ uint32) { p.do(p.WriteRawFrame(http2.FrameData, 0, 0, []byte("x"))) },
		"a header for nobody": func(p *peer, _ uint32) { p.header(101, false, ":status= 200") },
		"a stream of its own": func(p *peer, _ uint32) { p.header(2, false, ":status= 200") },
		"a window of nobody":  func(p *peer, _ uint32) { p.do(p.WriteWindowUpdate(101, 1)) },
		"a reset of nobody":   func(p *peer, _ uint32) { p.do(p.WriteRSTStream(101, http2.ErrCodeCancel)) },
		"too large a window":  func(p *peer, _ uint32) { p.do(p.WriteWindowUpdate(0, 1<<31-1)) },
		"a window of nothing": func(p *peer, _ uint32) { p.do(p.WriteRawFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 4))) },
		"a push": func(p *peer, id uint32) {
			p.do(p.WriteRawFrame(http2.FramePushPromise, 4, id, []byte{0, 0, 0, 2, 0x88}))
		},
		"a large frame":       func(p *peer, id uint32) { p.do(p.WriteRawFrame(http2.FrameData, 0, id, make([]byte, 20000))) },
		"a lone continuation": func(p *peer, id uint32) { p.do(p.WriteRawFrame(http2.FrameContinuation, 4, id, []byte{0x88})) },
		"a broken header": func(p *peer, id uint32) {
			p.do(p.WriteRawFrame(http2.FrameHeaders, 0, id, []byte{0x88}))
			p.data(id, true, "x")
		},
		"too much padding": func(p *peer, id uint32) { p.do(p.WriteRawFrame(http2.FrameHeaders, 4|8, id, []byte{200, 0x88})) },
		"no compression": func(p *peer, id uint32) {
			p.do(p.WriteRawFrame(http2.FrameHeaders, 4, id, []byte{0xff, 0xff, 0xff, 0xff}))
		},
		"half a field":          func(p *peer, id uint32) { p.do(p.WriteRawFrame(http2.FrameHeaders, 4, id, []byte{0x40, 5, 'a'})) },
		"an impossible setting": func(p *peer, _ uint32) { p.do(p.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1})) },
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			c, p := connect(t, h2.Config{MaxHeaderBytes: 4096})
			first := send(c, newRequest(t, http.MethodGet, "/first", nil))
			p.request()
			second := send(c, newRequest(t, http.MethodGet, "/second", nil))
			id, _ := p.request()
			fault(p, id)
			// Whoever asked for too much would get it again; the others may ask again.
			if got := await(t, "the end", second); got.err == nil || errors.Is(got.err, h2.ErrLost) == (name == "a huge header") || errors.Is(got.err, h2.ErrUnprocessed) {
				t.Errorf("error %v", got.err)
			}
			if got := await(t, "the end", first); !errors.Is(got.err, h2.ErrLost) || errors.Is(got.err, h2.ErrUnprocessed) {
				t.Errorf("error %v, want that the connection was lost", got.err)
			}
			await(t, "the end of the connection", c.Closed())
		})
	}
}

// Promise: an answer whose header is so large that what follows cannot be read ends
// the connection; its own request is not sent again, for the same answer.
func TestHugeHeader(t *testing.T) {
	for name, fields := range map[string][]string{
		"many fields": {"a= " + strings.Repeat("v", 3000), "b= " + strings.Repeat("v", 3000), "c= " + strings.Repeat("v", 3000)},
		"one field":   {"a= " + strings.Repeat("v", 5000)},
	} {
		t.Run(name, func(t *testing.T) {
			c, p := connect(t, h2.Config{MaxHeaderBytes: 4096})
			other := send(c, newRequest(t, http.MethodGet, "/other", nil))
			p.request()
			own := send(c, newRequest(t, http.MethodGet, "/own", nil))
			id, _ := p.request()
			p.header(id, false, append([]string{":status= 200"}, fields...)...)
			if got := await(t, "the end", own); got.err == nil || errors.Is(got.err, h2.ErrLost) || errors.Is(got.err, h2.ErrUnprocessed) {
				t.Errorf("error %v, want one for ever", got.err)
			}
			if got := await(t, "the end of the other", other); !errors.Is(got.err, h2.ErrLost) {
				t.Errorf("error %v, want that the connection was lost", got.err)
			}
			await(t, "the end of the connection", c.Closed())
		})
	}
}

// Promise: what begins otherwise than HTTP/2 is no connection, and what does not
// begin at all is waited for as long as the context says.
func TestHandshake(t *testing.T) {
	for name, says := range map[string]string{
		"HTTP/1.1":         "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
		"another frame":    "\x00\x00\x08\x06\x00\x00\x00\x00\x00pingpong",
		"an answer to us":  "\x00\x00\x00\x04\x01\x00\x00\x00\x00",
		"a false setting":  "\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x01",
		"nothing":          "",
		"half of a header": "\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			near, far := sockets(t)
			ctx, cancel := context.WithCancelCause(t.Context())
			why := errors.New("waited long enough")
			go func() {
				_, _ = io.WriteString(far, says)
				_, _ = io.ReadFull(far, make([]byte, len(http2.ClientPreface)))
				if len(says) < 9 {
					cancel(why)
				}
			}()
			_, err := h2.New(ctx, near, h2.Config{})
			if err == nil || len(says) < 9 && !errors.Is(err, why) {
				t.Errorf("error %v", err)
			}
			if _, err := near.Write(nil); err == nil {
				if _, err = near.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
					t.Error("the connection is open")
				}
			}
			cancel(nil)
		})
	}
}

// Promise: a server that asks for signs of life without reading them fills no
// memory.
func TestPingFlood(t *testing.T) {
	c, p := connect(t, h2.Config{})
	done := send(c, newRequest(t, http.MethodGet, "/", nil))
	p.request()
	for n := 0; ; n++ {
		if err := p.WritePing(false, [8]byte{}); err != nil {
			break // the connection was closed
		}
		if n > 10_000_000 {
			t.Fatal("it goes on and on")
		}
	}
	if got := await(t, "the end", done); got.err == nil {
		t.Error("no error")
	}
	await(t, "the end of the connection", c.Closed())
}

// Promise: a caller who begins requests and leaves, however fast, ends nobody
// else's, and takes nothing with him for good.
func TestRapidReset(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/watch" {
			_ = http.NewResponseController(w).Flush()
			_, _ = io.Copy(w, r.Body)
			return
		}
		<-r.Context().Done()
	})
	reader, writer := io.Pipe()
	watch := send(c, newRequest(t, http.MethodPost, "/watch", reader))
	eventually(t, "the watch is under way", func() bool { return c.Status().Load == 1 })
	for range 20_000 {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(0, cancel)
		_, err := c.RoundTrip(newRequest(t, http.MethodGet, "/", nil).WithContext(ctx))
		if cancel(); !errors.Is(err, context.Canceled) && !errors.Is(err, h2.ErrNotTaken) {
			t.Fatal(err)
		}
		if errors.Is(err, h2.ErrNotTaken) {
			runtime.Gosched() // the pool would take another connection
		}
	}
	_, _ = io.WriteString(writer, "here")
	writer.Close()
	await(t, "the watch", watch).whole(t, 200, "here")
	eventually(t, "no request is under way", func() bool { return c.Status().Load == 0 })
}

// Promise: a connection that ended has no goroutine left, whatever was going on.
func TestNothingIsLeft(t *testing.T) {
	c, p := connect(t, h2.Config{})
	var ends []<-chan result
	for _, r := range []*http.Request{
		newRequest(t, http.MethodGet, "/", nil),
		newRequest(t, http.MethodPost, "/", newEndless()),
		newRequest(t, http.MethodPost, "/", newEndless()),
	} {
		ends = append(ends, send(c, r))
		p.request()
	}
	p.conn.Close()
	for _, done := range ends {
		await(t, "the end", done).broken(t)
	}
	await(t, "the end of the connection", c.Closed())
	eventually(t, "no goroutine is left", func() bool {
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		return !strings.Contains(string(stacks), "h2.(*Conn)") && !strings.Contains(string(stacks), "h2.(*stream)")
	})
}

// eventually waits for what nothing tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}
