package load

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The windows that we give: as Go's own client has them, which kubectl and
// controllers use.
const (
	streamWindow     = 4 << 20
	connectionWindow = 1 << 30
	// refill is after how many bytes a window is filled again.
	refill = 1 << 20
)

// client2 is a connection of HTTP/2.
type client2 struct {
	conn   net.Conn
	w      *bufio.Writer
	framer *http2.Framer
	path   string
	host   string
	token  string
	body   int64 // how long an answer must be

	block   bytes.Buffer
	encoder *hpack.Encoder
	decoder *hpack.Decoder
	status  string // of the header that was decoded last

	next    uint32
	unacked int64 // bytes since the connection's window was filled
	streams map[uint32]*stream
}

// stream is a request under way.
type stream struct {
	began     time.Time
	got       int64
	unrefills int64
}

func newClient2(conn net.Conn, p Plan, token string) (*client2, error) {
	c := &client2{
		conn: conn, w: bufio.NewWriterSize(conn, 16<<10), path: p.Path, host: p.Address, token: token, body: p.BodyBytes,
		next: 1, streams: map[uint32]*stream{},
	}
	c.encoder = hpack.NewEncoder(&c.block)
	c.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		if f.Name == ":status" {
			c.status = f.Value
		}
	})
	c.framer = http2.NewFramer(c.w, bufio.NewReaderSize(conn, 64<<10))
	c.framer.SetReuseFrames()
	if _, err := c.w.WriteString(http2.ClientPreface); err != nil {
		return nil, err
	}
	if err := errors.Join(
		c.framer.WriteSettings(
			http2.Setting{ID: http2.SettingEnablePush, Val: 0},
			http2.Setting{ID: http2.SettingInitialWindowSize, Val: streamWindow}),
		c.framer.WriteWindowUpdate(0, connectionWindow),
		c.w.Flush()); err != nil {
		return nil, fmt.Errorf("begin HTTP/2: %w", err)
	}
	return c, nil
}

func (c *client2) close() error { return c.conn.Close() }

// request sends one request, in a TLS record of its own as clients do.
func (c *client2) request() error {
	c.block.Reset()
	for _, f := range [...]hpack.HeaderField{
		{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: c.host}, {Name: ":path", Value: c.path},
		{Name: "user-agent", Value: userAgent}, {Name: "accept", Value: "application/json"},
		{Name: "accept-encoding", Value: "gzip"}, {Name: "authorization", Value: "Bearer " + c.token},
	} {
		if err := c.encoder.WriteField(f); err != nil {
			return fmt.Errorf("encode a request: %w", err)
		}
	}
	id := c.next
	c.next += 2
	err := c.framer.WriteHeaders(http2.HeadersFrameParam{
		StreamID: id, BlockFragment: c.block.Bytes(), EndStream: true, EndHeaders: true,
	})
	if err == nil {
		err = c.w.Flush()
	}
	if err != nil {
		return fmt.Errorf("write a request: %w", err)
	}
	c.streams[id] = &stream{began: time.Now()}
	return nil
}

func (c *client2) once() error {
	if err := c.request(); err != nil {
		return err
	}
	_, err := c.await()
	return err
}

func (c *client2) run(m *measurement, n int) error {
	var s samples
	defer func() { m.add(s) }()
	for range n {
		if err := c.request(); err != nil {
			return err
		}
	}
	for len(c.streams) > 0 {
		done, err := c.await()
		if err != nil {
			return err
		}
		if m.measuring.Load() {
			s = append(s, time.Since(done.began))
			m.answered.Add(1)
		}
		if !m.over.Load() {
			if err := c.request(); err != nil {
				return err
			}
		}
	}
	return nil
}

// await returns the next request that was answered in full.
func (c *client2) await() (*stream, error) {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return nil, err
	}
	for {
		frame, err := c.framer.ReadFrame()
		if err != nil {
			return nil, fmt.Errorf("read an answer: %w", err)
		}
		if err := c.control(frame); err != nil {
			return nil, err
		}
		id := frame.Header().StreamID
		s := c.streams[id]
		if s == nil {
			continue
		}
		if err := c.take(s, frame); err != nil {
			return nil, err
		}
		if frame.Header().Flags.Has(http2.FlagDataEndStream) && isMessage(frame) { // the same bit in both kinds
			delete(c.streams, id)
			if s.got != c.body {
				return nil, fmt.Errorf("the answer has %d bytes, not %d", s.got, c.body)
			}
			return s, nil
		}
	}
}

func isMessage(frame http2.Frame) bool {
	kind := frame.Header().Type
	return kind == http2.FrameData || kind == http2.FrameHeaders
}

// control answers what is about the connection.
func (c *client2) control(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		return errors.Join(c.framer.WriteSettingsAck(), c.w.Flush())
	case *http2.PingFrame:
		if f.IsAck() {
			return nil
		}
		return errors.Join(c.framer.WritePing(true, f.Data), c.w.Flush())
	case *http2.GoAwayFrame:
		return fmt.Errorf("the proxy said goodbye: %v", f.ErrCode)
	case *http2.RSTStreamFrame:
		return fmt.Errorf("the proxy reset a request: %v", f.ErrCode)
	}
	return nil
}

// take takes a frame of a request in.
func (c *client2) take(s *stream, frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		if !f.HeadersEnded() {
			return errors.New("the answer's header is longer than a frame")
		}
		c.status = "200" // trailers have none
		if _, err := c.decoder.Write(f.HeaderBlockFragment()); err != nil {
			return fmt.Errorf("decode a header: %w", err)
		}
		if err := c.decoder.Close(); err != nil {
			return fmt.Errorf("decode a header: %w", err)
		}
		if c.status != "200" {
			return fmt.Errorf("the answer is %s", c.status)
		}
	case *http2.DataFrame:
		s.got += int64(len(f.Data()))
		n := int64(f.Length) // with the padding
		s.unrefills += n
		c.unacked += n
		return c.refill(f.StreamID, s, f.StreamEnded())
	}
	return nil
}

// refill gives the proxy new windows when much of the old ones is used.
func (c *client2) refill(id uint32, s *stream, ended bool) error {
	var errs []error
	if s.unrefills >= refill && !ended {
		errs = append(errs, c.framer.WriteWindowUpdate(id, uint32(s.unrefills)))
		s.unrefills = 0
	}
	if c.unacked >= refill {
		errs = append(errs, c.framer.WriteWindowUpdate(0, uint32(c.unacked)))
		c.unacked = 0
	}
	if err := errors.Join(append(errs, c.w.Flush())...); err != nil {
		return fmt.Errorf("fill a window: %w", err)
	}
	return nil
}
