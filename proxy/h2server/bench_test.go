package h2server_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// answers are what the benchmarks ask for.
func answers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/small": // as an API server answers a GET of one object
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(make([]byte, 2000))
	case "/large": // as it answers a list of 5 MiB
		page := make([]byte, 32<<10)
		for range 160 {
			_, _ = w.Write(page)
		}
	case "/events": // as it answers a watch
		for range 100 {
			_, _ = w.Write(make([]byte, 500))
			_ = http.NewResponseController(w).Flush()
		}
	case "/upload":
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// BenchmarkServer is this server, BenchmarkNetHTTP net/http's, with the same client
// in the same process: what they differ by is the server's.
func BenchmarkServer(b *testing.B) {
	w := start(b, config(answers))
	benchmark(b, w.listener.Addr().String())
}

// BenchmarkNetHTTP is what BenchmarkServer is compared with.
func BenchmarkNetHTTP(b *testing.B) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(answers), Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	b.Cleanup(func() { _ = server.Close() })
	benchmark(b, listener.Addr().String())
}

func benchmark(b *testing.B, address string) {
	upload := make([]byte, 1<<20)
	for _, path := range []string{"/small", "/large", "/events", "/upload"} {
		b.Run(path[1:], func(b *testing.B) {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				b.Fatal(err)
			}
			c, err := h2.New(b.Context(), conn, h2.Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Retire()
			b.ReportAllocs()
			b.SetParallelism(8) // requests at a time on the connection
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					method, body := http.MethodGet, io.Reader(nil)
					if path == "/upload" {
						method, body = http.MethodPost, bytes.NewReader(upload)
					}
					r, err := http.NewRequestWithContext(b.Context(), method, "https://api.example"+path, body)
					if err != nil {
						b.Error(err)
						return
					}
					resp, err := c.RoundTrip(r)
					if err != nil {
						b.Error(err)
						return
					}
					_, err = io.Copy(io.Discard, resp.Body)
					_ = resp.Body.Close()
					if err != nil || resp.StatusCode != http.StatusOK {
						b.Errorf("status %d, error %v", resp.StatusCode, err)
						return
					}
				}
			})
		})
	}
}
