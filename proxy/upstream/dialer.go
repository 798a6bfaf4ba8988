package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"
)

// failedFor is how long an address that could not be reached is asked last.
const failedFor = 10 * time.Second

// dialer makes connections to a server, at any of its addresses.
type dialer struct {
	host, port string
	tls        *tls.Config // with the name to verify
	lookup     func(ctx context.Context, host string) ([]string, error)

	mu        sync.Mutex
	addresses []string // as they were resolved last
	failed    map[string]time.Time
}

func newDialer(host, port string, config *tls.Config) *dialer {
	config = config.Clone()
	config.NextProtos = []string{"h2", "http/1.1"}
	if config.ServerName == "" {
		config.ServerName = host
	}
	return &dialer{host: host, port: port, tls: config, lookup: net.DefaultResolver.LookupHost, failed: map[string]time.Time{}}
}

// known returns how many addresses the server had when it was resolved last.
func (d *dialer) known() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.addresses)
}

// resolve returns the server's addresses. While they cannot be found, those of
// before count.
func (d *dialer) resolve(ctx context.Context) ([]string, error) {
	if net.ParseIP(d.host) != nil {
		return []string{d.host}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	found, err := d.lookup(ctx, d.host)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil && len(found) == 0 {
		err = &net.DNSError{Err: "no such host", Name: d.host, IsNotFound: true}
	}
	if err != nil {
		if len(d.addresses) == 0 {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
		}
		return slices.Clone(d.addresses), nil
	}
	d.addresses = slices.Clone(found)
	return found, nil
}

// dial connects to the address that has the fewest connections, of which have
// tells, and if that cannot be reached to the next. The error is that of the last
// one, or errNoHTTP2.
func (d *dialer) dial(ctx context.Context, have map[string]int) (net.Conn, string, error) {
	addresses, err := d.resolve(ctx)
	if err != nil {
		return nil, "", fmt.Errorf("find the API server's addresses: %w", err)
	}
	d.sort(addresses, have)
	for _, address := range addresses {
		var conn net.Conn
		if conn, err = d.connect(ctx, address); err == nil || errors.Is(err, errNoHTTP2) {
			d.mark(address, time.Time{})
			return conn, address, err
		}
		d.mark(address, time.Now())
		if ctx.Err() != nil {
			break
		}
	}
	return nil, "", err
}

// sort puts those first that were not found unreachable lately, and of these
// those with few connections.
func (d *dialer) sort(addresses []string, have map[string]int) {
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	d.mu.Lock()
	defer d.mu.Unlock()
	down := func(address string) int {
		if time.Since(d.failed[address]) < failedFor {
			return 1
		}
		return 0
	}
	slices.SortStableFunc(addresses, func(a, b string) int {
		if by := down(a) - down(b); by != 0 {
			return by
		}
		return have[a] - have[b]
	})
}

// mark notes when an address failed; never, if at is zero.
func (d *dialer) mark(address string, at time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if at.IsZero() {
		delete(d.failed, address)
		return
	}
	d.failed[address] = at
	for other, failed := range d.failed { // names change their addresses
		if time.Since(failed) >= failedFor {
			delete(d.failed, other)
		}
	}
}

// connect makes one connection that speaks HTTP/2.
func (d *dialer) connect(ctx context.Context, address string) (net.Conn, error) {
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := tcpDialer().DialContext(dialing, "tcp", net.JoinHostPort(address, d.port))
	if err != nil {
		return nil, err
	}
	secure := tls.Client(conn, d.tls)
	shaking, cancel := context.WithTimeout(ctx, tlsTimeout)
	defer cancel()
	if err := secure.HandshakeContext(shaking); err != nil {
		_ = conn.Close() // the error before counts
		return nil, fmt.Errorf("TLS to the API server: %w", err)
	}
	if secure.ConnectionState().NegotiatedProtocol != "h2" {
		_ = secure.Close() // it is of no use
		return nil, errNoHTTP2
	}
	return secure, nil
}

func tcpDialer() *net.Dialer {
	return &net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
}
