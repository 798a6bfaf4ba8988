package h2server_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2server"
)

// These tests run in a bubble whose clock moves when everybody waits, over
// connections in memory: a bubble cannot wait for a socket.

// limits of the servers here.
const (
	headerTime  = 15 * time.Second
	idleTime    = 90 * time.Second
	pingAfter   = 20 * time.Second
	pingTimeout = 10 * time.Second
)

// timed returns a client of a server with limits.
func timed(t *testing.T, handler http.HandlerFunc) *client {
	t.Helper()
	cfg := config(handler)
	cfg.HeaderTime, cfg.IdleTime, cfg.PingAfter, cfg.PingTimeout = headerTime, idleTime, pingAfter, pingTimeout
	cfg.Log = slog.New(slog.DiscardHandler)
	near, far := net.Pipe()
	go h2server.New(cfg).Serve(t.Context(), near, nil)
	c := newClient(t, far)
	_ = far.SetDeadline(time.Time{})
	c.out.WriteString(http2.ClientPreface)
	c.do(c.WriteSettings())
	return c
}

// lasts reads until the connection ends, and fails the test unless that takes as
// long as it may.
func (c *client) lasts(least, most time.Duration) {
	c.t.Helper()
	begun := time.Now()
	for c.try() == nil {
	}
	if took := time.Since(begun); took < least || took > most {
		c.t.Errorf("it ended after %s, want %s to %s", took, least, most)
	}
}

// Promise: who begins and does not go on has as long as a header may take.
func TestHeaderTime(t *testing.T) {
	for name, send := range map[string]func(c *client){
		"nothing":           func(c *client) { c.out.Reset() },
		"half of a preface": func(c *client) { c.out.Truncate(10) },
		"half of a header": func(c *client) {
			c.synced()
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(of("GET", "/")...)}))
		},
		"a slow header": func(c *client) {
			c.synced()
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(of("GET", "/")...)}))
			c.do(c.send())
			done := make(chan struct{})
			go func() { // each part comes in time
				defer close(done)
				for slow := http2.NewFramer(c.conn, nil); slow.WriteContinuation(1, false, []byte{0x10, 1, 'a', 1, 'b'}) == nil; {
					time.Sleep(time.Second)
				}
			}()
			c.t.Cleanup(func() { <-done })
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := timed(t, func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
				send(c)
				c.do(c.send())
				c.mute = true
				c.lasts(headerTime, headerTime+time.Second)
			})
		})
	}
}

// Promise: a connection without a request ends when it was idle for long enough, by a
// polite GOAWAY; one with a request lasts for days, if its client is there.
func TestIdleTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := timed(t, func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(72 * time.Hour)
			_, _ = io.WriteString(w, "body")
		})
		for range 3 {
			begun := time.Now()
			c.ok(c.get("/"), "body")
			if took := time.Since(begun); took != 72*time.Hour {
				t.Errorf("the answer took %s", took)
			}
		}
		c.lasts(idleTime, idleTime+pingTimeout)
		if len(c.goAways) != 1 || c.goAways[0].ErrCode != http2.ErrCodeNo || c.goAways[0].LastStreamID != 5 {
			t.Errorf("it ended by %v", c.goAways)
		}
	})
}

// Promise: who does not take the answer to what is no request holds it, and so the
// connection, for half a minute.
func TestRefusalsEnd(t *testing.T) {
	for name, more := range map[string][]string{
		"a header of HTTP/1.1": {"connection", "close"},
		"a header too large":   {"a", strings.Repeat("a", 9<<10), "b", strings.Repeat("a", 9<<10)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := timed(t, func(http.ResponseWriter, *http.Request) { t.Error("it reached the handler") })
				_ = c.conn.SetDeadline(time.Now().Add(time.Hour))
				c.do(c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize}))
				id := c.get("/", more...)
				c.lasts(idleTime+30*time.Second, idleTime+30*time.Second+pingTimeout)
				if s := c.streams[id]; s == nil || !s.reset {
					t.Errorf("its answer is %v, want a reset", s)
				}
			})
		})
	}
}

// Promise: a client that gives no sign of life is asked for one, and its connection and
// its requests end when none comes; another frame is one too.
func TestSilentClients(t *testing.T) {
	for _, test := range []struct {
		name        string
		talks       bool
		least, most time.Duration
	}{
		{"silent", false, pingAfter + pingTimeout, pingAfter + 3*pingTimeout},
		{"talking", true, time.Hour, time.Hour + pingAfter + 4*pingTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ended := make(chan struct{})
				c := timed(t, func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					close(ended)
				})
				c.deaf = true
				c.get("/")
				c.synced()
				if test.talks {
					go func() {
						other := http2.NewFramer(c.conn, nil)
						for end := time.Now().Add(time.Hour); time.Now().Before(end); time.Sleep(pingAfter + pingTimeout/2) {
							_ = other.WriteWindowUpdate(0, 1)
						}
					}()
				}
				c.lasts(test.least, test.most)
				<-ended
			})
		})
	}
}

// Promise: a client that does not say that it knows is told after a second which
// request is the last.
func TestLeaveTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := timed(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
		c.deaf = true
		c.ok(c.get("/"), "")
		c.lasts(time.Second, time.Second)
		if len(c.goAways) != 2 || c.goAways[1].LastStreamID != 1 {
			t.Errorf("it is asked by %v", c.goAways)
		}
	})
}
