package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// servers are API servers that share a name and a port, each at an address of its
// own.
type servers struct {
	t    *testing.T
	ca   *authtest.CA
	tls  *tls.Config
	port string
	most int // requests on one connection; 0 for net/http's default

	plain bool // speak HTTP/1.1 alone

	mu       sync.Mutex
	names    []string // what the name leads to
	open     map[net.Conn]string
	accepted map[string]int
}

func newServers(t *testing.T, names ...string) *servers {
	t.Helper()
	ca, err := authtest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server("api.example")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return &servers{
		t: t, ca: ca, names: names, open: map[net.Conn]string{}, accepted: map[string]int{},
		tls: &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2", "http/1.1"}},
	}
}

// listen takes the port at an address; the first draws it.
func (s *servers) listen(address string) net.Listener {
	s.t.Helper()
	for range 20 {
		port := s.port
		if port == "" {
			port = "0"
		}
		listener, err := net.Listen("tcp", net.JoinHostPort(address, port))
		if err == nil {
			_, s.port, _ = net.SplitHostPort(listener.Addr().String())
			s.t.Cleanup(func() { listener.Close() })
			return listener
		}
		if len(s.accepted) > 0 || port == "0" {
			s.t.Fatal(err)
		}
		s.port = ""
	}
	s.t.Fatal("no port is free")
	return nil
}

// start serves at an address.
func (s *servers) start(address string, handler http.HandlerFunc) *http.Server {
	s.t.Helper()
	listener := s.listen(address)
	server := &http.Server{
		Handler: handler, TLSConfig: s.tls.Clone(), ErrorLog: log.New(io.Discard, "", 0),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: s.most},
		ConnState: func(conn net.Conn, state http.ConnState) {
			s.mu.Lock()
			defer s.mu.Unlock()
			switch state {
			case http.StateNew:
				s.open[conn] = address
				s.accepted[address]++
			case http.StateClosed:
				delete(s.open, conn)
			}
		},
	}
	if server.Protocols = new(http.Protocols); s.plain {
		server.TLSConfig.NextProtos = []string{"http/1.1"}
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetHTTP2(!s.plain)
	go func() { _ = server.ServeTLS(holes{listener}, "", "") }()
	s.t.Cleanup(func() { server.Close() })
	return server
}

// count returns how many connections an address has.
func (s *servers) count(address string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, at := range s.open {
		if at == address {
			n++
		}
	}
	return n
}

func (s *servers) made(address string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted[address]
}

// any returns one of the open connections.
func (s *servers) any() net.Conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.open {
		return conn
	}
	return nil
}

func (s *servers) lookup(context.Context, string) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names == nil {
		return nil, errors.New("no name server answers")
	}
	return append([]string{}, s.names...), nil
}

func (s *servers) move(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names = names
}

// pool returns the connections to the servers, as gatehouse makes them but for the
// name server.
func (s *servers) pool(pings h2.Config) *pool {
	s.t.Helper()
	d := newDialer("api.example", s.port, &tls.Config{RootCAs: s.ca.Pool(), ServerName: "api.example", MinVersion: tls.VersionTLS12})
	d.lookup = s.lookup
	plain := &http.Transport{
		TLSClientConfig: d.tls.Clone(),
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(s.names[0], s.port))
		},
	}
	plain.TLSClientConfig.NextProtos = nil
	p := &pool{dialer: d, plain: plain, life: connLife, pings: pings}
	s.t.Cleanup(func() { p.close(); plain.CloseIdleConnections() })
	return p
}

// holes are connections that can fall silent.
type holes struct{ net.Listener }

// Accept returns the next connection.
func (h holes) Accept() (net.Conn, error) {
	conn, err := h.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hole{Conn: conn, cut: make(chan struct{}), closed: make(chan struct{})}, nil
}

// hole is a connection of which the cable can be cut: then nothing comes and
// nothing arrives, and nobody is told.
type hole struct {
	net.Conn
	once   sync.Once
	cut    chan struct{}
	closed chan struct{}
}

func (h *hole) isCut() bool {
	select {
	case <-h.cut:
		return true
	default:
		return false
	}
}

// Read reads while there is a cable.
func (h *hole) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	if h.isCut() {
		<-h.closed
		return 0, net.ErrClosed
	}
	return n, err
}

// Write writes, or does as if.
func (h *hole) Write(p []byte) (int, error) {
	if h.isCut() {
		return len(p), nil
	}
	return h.Conn.Write(p)
}

// Close closes the connection.
func (h *hole) Close() error {
	h.once.Do(func() { close(h.closed) })
	return h.Conn.Close()
}

// ask sends a request, and returns what the server said.
func ask(ctx context.Context, rt http.RoundTripper, method string, body io.Reader) (string, error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://api.example/", body)
	if err != nil {
		return "", err
	}
	resp, err := rt.RoundTrip(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	said, err := io.ReadAll(resp.Body)
	return string(said), err
}

// eventually waits for what nothing tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for until := time.Now().Add(patience); !is(); runtime.Gosched() {
		if time.Now().After(until) {
			t.Fatalf("it is not so that %s", what)
		}
	}
}

// saying answers with a word.
func saying(word string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, word) }
}
