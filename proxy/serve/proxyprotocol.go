package serve

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// announceTimeout is how long the header of the PROXY protocol may take. Load
	// balancers send it with the connection's first packet.
	announceTimeout = 5 * time.Second
	// complainAfter is how many quiet seconds there must be before a load balancer
	// that does not speak the protocol is told of again: each of its connections
	// would fill a line.
	complainAfter = 60
)

// ProxyProtocol is a listener whose connections from trusted peers must begin
// with a header of the PROXY protocol, version 1 or 2, that says for whom the
// peer speaks. A header from anybody else is never read: those connections are
// what they are, so that it is an error there, as any bytes that are no TLS.
//
// The header is read by the goroutine of its connection, at the first Read or
// RemoteAddr, so that nobody who is slow delays Accept for others.
type ProxyProtocol struct {
	net.Listener
	// Trusts reports whether a peer must announce its callers.
	Trusts func(netip.Addr) bool
	// Log is told of trusted peers that do not.
	Log *slog.Logger

	complained atomic.Int64 // when, in Unix time
}

// Accept returns the next connection.
func (l *ProxyProtocol) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if peer, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		if addr, _ := netip.AddrFromSlice(peer.IP); l.Trusts(addr) {
			return &announced{Conn: conn, listener: l, remote: peer}, nil
		}
	}
	return conn, nil
}

// complain says, unless it has just been said, that a trusted peer does not speak the protocol.
func (l *ProxyProtocol) complain(peer net.Addr, err error) {
	now := time.Now().Unix()
	if now-l.complained.Swap(now) < complainAfter {
		return
	}
	l.Log.Warn("a connection of a trusted proxy does not begin as the PROXY protocol asks, and was closed",
		"peer", peer.String(), "error", err)
}

// announced is a connection that begins with a header.
type announced struct {
	net.Conn
	listener *ProxyProtocol
	once     sync.Once
	remote   net.Addr // the peer's until the header was read
	err      error    // of the header; the connection is closed then
}

// read reads the header, once.
func (c *announced) read() {
	// A deadline of the connection is net/http's to set: it must not be changed
	// under its hands. It closes the connection when it ends, which ends a read too.
	late := time.AfterFunc(announceTimeout, func() { _ = c.Conn.Close() })
	source, err := readProxyHeader(c.Conn)
	if !late.Stop() {
		err = os.ErrDeadlineExceeded
	}
	if err != nil {
		c.err = err
		if err == errBadAnnouncement || err == os.ErrDeadlineExceeded { //nolint:errorlint // as they are made here
			c.listener.complain(c.remote, err) // who just leaves was a health check
		}
		_ = c.Conn.Close() // there is an error to return already
		return
	}
	if source.IsValid() {
		c.remote = &net.TCPAddr{IP: source.Addr().AsSlice(), Port: int(source.Port())}
	}
}

// Read reads what follows the header.
func (c *announced) Read(p []byte) (int, error) {
	if c.once.Do(c.read); c.err != nil {
		return 0, c.err
	}
	return c.Conn.Read(p)
}

// Peer returns the address of the proxy, at once.
func (c *announced) Peer() net.Addr { return c.Conn.RemoteAddr() }

// RemoteAddr returns the caller's address as the header has it, and waits for
// that. net/http asks first of all, in the goroutine of the connection.
func (c *announced) RemoteAddr() net.Addr {
	c.once.Do(c.read)
	return c.remote
}
