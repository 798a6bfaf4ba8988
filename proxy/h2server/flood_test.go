package h2server_test

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
)

// wait waits until the stream is over.
func wait(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Promise: frames that break the protocol end the connection, with the code that RFC
// 9113 has for them; those that come late for a stream that is over do not.
func TestBrokenFrames(t *testing.T) {
	const protocol, size, flow = http2.ErrCodeProtocol, http2.ErrCodeFrameSize, http2.ErrCodeFlowControl
	const none = http2.ErrCode(0xfffe)
	raw := func(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) func(c *client) {
		return func(c *client) { c.do(c.WriteRawFrame(kind, flags, id, payload)) }
	}
	bytes := func(n int) []byte { return make([]byte, n) }
	for _, test := range []struct {
		name string
		send func(c *client) // stream 1 is open, and 3 has been answered
		end  http2.ErrCode   // of the connection; none if it goes on
	}{
		{"an unknown frame", raw(0xbe, 0xff, 1, 1, 2, 3), none},
		{"a priority of an idle stream", raw(http2.FramePriority, 0, 99, 0, 0, 0, 1, 5), none},
		{"a window of a stream that is over", func(c *client) { c.do(c.WriteWindowUpdate(3, 1)) }, none},
		{"a reset of a stream that is over", func(c *client) { c.do(c.WriteRSTStream(3, http2.ErrCodeCancel)) }, none},
		{"data of a stream that is over", func(c *client) { c.do(c.WriteData(3, true, []byte("x"))) }, none},
		{"a window larger than may be, of a stream", func(c *client) { c.do(c.WriteWindowUpdate(1, 1<<31-1)) }, none},
		{"a window of nothing, of a stream", raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 0), none},
		{"an unknown setting", raw(http2.FrameSettings, 0, 0, 0, 99, 0, 0, 0, 1), none},

		{"data of an idle stream", func(c *client) { c.do(c.WriteData(5, true, nil)) }, protocol},
		{"a window of an idle stream", func(c *client) { c.do(c.WriteWindowUpdate(5, 1)) }, protocol},
		{"a window of nothing, of an idle stream", raw(http2.FrameWindowUpdate, 0, 5, 0, 0, 0, 0), protocol},
		{"a reset of an idle stream", func(c *client) { c.do(c.WriteRSTStream(5, http2.ErrCodeCancel)) }, protocol},
		{"data of an even stream", func(c *client) { c.do(c.WriteData(2, true, nil)) }, protocol},
		{"a window of an even stream", func(c *client) { c.do(c.WriteWindowUpdate(2, 1)) }, protocol},
		{"a request of an even stream", raw(http2.FrameHeaders, 5, 6, 0x82, 0x87, 0x84), protocol},
		{"a request of no stream", raw(http2.FrameHeaders, 5, 0, 0x82, 0x87, 0x84), protocol},
		{"data of no stream", raw(http2.FrameData, 0, 0, 1), protocol},
		{"a reset of no stream", raw(http2.FrameRSTStream, 0, 0, 0, 0, 0, 1), protocol},
		{"a ping of a stream", raw(http2.FramePing, 0, 1, bytes(8)...), protocol},
		{"settings of a stream", raw(http2.FrameSettings, 0, 1), protocol},
		{"a push", raw(http2.FramePushPromise, 4, 1, 0, 0, 0, 2, 0x82), protocol},
		{"a continuation of nothing", raw(http2.FrameContinuation, 4, 1, 0x82), protocol},
		{"another frame within a header", func(c *client) {
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: c.fields(of("GET", "/")...)}))
			c.do(c.WritePing(false, [8]byte{}))
		}, protocol},
		{"a continuation of another stream", func(c *client) {
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, BlockFragment: c.fields(of("GET", "/")...)}))
			c.do(c.WriteContinuation(7, true, nil))
		}, protocol},
		{"padding longer than data", raw(http2.FrameData, http2.FlagDataPadded, 1, 9, 1), protocol},
		{"padding longer than a header", raw(http2.FrameHeaders, 4|8, 5, 9, 0x82), protocol},
		{"a window of nothing", raw(http2.FrameWindowUpdate, 0, 0, 0, 0, 0, 0), protocol},
		{"a setting that may not be", raw(http2.FrameSettings, 0, 0, 0, 2, 0, 0, 0, 9), protocol},

		{"a frame larger than may be", raw(http2.FrameData, 0, 1, bytes(16<<10+1)...), size},
		{"an unknown frame larger than may be", raw(0xbe, 0, 1, bytes(16<<10+1)...), size},
		{"a short ping", raw(http2.FramePing, 0, 0, 1), size},
		{"a short setting", raw(http2.FrameSettings, 0, 0, 0, 1, 0), size},
		{"a short reset", raw(http2.FrameRSTStream, 0, 1, 0), size},
		{"a short window", raw(http2.FrameWindowUpdate, 0, 1, 0), size},
		{"settings in an acknowledgement", raw(http2.FrameSettings, 1, 0, 0, 1, 0, 0, 0, 0), size},

		{"a window larger than may be", func(c *client) { c.do(c.WriteWindowUpdate(0, 1<<31-1)) }, flow},
		{"an initial window larger than may be", raw(http2.FrameSettings, 0, 0, 0, 4, 0x80, 0, 0, 0), flow},
		{"an initial window that makes one too large", func(c *client) {
			c.do(c.WriteWindowUpdate(1, 1<<31-1-65535))
			c.do(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65536}))
		}, flow},

		{"a header of a stream that is over", raw(http2.FrameHeaders, 5, 3, 0x82, 0x87, 0x84), http2.ErrCodeStreamClosed},
		{"a header that cannot be decoded", raw(http2.FrameHeaders, 5, 5, 0xff, 0xff, 0xff), http2.ErrCodeCompression},
		{"half of a header", raw(http2.FrameHeaders, 5, 5, 0x82, 0x40, 3, 'a'), http2.ErrCodeCompression},
		{"a table larger than may be", raw(http2.FrameHeaders, 5, 5, 0x3f, 0xe2, 0x1f, 0x82), http2.ErrCodeCompression},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					wait(w, r)
				}
			}))
			c := w.connect(t)
			c.post("/")
			c.ok(c.get("/"), "")
			test.send(c)
			if test.end == none {
				c.synced()
				c.ok(c.get("/"), "")
				if len(c.goAways) > 0 {
					t.Error("the client is asked to leave")
				}
				return
			}
			if code := c.end(); code != test.end {
				t.Errorf("it ended by %s, want %s", code, test.end)
			}
		})
	}
}

// Promise: a stream whose number goes down never reaches the handler.
func TestNumbersGoUp(t *testing.T) {
	w := start(t, config(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			t.Error("it reached the handler")
		}
	}))
	c := w.connect(t)
	c.next = 9
	c.ok(c.get("/"), "")
	c.next = 5
	bad := c.get("/bad")
	for !c.stream(bad).reset && c.try() == nil {
	}
}

// Promise: a connection that begins with something else is ended.
func TestPreface(t *testing.T) {
	w := start(t, config(nil))
	for name, send := range map[string]func(c *client){
		"another protocol": func(c *client) { c.out.WriteString("GET / HTTP/1.1\r\nHost: a\r\n\r\n") },
		"no settings": func(c *client) {
			c.out.WriteString(http2.ClientPreface)
			c.do(c.WritePing(false, [8]byte{}))
		},
		"an acknowledgement": func(c *client) {
			c.out.WriteString(http2.ClientPreface)
			c.do(c.WriteSettingsAck())
		},
	} {
		conn, err := net.Dial("tcp", w.listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		c := newClient(t, conn)
		send(c)
		if code := c.end(); code != http2.ErrCodeProtocol {
			t.Errorf("%s: it ended by %s", name, code)
		}
	}
}

// Promise: a flood of what costs the client little ends its connection, or makes the
// server keep little; others are served after it.
func TestFloods(t *testing.T) {
	const many, few = 3_000_000, 30_000
	reset := func(c *client, path string, end bool) {
		var id uint32
		if end {
			id = c.get(path)
		} else {
			id = c.post(path, "expect", "100-continue")
		}
		c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	for _, test := range []struct {
		name   string
		frames int  // at most
		reads  bool // the client reads what it is answered
		ends   bool
		send   func(c *client, i int)
	}{
		{"pings", many, false, true, func(c *client, _ int) { c.do(c.WritePing(false, [8]byte{})) }},
		{"settings", many, false, true, func(c *client, _ int) { c.do(c.WriteSettings()) }},
		{"pings, read", few, true, false, func(c *client, _ int) { c.do(c.WritePing(false, [8]byte{})) }},
		{"acknowledgements", few, false, false, func(c *client, _ int) { c.do(c.WriteSettingsAck()) }},
		{"unknown frames", few, false, false, func(c *client, _ int) { c.do(c.WriteRawFrame(0xbe, 0, 1, nil)) }},
		{"priorities", few, false, false, func(c *client, i int) {
			c.do(c.WritePriority(uint32(i), http2.PriorityParam{StreamDep: 7 + uint32(i)}))
		}},
		{"malformed requests", many, false, true, func(c *client, _ int) { c.headers(true, "a", "b") }},
		{"data of streams that are over", many, false, true, func(c *client, i int) {
			if i == 0 {
				c.headers(true, "a", "b")
			}
			c.do(c.WriteData(1, false, nil))
		}},
		{"windows that stay", few, false, false, func(c *client, i int) {
			if i == 0 {
				c.get("/wait")
			}
			c.do(c.WriteWindowUpdate(1, 1))
		}},
		{"empty data", few, false, false, func(c *client, i int) {
			if i == 0 {
				c.post("/wait")
			}
			c.do(c.WriteData(1, false, nil))
		}},
		{"empty continuations", many, false, true, func(c *client, i int) {
			if i == 0 {
				c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(of("GET", "/")...)}))
			}
			c.do(c.WriteContinuation(1, false, nil))
		}},
		{"a header without end", many, false, true, func(c *client, i int) {
			if i == 0 {
				c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(of("GET", "/")...)}))
			}
			c.do(c.WriteContinuation(1, false, c.fields("a", "b")))
		}},
		{"requests that are reset", many, true, true, func(c *client, _ int) { reset(c, "/stubborn", true) }},
		{"refused requests", many, true, true, func(c *client, _ int) { c.get("/stubborn") }},
		// What their handlers leave behind is no more than what they had.
		{"requests that are reset, without a window", few, true, false, func(c *client, i int) { reset(c, "/much", true) }},
		{"requests that are reset, not read", few, false, false, func(c *client, i int) { reset(c, "/much", true) }},
		{"questions that are reset, not read", few, false, false, func(c *client, i int) { reset(c, "/body", false) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			release := make(chan struct{})
			var running, most atomic.Int64
			cfg := config(func(w http.ResponseWriter, r *http.Request) {
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				defer running.Add(-1)
				switch r.URL.Path {
				case "/stubborn":
					<-release
				case "/much":
					_, _ = w.Write(make([]byte, 5000))
				case "/body":
					_, _ = io.Copy(w, r.Body)
				case "/wait":
					wait(w, r)
				}
			})
			cfg.Streams = 20
			w := start(t, cfg)
			c := w.connect(t)
			before := memory()
			if test.reads {
				go func() { _, _ = io.Copy(io.Discard, c.conn) }()
			}
			var err error
			sent := 0
			for ; sent < test.frames && err == nil; sent++ {
				test.send(c, sent)
				if c.out.Len() > 16<<10 {
					err = c.send()
				}
			}
			if test.ends != (err != nil) || test.ends && !isReset(err) {
				t.Errorf("after %d frames: %v", sent, err)
			}
			if grown := memory() - before; grown > 16<<20 {
				t.Errorf("%d frames made the server keep %d bytes", sent, grown)
			}
			if n := most.Load(); n > 20 {
				t.Errorf("%d handlers ran at a time", n)
			}
			if n := runtime.NumGoroutine(); n > 100 {
				t.Errorf("%d goroutines", n)
			}
			other := w.connect(t)
			other.ok(other.get("/"), "")
			close(release)
			_ = c.conn.Close()
		})
	}
}
