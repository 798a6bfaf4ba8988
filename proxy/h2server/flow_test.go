package h2server_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
)

// ofSize answers with as many random bytes as the path says, written in pieces of
// all sizes.
func ofSize(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/"))
	body := random(n)
	for pick := rand.New(rand.NewPCG(1, uint64(n))); len(body) > 0; {
		part := min(len(body), 1+pick.IntN(1<<(1+pick.IntN(18))))
		if _, err := w.Write(body[:part]); err != nil {
			return
		}
		if body = body[part:]; pick.IntN(4) == 0 {
			_ = http.NewResponseController(w).Flush()
		}
	}
}

// spend fails the test if the server has sent more than windows allow.
func (c *client) spend(allowed map[uint32]int) {
	c.t.Helper()
	total := 0
	for id, s := range c.streams {
		total += len(s.body)
		if len(s.body) > allowed[id] {
			c.t.Fatalf("stream %d: %d bytes came, and %d were allowed", id, len(s.body), allowed[id])
		}
	}
	if total > allowed[0] {
		c.t.Fatalf("%d bytes came, and %d were allowed", total, allowed[0])
	}
}

// Promise: 20 MB on several streams arrive byte by byte, and never more than the
// windows allow, however the client moves these (RFC 9113 section 6.9).
func TestSmallWindows(t *testing.T) {
	const streams, size = 8, 20 << 20 / 8
	w := start(t, config(ofSize))
	initial := 1000
	c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(initial)})
	pick := rand.New(rand.NewPCG(1, 2))
	allowed := map[uint32]int{0: 65535}
	var ids []uint32
	for i := range streams {
		id := c.get(fmt.Sprint("/", size-i))
		ids = append(ids, id)
		allowed[id] = initial
	}
	grant := func(id uint32, n int) {
		c.do(c.WriteWindowUpdate(id, uint32(n)))
		allowed[id] += n
	}
	for i, id := range ids {
		for s := c.stream(id); !s.whole; c.step() {
			c.spend(allowed)
			total := 0
			for _, other := range ids {
				got := c.stream(other)
				total += len(got.body)
				if !got.whole && allowed[other] == len(got.body) {
					grant(other, 1+pick.IntN(1<<(1+pick.IntN(20))))
				}
			}
			if allowed[0] == total {
				grant(0, 1+pick.IntN(1<<(1+pick.IntN(20))))
			}
		}
		c.ok(id, string(random(size-i)))
		if t.Failed() {
			return
		}
	}
}

// Promise: a change of the initial window counts for streams that are open, up, and
// down to below nothing (RFC 9113 section 6.9.2).
func TestInitialWindowChanges(t *testing.T) {
	w := start(t, config(ofSize))
	c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	window := func(n int) {
		acks := c.acks
		c.do(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n)}))
		c.until("the acknowledgement", func() bool { return c.acks > acks })
	}
	id := c.get("/50000")
	s := c.stream(id)
	exactly := func(n int) {
		t.Helper()
		c.until("what may be sent", func() bool { return len(s.body) >= n })
		c.synced()
		if len(s.body) != n {
			t.Fatalf("%d bytes came, and %d were allowed", len(s.body), n)
		}
	}
	exactly(1000)
	window(5000)
	exactly(5000)
	window(400) // 4600 below nothing
	c.do(c.WriteWindowUpdate(id, 4600))
	exactly(5000)
	c.do(c.WriteWindowUpdate(id, 1))
	exactly(5001)
	window(0)
	other := c.get("/1")
	c.synced()
	if len(c.stream(other).body) > 0 {
		t.Error("a stream begins with the window of another time")
	}
	window(1 << 20)
	c.ok(other, string(random(1)))
	c.ok(id, string(random(50000)))
}

// Promise: answers are read right whatever size the client's table has, and how often
// it changes (RFC 7541 section 4.2).
func TestHeaderTable(t *testing.T) {
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		for i := range 50 {
			w.Header().Set(fmt.Sprint("X-", i), r.URL.Path+strings.Repeat("v", i))
		}
	}))
	c := w.connect(t, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	c.decoder.SetMaxDynamicTableSize(0)
	c.decoder.SetAllowedMaxDynamicTableSize(0)
	for round, size := range []uint32{0, 4096, 0, 100, 4096, 1 << 30, 4096, 5} {
		acks := c.acks
		if round%2 == 1 { // two changes at once: the least has to be told too
			c.do(c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}))
			acks++
		}
		c.do(c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
		c.until("the acknowledgement", func() bool { return c.acks > acks })
		c.decoder.SetAllowedMaxDynamicTableSize(size)
		for _, path := range []string{"/a", "/b", "/a"} {
			id := c.get(path)
			c.ok(id, "")
			if got := c.streams[id].header["x-9"]; got != path+"vvvvvvvvv" {
				t.Fatalf("round %d: the answer to %s has %q", round, path, got)
			}
		}
	}
}

// Promise: a stream of which the client takes nothing holds up no other.
func TestStalledStreams(t *testing.T) {
	w := start(t, config(ofSize))
	c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 100})
	var stalled []uint32
	for range 50 {
		stalled = append(stalled, c.get("/1000"))
	}
	for range 100 {
		c.ok(c.get("/100"), string(random(100)))
		c.do(c.WriteWindowUpdate(0, 100))
	}
	for _, id := range stalled {
		c.do(c.WriteWindowUpdate(id, 900))
	}
	for _, id := range stalled {
		c.ok(id, string(random(1000)))
		c.do(c.WriteWindowUpdate(0, 1000))
	}
}

// Promise: all that wait for the connection's window get on, however little it grows,
// and although some of them are reset meanwhile.
func TestConnectionWindow(t *testing.T) {
	w := start(t, config(ofSize))
	for round := range 5 {
		c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
		pick := rand.New(rand.NewPCG(3, uint64(round)))
		var ids []uint32
		reset := map[uint32]bool{}
		for range 100 {
			ids = append(ids, c.get("/9000"))
		}
		got := func() (n int) {
			for _, s := range c.streams {
				n += len(s.body)
			}
			return n
		}
		for allowed, i := 65535, 0; ; i++ {
			c.until("what may be sent", func() bool { return got() >= allowed || c.over(ids, reset) })
			if c.over(ids, reset) {
				break
			}
			if id := ids[pick.IntN(len(ids))]; i%3 == 0 && !c.stream(id).whole && !reset[id] && len(reset) < 50 {
				c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
				reset[id] = true
			}
			n := 1 + pick.IntN(12_000)
			c.do(c.WriteWindowUpdate(0, uint32(n)))
			allowed += n
		}
		for _, id := range ids {
			if !reset[id] {
				c.ok(id, string(random(9000)))
			}
		}
		_ = c.conn.Close()
	}
}

// over reports whether all but those that were reset are whole.
func (c *client) over(ids []uint32, reset map[uint32]bool) bool {
	for _, id := range ids {
		if !reset[id] && !c.stream(id).whole {
			return false
		}
	}
	return true
}

// Promise: a client that never reads makes the server keep little, and holds up no
// other; when it reads at last, all is there.
func TestNoReader(t *testing.T) {
	const size = 1 << 20
	w := start(t, config(ofSize))
	silent := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	before := memory()
	silent.do(silent.WriteWindowUpdate(0, 1<<30))
	var ids []uint32
	for range 99 {
		ids = append(ids, silent.get(fmt.Sprint("/", size)))
	}
	silent.do(silent.send())
	other := w.connect(t)
	for range 20 {
		other.ok(other.get("/60000"), string(random(60000)))
		other.do(other.WriteWindowUpdate(0, 60000))
	}
	// Each of 99 handlers has an answer of its own beside.
	if grown := memory() - before; grown > 99*size+16<<20 {
		t.Errorf("the server keeps %d bytes", grown)
	}
	body := random(size)
	for _, id := range ids {
		if s := silent.answer(id); !s.whole || !bytes.Equal(s.body, body) {
			t.Fatalf("stream %d: %d bytes came, whole: %t", id, len(s.body), s.whole)
		}
		silent.streams[id].body = nil
	}
}

// Promise: a real client's requests, many at a time, up and down, all arrive as they
// were.
func TestLibraryClient(t *testing.T) {
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		_, _ = io.Copy(w, r.Body)
	}))
	client := w.client(t)
	var all sync.WaitGroup
	for i := range 40 {
		all.Go(func() {
			body := random(1 + i*i*1000)
			for range 3 {
				resp, err := client.Post(w.url("/"), "", bytes.NewReader(body))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				_ = resp.Body.Close()
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes of %d came, error %v", len(got), len(body), err)
				}
			}
		})
	}
	all.Wait()
}

// client returns the library's client, whose connections end with the test.
func (w *world) client(t testing.TB) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 2 * patience}
}

func (w *world) url(path string) string { return "http://" + w.listener.Addr().String() + path }

// Promise: what waits for the connection's window and is reset leaves nothing behind,
// although that window never grows.
func TestResetWhileWaiting(t *testing.T) {
	const streams, rounds, size = 50, 40, 10_000
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-A", strings.Repeat(r.URL.Path, size/2))
		if r.URL.Path == "/first" {
			w.Header().Del("X-A")
			_, _ = w.Write(make([]byte, 65535))
			return
		}
		_ = http.NewResponseController(w).Flush()
		_, _ = w.Write(make([]byte, 1))
		<-r.Context().Done()
	}))
	c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	first := c.answer(c.get("/first"))
	first.body = nil
	before := memory()
	for range rounds {
		var ids []uint32
		for range streams {
			ids = append(ids, c.get("/a"))
		}
		for _, id := range ids {
			c.until("the header", func() bool { return c.stream(id).status == "200" })
		}
		c.synced()
		for _, id := range ids {
			c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
			delete(c.streams, id)
		}
	}
	c.synced()
	if grown := memory() - before; grown > rounds*streams*size/4 {
		t.Errorf("%d streams made the server keep %d bytes", rounds*streams, grown)
	}
	c.do(c.WriteWindowUpdate(0, 1))
	s := c.stream(c.get("/a"))
	c.until("one byte", func() bool { return len(s.body) == 1 })
}
