package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// goingAway is an API server that answers one request of its first connection
// and then goes away, before it looks at the next; later connections serve all.
func goingAway(t *testing.T, listener net.Listener) {
	t.Helper()
	var connections atomic.Int32
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			first := connections.Add(1) == 1
			go func() {
				defer conn.Close()
				serveFrames(conn, first)
			}()
		}
	}()
}

func serveFrames(conn net.Conn, leaves bool) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(conn, preface); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		headers, ok := frame.(*http2.HeadersFrame)
		switch {
		case !ok:
		case leaves && headers.StreamID > 1:
			err = framer.WriteGoAway(1, http2.ErrCodeNo, nil)
		default:
			var block bytes.Buffer
			_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: "200"})
			err = framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: headers.StreamID, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: true,
			})
		}
		if err != nil {
			return
		}
	}
}

// Promise: a request that the API server refused because it goes away is sent
// again, with its body, for it was not carried out.
func TestGoAway(t *testing.T) {
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			certificate := httptest.NewTLSServer(nil)
			certificate.Close()
			listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: certificate.TLS.Certificates, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { listener.Close() })
			goingAway(t, listener)
			g := newGate(t, 2, nil)
			g.connect(kubeconfig(t, "https://"+listener.Addr().String(), certificate.Certificate().Raw))
			for range 2 {
				r := g.request(method, "/api/v1/pods", "alice")
				if method == http.MethodPost {
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader("{}")), 2
				}
				resp, err := g.client(2).Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK {
					t.Errorf("status %d, want 200", resp.StatusCode)
				}
			}
		})
	}
}

// Promise: what is cut off at the end of gatehouse's life is told so, and is to
// be repeated only where that does no harm.
func TestCutOff(t *testing.T) {
	for method, retry := range map[string]bool{http.MethodGet: true, http.MethodPost: false} {
		ctx, cut := context.WithCancel(t.Context())
		g := newGate(t, 2, func(_ http.ResponseWriter, r *http.Request) {
			cut()
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		})
		g.proxy.EndWatches()
		r := httptest.NewRequest(method, "/api/v1/pods", nil).WithContext(ctx)
		r.Header.Set("Authorization", "Bearer alice")
		w := httptest.NewRecorder()
		g.proxy.ServeHTTP(w, r)
		resp := w.Result()
		wantOwnAnswer(t, resp, http.StatusServiceUnavailable, "shut down before the API server had answered")
		if got := resp.Header.Get("Retry-After") != ""; got != retry {
			t.Errorf("%s: Retry-After %t, want %t", method, got, retry)
		}
	}
}
