package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dial opens a TLS connection to the gate for raw bytes.
func (g *gate) dial() (net.Conn, *bufio.Reader) {
	g.t.Helper()
	roots := g.front.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	conn, err := tls.Dial("tcp", g.front.Listener.Addr().String(), &tls.Config{RootCAs: roots})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		g.t.Fatal(err)
	}
	return conn, bufio.NewReader(conn)
}

// Promise: a query is never logged, and a stranger's costs next to nothing: it
// is not parsed before the stranger is known.
func TestStrangersQuery(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the API server") })
	for _, query := range []string{
		"limit=x&access_token=query-canary",
		"labelSelector=" + strings.Repeat("a+in+(b),", 50000) + "query-canary",
		"watch=true&timeoutSeconds=query-canary",
	} {
		resp, err := g.client(1).Do(g.request(http.MethodGet, "/api/v1/pods?"+query, ""))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, http.StatusUnauthorized, "not signed in")
		resp.Body.Close()
	}
	if log := g.log.Bytes(); strings.Contains(string(log), "canary") || len(log) > 4000 {
		t.Errorf("%d bytes of log: %.4000s", len(log), log)
	}
}

// Promise: the verb is the API server's, watch included, by its first value.
func TestVerbs(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) {})
	for target, verb := range map[string]string{
		"GET /api/v1/pods": "list", "GET /api/v1/pods?watch=true": "watch", "GET /api/v1/pods?limit=1&watch": "watch",
		"GET /api/v1/pods?watch=0": "list", "GET /api/v1/pods?watch=False&watch=true": "list", "GET /api/v1/pods?watch=x": "watch",
		"GET /api/v1/namespaces/a/pods/b?watch=true": "get", "GET /api/v1/watch/pods": "watch", "DELETE /api/v1/namespaces/a/pods?watch=true": "deletecollection",
		"POST /api/v1/namespaces/a/pods": "create", "PUT /api/v1/namespaces/a/pods/b": "update", "PATCH /api/v1/namespaces/a/pods/b": "patch",
		"DELETE /api/v1/namespaces/a/pods/b": "delete", "GET /version?watch=true": "get", "OPTIONS /": "other",
	} {
		method, path, _ := strings.Cut(target, " ")
		before := g.count("gatehouse_requests_total", map[string]string{"verb": verb})
		resp, err := g.client(1).Do(g.request(method, path, "alice"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := g.count("gatehouse_requests_total", map[string]string{"verb": verb}); got != before+1 {
			t.Errorf("%s is not counted as %s", target, verb)
		}
	}
}

// Promise: a refusal does not wait for a body that nobody wants, so that it
// reaches the caller, and a stranger holds no connection.
func TestRefusalDoesNotWaitForTheBody(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a refused request reached the API server") })
	for _, framing := range []string{"Content-Length: 10", "Transfer-Encoding: chunked"} {
		conn, reader := g.dial()
		fmt.Fprintf(conn, "POST /api HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", framing)
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, http.StatusUnauthorized, "not signed in")
		if _, err := io.ReadAll(reader); err != nil {
			t.Errorf("%s: the connection stays open: %v", framing, err)
		}
	}
}

// Promise: a body that breaks the rules of its framing is the caller's fault,
// and is told so.
func TestBrokenBody(t *testing.T) {
	for _, upstream := range []int{1, 2} {
		g := newGate(t, upstream, func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("the broken body arrived as a whole one")
			}
		})
		conn, reader := g.dial()
		fmt.Fprint(conn, "POST /api HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nTransfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n")
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, http.StatusBadRequest, "body cannot be read")
		if got := g.count("gatehouse_upstream_errors_total", nil); got != 0 {
			t.Errorf("%v errors of the API server", got)
		}
	}
}

// Promise: a watch over WebSocket passes, and ends with the others.
func TestWatchOverWebSocket(t *testing.T) {
	g := newGate(t, 1, echo("websocket"))
	conn, reader := g.dial()
	fmt.Fprint(conn, "GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("answer %v, %v", resp, err)
	}
	fmt.Fprint(conn, "there")
	got := make([]byte, len("hello there"))
	if _, err := io.ReadFull(reader, got); err != nil || string(got) != "hello there" {
		t.Fatalf("stream %q, %v", got, err)
	}
	g.proxy.EndWatches()
	if rest, err := io.ReadAll(reader); len(rest) != 0 || err != nil {
		t.Errorf("after the end: %q, %v", rest, err)
	}
	conn.Close() // as a client does whose watch has ended
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// Promise: informational answers of the API server end at gatehouse, and take
// nothing from the final one.
func TestInformationalAnswers(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		g := newGate(t, upstream, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", "Basic")
			w.WriteHeader(http.StatusEarlyHints)
			w.WriteHeader(http.StatusOK)
		})
		resp, err := g.client(client).Do(g.request(http.MethodGet, "/api", "alice"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || len(resp.Header["Audit-Id"]) != 1 || resp.Header["Www-Authenticate"] != nil {
			t.Errorf("answer %d %v", resp.StatusCode, resp.Header)
		}
	})
}
