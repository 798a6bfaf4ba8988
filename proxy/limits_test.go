package proxy_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

// limited is a gate with limits.
func limited(t *testing.T, protocol int, limits proxy.Limits, handler http.HandlerFunc) *gate {
	t.Helper()
	return newGateFor(t, protocol, auth.Bearer(users{}), handler, limitedTo(limits))
}

func limitedTo(limits proxy.Limits) func(*proxy.Config) {
	return func(cfg *proxy.Config) { cfg.Limits = limits }
}

// wantRejected checks an answer to a request for which a limit was reached.
func (g *gate) wantRejected(r *http.Request, limit string, code int, sentence string) {
	g.t.Helper()
	labels := map[string]string{"limit": limit}
	before := g.count("gatehouse_rejected_total", labels)
	for _, protocol := range []int{1, 2} {
		resp, err := g.client(protocol).Do(r.Clone(r.Context()))
		if err != nil {
			g.t.Fatal(err)
		}
		wantOwnAnswer(g.t, resp, code, sentence)
		resp.Body.Close()
		want := ""
		if code == http.StatusTooManyRequests {
			want = "1"
		}
		if got := resp.Header.Get("Retry-After"); got != want {
			g.t.Errorf("%s: Retry-After %q, want %q", limit, got, want)
		}
	}
	if got := g.count("gatehouse_rejected_total", labels) - before; got != 2 {
		g.t.Errorf("counted %v rejected by %s, want 2", got, limit)
	}
	if want := `"rejected":"` + limit + `"`; !strings.Contains(string(g.log.Bytes()), want) {
		g.t.Errorf("no line of the log has %s", want)
	}
}

func (g *gate) wantServed(path, user string) {
	g.t.Helper()
	resp, err := g.client(2).Do(g.request(http.MethodGet, path, user))
	if err != nil {
		g.t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		g.t.Errorf("%s for %s: %d %s", path, user, resp.StatusCode, body)
	}
}

// awaitIdle returns when no more than so many requests are under way. Nobody
// says so but the metric.
func (g *gate) awaitIdle(most float64) {
	g.t.Helper()
	for end := time.Now().Add(10 * time.Second); g.count("gatehouse_requests_in_flight", nil) > most; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatal("requests are still under way")
		}
	}
}

// holding serves what asks for it until its caller leaves or release is closed.
func holding(release chan struct{}) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "hold") {
			_, _ = io.WriteString(w, "event\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	}
}

// Promise: nobody has more requests or streams under way than one user may, and
// who has too many takes nothing from others, nor from the other class; what
// ended counts no more.
func TestLimitForEachUser(t *testing.T) {
	const watch, list = "/api/v1/pods?watch=1&hold", "/api/v1/pods?hold"
	for limit, tt := range map[string]struct{ held, other, sentence string }{
		"user_requests": {list, watch, "You have too many requests under way"},
		"user_streams":  {watch, list, "You have too many watches and other streams open"},
	} {
		t.Run(limit, func(t *testing.T) {
			release := make(chan struct{})
			g := limited(t, 2, proxy.Limits{RequestsPerUser: 2, StreamsPerUser: 2}, holding(release))
			first, second := g.open(g.client(1), tt.held), g.open(g.client(2), tt.held)
			g.wantRejected(g.request(http.MethodGet, tt.held, "alice"), limit, 429, tt.sentence)
			g.open(g.client(2), tt.other)
			g.wantServed(strings.TrimSuffix(tt.held, "&hold"), "bob")
			close(release)
			for _, ended := range []*bufio.Reader{first, second} {
				if _, err := io.Copy(io.Discard, ended); err != nil {
					t.Error(err)
				}
			}
			g.awaitIdle(1)
			g.wantServed(tt.held, "alice")
		})
	}
}

// Promise: all together have no more under way than the process may, and who has
// less than is left is served before who has more.
func TestLimitForAll(t *testing.T) {
	for limit, path := range map[string]string{"all_requests": "/api/v1/pods?hold", "all_streams": "/api/v1/pods?watch=1&hold"} {
		t.Run(limit, func(t *testing.T) {
			release := make(chan struct{})
			defer close(release)
			g := limited(t, 2, proxy.Limits{Requests: 4, Streams: 4}, holding(release))
			g.open(g.client(2), path)
			g.open(g.client(2), path)
			g.wantRejected(g.request(http.MethodGet, path, "alice"), limit, 429, "to take more of yours")
			g.wantServed(path[:len(path)-len("hold")], "bob")
		})
	}
}

// Promise: however a request ends, it counts no more.
func TestEveryEndIsCounted(t *testing.T) {
	g := limited(t, 1, proxy.Limits{RequestsPerUser: 1, StreamsPerUser: 1}, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/abort":
			panic(http.ErrAbortHandler)
		case "/upgrade":
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_ = conn.Close()
		case "/held":
			<-r.Context().Done()
		}
	})
	for range 3 {
		for _, path := range []string{"/abort", "/upgrade", "/held", "/good"} {
			r := g.request(http.MethodGet, path, "alice")
			ctx, leave := context.WithCancel(r.Context())
			if path == "/held" {
				time.AfterFunc(20*time.Millisecond, leave)
			}
			if path == "/upgrade" {
				r.Header.Set("Connection", "Upgrade")
				r.Header.Set("Upgrade", "websocket")
			}
			resp, err := g.client(1).Do(r.WithContext(ctx))
			if err == nil {
				if resp.StatusCode == http.StatusTooManyRequests {
					t.Errorf("%s: what ended before still counts", path)
				}
				resp.Body.Close()
			}
			leave()
			g.awaitIdle(0)
		}
	}
}

// Promise: a header of many lines is refused before its credential is looked at,
// and a long token before anything in it is.
func TestHeaderAndTokenLimits(t *testing.T) {
	g := newGateFor(t, 2, auth.Bearer(tokens(func(_ context.Context, token string) (*auth.Identity, error) {
		if token != "alice" && len(token) != 100 {
			t.Errorf("the authenticator saw a token of %d bytes", len(token))
		}
		return users{}.AuthenticateToken(t.Context(), token)
	})), func(http.ResponseWriter, *http.Request) {}, limitedTo(proxy.Limits{HeaderLines: 40, TokenBytes: 100}))
	many := g.request(http.MethodGet, "/", "bad")
	for range 41 {
		many.Header.Add("Accept", "application/json")
	}
	g.wantRejected(many, "header_lines", 431, "more header lines than are accepted")
	g.wantServed("/", strings.Repeat("x", 100))
	socket := g.request(http.MethodGet, "/", "")
	socket.Header.Set("Connection", "Upgrade")
	socket.Header.Set("Upgrade", "websocket")
	socket.Header.Set("Sec-Websocket-Protocol", "v4.channel.k8s.io, "+auth.WebSocketBearerPrefix+strings.Repeat("eHh4", 34))
	for _, r := range []*http.Request{g.request(http.MethodGet, "/", strings.Repeat("x", 101)), socket} {
		resp, err := g.client(1).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, 401, "Your token is too long to be accepted.")
		resp.Body.Close()
	}
}

// Promise: who floods gatehouse with bad credentials shuts out nobody at the
// same address, even while each of them takes long to judge; and a flood is
// judged a few at a time.
func TestFailuresOfAnAddress(t *testing.T) {
	arrived, release := make(chan string, 64), make(chan struct{})
	g := newGateFor(t, 2, auth.Bearer(tokens(func(ctx context.Context, token string) (*auth.Identity, error) {
		if strings.HasPrefix(token, "forged") {
			arrived <- token
			<-release
			return nil, auth.Refuse(auth.KindUnknown, auth.BadSignature, "")
		}
		return users{}.AuthenticateToken(ctx, token)
	})), func(http.ResponseWriter, *http.Request) {}, limitedTo(proxy.Limits{FailuresPerAddress: 1}))
	g.wantServed("/", "alice")
	client := g.client(1)
	for range 25 {
		resp, err := client.Do(g.request(http.MethodGet, "/", "unknown"))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, resp, 401, "was not accepted")
		resp.Body.Close()
	}
	codes := make(chan int, 8)
	for i := range 8 {
		go func() {
			resp, err := g.client(1).Do(g.request(http.MethodGet, "/", "forged"+string(rune('a'+i))))
			if err != nil {
				t.Error(err)
				codes <- 0
				return
			}
			resp.Body.Close()
			codes <- resp.StatusCode
		}()
	}
	for range 4 {
		<-arrived
	}
	g.wantServed("/", "alice")
	select {
	case token := <-arrived:
		t.Errorf("%s is judged beside four others", token)
	default:
	}
	close(release)
	for range 8 {
		if code := <-codes; code != http.StatusUnauthorized {
			t.Errorf("status %d, want 401 when its turn came", code)
		}
	}
	g.wantServed("/", "someone_new")
}

// Promise: a body that trickles in has a time limit, over both protocols and
// whether its length is known; one that is whole has none on its answer, and a
// stream's may take any time.
func TestSlowBodies(t *testing.T) {
	const limit = 300 * time.Millisecond
	g := limited(t, 2, proxy.Limits{BodyTime: limit}, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err == nil && r.URL.Path == "/slow-answer" {
			time.Sleep(3 * limit) // the limit is in real time, and so is what must outlast it
		}
		_, _ = w.Write(body)
	})
	// trickle sends one byte, and then waits to be told what else to send.
	trickle := func(path string, length int64) (_ *http.Request, rest chan string) {
		reader, writer := io.Pipe()
		r := g.request(http.MethodPost, path, "alice")
		r.Body, r.ContentLength = reader, length
		rest = make(chan string)
		go func() {
			_, _ = io.WriteString(writer, "a")
			_, _ = io.WriteString(writer, <-rest)
			_ = writer.Close()
		}()
		return r, rest
	}
	for _, protocol := range []int{1, 2} {
		for _, length := range []int64{-1, 100, 1 << 20} {
			r, rest := trickle("/api/v1/namespaces", length)
			start := time.Now()
			resp, err := g.client(protocol).Do(r)
			if err != nil {
				t.Fatalf("HTTP/%d, %d bytes: %v", protocol, length, err)
			}
			wantOwnAnswer(t, resp, 408, "took too long to arrive")
			resp.Body.Close()
			if took := time.Since(start); took < limit {
				t.Errorf("HTTP/%d, %d bytes: ended after %s", protocol, length, took)
			}
			rest <- ""
		}
		for _, path := range []string{"/slow-answer", "/api/v1/namespaces/d/pods/p/proxy/upload"} {
			r, rest := trickle(path, -1)
			after := time.Duration(0)
			if path != "/slow-answer" {
				after = 3 * limit
			}
			time.AfterFunc(after, func() { rest <- "b" })
			resp, err := g.client(protocol).Do(r)
			if err != nil {
				t.Fatalf("HTTP/%d, %s: %v", protocol, path, err)
			}
			if body, err := io.ReadAll(resp.Body); string(body) != "ab" || err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("HTTP/%d, %s: %d %q %v", protocol, path, resp.StatusCode, body, err)
			}
			resp.Body.Close()
		}
	}
	if got := g.count("gatehouse_rejected_total", map[string]string{"limit": "slow_body"}); got != 6 {
		t.Errorf("counted %v slow bodies, want 6", got)
	}
	if err := g.proxy.Wait(t.Context()); err != nil {
		t.Error(err)
	}
}

// Promise: after a request whose body was slow, a connection does not take the
// rest of it for a request.
func TestRestOfASlowBodyIsNoRequest(t *testing.T) {
	g := limited(t, 1, proxy.Limits{BodyTime: 100 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/smuggled" {
			t.Error("the rest of a body became a request")
		}
		_, _ = io.Copy(w, r.Body)
	})
	transport := g.client(1).Transport.(*http.Transport)
	transport.TLSClientConfig.ServerName = "example.com"
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", g.front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	secure := tls.Client(conn, transport.TLSClientConfig)
	defer secure.Close()
	if _, err := io.WriteString(secure, "POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nContent-Length: 300000\r\n\r\na"); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(secure)
	resp, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantOwnAnswer(t, resp, 408, "took too long")
	resp.Body.Close()
	_, _ = io.WriteString(secure, "GET /smuggled HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n")
	if rest, _ := io.ReadAll(answers); len(rest) != 0 {
		t.Errorf("the connection went on: %q", rest)
	}
}
