package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

const (
	// leastConns is how many connections are kept to one address: behind it may be
	// several API servers, and one of them may fall silent.
	leastConns = 2
	// mostKept is up to how many addresses have a connection each.
	mostKept = 8
	// connLife is about how long a connection takes new requests. The next one may
	// lead to another API server: that is how load moves to one that has come up.
	connLife = 5 * time.Minute
	// lateLife is the same for one that is made after the pool was closed: for
	// requests that had begun.
	lateLife = 5 * time.Second
	// maxTries is how often a request is sent.
	maxTries = 4
	// dialAgainAfter is how long after a failure no further connection is made
	// while others take requests.
	dialAgainAfter = time.Second
	// plainFor is how long an API server without HTTP/2 is asked by HTTP/1.1 before
	// HTTP/2 is tried again.
	plainFor = time.Minute
)

// pool sends requests over HTTP/2, by as many connections as they need, to all
// the addresses that the API server's name has. An API server that does not speak
// HTTP/2 is asked by HTTP/1.1.
type pool struct {
	dialer *dialer
	plain  http.RoundTripper
	pings  h2.Config
	life   time.Duration // connLife, but for tests

	mu         sync.Mutex
	conns      []*pooled
	turn       int
	dial       *dial     // under way; nil if none is
	failed     time.Time // when the last one failed; zero if it did not
	plainDial  *dial     // found a server without HTTP/2; counts until plainUntil
	plainUntil time.Time
	closed     bool
}

// pooled is a connection of a pool.
type pooled struct {
	*h2.Conn
	address string
}

// dial is a connection that is being made, for all who wait for one.
type dial struct {
	done chan struct{}
	err  error
}

var (
	// errNoHTTP2 says that the server at the other end does not speak it.
	errNoHTTP2 = errors.New("the server does not speak HTTP/2")
	errFull    = errors.New("new connections to the API server take no requests")
)

// RoundTrip sends a request. One that was not processed is sent again, on another
// connection, if its body can be read again; so is one that only reads, when the
// connection was lost before its answer came (RFC 9110 section 9.2.2).
func (p *pool) RoundTrip(r *http.Request) (*http.Response, error) {
	for try := 1; ; try++ {
		conn, err := p.get(r.Context())
		if errors.Is(err, errNoHTTP2) {
			return p.plain.RoundTrip(r)
		}
		if err != nil {
			closeBody(r)
			return nil, err
		}
		resp, err := conn.RoundTrip(r)
		if err == nil {
			return resp, nil
		}
		untouched := errors.Is(err, h2.ErrNotTaken)
		if try == maxTries || r.Context().Err() != nil || !repeatable(r, err) {
			if untouched {
				closeBody(r)
			}
			return nil, err
		}
		if untouched {
			continue
		}
		if r, err = again(r, err); err != nil {
			return nil, err
		}
	}
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		_ = r.Body.Close() // the request has failed already
	}
}

// repeatable reports whether a request that failed with err may be sent again.
func repeatable(r *http.Request, err error) bool {
	if errors.Is(err, h2.ErrUnprocessed) {
		return true
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
		return errors.Is(err, h2.ErrLost)
	default:
		return false
	}
}

// again returns r, which failed with err, with its body as at the beginning.
func again(r *http.Request, err error) (*http.Request, error) {
	if r.Body == nil || r.Body == http.NoBody {
		return r, nil
	}
	if r.GetBody == nil {
		return nil, fmt.Errorf("the request's body cannot be sent again: %w", err)
	}
	body, err := r.GetBody()
	if err != nil {
		return nil, fmt.Errorf("read the request's body again: %w", err)
	}
	copied := *r
	copied.Body = body
	return &copied, nil
}

// get returns the connection that has least to do, with a place on it. If none
// takes a request, it makes one.
func (p *pool) get(ctx context.Context) (*pooled, error) {
	for began := time.Now(); ; {
		conn, silent, made := p.reserve()
		if conn != nil {
			return conn, nil
		}
		select {
		case <-made.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		switch {
		case errors.Is(made.err, errNoHTTP2):
			return nil, errNoHTTP2
		case made.err != nil && silent != nil:
			silent.Reserve()
			return silent, nil // it may wake up; nobody else can be reached
		case made.err != nil:
			return nil, made.err
		case time.Since(began) > dialTimeout+tlsTimeout:
			return nil, errFull
		}
	}
}

// reserve returns a connection with a place on it, or one that is silent, if any,
// and the connection that is being made.
func (p *pool) reserve() (conn, silent *pooled, made *dial) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Before(p.plainUntil) {
		return nil, nil, p.plainDial
	}
	conn, silent, roomy := p.pick()
	if conn != nil {
		conn.Reserve()
	}
	if conn == nil || !roomy && time.Since(p.failed) >= dialAgainAfter {
		made = p.connect()
	}
	return conn, silent, made
}

// pick returns the connection for the next request, and one whose server is
// silent. roomy says that no more connections are needed. It has p.mu.
//
// Requests that leave together share a system call, so a connection to the only
// address there is has a quarter of what it can carry before the next one is used.
// Several addresses share evenly.
func (p *pool) pick() (best, silent *pooled, roomy bool) {
	least, load, room, usable := 0, 0, 0, 0
	addresses := p.dialer.known()
	p.turn++
	for i := range p.conns {
		if addresses > 1 {
			i = (i + p.turn) % len(p.conns)
		}
		conn := p.conns[i]
		status := conn.Status()
		switch {
		case status.Suspect:
			silent = conn
		case status.Usable:
			usable++
			load, room = load+status.Load, room+status.Most
			if addresses <= 1 && 4*status.Load < status.Most {
				status.Load = 0
			}
			if best == nil || status.Load < least {
				best, least = conn, status.Load
			}
		}
	}
	wanted := max(leastConns, min(addresses, mostKept))
	return best, silent, usable >= wanted && 4*load < 3*room
}

// connect begins to make one more connection, unless that is under way. It has
// p.mu.
func (p *pool) connect() *dial {
	if p.dial == nil {
		p.dial = &dial{done: make(chan struct{})}
		go p.make(p.dial, p.addresses())
	}
	return p.dial
}

// addresses returns how many connections each address has that takes requests. It
// has p.mu.
func (p *pool) addresses() map[string]int {
	count := map[string]int{}
	for _, conn := range p.conns {
		if conn.Status().Usable {
			count[conn.address]++
		}
	}
	return count
}

// make makes a connection, to an address that has few.
func (p *pool) make(d *dial, have map[string]int) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout+tlsTimeout)
	defer cancel()
	defer close(d.done)
	conn, address, err := p.dialer.dial(ctx, have)
	var made *h2.Conn
	if err == nil {
		if made, err = h2.New(ctx, conn, p.pings); err != nil {
			p.dialer.mark(address, time.Now())
		} else if !made.Status().Usable {
			made.Retire()
			err = errFull
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dial = nil
	switch {
	case errors.Is(err, errNoHTTP2):
		p.plainDial, p.plainUntil = d, time.Now().Add(plainFor)
	case err == nil:
		p.keep(&pooled{Conn: made, address: address})
	}
	d.err = err
	p.failed = time.Time{}
	if err != nil {
		p.failed = time.Now()
	}
}

// keep adds a connection until it is closed or old. It has p.mu.
func (p *pool) keep(conn *pooled) {
	p.conns = append(p.conns, conn)
	life := p.life
	if p.closed {
		life = lateLife
	}
	old := time.AfterFunc(life+rand.N(life/4), conn.Retire) // not all at one time
	go func() {
		<-conn.Closed()
		old.Stop()
		p.mu.Lock()
		defer p.mu.Unlock()
		for i := range p.conns {
			if p.conns[i] == conn {
				p.conns = append(p.conns[:i:i], p.conns[i+1:]...)
				return
			}
		}
	}()
}

// close has every connection end when its requests have.
func (p *pool) close() {
	p.mu.Lock()
	conns := p.conns
	p.closed = true
	p.mu.Unlock()
	for _, conn := range conns {
		conn.Retire()
	}
}
