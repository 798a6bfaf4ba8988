package h2server

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Promise: the server's settings come before all else, even if the server was told to
// end before the connection began (RFC 9113 section 3.4), and a client that is gone by
// then does no harm.
func TestLeavesBeforeItBegins(t *testing.T) {
	s := serverFor(1, func(http.ResponseWriter, *http.Request) {})
	s.GoAway()
	a := attack(t, s)
	if f, err := a.ReadFrame(); err != nil || f.Header().Type != http2.FrameSettings {
		t.Fatalf("the first frame is %v, %v", f, err)
	}
	for range 100 {
		gone := attack(t, s)
		_ = gone.conn.Close()
		gone.awaitEnd()
	}
}

// Promise: a request that its client takes back while its answer waits leaves nothing
// behind, however many there are.
func TestWaitersAreForgotten(t *testing.T) {
	for name, test := range map[string]struct {
		body  int
		reads bool
	}{
		"what was written before is not read": {8 << 10, false},
		"no window":                           {1, true},
	} {
		t.Run(name, func(t *testing.T) {
			const streams = 20
			a := attack(t, serverFor(streams, func(w http.ResponseWriter, r *http.Request) {
				if _, err := w.Write(make([]byte, test.body)); err == nil {
					_, _ = w.Write(make([]byte, 70_000))
				}
			}))
			if test.reads {
				go func() { _, _ = io.Copy(io.Discard, a.conn) }()
			}
			a.greet(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
			block := request("GET")
			a.ask(1, true, block)
			waiting := func(c *conn) int { return len(c.forQueue) + len(c.forWindow) }
			a.until("the first waits", func(c *conn) bool { return waiting(c) > 0 })
			for id := uint32(3); id < 1000; id += 2 {
				a.ask(id, true, block)
				a.until("it waits", func(c *conn) bool { return c.streams[id] != nil && c.streams[id].waits != forNothing })
				a.must(a.WriteRSTStream(id, http2.ErrCodeCancel))
			}
			a.until("all but the first have ended", func(c *conn) bool { return c.running == 1 })
			a.until("nobody else waits", func(c *conn) bool { return waiting(c) <= streams })
		})
	}
}

// Promise: a connection that was told to end does so, whatever its client still sends.
func TestEndsWhateverComes(t *testing.T) {
	for name, send := range map[string]func(*attacker){
		"the rest of a header": func(a *attacker) {
			a.greet()
			a.server.GoAway()
			a.readUntil("the ping", func(f http2.Frame) bool {
				ping, ok := f.(*http2.PingFrame)
				return ok && a.WritePing(true, ping.Data) == nil
			})
			_, _ = io.Copy(io.Discard, a.conn) // until the server has closed its side
			block := request("GET")
			_ = a.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: block[:3]})
			_ = a.WriteContinuation(1, true, block[3:])
		},
		"a preface": func(a *attacker) {
			a.server.GoAway()
			_, _ = io.Copy(io.Discard, a.conn)
			_, _ = io.WriteString(a.conn, http2.ClientPreface)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			ours, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			theirs, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			a := attackOver(t, serverFor(1, func(http.ResponseWriter, *http.Request) {}), ours, theirs)
			a.until("it is served", func(*conn) bool { return true })
			send(a)
			a.awaitEnd()
		})
	}
}

// Promise: an answer that has a length and may have no body is whole (RFC 9110 section
// 8.6).
func TestLengthWithoutBody(t *testing.T) {
	for _, test := range []struct {
		method string
		code   int
	}{{"GET", 304}, {"HEAD", 304}, {"HEAD", 200}} {
		a := attack(t, serverFor(1, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			w.WriteHeader(test.code)
		}))
		go func() {
			a.greet()
			a.ask(1, true, request(test.method))
		}()
		a.readUntil("the end of the answer", func(f http2.Frame) bool {
			if reset, ok := f.(*http2.RSTStreamFrame); ok {
				t.Fatalf("%s answered with %d: reset with %s", test.method, test.code, reset.ErrCode)
			}
			return f.Header().StreamID == 1 && f.Header().Flags.Has(http2.FlagDataEndStream)
		})
	}
}

// Promise: a client that has its bodies asked for and does not read that is not served
// any more before it fills the memory.
func TestAsksForBodies(t *testing.T) {
	a := attack(t, serverFor(10, func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 1)) }))
	a.greet()
	block := request("POST", "expect", "100-continue")
	for id := uint32(1); id < 40_000; id += 2 {
		a.until("the one before has ended", func(c *conn) bool { return c.running == 0 })
		if a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block}) != nil {
			return
		}
		over := false
		a.until("it is asked", func(c *conn) bool {
			over = c.over
			return over || c.streams[id] != nil && !c.streams[id].asks
		})
		if over || a.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			return
		}
	}
	t.Error("it is served for ever")
}

// Promise: a client whose requests are broken off, and who does not read that, is not
// served any more before it fills the memory.
func TestAbortsAreAnswers(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a panic": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a deadline": func(w http.ResponseWriter, _ *http.Request) {
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := attack(t, serverFor(10, handler))
			a.greet()
			block := request("GET")
			for id := uint32(1); id < 40_000; id += 2 {
				over := false
				a.until("the one before has ended", func(c *conn) bool {
					over = c.over
					return over || c.running == 0
				})
				if over || a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: block}) != nil {
					return
				}
			}
			t.Error("it is served for ever")
		})
	}
}

// Promise: a client that sends more than it was told that it may, and does not read
// what gives the windows back, is not served any more before that fills the memory.
func TestWindowUpdatesAreAnswers(t *testing.T) {
	a := attack(t, serverFor(1, func(_ http.ResponseWriter, r *http.Request) {
		_ = r.Body.Close()
		<-r.Context().Done()
	}))
	a.greet()
	a.ask(1, false, request("POST"))
	a.until("nobody reads the body", func(c *conn) bool { return c.streams[1] != nil && c.streams[1].deaf != nil })
	data := make([]byte, maxFrame)
	for range 40_000 {
		if a.WriteData(1, false, data) != nil {
			return
		}
	}
	t.Error("it is served for ever")
}

// Promise: nothing is said of a stream after its client has reset it.
func TestDoesNotAskForWhatIsOver(t *testing.T) {
	read, over := make(chan struct{}), make(chan struct{})
	a := attack(t, serverFor(10, func(_ http.ResponseWriter, r *http.Request) {
		<-read
		_, _ = r.Body.Read(make([]byte, 1))
		close(over)
	}))
	go func() {
		a.greet()
		a.ask(1, false, request("POST", "expect", "100-continue"))
		a.must(a.WriteRSTStream(1, http2.ErrCodeCancel))
		a.until("it is reset", func(c *conn) bool { return c.last == 1 && len(c.streams) == 0 })
		close(read)
		<-over
		a.must(a.WritePing(false, [8]byte{9}))
	}()
	a.readUntil("the answer to the ping", func(f http2.Frame) bool {
		if f.Header().StreamID == 1 {
			t.Errorf("it gets %v", f)
		}
		return f.Header().Type == http2.FramePing
	})
}

// Promise: what waits is not copied again for each frame that joins it.
func TestQueueGrows(t *testing.T) {
	var w writing
	w.init(new(queues))
	copies, size := 0, 0
	for range 4 * maxControl / 17 {
		w.ping(true, [8]byte{})
		if cap(w.queue) != size {
			copies, size = copies+1, cap(w.queue)
		}
	}
	if copies > 10 {
		t.Errorf("%d bytes were copied %d times", len(w.queue), copies)
	}
}

// Promise: a client may not have the server reset without end what its handlers have
// not begun (CVE-2025-8671), as it may not do so itself (CVE-2023-44487).
func TestMadeYouReset(t *testing.T) {
	for name, provoke := range map[string]func(a *attacker, id uint32){
		"a window update of nothing": func(a *attacker, id uint32) { _ = a.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4)) },
		"a window too large":         func(a *attacker, id uint32) { _ = a.WriteWindowUpdate(id, maxWindow) },
		"a priority of its own":      func(a *attacker, id uint32) { _ = a.WritePriority(id, http2.PriorityParam{StreamDep: id}) },
		"a body too long":            func(a *attacker, id uint32) { _ = a.WriteData(id, false, []byte("abc")) },
		"a trailer that does not end it": func(a *attacker, id uint32) {
			_ = a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: request("GET")})
		},
		"a reset": func(a *attacker, id uint32) { _ = a.WriteRSTStream(id, http2.ErrCodeCancel) },
	} {
		t.Run(name, func(t *testing.T) {
			end := make(chan struct{})
			a := attack(t, serverFor(2, func(http.ResponseWriter, *http.Request) { <-end }))
			defer close(end)
			a.AllowIllegalWrites = true
			go func() {
				a.greet()
				for id := uint32(1); id < 200; id += 2 {
					block := request("POST", "content-length", "2")
					if a.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndHeaders: true, BlockFragment: block}) != nil {
						return
					}
					provoke(a, id)
				}
				_ = a.WritePing(false, [8]byte{9})
			}()
			a.readUntil("the end of patience", func(f http2.Frame) bool {
				if f.Header().Type == http2.FramePing {
					t.Fatal("it goes on for ever")
				}
				away, ok := f.(*http2.GoAwayFrame)
				return ok && away.ErrCode == http2.ErrCodeEnhanceYourCalm
			})
		})
	}
}

// Promise: a client that was told which of its requests is the last is not told later
// that it was another (RFC 9113 section 6.8).
func TestLastStaysLast(t *testing.T) {
	end := make(chan struct{})
	a := attack(t, serverFor(2, func(http.ResponseWriter, *http.Request) { <-end }))
	defer close(end)
	go func() {
		a.greet()
		a.ask(1, true, request("GET"))
		a.until("it is served", func(c *conn) bool { return c.running == 1 })
		a.server.GoAway()
		a.must(a.WritePing(true, partingPing()))
		a.ask(3, true, request("GET"))
		_ = a.WriteWindowUpdate(0, maxWindow)
	}()
	if last := a.goAway(http2.ErrCodeFlowControl); last != 1 {
		t.Errorf("the last is %d, and was 1", last)
	}
}

// Promise: a connection that waits for requests does not hold the header of the last,
// which may be large, and has a token in it.
func TestHoldsNoHeader(t *testing.T) {
	a := attack(t, serverFor(2, func(http.ResponseWriter, *http.Request) {}))
	go func() {
		a.greet()
		a.ask(1, true, request("GET", "authorization", "Bearer a"))
		a.must(a.WritePing(false, [8]byte{9}))
	}()
	a.readUntil("the answer to the ping", func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
	a.until("the header is gone", func(c *conn) bool {
		held := c.read.field
		if held.header.Fields() != nil || held.pseudo != [4]string{} {
			t.Error("it holds the header")
		}
		return true
	})
}
