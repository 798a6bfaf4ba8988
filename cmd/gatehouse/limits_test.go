package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

func limitSettingTests() map[string]settingTest {
	return map[string]settingTest{
		"MAX_HEADER_BYTES":           testMaxHeaderBytes,
		"MAX_HEADER_LINES":           testMaxHeaderLines,
		"MAX_TOKEN_BYTES":            testMaxTokenBytes,
		"MAX_CONNECTIONS":            testMaxConnections,
		"MAX_STREAMS_PER_CONNECTION": testMaxStreamsPerConnection,
		"MAX_REQUESTS":               underWay("/slow", "gatehouse has too many requests under way", map[string]string{"MAX_REQUESTS": "2"}),
		"MAX_REQUESTS_PER_USER":      underWay("/slow", "You have too many requests under way", map[string]string{"MAX_REQUESTS_PER_USER": "1"}),
		"MAX_STREAMS":                underWay(watchPath, "gatehouse has too many streams open", map[string]string{"MAX_STREAMS": "2"}),
		"MAX_STREAMS_PER_USER":       underWay(watchPath, "You have too many watches", map[string]string{"MAX_STREAMS_PER_USER": "1"}),
		"MAX_FAILURES_PER_ADDRESS":   testMaxFailuresPerAddress,
		"MAX_TOKEN_REVIEWS":          testMaxTokenReviews,
		"HEADER_TIMEOUT":             testHeaderTimeout,
		"BODY_TIMEOUT":               testBodyTimeout,
		"IDLE_TIMEOUT":               testIdleTimeout,
		"UPSTREAM_TIMEOUT":           testUpstreamTimeout,
	}
}

const watchPath = "/api/v1/pods?watch=true"

// Promise: the defaults of the settings are those of the code, and the table of
// limits has each, with its default.
func TestDocumentedLimits(t *testing.T) {
	var f faults
	l := parseSettings(map[string]string{}, &f).Limits
	if l.requests() != proxy.DefaultLimits() || l.connections() != serve.DefaultLimits() {
		t.Errorf("the settings' defaults are %+v and %+v", l.requests(), l.connections())
	}
	document := read(t, moduleRoot+"/docs/operations.md")
	for _, v := range variablesOf(reflect.TypeFor[limitSettings](), "") {
		if row := fmt.Sprintf("| `%s` | `%s%s` |", v.preset, envPrefix, v.name); !strings.Contains(document, row) {
			t.Errorf("docs/operations.md does not have %s", row)
		}
	}
}

// expectCode asks with a header of its own.
func (p *process) expectCode(t *testing.T, change func(http.Header), want int) {
	t.Helper()
	r := p.request(t, anaToken, "/version")
	change(r.Header)
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != want {
		body, _ := io.ReadAll(resp.Body)
		t.Errorf("status %d, want %d: %s", resp.StatusCode, want, body)
	}
}

// A header of more than MAX_HEADER_BYTES is 431.
func testMaxHeaderBytes(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"MAX_HEADER_BYTES": "65536"})
	p.client = w.newClient(t, false) // over HTTP/2 the client knows, and does not ask
	p.expectCode(t, func(h http.Header) { h.Set("X-Large", strings.Repeat("x", 60<<10)) }, http.StatusOK)
	p.expectCode(t, func(h http.Header) { h.Set("X-Large", strings.Repeat("x", 80<<10)) }, http.StatusRequestHeaderFieldsTooLarge)
}

// A header of more than MAX_HEADER_LINES is 431.
func testMaxHeaderLines(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"MAX_HEADER_LINES": "50"})
	lines := func(count int) func(http.Header) {
		return func(h http.Header) {
			for i := range count {
				h.Set(fmt.Sprint("X-Line-", i), "x")
			}
		}
	}
	p.expectCode(t, lines(40), http.StatusOK)
	p.expectCode(t, lines(51), http.StatusRequestHeaderFieldsTooLarge)
}

// A token of more than MAX_TOKEN_BYTES is not looked at.
func testMaxTokenBytes(t *testing.T, w *world, _ *authtest.Issuer) {
	long := strings.Repeat("t", 1025)
	p := w.start(t, map[string]string{
		"MAX_TOKEN_BYTES": "1024",
		"TOKEN_AUTH_FILE": w.write(t, "long-tokens.csv", long+",long,1\n"+long[1:]+",short,2\n"),
	})
	if got := p.ask(t, long[1:], "/version"); got.code != http.StatusOK {
		t.Errorf("a token of the limit: status %d: %s", got.code, got.body)
	}
	if got := p.ask(t, long, "/version"); got.code != http.StatusUnauthorized || !strings.Contains(got.body, "too long") {
		t.Errorf("a longer one: status %d: %s", got.code, got.body)
	}
}

// dial returns a connection by TLS that the test writes to itself.
func (p *process) dial(t *testing.T, w *world) (*tls.Conn, error) {
	t.Helper()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: w.ca.Pool(), ServerName: "127.0.0.1"}}
	conn, err := dialer.DialContext(t.Context(), "tcp", p.address)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*tls.Conn), nil
}

// One address has at most half of MAX_CONNECTIONS, and the metric counts what is
// closed.
func testMaxConnections(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"MAX_CONNECTIONS": "2"})
	if _, err := p.dial(t, w); err != nil {
		t.Fatal(err)
	}
	if _, err := p.dial(t, w); err == nil {
		t.Error("a second connection is open")
	}
	const want = `gatehouse_rejected_total{limit="connections"} 1`
	if _, metrics := p.opsGet(t, "/metrics"); !strings.Contains(metrics, want) {
		t.Errorf("the metrics do not have %s", want)
	}
}

// A client of HTTP/2 that minds MAX_STREAMS_PER_CONNECTION opens a second
// connection for a second request.
func testMaxStreamsPerConnection(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	p := w.start(t, map[string]string{"MAX_STREAMS_PER_CONNECTION": "1"})
	p.client = w.newClient(t, true)
	dialed := make(chan struct{}, 8)
	transport := p.client.Transport.(*http.Transport)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed <- struct{}{}
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for range 2 {
		go func() {
			resp, err := p.client.Do(p.request(t, anaToken, "/slow"))
			if err == nil {
				_ = resp.Body.Close()
			}
		}()
		<-w.upstream.arrived
	}
	if len(dialed) != 2 {
		t.Errorf("%d connections for two requests, want 2", len(dialed))
	}
	w.upstream.release <- struct{}{}
	w.upstream.release <- struct{}{}
}

// underWay returns the test of a limit that leaves a user one request for path.
func underWay(path, sentence string, settings map[string]string) settingTest {
	return func(t *testing.T, _ *world, _ *authtest.Issuer) {
		w := newWorld(t)
		p := w.start(t, settings)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			if resp, err := p.client.Do(p.request(t, anaToken, path).WithContext(ctx)); err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		}()
		<-w.upstream.arrived
		answered := make(chan reply, 1)
		go func() {
			resp, err := p.client.Do(p.request(t, anaToken, path))
			if err != nil {
				return
			}
			body, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			answered <- reply{code: resp.StatusCode, body: string(body)}
		}()
		var got reply
		select {
		case got = <-answered:
		case <-w.upstream.arrived:
			t.Fatal("a second request reached the API server beside the first")
		}
		if got.code != http.StatusTooManyRequests || !strings.Contains(got.body, sentence) {
			t.Errorf("beside another: status %d %s, want 429 %q", got.code, got.body, sentence)
		}
		leave()
		<-left
		eventually(t, func() bool {
			other := "/version"
			if path == watchPath {
				other = "/api/v1/namespaces/d/pods/p/log"
			}
			got = p.ask(t, anaToken, other)
			return got.code == http.StatusOK
		}, func() string { return got.body })
	}
}

// Beyond MAX_FAILURES_PER_ADDRESS a credential that nobody knows waits for those
// before it; one that was accepted lately does not. The API server is slow to
// judge, so that those before it can be seen.
func testMaxFailuresPerAddress(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	cluster := w.newIssuer(t)
	p := withReviews(t, w, map[string]string{"MAX_FAILURES_PER_ADDRESS": "1", "TOKEN_AUTH_FILE": w.path("tokens.csv")})
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Fatalf("status %d", got.code)
	}
	p.client = w.newClient(t, false) // a 401 would end what others do on a connection of HTTP/2
	accounts := forgedAccounts(cluster, 6)
	for code := range p.askAll(t, slices.Repeat([]string{"forged-token"}, 60)) {
		if code != http.StatusUnauthorized {
			t.Errorf("a forged token: status %d, want 401", code)
		}
	}
	asked, release := w.upstream.reviews.holdAll()
	refused := p.askAll(t, accounts)
	eventually(t, func() bool { return asked() == 4 }, func() string { return fmt.Sprint(asked()) })
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK {
		t.Errorf("who was accepted lately: status %d", got.code)
	}
	if count := asked(); count != 4 {
		t.Errorf("%d are judged at a time, want 4", count)
	}
	release()
	for code := range refused {
		if code != http.StatusUnauthorized {
			t.Errorf("status %d, want 401", code)
		}
	}
}

// More new tokens than MAX_TOKEN_REVIEWS in a second, or twice that at once, are
// not shown to the API server.
func testMaxTokenReviews(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	cluster := w.newIssuer(t)
	p := withReviews(t, w, map[string]string{"MAX_TOKEN_REVIEWS": "1"})
	p.client = w.newClient(t, false)
	shed := 0
	for code := range p.askAll(t, forgedAccounts(cluster, 40)) {
		if code == http.StatusServiceUnavailable {
			shed++
		}
	}
	if shed == 0 {
		t.Error("forty new tokens at once were all reviewed, want about two")
	}
}

// forgedAccounts returns tokens of ServiceAccounts that are not there.
func forgedAccounts(cluster *authtest.Issuer, count int) []string {
	var tokens []string
	for i := range count {
		tokens = append(tokens, accountToken(cluster, fmt.Sprint("system:serviceaccount:ci:forged-", i), apiAudience))
	}
	return tokens
}

// askAll asks with all tokens at once, and returns the status codes as they come.
func (p *process) askAll(t *testing.T, tokens []string) <-chan int {
	t.Helper()
	codes := make(chan int, len(tokens))
	var askers sync.WaitGroup
	for _, token := range tokens {
		askers.Go(func() {
			resp, err := p.client.Do(p.request(t, token, "/version"))
			if err != nil {
				t.Error(err)
				return
			}
			_ = resp.Body.Close()
			codes <- resp.StatusCode
		})
	}
	go func() {
		askers.Wait()
		close(codes)
	}()
	return codes
}

// untilClosed returns how long gatehouse keeps a connection, and what it says.
func untilClosed(conn net.Conn) (time.Duration, string) {
	start := time.Now()
	content, _ := io.ReadAll(conn)
	return time.Since(start), string(content)
}

// Half a header ends the connection after HEADER_TIMEOUT.
func testHeaderTimeout(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"HEADER_TIMEOUT": "1s"})
	conn, err := p.dial(t, w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: gatehouse\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if took, _ := untilClosed(conn); took > 20*time.Second {
		t.Errorf("closed after %s, want 1s (the default is 32s)", took)
	}
}

// A connection is closed when it was idle for IDLE_TIMEOUT.
func testIdleTimeout(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"IDLE_TIMEOUT": "1s"})
	conn, err := p.dial(t, w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /version HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer "+anaToken+"\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if took, answer := untilClosed(conn); took > 20*time.Second || !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
		t.Errorf("closed after %s, want 1s (the default is 90s): %s", took, answer)
	}
}

// A request to which the API server does not begin to answer within
// UPSTREAM_TIMEOUT is 504.
func testUpstreamTimeout(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"UPSTREAM_TIMEOUT": "1s"})
	resp, err := p.client.Do(p.request(t, anaToken, "/slow"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("status %d, want 504 after 1s (the default is two minutes)", resp.StatusCode)
	}
}

// A body that does not arrive within BODY_TIMEOUT is 408.
func testBodyTimeout(t *testing.T, w *world, _ *authtest.Issuer) {
	p := w.start(t, map[string]string{"BODY_TIMEOUT": "1s"})
	conn, err := p.dial(t, w)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "POST /api/v1/namespaces HTTP/1.1\r\nHost: gatehouse\r\nAuthorization: Bearer "+anaToken+"\r\nContent-Length: 100\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	if took, answer := untilClosed(conn); took > 20*time.Second || !strings.HasPrefix(answer, "HTTP/1.1 408 ") {
		t.Errorf("after %s: %s; want 408 after 1s (the default is a minute)", took, answer)
	}
}
