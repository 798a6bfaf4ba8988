package faults_test

import (
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// wire is the network between gatehouse and the API server. It can be slow, and
// it can swallow everything and leave connections open: a black hole.
type wire struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	delay  time.Duration // of each piece that passes
	closed bool          // new connections are swallowed as well
	links  map[*link]struct{}
}

// link is one connection.
type link struct {
	mu     sync.Mutex
	frozen bool
	thawed *sync.Cond
	ends   [2]net.Conn
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: listener, target: target, links: map[*link]struct{}{}}
	t.Cleanup(w.end)
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go w.serve(conn)
		}
	}()
	return w
}

// kubeconfig returns the path of one for gatehouse's own account, by this wire.
func (w *wire) kubeconfig(t *testing.T, s *suite) string {
	t.Helper()
	token := filepath.Join(s.Cluster.Dir(), stage.AccountNamespace+"-"+stage.AccountName+".token")
	file := kubeconfig.File{Cluster: "wire", Server: "https://" + w.listener.Addr().String(), CAFile: s.Cluster.CAFile()}
	file.Users = []kubeconfig.User{{Name: "gatehouse", TokenFile: token}}
	path := filepath.Join(t.TempDir(), "wire.kubeconfig")
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *suite) apiServerAddress() string { return strings.TrimPrefix(s.Cluster.URL(), "https://") }

// slow delays each piece that passes, from now on.
func (w *wire) slow(delay time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.delay = delay
}

// freeze swallows what comes by the connections that are open, for ever, and,
// until thaw, by new ones too if all is set. It returns how many were open.
func (w *wire) freeze(all bool) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = all
	for l := range w.links {
		l.freeze(true)
	}
	return len(w.links)
}

// thaw lets everything pass again, as a network does that was cut: what was held
// back arrives.
func (w *wire) thaw() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = false
	for l := range w.links {
		l.freeze(false)
	}
}

func (w *wire) end() {
	w.listener.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	for l := range w.links {
		l.ends[0].Close()
		l.ends[1].Close()
		l.freeze(false)
	}
}

func (w *wire) serve(client net.Conn) {
	server, err := net.DialTimeout("tcp", w.target, limit)
	if err != nil {
		client.Close()
		return
	}
	l := &link{ends: [2]net.Conn{client, server}}
	l.thawed = sync.NewCond(&l.mu)
	w.mu.Lock()
	l.frozen = w.closed
	w.links[l] = struct{}{}
	w.mu.Unlock()
	var wait sync.WaitGroup
	wait.Go(func() { w.carry(l, client, server) })
	wait.Go(func() { w.carry(l, server, client) })
	wait.Wait()
	w.mu.Lock()
	delete(w.links, l)
	w.mu.Unlock()
}

// carry copies one way. Either end's close passes as well, unless frozen.
func (w *wire) carry(l *link, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	piece := make([]byte, 64<<10)
	for {
		n, err := from.Read(piece)
		l.await()
		w.mu.Lock()
		delay := w.delay
		w.mu.Unlock()
		if delay > 0 {
			time.Sleep(delay) // this is the fault, not a wait
		}
		if _, failed := to.Write(piece[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (l *link) await() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.frozen {
		l.thawed.Wait()
	}
}

func (l *link) freeze(frozen bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = frozen
	l.thawed.Broadcast()
}
