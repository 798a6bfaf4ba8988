package serve

import (
	"cmp"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits bound what clients can use before anybody knows who they are. There is
// none on the length of a request as a whole: a watch, a log or an exec may last
// for days. A field that is zero has its default.
type Limits struct {
	// HeaderBytes is the most that a request's header may have, its target
	// included. Default: 256 KiB.
	HeaderBytes int
	// HeaderTime is how long a TLS handshake may take, and then the header of a
	// request. Default: 32 seconds, as in kube-apiserver.
	HeaderTime time.Duration
	// IdleTime is how long a connection may be idle. Default: 90 seconds, as in
	// kube-apiserver.
	IdleTime time.Duration
	// Streams is how many requests one HTTP/2 connection may have at a time.
	// Default: 250; kube-apiserver has 100.
	Streams int
	// Connections is how many may be open. Default: 10000.
	Connections int
}

// DefaultLimits returns those of a cluster with a thousand users.
func DefaultLimits() Limits {
	return Limits{
		HeaderBytes: 256 << 10, HeaderTime: 32 * time.Second, IdleTime: 90 * time.Second, Streams: 250, Connections: 10000,
	}
}

// orDefault returns l with its zero fields filled.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		HeaderBytes: cmp.Or(l.HeaderBytes, d.HeaderBytes), HeaderTime: cmp.Or(l.HeaderTime, d.HeaderTime),
		IdleTime: cmp.Or(l.IdleTime, d.IdleTime), Streams: cmp.Or(l.Streams, d.Streams),
		Connections: cmp.Or(l.Connections, d.Connections),
	}
}

// limitedListener closes connections of which there are too many. An address
// may have no more than are still free, so that none can take them all: one
// alone gets half, and leaves the other half to the others.
type limitedListener struct {
	net.Listener
	limit    int
	rejected func()
	buffers  sync.Pool // of its connections

	mu   sync.Mutex
	open int
	by   map[netip.Addr]int // addresses that have any
}

func limitConnections(l net.Listener, limit int, rejected func()) net.Listener {
	if rejected == nil {
		rejected = func() {}
	}
	return &limitedListener{Listener: l, limit: limit, rejected: rejected, by: map[netip.Addr]int{}}
}

// Accept returns the next connection that may be open. Any other is closed at
// once: left in the kernel's queue, it would keep good ones waiting too.
func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := network(peerOf(conn))
		if l.enter(from) {
			limited := &limitedConn{Conn: conn, leave: sync.OnceFunc(func() { l.leave(from) })}
			return &joinedConn{Conn: limited, buffers: &l.buffers}, nil
		}
		_ = conn.Close() // there is nobody to tell
		l.rejected()
	}
}

// peerOf returns the address of conn's socket. What a proxy says of its caller is
// not waited for: others wait to be accepted.
func peerOf(conn net.Conn) net.Addr {
	if announced, ok := conn.(interface{ Peer() net.Addr }); ok {
		return announced.Peer()
	}
	return conn.RemoteAddr()
}

func (l *limitedListener) enter(from netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.by[from] >= l.limit-l.open {
		return false
	}
	l.open++
	l.by[from]++
	return true
}

func (l *limitedListener) leave(from netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.by[from]--; l.by[from] == 0 {
		delete(l.by, from)
	}
}

// limitedConn counts until it is closed.
type limitedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *limitedConn) Close() error {
	c.leave()
	return c.Conn.Close()
}

// network returns what one client can be expected to have: an address of IPv4,
// or a /64 of IPv6.
func network(from net.Addr) netip.Addr {
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	if addr.Is4() {
		return addr
	}
	return netip.PrefixFrom(addr, 64).Masked().Addr()
}
