package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
)

// halfCloser is a TLS or TCP connection.
type halfCloser interface{ CloseWrite() error }

// Promise: of an upgraded connection each direction ends by itself. What is on
// its way in the other arrives.
func TestHalfCloses(t *testing.T) {
	answer := bytes.Repeat([]byte("answer "), 1<<17) // more than any buffer on the way holds
	for name, clientFirst := range map[string]bool{"client first": true, "API server first": false} {
		t.Run(name, func(t *testing.T) {
			received := make(chan []byte, 1)
			g := newGate(t, 2, func(w http.ResponseWriter, _ *http.Request) {
				conn, buffered, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n")
				if !clientFirst {
					_, _ = conn.Write(answer)
					_ = conn.(halfCloser).CloseWrite()
				}
				all, err := io.ReadAll(buffered)
				if err != nil {
					t.Error(err)
				}
				received <- all
				if clientFirst {
					_, _ = conn.Write(answer)
				}
			})
			_, conn, reader := g.upgrade(http.MethodPost, "SPDY/3.1")
			if clientFirst {
				sendAll(t, conn, "question")
			}
			if got, err := io.ReadAll(reader); err != nil || !bytes.Equal(got, answer) {
				t.Errorf("%d bytes arrived of %d, %v", len(got), len(answer), err)
			}
			if !clientFirst {
				sendAll(t, conn, "question")
			}
			if got := <-received; string(got) != "question" {
				t.Errorf("the API server received %q", got)
			}
			if err := g.proxy.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// sendAll sends text and ends that direction.
func sendAll(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	fmt.Fprint(conn, text)
	if err := conn.(halfCloser).CloseWrite(); err != nil {
		t.Fatal(err)
	}
}
