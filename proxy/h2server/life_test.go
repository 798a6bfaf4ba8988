package h2server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2server"
)

// Promise: GoAway loses no request: with real clients that ask all the time, none
// fails while one server after the other is left, and none is served twice.
func TestGoAwayLosesNothing(t *testing.T) {
	const servers, clients, each = 12, 6, 100
	var handled atomic.Int64
	cfg := config(func(w http.ResponseWriter, r *http.Request) {
		handled.Add(1)
		_, _ = io.Copy(w, r.Body)
	})
	var current atomic.Pointer[h2server.Server]
	current.Store(h2server.New(cfg))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server := current.Load()
			served.Go(func() { server.Serve(context.Background(), conn, nil) })
		}
	})
	var asked, askers sync.WaitGroup
	var count atomic.Int64
	next := make(chan struct{}, servers)
	for i := range clients {
		client := (&world{listener: listener}).client(t)
		for range 4 {
			askers.Go(func() {
				for j := range each {
					if count.Add(1)%(clients*4*each/servers) == 0 {
						next <- struct{}{}
					}
					method, want := http.MethodGet, ""
					if (i+j)%2 == 0 {
						method, want = http.MethodPost, strings.Repeat("body", j*100)
					}
					// A body that cannot be read twice would be lost by net/http's client
					// itself, when it has chosen a connection and then hears that it should leave.
					r, err := http.NewRequestWithContext(t.Context(), method, "http://"+listener.Addr().String(), strings.NewReader(want))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := client.Do(r)
					if err != nil {
						t.Errorf("%s: %v", method, err)
						return
					}
					got, err := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if err != nil || string(got) != want {
						t.Errorf("%s: %d bytes of %d, error %v", method, len(got), len(want), err)
					}
				}
			})
		}
	}
	asked.Go(func() { askers.Wait(); close(next) })
	for range next {
		current.Swap(h2server.New(cfg)).GoAway()
	}
	asked.Wait()
	_ = listener.Close()
	current.Load().GoAway()
	served.Wait()
	if n := handled.Load(); n != clients*4*each {
		t.Errorf("%d requests were served, and %d were made", n, clients*4*each)
	}
	nothingLeft(t)
}

// Promise: a client that is asked to leave is told so twice: first that it should, then
// which request is the last. What it began before is served, what it begins after is
// not, and the connection ends with its last request.
func TestLeaving(t *testing.T) {
	release := make(chan struct{})
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/late":
			t.Error("a request after the last reached the handler")
		case "/slow":
			<-release
		}
		_, _ = io.WriteString(w, r.URL.Path)
	}))
	c := w.connect(t)
	c.deaf = true
	slow := c.get("/slow")
	c.synced()
	w.GoAway()
	w.GoAway() // no more often than once
	c.until("the first", func() bool { return len(c.goAways) == 1 })
	c.ok(c.get("/begun"), "/begun")
	c.deaf = false
	c.do(c.WritePing(true, [8]byte{0, 0, 0, 0, 0, 0, 0, 2}))
	c.until("the second", func() bool { return len(c.goAways) == 2 })
	late := c.post("/late")
	c.do(c.WriteData(late, false, []byte("body")))
	c.synced()
	close(release)
	c.ok(slow, "/slow")
	if code := c.end(); code != http2.ErrCodeNo || len(c.goAways) != 2 {
		t.Errorf("it ended by %s, asked %d times", code, len(c.goAways))
	}
	if first, second := c.goAways[0].LastStreamID, c.goAways[1].LastStreamID; first != 1<<31-1 || second != 3 {
		t.Errorf("the last request is %d, then %d", first, second)
	}
}

// Promise: what a fault of a client that leaves has it told is no later request than
// was told before (RFC 9113 section 6.8).
func TestLastRequest(t *testing.T) {
	w := start(t, config(wait))
	c := w.connect(t)
	c.get("/")
	c.synced()
	w.GoAway()
	c.until("the second", func() bool { return len(c.goAways) == 2 })
	c.get("/late")
	c.do(c.WriteWindowUpdate(0, 1<<31-1)) // a fault
	c.end()
	for _, g := range c.goAways[1:] {
		if g.LastStreamID != 1 {
			t.Errorf("the last request is %d, by %s", g.LastStreamID, g.ErrCode)
		}
	}
}

// Promise: a connection that comes when the server is left already begins as any
// other, and is asked to leave then.
func TestConnectAfterGoAway(t *testing.T) {
	w := start(t, config(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "body") }))
	w.GoAway()
	c := w.connect(t)
	c.ok(c.get("/"), "body")
	if code := c.end(); code != http2.ErrCodeNo {
		t.Errorf("it ended by %s", code)
	}
}

// Promise: "Connection: close" in an answer has the client leave, after this answer
// and what else is under way, and they arrive whole, however long they are and
// whatever the client still sends.
func TestConnectionClose(t *testing.T) {
	const size = 4 << 20
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			w.Header().Set("Connection", "close")
			_, _ = io.WriteString(w, "body")
			return
		}
		ofSize(w, r)
	}))
	c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c.do(c.WriteWindowUpdate(0, 1<<30))
	other := c.post(fmt.Sprint("/", size))
	id := c.get("/")
	c.ok(id, "body")
	if got := c.streams[id].header["connection"]; got != "" {
		t.Errorf("the header has Connection: %s", got)
	}
	c.data(other, false, make([]byte, 100_000))
	c.ok(other, string(random(size)))
	if code := c.end(); code != http2.ErrCodeNo || isReset(c.ended) {
		t.Errorf("it ended by %s, %v", code, c.ended)
	}
}

// Promise: a client that leaves its side open, and says something more, keeps nothing
// of a connection that the server has ended.
func TestEndIsTheEnd(t *testing.T) {
	for name, send := range map[string]func(c *client){
		"a header in parts": func(c *client) {
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(of("GET", "/")...)}))
			c.do(c.WriteContinuation(1, true, nil))
		},
		"half of a header": func(c *client) {
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(of("GET", "/")...)}))
		},
		"a ping": func(c *client) { c.do(c.WritePing(false, [8]byte{})) },
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t, config(func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") }))
			c := w.connect(t)
			c.synced()
			w.GoAway()
			if code := c.end(); code != http2.ErrCodeNo {
				t.Errorf("it ended by %s", code)
			}
			send(c)
			_ = c.send()
			_ = w.listener.Close()
			done := make(chan struct{})
			go func() {
				w.served.Wait()
				close(done)
			}()
			await(t, "the end of the connection", done)
		})
	}
}

// Promise: when ctx ends, so do the contexts of requests.
func TestContextEnds(t *testing.T) {
	got := make(chan struct{}, 1)
	server := h2server.New(config(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		got <- struct{}{}
	}))
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer listener.Close()
		if conn, err := listener.Accept(); err == nil {
			server.Serve(ctx, conn, nil)
		}
	}()
	c := (&world{listener: listener}).connect(t)
	id := c.get("/")
	c.synced()
	cancel()
	await(t, "the handler", got)
	c.ok(id, "")
	_ = c.conn.Close()
	await(t, "the end of the connection", done)
	nothingLeft(t)
}
