// Package h2server answers: how does a caller's connection carry many requests at
// a time, by HTTP/2 (RFC 9113)?
//
// It is a server for http.Handlers, in place of net/http's (docs/decisions/0025).
// Frames and header compression are those of golang.org/x/net/http2. What it does
// without, beside the server there, is a goroutine for each frame that is written, a
// buffer for each stream, and the loop through which everything passes: what a
// handler writes is put together with what others write, behind one lock, and
// leaves by one system call.
package h2server

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// Config is what a [Server] is made of. All of it has to be set.
type Config struct {
	// Handler answers requests, which have neither cookies nor trailers. Its
	// ResponseWriter has Flush, SetReadDeadline and SetWriteDeadline; Go's rules for
	// trailers hold with http.TrailerPrefix alone. Informational answers are not sent,
	// but the one that a client may expect before it sends its body. A header
	// "Connection: close" has the client leave.
	Handler http.Handler
	// HeaderBytes is the most that a request's header may have, counted as in RFC
	// 9113 section 6.5.2 without the 32 bytes for each of its first fields.
	HeaderBytes int
	// HeaderTime is how long a header may take, once it has begun, and before the
	// first of all the client's preface.
	HeaderTime time.Duration
	// IdleTime is how long a connection may be without a request.
	IdleTime time.Duration
	// Streams is how many requests a connection may have at a time.
	Streams int
	// PingAfter is how long nothing may come before the client is asked for a sign
	// of life, and PingTimeout how long that may take.
	PingAfter, PingTimeout time.Duration
	// Log hears of handlers that panic.
	Log *slog.Logger
}

// What clients are told, beside what Config says.
const (
	// streamWindow is how much of a request's body may wait to be read.
	streamWindow = 256 << 10
	// connWindow is the same for all requests of a connection together.
	connWindow = 1 << 20
	// maxFrame is the largest frame that is taken.
	maxFrame = 16 << 10
	// headerTable is the size of the compression table, both ways.
	headerTable = 4 << 10
	// usualFields are what an ordinary header has. What each counts beside its bytes
	// is not counted for them.
	usualFields = 10
)

// Server serves connections.
type Server struct {
	cfg    Config
	names  *wire.Names
	chunks wire.Chunks
	queues queues

	mu      sync.Mutex
	conns   map[*conn]struct{}
	leaving bool
}

// New returns a Server.
func New(cfg Config) *Server {
	return &Server{cfg: cfg, names: wire.NewNames(), conns: map[*conn]struct{}{}}
}

// Serve speaks HTTP/2 on c until it ends, and closes it. ctx is what the contexts of
// requests are made from; they end with their streams, and with ctx. state is nil
// if c is not encrypted.
func (s *Server) Serve(ctx context.Context, c net.Conn, state *tls.ConnectionState) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn := newConn(s, c, ctx, state)
	s.mu.Lock()
	s.conns[conn] = struct{}{}
	leaving := s.leaving
	s.mu.Unlock()
	if leaving {
		conn.leave()
	}
	conn.serve()
	s.mu.Lock()
	delete(s.conns, conn)
	s.mu.Unlock()
}

// GoAway asks all clients to leave. A connection is closed when its last request
// has ended; one that was begun before its client heard of it is still served.
func (s *Server) GoAway() {
	s.mu.Lock()
	s.leaving = true
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	s.mu.Unlock()
	for _, c := range all {
		c.leave()
	}
}

func (s *Server) maxHeaderList() uint32 {
	return uint32(s.cfg.HeaderBytes) + usualFields*fieldOverhead
}

// fieldOverhead is what a field counts beside its bytes (RFC 9113 section 6.5.2).
const fieldOverhead = 32

func (s *Server) settings() []http2.Setting {
	return []http2.Setting{
		{ID: http2.SettingMaxConcurrentStreams, Val: uint32(s.cfg.Streams)},
		{ID: http2.SettingMaxHeaderListSize, Val: s.maxHeaderList()},
		{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		{ID: http2.SettingMaxFrameSize, Val: maxFrame},
		{ID: http2.SettingHeaderTableSize, Val: headerTable},
	}
}
