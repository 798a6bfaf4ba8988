package h2

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// readLoop reads until the connection ends.
func (c *Conn) readLoop() {
	for {
		header, err := c.read.framer.ReadFrameHeader()
		var frame http2.Frame
		if err == nil {
			frame, err = c.read.framer.ReadFrameForHeader(header)
		}
		if err == nil {
			c.lastRead.Store(int64(c.age()))
			err = c.onFrame(frame)
		} else if wrong, ok := errors.AsType[http2.StreamError](err); ok && header.Type != http2.FrameHeaders {
			c.abort(wrong.StreamID, wrong.Code, wrong)
			continue // a header that was not decoded would spoil those that follow
		}
		if err != nil {
			c.end(err)
			return
		}
	}
}

// end closes the connection because of err.
func (c *Conn) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail(fmt.Errorf("read: %w", err))
}

// onFrame deals with one frame. An error ends the connection.
func (c *Conn) onFrame(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.HeadersFrame:
		c.read.field.reset()
		return c.onFragment(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded(), f.StreamEnded())
	case *http2.ContinuationFrame:
		return c.onFragment(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded(), c.read.field.ends)
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		return c.onSettings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			c.onPong(f.Data)
			return nil
		}
		c.out.ping(true, f.Data)
		return c.answered(frameHeader + len(f.Data))
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.GoAwayFrame:
		c.onGoAway(f)
	}
	return nil
}

// answered counts what answers the peer. It has c.mu.
func (c *Conn) answered(n int) error {
	if c.out.control += n; c.out.control > maxControl {
		return errors.New("the server asks, and does not read the answers")
	}
	return nil
}

// onSettings takes over the peer's settings. It has c.mu.
func (c *Conn) onSettings(f *http2.SettingsFrame) error {
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingMaxConcurrentStreams:
			c.peer.maxStreams = min(s.Val, math.MaxInt32)
		case http2.SettingInitialWindowSize:
			by := int64(s.Val) - c.peer.initialWindow
			c.peer.initialWindow = int64(s.Val)
			for _, stream := range c.streams {
				stream.window += by
			}
		case http2.SettingMaxFrameSize:
			c.peer.maxFrame = int(s.Val)
		case http2.SettingMaxHeaderListSize:
			c.peer.maxHeader = uint64(s.Val)
		case http2.SettingHeaderTableSize:
			c.out.encoder.SetMaxDynamicTableSize(min(s.Val, headerTable))
		}
		return nil
	})
	if err != nil {
		return err
	}
	_ = c.out.framer.WriteSettingsAck() // to a buffer
	c.out.wake.Signal()
	c.writable.Broadcast()
	return c.answered(frameHeader)
}

// used refuses a stream that was never begun (RFC 9113 section 5.1). It has c.mu.
func (c *Conn) used(id uint32) error {
	if id >= c.nextID || id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// onWindowUpdate has c.mu.
func (c *Conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	const most = 1<<31 - 1 // RFC 9113 section 6.9.1
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > most {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
	} else if err := c.used(f.StreamID); err != nil {
		return err
	} else if s := c.streams[f.StreamID]; s != nil {
		if s.window += int64(f.Increment); s.window > most {
			c.drop(s, http2.ErrCodeFlowControl, http2.StreamError{StreamID: s.id, Code: http2.ErrCodeFlowControl})
		}
	}
	c.writable.Broadcast()
	return nil
}

// onReset has c.mu.
func (c *Conn) onReset(f *http2.RSTStreamFrame) error {
	if err := c.used(f.StreamID); err != nil {
		return err
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	err := error(http2.StreamError{StreamID: f.StreamID, Code: f.ErrCode})
	if f.ErrCode == http2.ErrCodeRefusedStream {
		err = fmt.Errorf("%w: %w", ErrUnprocessed, err)
	}
	s.fail(err)
	c.forget(s)
	return nil
}

// onGoAway lets the streams go on that the peer still serves. It has c.mu.
func (c *Conn) onGoAway(f *http2.GoAwayFrame) {
	c.retired = true
	for id, s := range c.streams {
		if id > f.LastStreamID {
			s.fail(fmt.Errorf("the server goes away: %w", ErrUnprocessed))
			c.forget(s)
		}
	}
	c.closeIfDone()
}

// stream returns a stream by its id; nil if it is over. An id that was never
// used is the peer's fault.
func (c *Conn) stream(id uint32) (*stream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.used(id); err != nil {
		return nil, err
	}
	return c.streams[id], nil
}

func (c *Conn) onData(f *http2.DataFrame) error {
	s, err := c.stream(f.StreamID)
	if err != nil {
		return err
	}
	size := int(f.Length)
	if c.read.credit += size; c.read.credit >= connWindow/4 {
		c.mu.Lock()
		c.out.windowUpdate(0, c.read.credit)
		c.mu.Unlock()
		c.read.credit = 0
	}
	if s == nil {
		return nil
	}
	if err := s.push(f.Data(), size); err != nil {
		c.abort(f.StreamID, http2.ErrCodeProtocol, err)
		return nil
	}
	if f.StreamEnded() {
		c.finish(s, nil)
	}
	return nil
}

// onFragment takes a part of a header. All of them are decoded, also those of
// streams that are over, because what follows is compressed by what came before.
func (c *Conn) onFragment(id uint32, fragment []byte, whole, ends bool) error {
	field := &c.read.field
	field.ends = ends
	_, err := c.read.decoder.Write(fragment)
	switch {
	case errors.Is(err, hpack.ErrStringLength), field.size > 2*int(c.cfg.MaxHeaderBytes):
		// What follows cannot be read any more, so that the connection is lost to
		// all; but this request is not sent again, for the same answer.
		c.abort(id, http2.ErrCodeProtocol, errTooLarge)
		return errTooLarge
	case err != nil:
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !whole {
		return nil
	}
	if err := c.read.decoder.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	s, err := c.stream(id)
	if err != nil || s == nil {
		return err
	}
	informational, err := s.onHeader(field)
	switch {
	case err != nil:
		c.abort(id, http2.ErrCodeProtocol, err)
	case ends && informational:
		c.abort(id, http2.ErrCodeProtocol, errMalformed)
	case ends:
		c.finish(s, field.trailer())
	}
	return nil
}

// finish ends an answer. What is left of the request is not sent.
func (c *Conn) finish(s *stream, trailer http.Header) {
	s.finish(trailer)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.requestOver {
		c.out.reset(s.id, http2.ErrCodeNo)
	}
	c.forget(s)
}

// abort resets a stream because of the peer's fault.
func (c *Conn) abort(id uint32, code http2.ErrCode, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		c.drop(s, code, err)
	}
}

// drop resets s, whose reader gets err. It has c.mu.
func (c *Conn) drop(s *stream, code http2.ErrCode, err error) {
	if c.streams[s.id] != s {
		return
	}
	s.fail(err)
	c.out.reset(s.id, code)
	// The peer may still work on it: to reset many must not have it work on more
	// than it allows. Its answer to a ping says that it knows.
	c.resets++
	if !c.asking {
		c.ping()
	}
	c.forget(s)
}

// forget takes a stream that is over out of c. What is left of its request is not
// sent. It has c.mu.
func (c *Conn) forget(s *stream) {
	delete(c.streams, s.id)
	if !s.requestOver {
		s.requestOver = true
		c.writable.Broadcast()
	}
	c.closeIfDone()
}

// errMalformed says that an answer has not the form of one.
var errMalformed = errors.New("the API server's answer is malformed")

// errTooLarge says that an answer's header exceeds [Config.MaxHeaderBytes].
var errTooLarge = errors.New("the header of an answer is too large")

// fields is a header as it is decoded.
type fields struct {
	names  *wire.Names
	limit  uint32
	size   int // RFC 9113 section 6.5.2
	status int
	header wire.Header
	wrong  error
	ends   bool
}

func (f *fields) reset() {
	f.size, f.status, f.header, f.wrong = 0, 0, wire.Header{}, nil
}

// add takes one field. What is too large or malformed is not kept.
func (f *fields) add(field hpackField) {
	f.size += int(field.Size())
	switch {
	case f.wrong != nil:
	case f.size > int(f.limit):
		f.wrong = errTooLarge
	case field.IsPseudo():
		f.pseudo(field)
	case !wire.ValidName(field.Name) || !httpguts.ValidHeaderFieldValue(field.Value):
		f.wrong = errMalformed
	default:
		f.header.Add(f.names.Canonical(field.Name), field.Value)
	}
}

func (f *fields) pseudo(field hpackField) {
	status, err := strconv.Atoi(field.Value)
	if field.Name != ":status" || f.status != 0 || f.header.Fields() != nil || err != nil || len(field.Value) != 3 || status < 100 {
		f.wrong = errMalformed
	}
	f.status = status
}

// trailer returns the fields if they are a trailer.
func (f *fields) trailer() http.Header {
	if f.status != 0 {
		return nil
	}
	return f.header.Fields()
}
