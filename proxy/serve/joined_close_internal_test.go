package serve

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// Promise: crypto/tls can say good-bye on a connection whose client does not read, and
// so close it at once; if the client does read, all comes in order.
func TestCloseDoesNotWaitForReader(t *testing.T) {
	ours, theirs := net.Pipe() // nothing is written that is not read
	defer theirs.Close()
	conn := &joinedConn{Conn: ours, buffers: new(sync.Pool)}
	conn.hold()
	if _, err := io.WriteString(conn, "answer, "); err != nil {
		t.Fatal(err)
	}
	released, said := make(chan error, 1), make(chan error, 1)
	go func() { released <- conn.release() }()
	first := make([]byte, 1)
	if _, err := theirs.Read(first); err != nil { // it is being written now
		t.Fatal(err)
	}
	go func() {
		_, err := io.WriteString(conn, "bye")
		said <- err
	}()
	select {
	case err := <-said:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it waits for the client to read")
	}
	if n, err := conn.Write(make([]byte, maxLater)); err == nil {
		t.Errorf("another %d bytes are kept for a client that does not read", n)
	}
	rest := make([]byte, len("nswer, bye"))
	if _, err := io.ReadFull(theirs, rest); err != nil || string(first)+string(rest) != "answer, bye" {
		t.Errorf("got %q, %v", string(first)+string(rest), err)
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
}

// Promise: after what was held could not be written whole, nothing is written: it would
// be taken for the rest of it, and net/http would go on with the connection.
func TestWhatWasBrokenOffStaysSo(t *testing.T) {
	for name, size := range map[string]int{"released": 100, "more than may be held": joinedSize} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := net.Pipe()
			defer theirs.Close()
			conn := &joinedConn{Conn: ours, buffers: new(sync.Pool)}
			_ = conn.SetWriteDeadline(time.Unix(1, 0)) // nothing is written
			conn.hold()
			_, first := conn.Write(make([]byte, size))
			_, second := conn.Write([]byte("more"))
			if released := conn.release(); first != nil || released == nil || (second == nil) != (size == 100) {
				t.Fatalf("%v, %v, %v", first, second, released)
			}
			_ = conn.SetWriteDeadline(time.Time{})
			go func() {
				_, _ = conn.Write([]byte("bye"))
				conn.hold()
				_, _ = conn.Write([]byte("bye"))
				_ = conn.release()
				_ = ours.Close()
			}()
			if rest, err := io.ReadAll(theirs); err != nil || len(rest) > 0 {
				t.Errorf("it goes on with %q, %v", rest, err)
			}
		})
	}
}
