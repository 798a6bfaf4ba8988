package proxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/h2server"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

const ownToken = "own-canary-token"

// users is a TokenAuthenticator whose tokens are the names of its users. A
// token that names a reason is refused for it.
type users struct{}

func (users) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	for _, reason := range auth.Reasons() {
		if token == string(reason) {
			refusal := auth.Refuse(auth.KindOIDC, reason, "detail of "+token)
			refusal.At = time.Now().Add(-5*time.Minute - time.Second)
			if reason == auth.NotYetValid {
				refusal.At = time.Now().Add(5*time.Minute + time.Second)
			}
			return nil, refusal
		}
	}
	switch token {
	case "unknown":
		return nil, auth.ErrNotMine
	case "panic":
		panic("canary-in-panic")
	case "broken":
		return nil, context.DeadlineExceeded
	case "nobody":
		return nil, nil
	}
	return &auth.Identity{Kind: auth.KindTokenFile, User: auth.User{Name: strings.ReplaceAll(token, "_", " "), Groups: []string{"dev"}}}, nil
}

// gate is a proxy between a test and an upstream, on real sockets.
type gate struct {
	t       *testing.T
	proxy   *proxy.Proxy
	front   *httptest.Server
	back    *httptest.Server
	target  upstream.Live
	metrics *prometheus.Registry
	log     *safeBuffer

	forgotten []string                   // tokens that the API server refused
	denied    func(*auth.Identity) error // nil: nobody is
	id        string                     // by which it knows its own requests
	self      string                     // gatehouse's own name, as far as it is known
	refusedUs atomic.Int64
}

// newGate starts a proxy in front of handler. protocol is that of the upstream:
// 1 or 2.
func newGate(t *testing.T, protocol int, handler http.HandlerFunc) *gate {
	t.Helper()
	return newGateAt(t, protocol, "", handler)
}

// newGateAt is newGate with an upstream whose URL has a path.
func newGateAt(t *testing.T, protocol int, path string, handler http.HandlerFunc) *gate {
	t.Helper()
	return startGate(t, protocol, path, auth.Bearer(users{}), handler)
}

// newGateFor is newGate with an authenticator of the test's own.
func newGateFor(t *testing.T, protocol int, authenticator auth.Authenticator, handler http.HandlerFunc, edits ...func(*proxy.Config)) *gate {
	t.Helper()
	return startGate(t, protocol, "", authenticator, handler, edits...)
}

func startGate(t *testing.T, protocol int, path string, authenticator auth.Authenticator, handler http.HandlerFunc, edits ...func(*proxy.Config)) *gate {
	t.Helper()
	g := &gate{t: t, id: rand.Text(), metrics: prometheus.NewRegistry(), log: &safeBuffer{}}
	g.back = httptest.NewUnstartedServer(handler)
	g.back.EnableHTTP2 = protocol == 2
	g.back.StartTLS()
	t.Cleanup(g.back.Close)

	g.connect(kubeconfig(t, g.back.URL+path, g.back.Certificate().Raw))
	cfg := proxy.Config{
		Target:         g.target.Target,
		Authenticator:  authenticator,
		OnRefusedToken: func(token string) { g.forgotten = append(g.forgotten, token) },
		ID:             g.id,
		Self:           func() string { return g.self },
		OnForbidden:    func() { g.refusedUs.Add(1) },
		Denied: func(id *auth.Identity) error {
			if g.denied == nil {
				return nil
			}
			return g.denied(id)
		},
		Metrics: g.metrics,
		Log:     slog.New(slog.NewJSONHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	var err error
	if g.proxy, err = proxy.New(cfg); err != nil {
		t.Fatal(err)
	}
	g.front = httptest.NewUnstartedServer(g.proxy)
	g.front.EnableHTTP2 = true
	g.front.Config.TLSNextProto = byOwnServer(g.proxy)
	g.front.StartTLS()
	t.Cleanup(g.front.Close)
	return g
}

// byOwnServer has HTTP/2 served as gatehouse does.
func byOwnServer(handler http.Handler) map[string]func(*http.Server, *tls.Conn, http.Handler) {
	own := h2server.New(h2server.Config{
		Handler: handler, HeaderBytes: http.DefaultMaxHeaderBytes, HeaderTime: time.Minute, IdleTime: time.Minute,
		Streams: 250, PingAfter: time.Minute, PingTimeout: time.Minute, Log: slog.New(slog.DiscardHandler),
	})
	return map[string]func(*http.Server, *tls.Conn, http.Handler){
		"h2": func(server *http.Server, conn *tls.Conn, _ http.Handler) {
			state := conn.ConnectionState()
			own.Serve(context.WithValue(context.Background(), http.ServerContextKey, server), conn, &state)
		},
	}
}

// connect makes the API server of a kubeconfig the one in use.
func (g *gate) connect(kubeconfig string) {
	g.t.Helper()
	target, err := upstream.Load(kubeconfig)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(target.Close)
	g.target.Swap(target)
}

// kubeconfig writes one for a server that a certificate verifies, with a token
// that must never be seen.
func kubeconfig(t *testing.T, url string, certificate []byte) string {
	t.Helper()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
	content, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": url, "certificate-authority-data": ca}}},
		"users":    []any{map[string]any{"name": "u", "user": map[string]any{"token": ownToken}}},
		"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "u"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// client returns a client of HTTP version 1 or 2 with its own connections.
func (g *gate) client(protocol int) *http.Client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(protocol == 1)
	protocols.SetHTTP2(protocol == 2)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: g.front.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs},
		Protocols:       protocols,
	}
	g.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// request makes a request to the gate as user; "" sends no credential.
func (g *gate) request(method, path, user string) *http.Request {
	g.t.Helper()
	r, err := http.NewRequestWithContext(g.t.Context(), method, g.front.URL+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	if user != "" {
		r.Header.Set("Authorization", "Bearer "+user)
	}
	return r
}

// bothProtocols runs a test for each pair of client and upstream protocol.
func bothProtocols(t *testing.T, run func(t *testing.T, client, upstream int)) {
	t.Helper()
	for _, client := range []int{1, 2} {
		for _, upstream := range []int{1, 2} {
			t.Run(fmt.Sprintf("HTTP%d to HTTP%d", client, upstream), func(t *testing.T) { run(t, client, upstream) })
		}
	}
}

// requestLines returns the log lines of requests that ended.
func (g *gate) requestLines() []map[string]any {
	var lines []map[string]any
	for line := range bytes.Lines(g.log.Bytes()) {
		var entry map[string]any
		if err := json.Unmarshal(line, &entry); err != nil {
			g.t.Errorf("log line %q: %v", line, err)
		}
		if entry["msg"] == "request" {
			lines = append(lines, entry)
		}
	}
	return lines
}

// count returns the value of a counter or the number of a histogram's
// observations, summed over the series that have all of labels.
func (g *gate) count(name string, labels map[string]string) float64 {
	g.t.Helper()
	families, err := g.metrics.Gather()
	if err != nil {
		g.t.Fatal(err)
	}
	sum := 0.0
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
	series:
		for _, series := range family.GetMetric() {
			have := map[string]string{}
			for _, pair := range series.GetLabel() {
				have[pair.GetName()] = pair.GetValue()
			}
			for key, value := range labels {
				if have[key] != value {
					continue series
				}
			}
			sum += series.GetCounter().GetValue() + series.GetGauge().GetValue() + float64(series.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

// safeBuffer is a bytes.Buffer that goroutines may share.
type safeBuffer struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *safeBuffer) Bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.buffer.Bytes())
}
