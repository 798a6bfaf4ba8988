package serve_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

const (
	announced  = "198.51.100.7:4711"
	headerV1   = "PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n"
	headerV2   = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc6\x33\x64\x07\x0a\x00\x00\x01\x12\x67\x01\xbb"
	localV2    = "\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
	fromSocket = "127.0.0.1:"
)

// startAnnounced serves with the PROXY protocol, and answers with the address of
// the connection.
func (f *fixture) startAnnounced(t *testing.T, trusts bool) *lockedBuffer {
	t.Helper()
	log := &lockedBuffer{}
	inner, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = inner.Addr().String()
	listener := &serve.ProxyProtocol{Listener: inner, Trusts: func(netip.Addr) bool { return trusts }, Log: slog.New(slog.NewTextHandler(log, nil))}
	config := f.config(listener)
	config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr+" "+r.Proto) })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, config) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return log
}

// lockedBuffer is a bytes.Buffer that goroutines may share.
type lockedBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}

func (f *fixture) dial(t *testing.T) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// writer sends what is written to it in other pieces.
type writer struct {
	net.Conn
	write func(conn net.Conn, p []byte) (int, error)
}

func (w *writer) Write(p []byte) (int, error) { return w.write(w.Conn, p) }

// ask makes one request over a connection that begins with header, sent in one
// piece with the first of TLS, or in pieces of the given size.
func (f *fixture) ask(t *testing.T, http2 bool, header string, piece int) (string, error) {
	t.Helper()
	client := f.client(t, http2, &tls.Config{ServerName: "gatehouse"})
	client.Transport.(*http.Transport).DialContext = func(context.Context, string, string) (net.Conn, error) {
		before := header
		return &writer{f.dial(t), func(conn net.Conn, p []byte) (int, error) {
			all := append([]byte(before), p...)
			before = ""
			for size := piece; len(all) > 0; all = all[min(size, len(all)):] {
				if size == 0 {
					size = len(all)
				}
				if _, err := conn.Write(all[:min(size, len(all))]); err != nil {
					return 0, err
				}
			}
			return len(p), nil
		}}, nil
	}
	resp, err := client.Get("https://" + f.address)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	return string(content), err
}

// Promise: a trusted peer's header names the caller, in one packet with TLS or in
// many, over HTTP/1.1 and HTTP/2; a peer that speaks for itself is itself.
func TestProxyProtocol(t *testing.T) {
	f := newFixture(t)
	f.startAnnounced(t, true)
	for header, want := range map[string]string{headerV1: announced, headerV2: announced, localV2: fromSocket, "PROXY UNKNOWN\r\n": fromSocket} {
		for _, http2 := range []bool{false, true} {
			for _, piece := range []int{0, 1, 7} {
				got, err := f.ask(t, http2, header, piece)
				if err != nil || !strings.HasPrefix(got, want) || strings.HasSuffix(got, "2.0") != http2 {
					t.Errorf("%q, HTTP/2 %t, pieces of %d: %q, %v, want %s", header, http2, piece, got, err, want)
				}
			}
		}
	}
}

// Promise: a trusted peer that sends no header, or a bad one, gets nothing; the
// log says so once.
func TestProxyProtocolIsRequired(t *testing.T) {
	f := newFixture(t)
	log := f.startAnnounced(t, true)
	for _, header := range []string{"", "PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n\r\n", "GET / HTTP/1.1\r\n\r\n"} {
		for _, http2 := range []bool{false, true} {
			if got, err := f.ask(t, http2, header, 0); err == nil {
				t.Errorf("%q: served: %q", header, got)
			}
		}
	}
	healthCheck := f.dial(t)
	_ = healthCheck.Close()
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "does not begin as the PROXY protocol asks") || !strings.Contains(text, "peer=127.0.0.1:") {
		t.Errorf("want one line about the peer, got:\n%s", text)
	}
}

// Promise: nobody but a trusted peer can name another address.
func TestProxyProtocolOfStrangers(t *testing.T) {
	f := newFixture(t)
	f.startAnnounced(t, false)
	for _, http2 := range []bool{false, true} {
		if got, err := f.ask(t, http2, "", 0); err != nil || !strings.HasPrefix(got, fromSocket) {
			t.Errorf("plain TLS: %q, %v", got, err)
		}
		for _, header := range []string{headerV1, headerV2} {
			if got, err := f.ask(t, http2, header, 0); err == nil {
				t.Errorf("a stranger's header was read: %q", got)
			}
		}
	}
}

// Promise: who is slow to send a header delays nobody.
func TestSlowProxyHeaderDelaysNobody(t *testing.T) {
	f := newFixture(t)
	f.startAnnounced(t, true)
	for i := range 20 {
		if _, err := io.WriteString(f.dial(t), headerV1[:i]); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if got, err := f.ask(t, true, headerV1, 0); err != nil || !strings.HasPrefix(got, announced) {
		t.Errorf("%q, %v", got, err)
	}
	if took := time.Since(start); took > 4*time.Second { // each of the slow ones has five
		t.Errorf("it was answered after %s", took)
	}
}

// peered is a connection in memory with an address.
type peered struct{ net.Conn }

func (peered) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 4}
}

// peeredListener hands out such connections.
type peeredListener struct{ *pipeListener }

func (l peeredListener) Accept() (net.Conn, error) {
	conn, err := l.pipeListener.Accept()
	return peered{conn}, err
}

// Promise: a header has five seconds to arrive, however its bytes are dealt out.
func TestSlowProxyHeaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pipes := newPipeListener()
		var log bytes.Buffer
		listener := &serve.ProxyProtocol{Listener: peeredListener{pipes}, Trusts: func(netip.Addr) bool { return true }, Log: slog.New(slog.NewTextHandler(&log, nil))}
		var clients sync.WaitGroup
		clients.Go(func() {
			for _, every := range []time.Duration{time.Hour, time.Second} {
				client := pipes.dial()
				for i := range headerV1 {
					if _, err := io.WriteString(client, headerV1[i:i+1]); err != nil {
						break
					}
					time.Sleep(every) // of the bubble's clock
				}
				_ = client.Close()
			}
		})
		for range 2 {
			conn, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if got := conn.RemoteAddr().String(); got != "127.0.0.1:4" {
				t.Errorf("the address is %s, want the peer's", got)
			}
			if took := time.Since(began); took != 5*time.Second {
				t.Errorf("the header had %s, want 5s", took)
			}
			if _, err := bufio.NewReader(conn).ReadByte(); err == nil || errors.Is(err, io.EOF) {
				t.Errorf("read after that: %v, want an error", err)
			}
		}
		clients.Wait()
		if !strings.Contains(log.String(), "i/o timeout") {
			t.Errorf("the log does not say why:\n%s", log.String())
		}
	})
}
