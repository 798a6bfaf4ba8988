package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// gone is a connection to an API server that has closed it: nothing can be sent,
// and what it said before is read after that was found out.
type gone struct {
	sent chan struct{} // closed at the first attempt to send
	said io.Reader
	last error
}

func (g *gone) Write([]byte) (int, error) {
	select {
	case <-g.sent:
	default:
		close(g.sent)
	}
	return 0, syscall.ECONNRESET
}

func (g *gone) Read(p []byte) (int, error) {
	<-g.sent
	n, err := g.said.Read(p)
	if err != nil {
		err = g.last
	}
	return n, err
}

func (g *gone) Close() error { return nil }

// RoundTrip makes it the answer to an upgrade.
func (g *gone) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: http.StatusSwitchingProtocols, ProtoMajor: 1, ProtoMinor: 1, Request: r, Body: g,
		Header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {r.Header.Get("Upgrade")}},
	}, nil
}

// Promise: what a command printed last arrives, although the API server takes
// nothing any more of what its caller still sends.
func TestLastWords(t *testing.T) {
	said := bytes.Repeat([]byte("last words "), 1<<17)
	for name, last := range map[string]error{"closed": io.EOF, "reset": syscall.ECONNRESET} {
		t.Run(name, func(t *testing.T) {
			back := &gone{make(chan struct{}), bytes.NewReader(said), last}
			g := newGateFor(t, 1, auth.Bearer(users{}), http.NotFound, func(cfg *proxy.Config) {
				target := cfg.Target()
				target.Upgrades = back
				cfg.Target = func() *upstream.Target { return target }
			})
			_, conn, reader := g.upgrade(http.MethodPost, "SPDY/3.1")
			fmt.Fprint(conn, "one more thing")
			got, err := io.ReadAll(reader)
			if err != nil || !bytes.Equal(got, said) {
				t.Errorf("%d bytes arrived of %d, %v", len(got), len(said), err)
			}
			conn.Close()
			if err := g.proxy.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}
