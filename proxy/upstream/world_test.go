package upstream_test

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// world is an API server that says what it saw, and a directory.
type world struct {
	*httptest.Server
	ca        *authtest.CA
	dir       string
	readyCode atomic.Int32 // of /readyz
	requests  atomic.Int64
	closed    chan struct{} // a connection has ended
	wire      wire
}

// wire keeps what came from the clients, as it was on the wire.
type wire struct {
	net.Listener
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (w *wire) Accept() (net.Conn, error) {
	conn, err := w.Listener.Accept()
	return tapped{conn, w}, err
}

type tapped struct {
	net.Conn
	wire *wire
}

func (t tapped) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.wire.mu.Lock()
	defer t.wire.mu.Unlock()
	t.wire.bytes.Write(p[:n])
	return n, err
}

func newWorld(t *testing.T, host string) *world {
	t.Helper()
	ca, err := authtest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server(host)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ca: ca, dir: t.TempDir(), closed: make(chan struct{}, 1024)}
	w.readyCode.Store(http.StatusOK)
	w.Server = httptest.NewUnstartedServer(w)
	w.wire.Listener = w.Listener
	w.Listener = &w.wire
	w.EnableHTTP2 = true
	w.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool()}
	w.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			w.closed <- struct{}{}
		}
	}
	w.StartTLS()
	t.Cleanup(w.Close)
	w.write(t, "ca.crt", string(ca.PEM()))
	return w
}

func (w *world) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.requests.Add(1)
	if strings.HasSuffix(r.URL.Path, "/readyz") {
		rw.WriteHeader(int(w.readyCode.Load()))
	}
	client := ""
	if len(r.TLS.PeerCertificates) > 0 {
		client = r.TLS.PeerCertificates[0].Subject.CommonName
	}
	_, _ = fmt.Fprintf(rw, "%s %s %q %q", r.Proto, r.URL.Path, r.Header.Get("Authorization"), client)
}

func (w *world) write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// kubeconfig writes one of the given cluster and user entries.
func (w *world) kubeconfig(t *testing.T, cluster, user string) string {
	t.Helper()
	return w.write(t, "kubeconfig", fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {%s}}]
users: [{name: u, user: {%s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, cluster, user))
}

// cluster is the entry of this API server.
func (w *world) cluster() string { return "server: " + w.URL + ", certificate-authority: ca.crt" }

func (w *world) load(t *testing.T, cluster, user string) *upstream.Target {
	t.Helper()
	target, err := upstream.Load(w.kubeconfig(t, cluster, user))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

// get sends a request as gatehouse does, and returns what the API server saw.
func get(t *testing.T, target *upstream.Target, transport http.RoundTripper, path string) (string, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, target.URL.JoinPath(path).String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization := target.Authorization(); authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}
