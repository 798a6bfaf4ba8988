package serve_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// These tests run in a bubble whose clock moves when everybody waits, over
// connections in memory: a bubble cannot wait for a socket.

// pipeListener hands out the ends of pipes.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "pipe"} }

func (l *pipeListener) dial() net.Conn {
	client, server := net.Pipe()
	l.conns <- server
	return client
}

// dialTLS returns a connection by HTTP/1.1.
func (l *pipeListener) dialTLS(t *testing.T, f *fixture) *tls.Conn {
	t.Helper()
	conn := tls.Client(l.dial(), &tls.Config{RootCAs: f.ca.Pool(), ServerName: "gatehouse"})
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	return conn
}

// untilClosed returns how long the peer keeps conn open, and what it sends.
func untilClosed(conn net.Conn) (time.Duration, string) {
	start := time.Now()
	content, _ := io.ReadAll(conn) // by an error or by an end, it is closed
	_ = conn.Close()
	return time.Since(start), string(content)
}

// Who sends nothing, or sends slowly, does not hold a connection for long: half
// a minute for the handshake and for a header, 90 seconds between requests.
func TestSlowClientsAreClosed(t *testing.T) {
	for _, test := range []struct {
		name        string
		least, most time.Duration
		connect     func(t *testing.T, f *fixture, l *pipeListener) net.Conn
	}{
		{"no handshake", 32 * time.Second, 34 * time.Second, func(_ *testing.T, _ *fixture, l *pipeListener) net.Conn { return l.dial() }},
		{"no request", 32 * time.Second, 34 * time.Second, func(t *testing.T, f *fixture, l *pipeListener) net.Conn { return l.dialTLS(t, f) }},
		{"half a header", 32 * time.Second, 34 * time.Second, func(t *testing.T, f *fixture, l *pipeListener) net.Conn {
			conn := l.dialTLS(t, f)
			send(t, conn, "GET / HTTP/1.1\r\nHost: gatehouse\r\nX-Slow: ")
			return conn
		}},
		{"idle", 90 * time.Second, 92 * time.Second, func(t *testing.T, f *fixture, l *pipeListener) net.Conn {
			conn := l.dialTLS(t, f)
			send(t, conn, "GET / HTTP/1.1\r\nHost: gatehouse\r\n\r\n")
			return conn
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := newFixture(t), newPipeListener()
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- serve.Run(ctx, f.config(l)) }()
				if took, _ := untilClosed(test.connect(t, f, l)); took < test.least || took > test.most {
					t.Errorf("closed after %s, want %s", took, test.least)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

// A request may last for days: there is no limit on it as a whole.
func TestLongRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, l := newFixture(t), newPipeListener()
		config := f.config(l)
		config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(72 * time.Hour)
			_, _ = io.WriteString(w, "three days later")
		})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- serve.Run(ctx, config) }()
		conn := l.dialTLS(t, f)
		send(t, conn, "GET / HTTP/1.1\r\nHost: gatehouse\r\nConnection: close\r\n\r\n")
		if took, answer := untilClosed(conn); took < 72*time.Hour || !strings.Contains(answer, "three days later") {
			t.Errorf("after %s: %q", took, answer)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// ending is a server that is told to end, and the order in which it does.
type ending struct {
	server *fixture
	config serve.Config
	idle   chan struct{} // closed when nothing is under way

	mu     sync.Mutex
	begun  time.Time
	events []string
}

func newEnding(t *testing.T, l *pipeListener) *ending {
	t.Helper()
	f := newFixture(t)
	e := &ending{server: f, config: f.config(l), idle: make(chan struct{})}
	e.config.Delay, e.config.Timeout = 5*time.Second, 20*time.Second
	e.config.OnStop, e.config.OnDrain = func() { e.event("stop") }, func() { e.event("drain") }
	e.config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done()
		e.event("cut")
		close(e.idle)
	})
	e.config.Wait = func(ctx context.Context) error {
		select {
		case <-e.idle:
			e.event("waited")
			return nil
		case <-ctx.Done():
			e.event("gave up")
			return ctx.Err()
		}
	}
	return e
}

func (e *ending) event(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.events = append(e.events, fmt.Sprintf("%s %s", name, time.Since(e.begun).Truncate(time.Second)))
}

// The end has an order: not ready, the delay, watches, then requests up to the
// time-out, the upgraded ones too. An error says that some were cut off.
func TestOrderOfTheEnd(t *testing.T) {
	for _, test := range []struct {
		name    string
		request bool          // one is under way that does not end
		upgrade time.Duration // how long one goes on
		want    []string
		err     bool
	}{
		{"nothing under way", false, 0, []string{"stop 0s", "drain 5s", "waited 5s", "end 5s"}, false},
		{"an upgrade that ends", false, 15 * time.Second, []string{"stop 0s", "drain 5s", "waited 15s", "end 15s"}, false},
		{"an upgrade that does not", false, time.Hour, []string{"stop 0s", "drain 5s", "gave up 25s", "gave up 26s", "end 26s"}, true},
		{"a request that does not", true, 0, []string{"stop 0s", "drain 5s", "cut 25s", "waited 25s", "end 25s"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newPipeListener()
				e := newEnding(t, l)
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- serve.Run(ctx, e.config) }()
				if test.request {
					conn := l.dialTLS(t, e.server)
					defer conn.Close()
					send(t, conn, "GET / HTTP/1.1\r\nHost: gatehouse\r\n\r\n")
					go func() { _, _ = io.Copy(io.Discard, conn) }() // a pipe holds nothing that was not read
				} else {
					time.AfterFunc(test.upgrade, func() { close(e.idle) })
				}
				synctest.Wait()
				e.begun = time.Now()
				cancel()
				err := <-ended
				e.event("end")
				if (err != nil) != test.err || err != nil && !strings.Contains(err.Error(), "cut off after 20s") {
					t.Errorf("error %v, want one that says how long it waited: %t", err, test.err)
				}
				if !slices.Equal(e.events, test.want) {
					t.Errorf("got  %q\nwant %q", e.events, test.want)
				}
			})
		})
	}
}

// The ops port has limits of its own.
func TestOpsServerLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipeListener()
		server := serve.OpsServer(http.NotFoundHandler())
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(l) }()
		conn := l.dial()
		send(t, conn, "GET /livez HTTP/1.1\r\nX-Slow: ")
		if took, _ := untilClosed(conn); took < 10*time.Second || took > 12*time.Second {
			t.Errorf("closed after %s, want 10s", took)
		}
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}
