// Package h2 answers: how does one connection to the API server carry many
// requests at a time, by HTTP/2 (RFC 9113)?
//
// It is a client for a reverse proxy. Frames and header compression are those of
// golang.org/x/net/http2; what it does without, beside the client there, is a
// goroutine for each request, a buffer for each idle stream, and a system call
// for each frame: the goroutine of a request waits for its answer itself, data
// are kept in shared buffers until they are read, and one goroutine for each
// connection writes what others have put together (docs/decisions/0021).
package h2

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// What gatehouse tells its peer.
const (
	// streamWindow is how much of an answer may wait to be read by its caller.
	streamWindow = 256 << 10
	// connWindow bounds what is on its way. It is given back as it comes, so that
	// answers that nobody reads do not hold up others.
	connWindow = 16 << 20
	// maxFrame is the largest frame that is taken (RFC 9113 section 6.5.2).
	maxFrame = 16 << 10
	// headerTable is the size of the compression table, both ways.
	headerTable = 4 << 10
)

// What a peer may have waiting to be written, so that one that asks without
// reading fills no memory.
const (
	maxControl   = 64 << 10
	maxQueued    = 256 << 10
	keptForReuse = 64 << 10
)

// Config is what a [Conn] is made with. A field that is zero has its default.
type Config struct {
	// PingAfter is how long nothing may arrive before the peer is asked for a sign
	// of life. Default: 15 seconds.
	PingAfter time.Duration
	// SuspectAfter is how long the peer may then be silent before no more requests
	// are sent to it. Default: PingTimeout.
	SuspectAfter time.Duration
	// PingTimeout is how long it may be silent before the connection is given up.
	// Default: 15 seconds.
	PingTimeout time.Duration
	// MaxHeaderBytes bounds the header of an answer, counted as in RFC 9113 section
	// 6.5.2. Default: 1 MiB.
	MaxHeaderBytes uint32
}

func (c Config) orDefault() Config {
	if c.PingAfter <= 0 {
		c.PingAfter = 15 * time.Second
	}
	if c.PingTimeout <= 0 {
		c.PingTimeout = 15 * time.Second
	}
	if c.SuspectAfter <= 0 {
		c.SuspectAfter = c.PingTimeout
	}
	if c.MaxHeaderBytes == 0 {
		c.MaxHeaderBytes = 1 << 20
	}
	return c
}

var (
	// ErrUnprocessed says that the peer has not begun to work on a request, so that
	// it may be sent again, whatever it does (RFC 9113 section 8.7).
	ErrUnprocessed = errors.New("the request was not processed")
	// ErrLost says that the connection broke before an answer came.
	ErrLost = errors.New("the connection to the API server was lost")

	// ErrNotTaken says that a Conn has no room for a request, or takes none any
	// more. Nothing was read of its body, which is not closed. It is ErrUnprocessed
	// too.
	ErrNotTaken = fmt.Errorf("the connection takes no more requests: %w", ErrUnprocessed)

	errSilent = errors.New("no sign of life")
)

// Conn is one connection. It is an http.RoundTripper for requests to the one
// server at its other end.
type Conn struct {
	cfg   Config
	net   net.Conn
	read  reading
	names *wire.Names

	lastRead atomic.Int64 // when a frame arrived, as time.Duration since began
	began    time.Time

	mu      sync.Mutex
	streams map[uint32]*stream
	nextID  uint32
	resets  int   // streams that were reset, and may still keep the peer busy
	coming  int   // requests that have a place, and were not sent yet
	retired bool  // takes no more requests
	failed  error // why it is closed; nil while it is open
	closed  chan struct{}
	chunks  wire.Chunks
	peer    settings
	window  int64 // what may be sent, of all streams together
	pinged  time.Duration
	pings   uint64
	asking  bool // a ping is under way
	covered int  // how many of resets came before that ping

	out      writing
	writable sync.Cond // the queue, a window or a stream has changed
	timer    *time.Timer
}

// settings are those of the peer.
type settings struct {
	maxStreams    uint32
	initialWindow int64
	maxFrame      int
	maxHeader     uint64
}

// New speaks HTTP/2 on conn, and returns when the peer has answered. ctx bounds
// that. The Conn closes conn when it is of no more use; on an error New does.
func New(ctx context.Context, conn net.Conn, cfg Config) (*Conn, error) {
	c := &Conn{
		cfg: cfg.orDefault(), net: conn, names: wire.NewNames(), began: time.Now(),
		streams: map[uint32]*stream{}, nextID: 1, closed: make(chan struct{}), window: 65535,
		// RFC 9113 section 6.5.2: what holds until the peer says otherwise.
		peer: settings{maxStreams: 100, initialWindow: 65535, maxFrame: 16 << 10, maxHeader: 1<<64 - 1},
	}
	c.writable.L = &c.mu
	c.out.init(&c.mu)
	c.read.init(c)
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := c.handshake()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		_ = conn.Close() // the error before counts
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("begin HTTP/2: %w", err)
	}
	c.mu.Lock()
	c.timer = time.AfterFunc(c.tick(), c.look)
	c.mu.Unlock()
	go c.readLoop()
	go c.writeLoop()
	return c, nil
}

// handshake sends the preface, and waits for that of the peer, which is its
// SETTINGS (RFC 9113 section 3.4).
func (c *Conn) handshake() error {
	var preface bytes.Buffer
	preface.WriteString(http2.ClientPreface)
	framer := http2.NewFramer(&preface, nil)
	err := framer.WriteSettings(
		http2.Setting{ID: http2.SettingEnablePush, Val: 0},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: maxFrame},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: c.cfg.MaxHeaderBytes},
	)
	if err == nil {
		err = framer.WriteWindowUpdate(0, connWindow-65535)
	}
	if err == nil {
		_, err = c.net.Write(preface.Bytes())
	}
	if err != nil {
		return err
	}
	frame, err := c.read.framer.ReadFrame()
	if err != nil {
		return err
	}
	first, ok := frame.(*http2.SettingsFrame)
	if !ok || first.IsAck() {
		return errors.New("the server does not begin with SETTINGS")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.onSettings(first)
}

// Status is what a [Conn] can do now.
type Status struct {
	Load, Most int  // requests under way, and how many the peer allows
	Usable     bool // takes one more
	Suspect    bool // would, but its peer has been silent when it was asked
}

// Status returns what c can do now. A request may still find it changed.
func (c *Conn) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	usable := c.usable()
	suspect := usable && c.suspect()
	return Status{Load: c.loaded(), Most: int(c.peer.maxStreams), Usable: usable && !suspect, Suspect: suspect}
}

// Reserve keeps a place for the next request, for which RoundTrip must be called.
func (c *Conn) Reserve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.coming++
}

// arrive gives the place of a request back, if it has one. It has c.mu.
func (c *Conn) arrive() { c.coming = max(0, c.coming-1) }

func (c *Conn) loaded() int { return len(c.streams) + c.resets + c.coming }

func (c *Conn) usable() bool {
	return c.failed == nil && !c.retired && c.loaded() < int(c.peer.maxStreams)
}

func (c *Conn) suspect() bool { return c.silent() && c.age()-c.pinged >= c.cfg.SuspectAfter }

// silent reports whether nothing has come since a sign of life was asked for.
func (c *Conn) silent() bool { return c.asking && c.heard() <= c.pinged }

// age and heard are times since c began: now, and when the last frame came.
func (c *Conn) age() time.Duration   { return time.Since(c.began) }
func (c *Conn) heard() time.Duration { return time.Duration(c.lastRead.Load()) }

// Closed is closed when c is.
func (c *Conn) Closed() <-chan struct{} { return c.closed }

// Retire has c take no more requests, and close when those under way have ended.
func (c *Conn) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	c.closeIfDone()
}

// closeIfDone closes a connection that nobody uses or will use. It has c.mu.
func (c *Conn) closeIfDone() {
	if c.retired && len(c.streams) == 0 {
		c.fail(ErrNotTaken)
	}
}

// fail closes c, once. It has c.mu.
func (c *Conn) fail(err error) {
	if c.failed != nil {
		return
	}
	c.failed = err
	if c.timer != nil {
		c.timer.Stop()
	}
	for _, s := range c.streams {
		s.fail(fmt.Errorf("%w: %w", ErrLost, err))
	}
	clear(c.streams)
	close(c.closed)
	c.writable.Broadcast()
	c.out.wake.Signal()
	go func() { _ = c.net.Close() }() // may wait to say good-bye; nothing is left to lose
}

// tick is how often the peer's signs of life are looked for.
func (c *Conn) tick() time.Duration {
	return min(c.cfg.PingAfter, c.cfg.PingTimeout, c.cfg.SuspectAfter) / 2
}

// look asks a silent peer for a sign of life, and gives up one that gives none.
func (c *Conn) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failed != nil {
		return
	}
	now, heard := c.age(), c.heard()
	switch {
	case c.silent() && now-c.pinged >= c.cfg.PingTimeout:
		c.fail(fmt.Errorf("%w for %s", errSilent, (now - heard).Round(time.Millisecond)))
		return
	case !c.silent() && now-heard >= c.cfg.PingAfter:
		c.ping()
	}
	c.timer.Reset(c.tick())
}

// ping asks the peer for a sign of life: any frame is one. Its answer, which has
// to follow on what was sent before, says besides that the streams which were
// reset are. It has c.mu.
func (c *Conn) ping() {
	c.asking, c.pinged, c.covered = true, c.age(), c.resets
	c.pings++
	c.out.ping(false, pingData(c.pings))
}

func pingData(n uint64) (data [8]byte) {
	binary.BigEndian.PutUint64(data[:], n)
	return data
}

// onPong has c.mu.
func (c *Conn) onPong(data [8]byte) {
	if !c.asking || data != pingData(c.pings) {
		return
	}
	c.resets -= c.covered
	c.asking, c.covered = false, 0
	if c.resets > 0 {
		c.ping()
	}
}

// reading is what the one goroutine that reads works with.
type reading struct {
	framer  *http2.Framer
	decoder *hpack.Decoder
	field   fields
	credit  int // bytes of the connection's window to give back
}

func (r *reading) init(c *Conn) {
	r.framer = http2.NewFramer(nil, c.net)
	r.framer.SetMaxReadFrameSize(maxFrame)
	r.framer.SetReuseFrames()
	r.field.limit = c.cfg.MaxHeaderBytes
	r.field.names = c.names
	r.decoder = hpack.NewDecoder(headerTable, r.field.add)
	r.decoder.SetMaxStringLength(int(c.cfg.MaxHeaderBytes))
}

// frameHeader is the length of a frame's header (RFC 9113 section 4.1).
const frameHeader = 9

var _ http.RoundTripper = (*Conn)(nil)
