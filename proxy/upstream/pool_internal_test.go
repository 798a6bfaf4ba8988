package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// crowd sends n requests at one time, and fails the test for each that fails.
func crowd(t *testing.T, rt http.RoundTripper, n int) (wait func()) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			if _, err := ask(t.Context(), rt, http.MethodPost, io.NopCloser(strings.NewReader("body"))); err != nil {
				t.Error(err)
			}
		})
	}
	return all.Wait
}

// Promise: requests are shared evenly between the addresses that the API server's
// name has.
func TestPoolBalances(t *testing.T) {
	addresses := []string{"127.0.0.2", "127.0.0.3", "127.0.0.4"}
	s := newServers(t, addresses...)
	var held [3]atomic.Int32
	gate := make(chan struct{})
	for i, address := range addresses {
		s.start(address, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				held[i].Add(1)
				<-gate
			}
		})
	}
	p := s.pool(h2.Config{})
	eventually(t, "each address has a connection", func() bool {
		if _, err := ask(t.Context(), p, http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.addresses()) == len(addresses)
	})
	wait := crowd(t, p, 60)
	eventually(t, "all are under way", func() bool { return held[0].Load()+held[1].Load()+held[2].Load() == 60 })
	close(gate)
	wait()
	for i := range held {
		if n := held[i].Load(); n < 15 || n > 25 {
			t.Errorf("%s has %d requests of 60", addresses[i], n)
		}
	}
}

// Promise: while one address is down, requests go to the others; while all are, the
// caller is told that nobody could be reached, and as soon as one is back it is used.
func TestPoolAddressDown(t *testing.T) {
	for range 5 { // which is tried first is drawn
		s := newServers(t, "127.0.0.2", "127.0.0.3", "127.0.0.4")
		one := s.start("127.0.0.3", saying("three"))
		p := s.pool(h2.Config{})
		for range 20 {
			if said, err := ask(t.Context(), p, http.MethodPost, nil); err != nil || said != "three" {
				t.Fatalf("%q, error %v", said, err)
			}
		}
		one.Close()
		eventually(t, "nobody can be reached", func() bool {
			_, err := ask(t.Context(), p, http.MethodPost, nil)
			op, ok := errors.AsType[*net.OpError](err)
			return ok && op.Op == "dial"
		})
		s.start("127.0.0.4", saying("four"))
		if said, err := ask(t.Context(), p, http.MethodPost, nil); err != nil || said != "four" {
			t.Fatalf("%q, error %v", said, err)
		}
	}
}

// Promise: an API server that moved is found within the life of a connection, and
// no request fails by that; a name server that is down ends nothing.
func TestPoolResolvesAgain(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	s.start("127.0.0.2", saying("two"))
	s.start("127.0.0.3", saying("three"))
	p := s.pool(h2.Config{})
	p.life = 20 * time.Millisecond
	request := func() string {
		t.Helper()
		said, err := ask(t.Context(), p, http.MethodPost, nil)
		if err != nil {
			t.Fatal(err)
		}
		return said
	}
	request()
	s.move()
	for before := s.made("127.0.0.2"); s.made("127.0.0.2") < before+4; {
		if said := request(); said != "two" {
			t.Fatalf("%q answered", said)
		}
	}
	s.move("127.0.0.3")
	eventually(t, "the new address is used alone", func() bool { return request() == "three" && s.count("127.0.0.2") == 0 })
	s.move("127.0.0.2", "127.0.0.3")
	eventually(t, "both are used", func() bool { request(); return s.count("127.0.0.2") > 0 && s.count("127.0.0.3") > 0 })
}

// Promise: a name that cannot be resolved, or leads nowhere, is told as an API server
// that cannot be reached.
func TestPoolNoAddress(t *testing.T) {
	for name, lookup := range map[string]func(context.Context, string) ([]string, error){
		"an error":   func(context.Context, string) ([]string, error) { return nil, errors.New("no name server") },
		"no address": func(context.Context, string) ([]string, error) { return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			s := newServers(t)
			p := s.pool(h2.Config{})
			p.dialer.lookup = lookup
			_, err := ask(t.Context(), p, http.MethodGet, nil)
			if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" || err.Error() == "" {
				t.Errorf("error %v, want one of dialing", err)
			}
		})
	}
}

// Promise: an API server that falls silent gets no more requests, while another can
// be reached, and those that only read are answered by that one.
func TestPoolBlackHole(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	s.start("127.0.0.2", saying("here"))
	p := s.pool(h2.Config{PingAfter: 50 * time.Millisecond, SuspectAfter: 50 * time.Millisecond, PingTimeout: 2 * time.Second})
	eventually(t, "there are two connections", func() bool {
		if _, err := ask(t.Context(), p, http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
		return s.count("127.0.0.2") >= leastConns
	})
	close(s.any().(*tls.Conn).NetConn().(*hole).cut)
	wait := make(chan struct{})
	go func() {
		defer close(wait)
		for range 50 {
			if said, err := ask(t.Context(), p, http.MethodGet, nil); err != nil || said != "here" {
				t.Errorf("%q, error %v", said, err)
				return
			}
		}
	}()
	select {
	case <-wait:
	case <-time.After(patience):
		t.Fatal("a request hangs")
	}
	eventually(t, "the silent connection is closed, and there is another", func() bool {
		if _, err := ask(t.Context(), p, http.MethodGet, nil); err != nil {
			t.Fatal(err)
		}
		return s.made("127.0.0.2") > leastConns
	})
}

// Promise: requests are not limited by what one connection may carry, not even those
// that come all at once before there is any, and none fails by the crowd. What is
// read as it comes is not lost either.
func TestPoolGrows(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	s.most = 10
	var held atomic.Int32
	gate := make(chan struct{})
	s.start("127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err != nil || string(body) != "body" {
			t.Errorf("the server reads %q, error %v", body, err)
		}
		held.Add(1)
		<-gate
	})
	p := s.pool(h2.Config{})
	wait := crowd(t, p, 100)
	eventually(t, "all are under way", func() bool { return held.Load() == 100 })
	close(gate)
	wait()
	if n := s.count("127.0.0.2"); n < 10 || n > 20 {
		t.Errorf("100 requests have %d connections of 10 each", n)
	}
}

// Promise: an API server that lets nobody in is not asked for ever.
func TestPoolFull(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	listener := s.listen("127.0.0.2")
	s.serveFrames(listener, func(_ int, f *frames) { f.hold() }, 0)
	p := s.pool(h2.Config{})
	if _, err := ask(t.Context(), p, http.MethodGet, nil); !errors.Is(err, errFull) {
		t.Errorf("error %v, want %v", err, errFull)
	}
}

// Promise: an API server without HTTP/2 is asked by HTTP/1.1, and not tried for each
// request.
func TestPoolPlain(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	s.plain = true
	s.start("127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		_, _ = io.WriteString(w, r.Proto+string(body))
	})
	p := s.pool(h2.Config{})
	for range 10 {
		if said, err := ask(t.Context(), p, http.MethodPost, io.NopCloser(strings.NewReader("body"))); err != nil || said != "HTTP/1.1body" {
			t.Fatalf("%q, error %v", said, err)
		}
	}
	if n := s.made("127.0.0.2"); n > 3 {
		t.Errorf("%d connections for one request at a time", n)
	}
}

// Promise: a pool that a reload put aside ends its connections when their requests
// have ended, and serves those that were on their way to it.
func TestPoolClose(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	begun, gate := make(chan struct{}), make(chan struct{})
	s.start("127.0.0.2", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			close(begun)
			<-gate
		}
		_, _ = io.WriteString(w, "served")
	})
	p := s.pool(h2.Config{})
	done := make(chan error, 1)
	go func() {
		said, err := ask(t.Context(), p, http.MethodPut, nil)
		if said != "served" {
			err = errors.Join(err, errors.New("not served"))
		}
		done <- err
	}()
	<-begun
	p.mu.Lock()
	old := append([]*pooled{}, p.conns...)
	p.mu.Unlock()
	p.close()
	if said, err := ask(t.Context(), p, http.MethodPost, nil); err != nil || said != "served" {
		t.Errorf("a late request: %q, error %v", said, err)
	}
	close(gate)
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, conn := range old {
		select {
		case <-conn.Closed():
		case <-time.After(patience):
			t.Fatal("a connection is left")
		}
	}
}

// Promise: all who wait for a connection wait for one dial, and who leaves does not
// wait for it.
func TestPoolCancel(t *testing.T) {
	s := newServers(t, "127.0.0.2")
	listener := s.listen("127.0.0.2") // takes connections, and says nothing
	p := s.pool(h2.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if _, err := ask(ctx, p, http.MethodGet, nil); !errors.Is(err, context.Canceled) {
				t.Errorf("error %v, want that of the context", err)
			}
		})
	}
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel()
	all.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dial == nil || len(p.conns) != 0 {
		t.Error("the dial ended with its callers")
	}
}
