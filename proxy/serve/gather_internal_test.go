package serve

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gathering returns both ends of a TCP connection, of which near gathers. writes
// counts the system calls.
func gathering(t *testing.T) (near *gatheredConn, far *net.TCPConn, writes *atomic.Int32) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	dialed, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = dialed.Close(), accepted.Close() })
	far = dialed.(*net.TCPConn)
	_ = far.SetDeadline(time.Now().Add(30 * time.Second))
	writes = new(atomic.Int32)
	near = newGathered(countedConn{accepted, writes})
	near.gathers = true
	return near, far, writes
}

type countedConn struct {
	net.Conn
	writes *atomic.Int32
}

// Write writes.
func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// left reports whether a goroutine of a gathered connection is.
func left() bool {
	stacks := make([]byte, 1<<20)
	return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "serve.(*gatheredConn)")
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(30 * time.Second); !is(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

// Promise: what is written arrives whole, in order, and once, and what a writer does
// with its buffer afterwards changes nothing; several writes share a system call.
func TestGatherKeepsOrder(t *testing.T) {
	near, far, writes := gathering(t)
	got := make(chan []byte, 1)
	go func() {
		all, err := io.ReadAll(far)
		if err != nil {
			t.Error(err)
		}
		got <- all
	}()
	var want bytes.Buffer
	buffer := make([]byte, 0, 200<<10)
	const times = 5000
	for n := range times {
		buffer = fmt.Appendf(buffer[:0], "%d;", n)
		if n%1000 == 0 { // more than may wait
			buffer = append(buffer, bytes.Repeat([]byte("x"), 2*gatherSize)...)
		}
		want.Write(buffer)
		if n, err := near.Write(buffer); n != len(buffer) || err != nil {
			t.Fatalf("%d of %d written, error %v", n, len(buffer), err)
		}
	}
	if err := near.Close(); err != nil {
		t.Error(err)
	}
	if all := <-got; !bytes.Equal(all, want.Bytes()) {
		t.Errorf("%d bytes came, other than the %d that were written", len(all), want.Len())
	}
	if n := writes.Load(); n >= times {
		t.Errorf("%d system calls for %d writes", n, times)
	}
	eventually(t, "no goroutine is left", func() bool { return !left() })
}

// Promise: who does not read holds a bounded memory and its writers, who hear of the
// end; then nothing is left.
func TestGatherBlocked(t *testing.T) {
	near, _, _ := gathering(t)
	var all sync.WaitGroup
	var taken atomic.Int64
	for range 4 {
		all.Go(func() {
			for {
				n, err := near.Write(make([]byte, 16<<10))
				if err != nil {
					return
				}
				taken.Add(int64(n))
			}
		})
	}
	eventually(t, "the writers wait", func() bool {
		near.mu.Lock()
		defer near.mu.Unlock()
		if len(near.pending) > gatherSize {
			t.Fatalf("%d bytes wait", len(near.pending))
		}
		return len(near.pending) == gatherSize
	})
	if err := near.SetWriteDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if _, err := near.Write([]byte("x")); err == nil {
		t.Error("a write after a failure succeeds")
	}
	if err := near.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "no goroutine is left", func() bool { return !left() })
	if _, err := near.Conn.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("error %v, want that the connection is closed", err)
	}
}

// Promise: a caller who left is noticed by who writes, and nothing of it is left.
func TestGatherPeerLeaves(t *testing.T) {
	near, far, _ := gathering(t)
	_ = far.SetLinger(0)
	far.Close()
	for {
		if _, err := near.Write(make([]byte, 1000)); err != nil {
			break
		}
	}
	near.Close()
	eventually(t, "no goroutine is left", func() bool { return !left() })
}

// gatedConn writes when it may.
type gatedConn struct {
	net.Conn
	begun, open chan struct{}
}

// Write waits, and writes.
func (c gatedConn) Write(p []byte) (int, error) {
	c.begun <- struct{}{}
	<-c.open
	return c.Conn.Write(p)
}

// Promise: the last words of a connection arrive although it is closed at once, in the
// way in which crypto/tls does: it lets nothing be written after its good-bye.
func TestGatherLastWords(t *testing.T) {
	near, far, _ := gathering(t)
	gate := gatedConn{near.Conn, make(chan struct{}, 2), make(chan struct{})}
	near.Conn = gate
	for _, words := range []string{"last ", "words"} {
		if _, err := io.WriteString(near, words); err != nil {
			t.Fatal(err)
		}
		if words == "last " {
			<-gate.begun
		}
	}
	if err := near.SetWriteDeadline(time.Now()); err != nil {
		t.Fatal(err)
	}
	close(gate.open)
	select {
	case <-gate.begun: // the second is being written
	case <-time.After(30 * time.Second):
		t.Fatal("what was pending is not written")
	}
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(far); err != nil || string(got) != "last words" {
		t.Errorf("%q came, error %v", got, err)
	}
}

// Promise: over TLS the end of a connection is an orderly one.
func TestGatherOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(nil)
	server.Close()
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	want := bytes.Repeat([]byte("last words "), 5000)
	for range 20 {
		near, far, _ := gathering(t)
		go func() {
			secure := tls.Server(near, &tls.Config{Certificates: server.TLS.Certificates})
			_, _ = secure.Write(want)
			secure.Close()
		}()
		client := tls.Client(far, &tls.Config{RootCAs: roots, ServerName: "example.com"})
		got, err := io.ReadAll(client)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes of %d came, error %v", len(got), len(want), err)
		}
	}
}
