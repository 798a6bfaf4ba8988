package h2server

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
)

const (
	// leaveTime is how long a client that is asked to leave may go on before it is
	// told which of its requests is the last.
	leaveTime = time.Second
	// finalWrite is how long what was written before the end may take to go out, and
	// finalRead how long the client may then take to close its side: to close while
	// it sends would destroy what it has not read yet.
	finalWrite = 5 * time.Second
	finalRead  = time.Second
)

// errors with which a stream ends that its handler did not end.
var (
	errReset   = errors.New("the client reset the stream")
	errGone    = errors.New("the client's connection is closed")
	errEnded   = errors.New("the answer has ended")
	errAborted = errors.New("the handler did not end the answer")
)

// conn is one connection of a client.
type conn struct {
	server *Server
	net    net.Conn
	ctx    context.Context // of all requests
	tls    *tls.ConnectionState
	remote string
	read   reading

	joins joiner // below tls; nil if what is below does not join

	began    time.Time
	lastRead atomic.Int64 // when a frame came, as time.Duration since began

	mu      sync.Mutex
	streams map[uint32]*stream // of which either side has not ended
	last    uint32             // the latest of the client
	served  uint32             // the latest that was not left aside because the client was told to leave
	running int                // handlers, those of streams that were reset included
	queue   []*stream          // whose handlers wait until others end
	short   []uint32           // the latest streams that the server ended before the client did
	wasted  int                // streams that were over before their handler began, since one ended
	idle    time.Duration      // since when there are no streams
	parting parting
	over    bool // no frame counts any more
	closed  bool

	initialWindow int64 // of what may be sent in a stream

	window    int64     // what may be sent, of all streams together
	forQueue  []*stream // whose writers wait until what was written before is out
	forWindow []*stream // whose writers wait for window
	open      int       // what the client may still send, of all streams together
	credit    int       // what was read of that, and not given back

	out    writing
	timer  *time.Timer // of look
	pinged time.Duration
	asking bool // for a sign of life
}

// parting is how far the client has been asked to leave.
type parting uint8

const (
	staying parting = iota
	asked           // it may still begin requests
	told            // what it begins is not served
)

func newConn(s *Server, c net.Conn, ctx context.Context, state *tls.ConnectionState) *conn {
	conn := &conn{
		server: s, net: c, ctx: ctx, tls: state, remote: c.RemoteAddr().String(), began: time.Now(),
		streams: map[uint32]*stream{}, open: connWindow,
		window: 65535, initialWindow: 65535, // RFC 9113 section 6.9.2
	}
	conn.out.init(&s.queues)
	if secure, ok := c.(*tls.Conn); ok {
		conn.joins, _ = secure.NetConn().(joiner)
	}
	conn.out.settings(s.settings()) // before all else: it may be asked to leave at once
	conn.out.windowUpdate(0, connWindow-65535)
	conn.read.init(conn)
	conn.mu.Lock()
	defer conn.mu.Unlock()
	conn.timer = time.AfterFunc(conn.tick(), conn.look)
	return conn
}

// serve serves until the connection ends.
func (c *conn) serve() {
	c.mu.Lock()
	c.kick()
	c.mu.Unlock()
	c.end(c.readLoop())
	// What the client still sends is not looked at, as much as can be on its way. It
	// ends when the client does, or by the deadline that the writer sets when all is
	// written.
	_, _ = io.CopyN(io.Discard, c.net, 2*connWindow)
	c.close()
}

func (c *conn) age() time.Duration { return time.Since(c.began) }

// end has no frame count any more because of err, which the client is told of if it
// is a fault of its own.
func (c *conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return // as it was decided
	}
	if code, ok := errors.AsType[http2.ConnectionError](err); ok {
		c.fault(http2.ErrCode(code))
		return
	}
	c.breakOff() // nothing comes, and so nobody reads
}

// fault ends the connection because of what the client did. It has c.mu.
func (c *conn) fault(code http2.ErrCode) {
	c.out.goAway(c.served, code)
	c.finish()
}

// finish ends all streams, writes what is to be written, and then closes. It has
// c.mu.
func (c *conn) finish() {
	if c.over {
		return
	}
	c.over = true
	c.timer.Stop()
	for _, s := range c.streams {
		s.fail(errGone)
		c.forget(s)
	}
	_ = c.net.SetWriteDeadline(time.Now().Add(finalWrite)) // else writing fails
	c.kick()
}

// breakOff is finish for a client who is not there: nothing more is read or written.
// It has c.mu.
func (c *conn) breakOff() {
	c.finish()
	_ = c.net.SetDeadline(time.Unix(1, 0)) // else it fails anyhow
}

// setReadDeadline bounds how long reading may take, unless it has its end already.
func (c *conn) setReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errGone
	}
	return c.net.SetReadDeadline(t)
}

// parted ends the client's part of the connection when all is written. It is called
// once, by the writer.
func (c *conn) parted(err error) {
	half, ok := c.net.(interface{ CloseWrite() error })
	if err != nil || !ok || half.CloseWrite() != nil {
		c.close()
		return
	}
	_ = c.net.SetReadDeadline(time.Now().Add(finalRead)) // else reading fails
}

// close closes the connection at once.
func (c *conn) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.finish()
	if c.closed {
		return
	}
	c.closed = true
	go func() { _ = c.net.Close() }() // may wait to say good-bye; nothing is left to lose
}

// leave asks the client to leave. What it has begun by the time that it knows is
// served (RFC 9113 section 6.8).
func (c *conn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.askToLeave()
	c.kick()
}

// askToLeave has c.mu.
func (c *conn) askToLeave() {
	if c.over || c.parting != staying {
		return
	}
	c.parting = asked
	c.out.goAway(math.MaxInt32, http2.ErrCodeNo)
	c.out.ping(false, partingPing())
	time.AfterFunc(leaveTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.lastOne()
	})
}

// lastOne tells the client which of its requests is the last. It has c.mu.
func (c *conn) lastOne() {
	if c.over || c.parting != asked {
		return
	}
	c.parting = told
	c.out.goAway(c.served, http2.ErrCodeNo)
	c.kick()
	c.finishIfDone()
}

// finishIfDone ends a connection that its client has left. It has c.mu.
func (c *conn) finishIfDone() {
	if c.parting == told && len(c.streams) == 0 {
		c.finish()
	}
}

// tick is how often signs of life are looked for.
func (c *conn) tick() time.Duration {
	cfg := &c.server.cfg
	return min(cfg.IdleTime, cfg.PingAfter, cfg.PingTimeout) / 2
}

// look ends a connection that is idle or dead, and asks one that is silent for a
// sign of life.
func (c *conn) look() {
	cfg := &c.server.cfg
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	now, heard := c.age(), time.Duration(c.lastRead.Load())
	silent := c.asking && heard <= c.pinged
	switch {
	case silent && now-c.pinged >= cfg.PingTimeout:
		c.breakOff()
		return
	case len(c.streams) == 0 && now-c.idle >= cfg.IdleTime:
		c.out.goAway(c.served, http2.ErrCodeNo)
		c.finish()
		return
	case !silent && now-heard >= cfg.PingAfter:
		c.asking, c.pinged = true, now
		c.out.ping(false, lifePing())
		c.kick()
	}
	c.timer.Reset(c.tick())
}

// The pings of ours say which they are.
func lifePing() (data [8]byte)    { return pingData(1) }
func partingPing() (data [8]byte) { return pingData(2) }

func pingData(n uint64) (data [8]byte) {
	binary.BigEndian.PutUint64(data[:], n)
	return data
}
