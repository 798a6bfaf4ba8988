package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// A request that was accepted before SIGTERM is answered in full, while
// readiness turns 503 at once and new connections are refused. The exit code
// is 0.
func TestDrainLetsRequestsEnd(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			p := w.start(t, map[string]string{"SHUTDOWN_TIMEOUT": "1m"})
			p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
			p.client = w.newClient(t, http2)
			slow := p.background(t, "/slow")
			<-w.upstream.arrived

			p.stop()
			p.log.awaitMessage(t, "shutting down")
			if code, report := p.opsGet(t, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(report, "[-]serving failed: shutting down") {
				t.Errorf("/readyz: %d %s, want 503", code, report)
			}
			if code, _ := p.opsGet(t, "/livez"); code != http.StatusOK {
				t.Errorf("/livez: %d, want 200: nobody should kill a process that drains", code)
			}
			eventually(t, func() bool { return !accepts(p.address) }, func() string { return "new connections are accepted" })

			w.upstream.release <- struct{}{}
			if got := <-slow; got.err != nil || got.code != http.StatusOK || got.body != "slow but done" {
				t.Errorf("the request under way: %+v, want its whole answer", got)
			}
			if code := p.wait(t); code != exitOK {
				t.Errorf("exit code %d, want 0", code)
			}
			p.log.awaitMessage(t, "stopped")
		})
	}
}

// A watch is ended at SIGTERM, as if the API server had: at the end of the
// body, without an error, so that clients list again elsewhere. It holds for
// each version of HTTP on either side.
func TestDrainEndsWatches(t *testing.T) {
	for _, test := range []struct{ client, upstream bool }{{true, true}, {true, false}, {false, true}, {false, false}} {
		t.Run(fmt.Sprintf("client HTTP/2 %t, API server HTTP/2 %t", test.client, test.upstream), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			api := newAPIServer(t, w.ca, test.upstream)
			w.write(t, "kubeconfig", kubeconfig(api.URL, "ca.crt", "token: "+ownToken))
			p := w.start(t, map[string]string{"SHUTDOWN_TIMEOUT": "1m"})
			p.client = w.newClient(t, test.client)
			resp, err := p.client.Do(p.request(t, anaToken, "/api/v1/pods?watch=true"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			stream := bufio.NewReader(resp.Body)
			if event, err := stream.ReadString('\n'); err != nil || event != "{\"type\":\"ADDED\"}\n" {
				t.Fatalf("the first event: %q, %v", event, err)
			}

			p.stop()
			if rest, err := io.ReadAll(stream); err != nil || len(rest) > 0 {
				t.Errorf("the end of the watch: %q, %v; want a clean end", rest, err)
			}
			if code := p.wait(t); code != exitOK {
				t.Errorf("exit code %d, want 0", code)
			}
		})
	}
}

// Files are reloaded while the last requests end: a removed token stops working
// then, too.
func TestDrainGoesOnReloading(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, map[string]string{"SHUTDOWN_TIMEOUT": "1m"})
	slow := p.background(t, "/slow")
	<-w.upstream.arrived
	p.stop()
	p.log.awaitMessage(t, "shutting down")
	w.write(t, "tokens.csv", "static-token-of-ida,ida,1\n")
	p.awaitReload(t, "token_auth_file")
	w.upstream.release <- struct{}{}
	if got := <-slow; got.err != nil || got.code != http.StatusOK {
		t.Errorf("the request under way: %+v", got)
	}
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
}

// An upgraded connection (exec, port-forward) is waited for. If it ends in time
// the exit code is 0.
func TestDrainWaitsForUpgrades(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, map[string]string{"SHUTDOWN_TIMEOUT": "1m"})
	conn := p.upgrade(t)
	p.stop()
	p.log.awaitMessage(t, "shutting down")
	eventually(t, func() bool { return !accepts(p.address) }, func() string { return "new connections are accepted" })
	conn.echo(t, "still here\n")
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != exitOK {
		t.Errorf("exit code %d, want 0", code)
	}
}

// An upgraded connection that does not end is cut at SHUTDOWN_TIMEOUT. The exit
// code is 1, and the request has its line in the log.
func TestDrainCutsUpgrades(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, map[string]string{"SHUTDOWN_TIMEOUT": "1s"})
	conn := p.upgrade(t)
	conn.echo(t, "here\n")
	p.stop()
	if rest, err := io.ReadAll(conn.reader); len(rest) > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("after the time-out: %q, %v; want the end of the connection", rest, err)
	}
	_ = conn.Close() // as clients do
	if code := p.wait(t); code != exitFault {
		t.Errorf("exit code %d, want 1", code)
	}
	text := p.log.text()
	if !strings.Contains(text, "gatehouse: some requests had to be cut off after 1s") {
		t.Errorf("nothing says that requests were cut off:\n%s", text)
	}
	if !strings.Contains(text, `"path":"/api/v1/namespaces/d/pods/p/exec"`) {
		t.Errorf("the request that was cut off has no line:\n%s", text)
	}
}

// result is how a request in the background ended.
type result struct {
	code int
	body string
	err  error
}

func (p *process) background(t *testing.T, path string) <-chan result {
	t.Helper()
	return p.backgroundAs(t, anaToken, path)
}

// backgroundAs is background with somebody's token.
func (p *process) backgroundAs(t *testing.T, token, path string) <-chan result {
	t.Helper()
	req, ended := p.request(t, token, path), make(chan result, 1)
	go func() {
		var r result
		resp, err := p.client.Do(req)
		if r.err = err; err == nil {
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			r = result{resp.StatusCode, string(body), err}
		}
		ended <- r
	}()
	return ended
}

// accepts reports whether address takes connections.
func accepts(address string) bool {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err == nil {
		_ = conn.Close()
	}
	return err == nil
}

// upgraded is a connection that has switched protocols, to a peer that sends
// back what it gets.
type upgraded struct {
	*tls.Conn
	reader *bufio.Reader
}

func (p *process) upgrade(t *testing.T) upgraded {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: p.roots, NextProtos: []string{"http/1.1"}}}
	raw, err := dialer.DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	conn, ok := raw.(*tls.Conn)
	if !ok {
		t.Fatalf("a connection of type %T", raw)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(conn, "POST /api/v1/namespaces/d/pods/p/exec?command=sh HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer %s\r\n"+
		"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n\r\n", anaToken)
	if err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d, want 101", resp.StatusCode)
	}
	u := upgraded{conn, reader}
	u.echo(t, "hello\n")
	return u
}

// echo sends a line and expects it back.
func (u upgraded) echo(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(u, line); err != nil {
		t.Fatal(err)
	}
	if got, err := u.reader.ReadString('\n'); err != nil || got != line {
		t.Fatalf("%q, %v came back, want %q", got, err, line)
	}
}
