package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// Promise: trouble between gatehouse and the API server is told as what it is,
// with the hop named, and is never taken for the caller's own.
func TestUpstreamTrouble(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }
	for _, tt := range []struct {
		name     string
		handler  http.HandlerFunc
		protocol int
		before   func(*gate)
		code     int
		sentence string
		reason   string // of the metric
	}{
		{name: "refuses connections", protocol: 2, before: func(g *gate) { g.back.Close() }, code: 503, sentence: "cannot reach the API server", reason: "unreachable"},
		{name: "cuts before an answer", protocol: 1, handler: cut, code: 502, sentence: "failed before an answer came", reason: "broken"},
		{name: "resets the stream", protocol: 2, handler: cut, code: 502, sentence: "failed before an answer came", reason: "broken"},
		{
			name: "does not accept our credential", protocol: 2, code: 502, sentence: "Yours is not at fault", reason: "own_credential",
			handler: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("WWW-Authenticate", "Basic")
				w.WriteHeader(http.StatusUnauthorized)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			handler := tt.handler
			if handler == nil {
				handler = func(http.ResponseWriter, *http.Request) {}
			}
			g := newGate(t, tt.protocol, handler)
			if tt.before != nil {
				tt.before(g)
			}
			for _, client := range []int{1, 2} {
				resp, err := g.client(client).Do(g.request(http.MethodPost, "/api", "alice"))
				if err != nil {
					t.Fatal(err)
				}
				wantOwnAnswer(t, resp, tt.code, tt.sentence)
				resp.Body.Close()
			}
			if got := g.count("gatehouse_upstream_errors_total", map[string]string{"reason": tt.reason}); got != 2 {
				t.Errorf("counted %v, want 2", got)
			}
			if strings.Contains(string(g.log.Bytes()), ownToken) {
				t.Error("our token is in the log")
			}
		})
	}
}

// Promise: only what was not sent, or may be sent twice, is to be tried again:
// client-go repeats whatever is answered with Retry-After.
func TestRetryAfter(t *testing.T) {
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	unauthorized := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) }
	for _, tt := range []struct {
		name    string
		handler http.HandlerFunc
		down    bool
		method  string
		retry   bool
	}{
		{"nothing was sent", cut, true, http.MethodPost, true},
		{"perhaps carried out", cut, false, http.MethodPost, false},
		{"perhaps carried out, delete", cut, false, http.MethodDelete, false},
		{"read", cut, false, http.MethodGet, true},
		{"an operator's affair", unauthorized, false, http.MethodGet, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			g := newGate(t, 2, tt.handler)
			if tt.down {
				g.back.Close()
			}
			resp, err := g.client(2).Do(g.request(tt.method, "/api", "alice"))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Retry-After") != ""; got != tt.retry {
				t.Errorf("%d with Retry-After: %t, want %t", resp.StatusCode, got, tt.retry)
			}
		})
	}
}

// Promise: something that answers for the API server with a certificate of
// another CA gets nothing, and the operator is told what is wrong.
func TestUpstreamIsSomebodyElse(t *testing.T) {
	g := newGate(t, 2, func(http.ResponseWriter, *http.Request) { t.Error("a request reached an impostor") })
	ca, err := authtest.NewCA("impostor")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	impostor := httptest.NewUnstartedServer(g.back.Config.Handler)
	impostor.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	impostor.Config.ErrorLog = log.New(io.Discard, "", 0)
	impostor.StartTLS()
	t.Cleanup(impostor.Close)

	g.connect(kubeconfig(t, impostor.URL, g.back.Certificate().Raw))
	resp, err := g.client(2).Do(g.request(http.MethodGet, "/api", "alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wantOwnAnswer(t, resp, http.StatusBadGateway, "does not trust the certificate")
	if got := g.count("gatehouse_upstream_errors_total", map[string]string{"reason": "certificate"}); got != 1 {
		t.Errorf("counted %v, want 1", got)
	}
}

// Promise: an answer that is cut off does not look complete.
func TestCutAnswer(t *testing.T) {
	bothProtocols(t, func(t *testing.T, client, upstream int) {
		g := newGate(t, upstream, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		})
		resp, err := g.client(client).Do(g.request(http.MethodGet, "/api", "alice"))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("body %q without an error", body)
		}
		if err := g.proxy.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if lines := g.requestLines(); len(lines) != 1 || lines[0]["aborted"] != true {
			t.Errorf("log %v", lines)
		}
	})
}

// Promise: an API server's redirect is passed on, and not followed.
func TestRedirectIsNotFollowed(t *testing.T) {
	requests := 0
	g := newGate(t, 1, func(w http.ResponseWriter, r *http.Request) {
		requests++
		http.Redirect(w, r, "https://elsewhere.example/", http.StatusFound)
	})
	c := g.client(2)
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := c.Do(g.request(http.MethodGet, "/api", "alice"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusFound || requests != 1 {
		t.Errorf("status %d after %d requests", resp.StatusCode, requests)
	}
	// A client that upgrades expects a stream, and would follow it elsewhere.
	upgrade, _, _ := g.upgrade(http.MethodGet, "websocket")
	wantOwnAnswer(t, upgrade, http.StatusBadGateway, "failed before an answer came")
}

// echo switches to protocol, greets, and sends back what it gets.
func echo(protocol string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\nhello ", protocol)
		_, _ = io.Copy(conn, buffered)
	}
}

// upgrade sends a raw upgrade request, and returns the answer and what follows.
func (g *gate) upgrade(method, protocol string) (*http.Response, net.Conn, *bufio.Reader) {
	g.t.Helper()
	conn, reader := g.dial()
	fmt.Fprintf(conn, "%s /api/v1/namespaces/d/pods/p/exec HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\nConnection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n", method, protocol)
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp, conn, reader
}

// Promise: the streaming protocols of Kubernetes pass over HTTP/1.1, in both
// directions, as the caller.
func TestUpgrades(t *testing.T) {
	for _, protocol := range []string{"websocket", "SPDY/3.1"} {
		t.Run(strings.ReplaceAll(protocol, "/", " "), func(t *testing.T) {
			g := newGate(t, 2, func(w http.ResponseWriter, r *http.Request) {
				if r.ProtoMajor != 1 || r.Header.Get("Impersonate-User") != "alice" || r.Header.Get("Authorization") != "Bearer "+ownToken ||
					r.Header.Get("Upgrade") != protocol || r.Header.Get("Connection") != "Upgrade" {
					t.Errorf("arrived: HTTP/%d %v", r.ProtoMajor, r.Header)
				}
				echo(protocol)(w, r)
			})
			resp, conn, reader := g.upgrade(http.MethodPost, strings.ToUpper(protocol))
			if resp.StatusCode != http.StatusSwitchingProtocols || resp.Header.Get("Upgrade") != protocol {
				t.Fatalf("answer %d %v", resp.StatusCode, resp.Header)
			}
			fmt.Fprint(conn, "and goodbye")
			got := make([]byte, len("hello and goodbye"))
			if _, err := io.ReadFull(reader, got); err != nil || string(got) != "hello and goodbye" {
				t.Errorf("stream %q, %v", got, err)
			}
			if got := g.count("gatehouse_requests_in_flight", map[string]string{"kind": "connect"}); got != 1 {
				t.Errorf("%v connections in flight, want 1", got)
			}
			conn.Close()
			if err := g.proxy.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if lines := g.requestLines(); len(lines) != 1 || lines[0]["status"] != 101.0 || lines[0]["verb"] != "connect" {
				t.Errorf("log %v", lines)
			}
		})
	}
}

// Promise: an upgrade that the API server refuses is an ordinary answer, and
// leaves no raw connection behind.
func TestRefusedUpgrade(t *testing.T) {
	requests := 0
	g := newGate(t, 1, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		http.Error(w, "no", http.StatusForbidden)
	})
	resp, conn, reader := g.upgrade(http.MethodGet, "websocket")
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusForbidden || string(body) != "no\n" || err != nil {
		t.Fatalf("answer %d %q, %v", resp.StatusCode, body, err)
	}
	// What follows is a request like any other: this one has no credential.
	fmt.Fprint(conn, "GET /api HTTP/1.1\r\nHost: x\r\nImpersonate-User: admin\r\n\r\n")
	resp, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantOwnAnswer(t, resp, http.StatusUnauthorized, "not signed in")
	if requests != 1 {
		t.Errorf("%d requests reached the API server", requests)
	}
}

// Promise: a switch of protocols that nobody asked for, or to another one than
// was asked for, opens nothing.
func TestUnaskedSwitch(t *testing.T) {
	for name, protocol := range map[string]string{"other": "SPDY/3.1", "none": ""} {
		g := newGate(t, 1, echo(protocol))
		resp, _, _ := g.upgrade(http.MethodGet, "websocket")
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %d", name, resp.StatusCode)
		}
		plain, err := g.client(1).Do(g.request(http.MethodGet, "/api", "alice"))
		if err != nil {
			t.Fatal(err)
		}
		wantOwnAnswer(t, plain, http.StatusBadGateway, "failed before an answer came")
		plain.Body.Close()
	}
}

// Promise: behind an API server whose URL has a path, no request leaves that
// path, however it is written.
func TestServerWithAPath(t *testing.T) {
	var arrived []string
	g := newGateAt(t, 2, "/k8s/clusters/c%201/", func(_ http.ResponseWriter, r *http.Request) { arrived = append(arrived, r.RequestURI) })
	for path, want := range map[string]string{
		"/api/v1/pods?limit=1": "/k8s/clusters/c%201/api/v1/pods?limit=1",
		"/":                    "/k8s/clusters/c%201/",
		"/a%2Fb":               "/k8s/clusters/c%201/a%2Fb",
		"/../c-2/api":          "",
		"/api/..":              "",
		"/%2e%2e/c-2":          "",
		"/..%2fc-2/api":        "",
		"/..%5cc-2/api":        "",
		"/..;x/c-2":            "",
		"/./api":               "",
	} {
		arrived = nil
		r := g.request(http.MethodGet, "/", "alice")
		r.URL.Opaque, r.URL.RawQuery, _ = strings.Cut(path, "?")
		resp, err := g.client(2).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		if want == "" {
			wantOwnAnswer(t, resp, http.StatusBadRequest, "")
		}
		resp.Body.Close()
		if got := strings.Join(arrived, " "); got != want {
			t.Errorf("%s arrived as %q, want %q", path, got, want)
		}
	}
}
