package load_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/load"
)

// server answers a good token with size bytes and every other with 401.
func server(t *testing.T, size int) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer good" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write(bytes.Repeat([]byte("x"), size))
	}))
	s.EnableHTTP2, s.TLS = true, &tls.Config{NextProtos: []string{"h2", "http/1.1"}, MinVersion: tls.VersionTLS12}
	s.StartTLS()
	t.Cleanup(s.Close)
	return s
}

// generator trusts the server.
func generator(s *httptest.Server) *load.Generator {
	return &load.Generator{TLS: &tls.Config{RootCAs: s.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, MinVersion: tls.VersionTLS12}}
}

// Promise: only an answer that is a success, and whole, counts as a request; any
// other ends the measurement with an error.
func TestOnlyGoodAnswersCount(t *testing.T) {
	const size = 5 << 18 // after which windows of HTTP/2 are filled again
	s := server(t, size)
	for name, c := range map[string]struct {
		token string
		size  int64
		good  bool
	}{
		"good":    {"good", size, true},
		"refused": {"bad", size, false},
		"short":   {"good", size + 1, false},
		"long":    {"good", size - 1, false},
	} {
		for _, p := range []load.Plan{
			{Protocol: load.HTTP1, Connections: 2, Streams: 1, InFlight: 2},
			{Protocol: load.HTTP2, Connections: 2, Streams: 1, InFlight: 2},
			{Protocol: load.HTTP2, Connections: 1, Streams: 2, InFlight: 2},
			{Protocol: load.HTTP2, InFlight: 2, Fresh: true},
			{Protocol: load.HTTP1, InFlight: 1, Each: true},
		} {
			p.Address, p.Path, p.Tokens, p.BodyBytes = s.Listener.Addr().String(), "/", []string{c.token}, c.size
			p.For, p.PIDs = 20*time.Millisecond, []int{os.Getpid()}
			g := generator(s)
			r, err := g.Run(t.Context(), p)
			g.Close()
			if c.good && (err != nil || r.Requests < 1 || r.CPU <= 0) {
				t.Errorf("%s, %+v: got %+v and %v", name, p, r, err)
			}
			if !c.good && err == nil {
				t.Errorf("%s, %+v: got %d requests and no error", name, p, r.Requests)
			}
		}
	}
}

// Promise: an error in the generator's process reaches whoever asked it.
func TestRemote(t *testing.T) {
	s := server(t, 1)
	g := generator(s)
	in, orders := io.Pipe()
	replies, out := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(t.Context(), in, out) }()
	r := load.NewRemote(orders, replies)
	p := load.Plan{
		Address: s.Listener.Addr().String(), Protocol: load.HTTP2, Path: "/", Tokens: []string{"good"}, BodyBytes: 1,
		Connections: 1, Streams: 4, InFlight: 4, For: 20 * time.Millisecond, PIDs: []int{os.Getpid()},
	}
	if result, err := r.Run(p); err != nil || result.Requests < 1 || result.P50 <= 0 || result.P999 < result.P50 {
		t.Errorf("good: got %+v and %v", result, err)
	}
	p.Tokens = []string{"bad"}
	if _, err := r.Run(p); err == nil {
		t.Error("bad: got no error")
	}
	if _, err := r.Await(); err == nil {
		t.Error("no watches: got no error")
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	orders.Close()
	if err := <-ended; err != nil {
		t.Errorf("serve: %v", err)
	}
}
