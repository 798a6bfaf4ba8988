package serve_test

import (
	"bufio"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
)

// Promise: what docs/errors.md says of the answers of Go's HTTP library is so:
// these are no Status, and no handler is asked.
func TestAnswersOfTheLibrary(t *testing.T) {
	f := newFixture(t)
	f.handler = func(http.ResponseWriter, *http.Request) { t.Error("a handler was asked") }
	f.start(t)
	for _, test := range []struct {
		name, sent string
		plain      bool // without TLS
		code       int
	}{
		{"no HTTP", "hello\r\n\r\n", false, 400},
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", false, 400},
		{"large header", "GET / HTTP/1.1\r\nHost: x\r\nX-Large: " + strings.Repeat("x", 300<<10) + "\r\n\r\n", false, 431},
		{"other expectation", "GET / HTTP/1.1\r\nHost: x\r\nExpect: something\r\n\r\n", false, 417},
		{"no TLS", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", true, 400},
	} {
		t.Run(test.name, func(t *testing.T) {
			conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", f.address)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if !test.plain {
				conn = tls.Client(conn, &tls.Config{RootCAs: f.ca.Pool(), ServerName: "127.0.0.1"})
			}
			// The server may close before it has read the whole.
			go func() { _, _ = conn.Write([]byte(test.sent)) }()
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if resp.StatusCode != test.code || strings.Contains(resp.Header.Get("Content-Type"), "json") || resp.Header.Get("Audit-Id") != "" {
				t.Errorf("%s with %v, want a plain %d", resp.Status, resp.Header, test.code)
			}
		})
	}
}
