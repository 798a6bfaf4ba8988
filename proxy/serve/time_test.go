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

// The end has an order: not ready, the delay, watches, then requests up to the
// time-out, the upgraded ones too. An error says that some were cut off.
func TestOrderOfTheEnd(t *testing.T) {
	for _, test := range []struct {
		name    string
		request time.Duration // that is under way
		waiting time.Duration // of an upgraded connection, after that
		want    []string
		err     bool
	}{
		{"nothing under way", 0, 0, []string{"stop 0s", "drain 5s", "waited 5s", "end 5s"}, false},
		{"an upgrade that ends", 0, 10 * time.Second, []string{"stop 0s", "drain 5s", "waited 15s", "end 15s"}, false},
		{"an upgrade that does not", 0, time.Hour, []string{"stop 0s", "drain 5s", "gave up 25s", "gave up 26s", "end 26s"}, true},
		{"a request that does not end", time.Hour, 0, []string{"stop 0s", "drain 5s", "cut 25s", "waited 25s", "end 25s"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, l := newFixture(t), newPipeListener()
				var begun time.Time
				events := make(chan string, 16)
				event := func(name string) {
					events <- fmt.Sprintf("%s %s", name, time.Since(begun).Truncate(time.Second))
				}
				config := f.config(l)
				config.Delay, config.Timeout = 5*time.Second, 20*time.Second
				config.OnStop, config.OnDrain = func() { event("stop") }, func() { event("drain") }
				config.Handler = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
					<-r.Context().Done()
					event("cut")
				})
				idle := time.After(0)
				config.Wait = func(ctx context.Context) error {
					select {
					case <-idle:
						event("waited")
						return nil
					case <-ctx.Done():
						event("gave up")
						return ctx.Err()
					}
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- serve.Run(ctx, config) }()
				if test.request > 0 {
					conn := l.dialTLS(t, f)
					defer conn.Close()
					send(t, conn, "GET / HTTP/1.1\r\nHost: gatehouse\r\n\r\n")
					synctest.Wait()
				}
				begun = time.Now()
				if test.waiting > 0 {
					idle = time.After(5*time.Second + test.waiting)
				}
				cancel()
				if err := <-ended; (err != nil) != test.err {
					t.Errorf("error %v, want one: %t", err, test.err)
				} else if err != nil && (!strings.Contains(err.Error(), "cut off after 20s") || errors.Is(err, context.Canceled)) {
					t.Errorf("error %v, want how long it waited", err)
				}
				event("end")
				close(events)
				var got []string
				for e := range events {
					got = append(got, e)
				}
				if !slices.Equal(got, test.want) {
					t.Errorf("got  %q\nwant %q", got, test.want)
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
