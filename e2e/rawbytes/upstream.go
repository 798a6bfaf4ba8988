package rawbytes

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// ExecutedAsProxy is what the fake API server says when a request arrived with
// the proxy's credential and without any identity.
const ExecutedAsProxy = "EXECUTED-AS-PROXY-SA"

// Served begins the fake's body for a request that ran as somebody.
const Served = "SERVED-AS "

// Record is one request as it arrived.
type Record struct {
	Proto                     string // "HTTP/1.1" or "HTTP/2.0"
	Method, Target, Authority string
	Fields                    Fields // HTTP/2: without pseudo-header fields
	Trailers                  Fields
	Body                      []byte
	Raw                       []byte   // HTTP/1.1: start line and header, exact
	Faults                    []string // liberties taken with the grammar
	Tunnel                    []byte   // what came through after a 101
	Certificate               bool     // the connection has a client certificate
	probe                     bool
}

// Upstream is the fake API server. It answers by what `fake=` in the query says
// (see reply), and keeps every request. It is safe for concurrent use.
type Upstream struct {
	Addr  string
	token string // empty if the proxy has a client certificate instead
	ln    net.Listener
	more  chan struct{}
	done  chan struct{}

	mu      sync.Mutex
	review  func(token string) string // user name of a ServiceAccount's token; nil: of none
	gone    map[string]bool           // tokens that a review accepts, and a request no more
	shown   []string                  // tokens in reviews
	rights  map[string]bool           // of whom a review of access is asked
	asked   []string                  // the questions of such reviews
	mute    bool                      // such reviews fail
	records []*Record
	conns   map[net.Conn]struct{}
	closed  bool
	wg      sync.WaitGroup
}

// StartUpstream listens on loopback. With h2 it offers HTTP/2 and HTTP/1.1 by
// ALPN, as a real API server does; without it HTTP/1.1 alone. token is the
// proxy's own credential; without it that is a client certificate, whichever.
func StartUpstream(p *PKI, h2 bool, token string) (*Upstream, error) {
	protos := []string{"http/1.1"}
	if h2 {
		protos = []string{"h2", "http/1.1"}
	}
	ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{p.Serving}, NextProtos: protos, ClientAuth: tls.RequestClientCert})
	if err != nil {
		return nil, fmt.Errorf("fake upstream: %w", err)
	}
	u := &Upstream{Addr: ln.Addr().String(), token: token, ln: ln, more: make(chan struct{}), done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	u.wg.Go(u.accept)
	return u, nil
}

// Close ends the listener and every connection, and waits for their goroutines.
func (u *Upstream) Close() {
	u.mu.Lock()
	u.closed = true
	close(u.done)
	for c := range u.conns {
		c.Close()
	}
	u.mu.Unlock()
	u.ln.Close()
	u.wg.Wait()
}

func (u *Upstream) accept() {
	for {
		c, err := u.ln.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		if u.closed {
			u.mu.Unlock()
			c.Close()
			return
		}
		u.conns[c] = struct{}{}
		u.mu.Unlock()
		u.wg.Go(func() {
			defer func() {
				u.mu.Lock()
				delete(u.conns, c)
				u.mu.Unlock()
				c.Close()
			}()
			tc := c.(*tls.Conn)
			tc.SetDeadline(time.Now().Add(10 * time.Second))
			if tc.Handshake() != nil {
				return
			}
			tc.SetDeadline(time.Time{})
			if tc.ConnectionState().NegotiatedProtocol == "h2" {
				u.serveH2(tc)
				return
			}
			u.serveH1(tc)
		})
	}
}

// Mark is a point in time for [Upstream.Since].
func (u *Upstream) Mark() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.records)
}

// Since returns copies of what arrived after the mark, without the proxy's own
// probes of the API server's health and of its rights.
func (u *Upstream) Since(mark int) []Record {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []Record
	for _, r := range u.records[mark:] {
		if !r.probe {
			c := *r
			c.Tunnel, c.Faults = slices.Clone(r.Tunnel), slices.Clone(r.Faults)
			out = append(out, c)
		}
	}
	return out
}

// ReleaseWatch lets one held watch send its second event and end. It reports
// whether a watch was waiting.
func (u *Upstream) ReleaseWatch() bool {
	select {
	case u.more <- struct{}{}:
		return true
	case <-time.After(5 * time.Second):
		return false
	}
}

// Await returns once n requests have arrived after the mark.
func (u *Upstream) Await(mark, n int) error {
	late := time.After(5 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for len(u.Since(mark)) < n {
		select {
		case <-late:
			return fmt.Errorf("%d of %d requests arrived", len(u.Since(mark)), n)
		case <-tick.C:
		}
	}
	return nil
}

// hold waits for the test's release of a watch, or for the end of the fake.
func (u *Upstream) hold() {
	select {
	case <-u.more:
	case <-u.done:
	}
}

func (u *Upstream) keep(r *Record) {
	id, bad := Impersonated(r.Fields)
	path, _, _ := strings.Cut(r.Target, "?")
	own := path == "/readyz" || path == "/livez" || path == "/version" || path == reviewPath || path == selfPath || path == accessPath ||
		strings.HasPrefix(path, "/apis/authorization.k8s.io/v1/selfsubject")
	r.probe = own && id == nil && !bad && !strings.Contains(r.Target, "case=") && u.caller(r) == ownAccount
	u.mu.Lock()
	u.records = append(u.records, r)
	u.mu.Unlock()
}

func (u *Upstream) update(f func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	f()
}
