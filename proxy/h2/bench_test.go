package h2_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// listen starts net/http's server without TLS, and returns its address.
func listen(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// serve returns a connection to net/http's server.
func serve(t testing.TB, handler http.HandlerFunc) *h2.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", listen(t, handler))
	if err != nil {
		t.Fatal(err)
	}
	c, err := h2.New(t.Context(), conn, h2.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Retire)
	return c
}

// small answers as an API server answers a GET of one object.
func small(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(make([]byte, 2000))
}

// large answers as it answers a list of 5 MiB.
func large(w http.ResponseWriter, _ *http.Request) {
	page := make([]byte, 32<<10)
	for range 160 {
		_, _ = w.Write(page)
	}
}

// BenchmarkConn is this client, BenchmarkTransport net/http's, over the same server
// in the same process: what they differ by is the client's.
func BenchmarkConn(b *testing.B) {
	for name, handler := range map[string]http.HandlerFunc{"small": small, "large": large} {
		b.Run(name, func(b *testing.B) { exchange(b, serve(b, handler)) })
	}
}

// BenchmarkTransport is http.Transport over one connection of HTTP/2.
func BenchmarkTransport(b *testing.B) {
	for name, handler := range map[string]http.HandlerFunc{"small": small, "large": large} {
		b.Run(name, func(b *testing.B) {
			address := listen(b, handler)
			transport := &http.Transport{
				Protocols: new(http.Protocols), DisableCompression: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return new(net.Dialer).DialContext(ctx, "tcp", address)
				},
			}
			transport.Protocols.SetUnencryptedHTTP2(true)
			b.Cleanup(transport.CloseIdleConnections)
			exchange(b, plain{transport})
		})
	}
}

// plain asks without TLS, as http.Transport wants to be told.
type plain struct{ *http.Transport }

func (p plain) RoundTrip(r *http.Request) (*http.Response, error) {
	r.URL.Scheme = "http"
	return p.Transport.RoundTrip(r)
}

func exchange(b *testing.B, rt http.RoundTripper) {
	b.Helper()
	b.ReportAllocs()
	b.SetParallelism(16)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			r := newRequest(b, http.MethodGet, "/api/v1/namespaces/default/pods/web-0", nil)
			r.Header.Set("Authorization", "Bearer own-token")
			r.Header.Set("Impersonate-User", "alice")
			r.Header.Set("User-Agent", "kubectl")
			resp, err := rt.RoundTrip(r)
			if err != nil {
				b.Error(err)
				return
			}
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				b.Error(err)
			}
			resp.Body.Close()
		}
	})
}
