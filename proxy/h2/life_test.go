package h2_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// abandon sends a request, and gives it up when the peer has it. It returns its
// number when the peer has heard of that.
func abandon(t *testing.T, c *h2.Conn, p *peer) uint32 {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	gone := send(c, newRequest(t, http.MethodGet, "/gone", nil).WithContext(ctx))
	id, _ := p.request()
	cancel()
	if got := await(t, "the end", gone); !errors.Is(got.err, context.Canceled) {
		t.Errorf("error %v, want that of the context", got.err)
	}
	if code := p.reset(id); code != http2.ErrCodeCancel {
		t.Errorf("reset with %v, want CANCEL", code)
	}
	return id
}

// Promise: a server that goes away ends what it has begun, and what it has not
// may be sent elsewhere. Nothing new is sent to it.
func TestGoAway(t *testing.T) {
	c, p := connect(t, h2.Config{})
	first := send(c, newRequest(t, http.MethodGet, "/first", nil))
	one, _ := p.request()
	second := send(c, newRequest(t, http.MethodPost, "/second", newEndless()))
	p.request()

	p.do(p.WriteGoAway(1<<31-1, http2.ErrCodeNo, nil)) // the warning
	p.do(p.WritePing(false, [8]byte{1}))
	p.expect("a ping's answer", func(f http2.Frame) bool { ping, ok := f.(*http2.PingFrame); return ok && ping.IsAck() })
	body := newEndless()
	if got := await(t, "a request after GOAWAY", send(c, newRequest(t, http.MethodPost, "/late", body))); !errors.Is(got.err, h2.ErrNotTaken) || !errors.Is(got.err, h2.ErrUnprocessed) {
		t.Errorf("error %v, want that it was not taken", got.err)
	}
	select {
	case <-body.closed:
		t.Error("the body of a request that was not taken is closed")
	default:
	}

	p.do(p.WriteGoAway(one, http2.ErrCodeNo, nil))
	if got := await(t, "the second answer", second); !errors.Is(got.err, h2.ErrUnprocessed) {
		t.Errorf("error %v, want that it was not processed", got.err)
	}
	p.header(one, false, ":status= 200")
	p.data(one, true, "first")
	await(t, "the first answer", first).whole(t, 200, "first")
	await(t, "the end of the connection", c.Closed())
}

// Promise: a request whose answer nobody will see is not sent on, whoever ended it,
// and nothing waits for it.
func TestRequestEndsWithItsStream(t *testing.T) {
	ends := map[string]struct {
		end         func(p *peer, id uint32)
		unprocessed bool
		whole       bool
	}{
		"reset":       {end: func(p *peer, id uint32) { p.do(p.WriteRSTStream(id, http2.ErrCodeCancel)) }},
		"refused":     {end: func(p *peer, id uint32) { p.do(p.WriteRSTStream(id, http2.ErrCodeRefusedStream)) }, unprocessed: true},
		"going away":  {end: func(p *peer, _ uint32) { p.do(p.WriteGoAway(0, http2.ErrCodeNo, nil)) }, unprocessed: true},
		"lost":        {end: func(p *peer, _ uint32) { p.conn.Close() }},
		"malformed":   {end: func(p *peer, id uint32) { p.header(id, false, "a= b") }},
		"an answer":   {end: func(p *peer, id uint32) { p.header(id, true, ":status= 413") }, whole: true},
		"window of 0": {end: func(p *peer, id uint32) { p.do(p.WriteRawFrame(http2.FrameWindowUpdate, 0, id, make([]byte, 4))) }},
	}
	for name, test := range ends {
		t.Run(name, func(t *testing.T) {
			c, p := connect(t, h2.Config{})
			body := newEndless()
			done := send(c, newRequest(t, http.MethodPost, "/", body))
			id, _ := p.request()
			for left := 65535; left > 0; { // then it waits for a window
				f := p.expect("the body", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
				left -= len(f.(*http2.DataFrame).Data())
			}
			test.end(p, id)
			got := await(t, "the end of the request", done)
			if test.whole {
				got.whole(t, 413, "")
				if code := p.reset(id); code != http2.ErrCodeNo {
					t.Errorf("reset with %v, want NO_ERROR", code)
				}
			} else {
				got.broken(t)
			}
			if errors.Is(got.err, h2.ErrUnprocessed) != test.unprocessed {
				t.Errorf("error %v; that it was not processed: want %t", got.err, test.unprocessed)
			}
			await(t, "the body's end", body.closed)
		})
	}
}

// Promise: a request whose body does not come whole does not look whole to the API
// server.
func TestRequestBodyFails(t *testing.T) {
	lengths := map[string]struct {
		body   io.Reader
		length int64
	}{
		"too short":     {strings.NewReader("body"), 5},
		"too long":      {strings.NewReader("body"), 3},
		"cut off":       {io.MultiReader(strings.NewReader("body"), failing{io.ErrUnexpectedEOF}), -1},
		"another error": {io.MultiReader(strings.NewReader("body"), failing{errors.New("another")}), -1},
		"wrapped EOF":   {io.MultiReader(strings.NewReader("body"), failing{errors.Join(errors.New("lost"), io.EOF)}), -1},
	}
	for name, test := range lengths {
		t.Run(name, func(t *testing.T) {
			c, p := connect(t, h2.Config{})
			r := newRequest(t, http.MethodPut, "/", io.NopCloser(test.body))
			r.ContentLength = test.length
			done := send(c, r)
			id, _ := p.request()
			p.expect("a reset", func(f http2.Frame) bool {
				if data, ok := f.(*http2.DataFrame); ok && data.StreamEnded() {
					t.Fatal("the request looks whole")
				}
				return f.Header().Type == http2.FrameRSTStream && f.Header().StreamID == id
			})
			if got := await(t, "the end", done); got.err == nil {
				t.Error("no error")
			}
		})
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// Promise: no more requests are under way than the API server allows, those that
// it has not heard the end of included; when it has, they make room.
func TestStreamLimit(t *testing.T) {
	c, p := connect(t, h2.Config{}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	p.deaf = true
	abandon(t, c, p)
	abandon(t, c, p)
	if status := c.Status(); status.Usable || status.Load != 2 || status.Most != 2 {
		t.Fatalf("status %+v after as many resets as there is room", status)
	}
	if got := await(t, "one too many", send(c, newRequest(t, http.MethodGet, "/", nil))); !errors.Is(got.err, h2.ErrNotTaken) {
		t.Errorf("error %v, want that it was not taken", got.err)
	}
	p.deaf = false
	p.pong()
	answerPings(p, c, func(s h2.Status) bool { return s.Load == 0 })
	c.Reserve()
	c.Reserve()
	if c.Status().Usable {
		t.Error("two places are kept of two, and there is another")
	}
	for range 2 {
		done := send(c, newRequest(t, http.MethodGet, "/", nil))
		id, _ := p.request()
		p.header(id, true, ":status= 200")
		await(t, "an answer", done).whole(t, 200, "")
	}
	if load := c.Status().Load; load != 0 {
		t.Errorf("load %d after the last answer", load)
	}
}

// answerPings answers every ping until c is as wanted. It asks for signs of life
// itself: what it sent before one has then arrived.
func answerPings(p *peer, c *h2.Conn, wanted func(h2.Status) bool) {
	p.t.Helper()
	for n := uint64(1); !wanted(c.Status()); n++ {
		p.do(p.WritePing(false, [8]byte{byte(n)}))
		p.expect("a ping's answer", func(f http2.Frame) bool {
			ping, ok := f.(*http2.PingFrame)
			return ok && ping.IsAck()
		})
		if n > 1000 {
			p.t.Fatalf("status %+v, and nothing changes", c.Status())
		}
	}
}

// Promise: a server that has gone without a word is noticed: first no more
// requests are sent to it, then those under way fail.
func TestSilentPeer(t *testing.T) {
	c, _ := connect(t, h2.Config{PingAfter: 20 * time.Millisecond, SuspectAfter: 20 * time.Millisecond, PingTimeout: time.Second})
	done := send(c, newRequest(t, http.MethodGet, "/", nil))
	for suspected := false; !suspected; {
		select {
		case <-c.Closed():
			t.Fatal("the connection was given up before it was suspected")
		default:
			status := c.Status()
			suspected = status.Suspect && !status.Usable
		}
	}
	if got := await(t, "the end of the request", done); !errors.Is(got.err, h2.ErrLost) || errors.Is(got.err, h2.ErrUnprocessed) {
		t.Errorf("error %v, want that the connection was lost", got.err)
	}
	await(t, "the end of the connection", c.Closed())
}

// Promise: a quiet server that answers pings is kept, with the watch on it.
func TestQuietPeer(t *testing.T) {
	c, p := connect(t, h2.Config{PingAfter: 10 * time.Millisecond, PingTimeout: 10 * time.Second})
	watch := send(c, newRequest(t, http.MethodGet, "/", nil))
	id, _ := p.request()
	for range 5 {
		p.expect("a ping", func(f http2.Frame) bool { return f.Header().Type == http2.FramePing })
	}
	p.header(id, false, ":status= 200")
	p.data(id, true, "late")
	await(t, "the answer", watch).whole(t, 200, "late")
	if !c.Status().Usable {
		t.Error("the connection is not usable")
	}
}

// Promise: a connection that is retired ends when its last request has.
func TestRetire(t *testing.T) {
	c, p := connect(t, h2.Config{})
	last := send(c, newRequest(t, http.MethodGet, "/", nil))
	id, _ := p.request()
	c.Retire()
	if got := await(t, "another request", send(c, newRequest(t, http.MethodGet, "/", nil))); !errors.Is(got.err, h2.ErrNotTaken) {
		t.Errorf("error %v, want that it was not taken", got.err)
	}
	p.header(id, false, ":status= 200")
	p.data(id, true, "last")
	await(t, "the last answer", last).whole(t, 200, "last")
	await(t, "the end of the connection", c.Closed())
}
