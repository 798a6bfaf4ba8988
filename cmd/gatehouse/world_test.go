package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// The secrets of a world. None of them may be seen in a log or a metric.
const (
	ownToken = "own-service-account-token-5150"
	anaToken = "static-token-of-ana-8472"
)

// world is what gatehouse finds around itself: a CA that signed everybody's
// certificate, an API server, and a directory of files.
type world struct {
	ca       *authtest.CA
	upstream *apiServer
	dir      string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ca, err := authtest.NewCA("world")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{ca: ca, dir: t.TempDir(), upstream: newAPIServer(t, ca, true)}
	w.writePair(t, "127.0.0.1")
	w.write(t, "ca.crt", string(ca.PEM()))
	w.write(t, "tokens.csv", anaToken+",ana,uid-ana,\"dev,ops\"\n")
	w.write(t, "kubeconfig", kubeconfig(w.upstream.URL, "ca.crt", "token: "+ownToken))
	return w
}

// write puts a file in place in one step and returns its path.
func (w *world) write(t *testing.T, name, content string) string {
	t.Helper()
	path := w.path(name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// writePair issues a serving certificate for host as tls.crt and tls.key.
func (w *world) writePair(t *testing.T, host string) {
	t.Helper()
	pair, err := w.ca.Server(host)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "tls.crt", string(pair.Cert))
	w.write(t, "tls.key", string(pair.Key))
}

// kubeconfig returns one with the given server, CA file and user entry.
func kubeconfig(server, ca, user string) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: u, user: {%s}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, server, ca, user)
}

// environ returns the environment of a gatehouse that serves ana by the token
// file, changed by settings, whose names have no prefix. "" takes one away.
func (w *world) environ(settings map[string]string) []string {
	all := map[string]string{
		"LISTEN_ADDRESS":  "127.0.0.1:0",
		"OPS_ADDRESS":     "127.0.0.1:0",
		"TLS_CERT_FILE":   w.path("tls.crt"),
		"TLS_KEY_FILE":    w.path("tls.key"),
		"KUBECONFIG":      w.path("kubeconfig"),
		"TOKEN_AUTH_FILE": w.path("tokens.csv"),
		"SHUTDOWN_DELAY":  "0s",
	}
	maps.Copy(all, settings)
	environ := []string{"PATH=/bin", "HOME=/nonexistent"}
	for name, value := range all {
		if value != "" {
			environ = append(environ, envPrefix+name+"="+value)
		}
	}
	return environ
}

// oidc returns settings that accept the tokens of issuer alone, with more.
func (w *world) oidc(issuer *authtest.Issuer, more map[string]string) map[string]string {
	settings := map[string]string{
		"TOKEN_AUTH_FILE": "",
		"OIDC_ISSUER_URL": issuer.URL,
		"OIDC_CLIENT_ID":  authtest.Audience,
		"OIDC_CA_FILE":    w.path("ca.crt"),
	}
	maps.Copy(settings, more)
	return settings
}

func (w *world) newIssuer(t *testing.T) *authtest.Issuer {
	t.Helper()
	issuer, err := authtest.NewIssuer(w.ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Close() })
	return issuer
}

func (w *world) newClient(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.ca.Pool()}, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// echo is what the API server saw of a request.
type echo struct {
	Path, Proto string
	Header      http.Header
}

type reply struct {
	code int
	body string
	seen echo // of an answer that the API server gave
}

// ask sends a GET of path with a bearer token.
func (p *process) ask(t *testing.T, token, path string) reply {
	t.Helper()
	answer, _ := p.send(t, p.request(t, token, path))
	return answer
}

// send sends a request, and returns its audit id too.
func (p *process) send(t *testing.T, r *http.Request) (answer reply, id string) {
	t.Helper()
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer = reply{code: resp.StatusCode, body: string(body)}
	if resp.Header.Get("X-Echo") != "" {
		if err := json.Unmarshal(body, &answer.seen); err != nil {
			t.Fatal(err)
		}
	}
	return answer, resp.Header.Get("Audit-Id")
}

func (p *process) request(t *testing.T, token, path string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+p.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req
}

// apiServer stands where the API server would: it says what it saw, holds
// requests back, streams, switches protocols, and can be down.
type apiServer struct {
	*httptest.Server
	readyCode atomic.Int32 // of /readyz
	down      atomic.Bool
	arrived   chan struct{} // a request for /slow, a watch or an upgrade has come
	release   chan struct{} // each value lets one request for /slow end
	reviews   reviews
	rights    rights
}

func newAPIServer(t *testing.T, ca *authtest.CA, http2 bool) *apiServer {
	t.Helper()
	pair, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	a := &apiServer{arrived: make(chan struct{}, 16), release: make(chan struct{}, 16)}
	a.readyCode.Store(http.StatusOK)
	a.Server = httptest.NewUnstartedServer(a)
	a.Listener = &gate{Listener: a.Listener, down: &a.down}
	a.Config.ErrorLog = log.New(io.Discard, "", 0)
	a.EnableHTTP2 = http2
	a.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	a.StartTLS()
	t.Cleanup(a.Close)
	return a
}

// setDown ends every connection, and new ones at once, or ends that.
func (a *apiServer) setDown(down bool) {
	a.down.Store(down)
	if down {
		a.CloseClientConnections()
	}
}

func (a *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/readyz":
		w.WriteHeader(int(a.readyCode.Load()))
	case r.URL.Path == accessReviews && r.Header.Get("Impersonate-User") == "":
		a.rights.answer(w, r)
	case strings.HasPrefix(r.URL.Path, "/apis/authentication.k8s.io/"), strings.HasPrefix(r.URL.Path, "/apis/authorization.k8s.io/"):
		a.reviews.answer(w, r)
	case r.URL.Path == "/slow":
		a.arrived <- struct{}{}
		select {
		case <-a.release:
			_, _ = io.WriteString(w, "slow but done")
		case <-r.Context().Done():
		}
	case r.URL.Query().Get("watch") == "true":
		_, _ = io.WriteString(w, "{\"type\":\"ADDED\"}\n")
		_ = http.NewResponseController(w).Flush()
		a.arrived <- struct{}{}
		<-r.Context().Done()
	case r.Header.Get("Upgrade") != "":
		a.upgrade(w, r)
	default:
		w.Header().Set("X-Echo", "1")
		_ = json.NewEncoder(w).Encode(echo{Path: r.URL.Path, Proto: r.Proto, Header: r.Header})
	}
}

// upgrade switches protocols and sends back what comes.
func (a *apiServer) upgrade(w http.ResponseWriter, r *http.Request) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
	a.arrived <- struct{}{}
	_, _ = io.Copy(conn, buffered)
}

// gate is a listener whose connections end at once while it is down.
type gate struct {
	net.Listener
	down *atomic.Bool
}

func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil || !g.down.Load() {
			return conn, err
		}
		_ = conn.Close()
	}
}

// mustNotHold fails the test if text holds one of the world's secrets.
func mustNotHold(t *testing.T, what, text string, secrets ...string) {
	t.Helper()
	for _, secret := range append(secrets, ownToken, anaToken) {
		if strings.Contains(text, secret) {
			t.Errorf("%s holds a secret:\n%s", what, text)
		}
	}
}
