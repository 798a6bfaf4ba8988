package h2server

import (
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// reading is what the one goroutine that reads works with.
type reading struct {
	framer  *http2.Framer
	decoder *hpack.Decoder
	field   fields
	ends    bool // the header that is being read ends its stream
	empty   int  // frames without a byte, of the header that is being read
}

func (r *reading) init(c *conn) {
	r.framer = http2.NewFramer(nil, c.net)
	r.framer.SetMaxReadFrameSize(maxFrame)
	r.framer.SetReuseFrames()
	r.field.names = c.server.names
	r.field.limit = int(c.server.maxHeaderList())
	r.decoder = hpack.NewDecoder(headerTable, r.field.add)
	r.decoder.SetMaxStringLength(r.field.limit)
}

// readLoop reads until the connection ends. It returns why: an
// http2.ConnectionError is the client's fault.
func (c *conn) readLoop() error {
	if err := c.readPreface(); err != nil {
		return err
	}
	for first := true; ; first = false {
		header, err := c.read.framer.ReadFrameHeader()
		var frame http2.Frame
		if err == nil {
			frame, err = c.read.framer.ReadFrameForHeader(header)
		}
		wrong, ofStream := errors.AsType[http2.StreamError](err)
		switch {
		case ofStream && header.Type == http2.FrameHeaders:
			// A header that was not decoded would spoil those that follow.
			return http2.ConnectionError(http2.ErrCodeProtocol)
		case ofStream:
			if err := c.refuse(wrong); err != nil {
				return err
			}
			continue
		case errors.Is(err, http2.ErrFrameTooLarge):
			return http2.ConnectionError(http2.ErrCodeFrameSize)
		case err != nil:
			return err
		case first && (header.Type != http2.FrameSettings || header.Flags.Has(http2.FlagSettingsAck)):
			return http2.ConnectionError(http2.ErrCodeProtocol) // RFC 9113 section 3.4
		}
		c.lastRead.Store(int64(c.age()))
		if err := c.onFrame(frame); err != nil {
			return err
		}
	}
}

// readPreface reads what a client begins with.
func (c *conn) readPreface() error {
	if err := c.setReadDeadline(time.Now().Add(c.server.cfg.HeaderTime)); err != nil {
		return err
	}
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(c.net, preface[:]); err != nil {
		return err
	}
	if string(preface[:]) != http2.ClientPreface {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return c.setReadDeadline(time.Time{})
}

// onFrame deals with one frame. An error ends the connection.
func (c *conn) onFrame(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.HeadersFrame:
		if f.StreamID%2 == 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.read.ends, c.read.empty = f.StreamEnded(), 0
		if f.HasPriority() && f.Priority.StreamDep == f.StreamID {
			c.read.field.malformed = true // RFC 7540 section 5.3.1
		}
		return c.onFragment(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded(), true)
	case *http2.ContinuationFrame:
		return c.onFragment(f.StreamID, f.HeaderBlockFragment(), f.HeadersEnded(), false)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errGone
	}
	switch f := frame.(type) {
	case *http2.DataFrame:
		return c.onData(f)
	case *http2.SettingsFrame:
		return c.onSettings(f)
	case *http2.PingFrame:
		return c.onPing(f)
	case *http2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *http2.RSTStreamFrame:
		return c.onReset(f)
	case *http2.PriorityFrame:
		if f.StreamDep == f.StreamID { // RFC 7540 section 5.3.1
			return c.resetUnknown(f.StreamID, http2.ErrCodeProtocol)
		}
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// maxEmpty is how many frames without a byte a header may have.
const maxEmpty = 16

// onFragment takes a part of a header. All of them are decoded, also those that
// nobody wants, because what follows is compressed by what came before.
func (c *conn) onFragment(id uint32, fragment []byte, whole, first bool) error {
	field := &c.read.field
	if len(fragment) == 0 {
		if c.read.empty++; c.read.empty > maxEmpty {
			return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
	}
	_, err := c.read.decoder.Write(fragment)
	switch {
	case errors.Is(err, hpack.ErrStringLength), field.size > 2*field.limit:
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	case err != nil:
		return http2.ConnectionError(http2.ErrCodeCompression)
	case !whole && first:
		return c.setReadDeadline(time.Now().Add(c.server.cfg.HeaderTime))
	case !whole:
		return nil
	}
	if err := c.read.decoder.Close(); err != nil {
		return http2.ConnectionError(http2.ErrCodeCompression)
	}
	if !first {
		if err := c.setReadDeadline(time.Time{}); err != nil {
			return err
		}
	}
	defer field.reset() // an idle connection holds no header
	return c.onHeader(id)
}

// answered sends what answers the client. An error says that it does not read that.
// It has c.mu.
func (c *conn) answered() error {
	c.kick()
	return c.calm()
}

// calm reports a client that does not read what answers what it sends, or whose
// requests come to nothing before they are served: because it resets them
// (CVE-2023-44487), or has the server reset them (CVE-2025-8671). It has c.mu.
func (c *conn) calm() error {
	if c.out.control > maxControl || c.wasted > 4*c.server.cfg.Streams {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	return nil
}

// maxSettings is how many settings a frame may have; there are some ten.
const maxSettings = 100

// onSettings takes over the client's settings. It has c.mu.
func (c *conn) onSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		return nil
	}
	if f.NumSettings() > maxSettings {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	if err := f.ForeachSetting(c.onSetting); err != nil {
		return err
	}
	c.out.settingsAck()
	return c.answered()
}

// onSetting has c.mu.
func (c *conn) onSetting(s http2.Setting) error {
	if err := s.Valid(); err != nil {
		return err
	}
	switch s.ID {
	case http2.SettingInitialWindowSize:
		by := int64(s.Val) - c.initialWindow
		c.initialWindow = int64(s.Val)
		for _, stream := range c.streams {
			if stream.window += by; stream.window > maxWindow {
				return http2.ConnectionError(http2.ErrCodeFlowControl)
			}
			stream.wakeWriter()
		}
	case http2.SettingHeaderTableSize:
		c.out.encoder.SetMaxDynamicTableSize(min(s.Val, headerTable))
	}
	return nil
}

// onPing has c.mu.
func (c *conn) onPing(f *http2.PingFrame) error {
	if !f.IsAck() {
		c.out.ping(true, f.Data)
		return c.answered()
	}
	switch f.Data {
	case lifePing():
		c.asking = false
	case partingPing():
		c.lastOne()
	}
	return nil
}

// maxWindow is the largest a window may be (RFC 9113 section 6.9.1).
const maxWindow = 1<<31 - 1

// onWindowUpdate has c.mu.
func (c *conn) onWindowUpdate(f *http2.WindowUpdateFrame) error {
	if f.StreamID == 0 {
		if c.window += int64(f.Increment); c.window > maxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.wakeNext()
		return nil
	}
	if err := c.used(f.StreamID); err != nil {
		return err
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	if s.window += int64(f.Increment); s.window > maxWindow {
		c.drop(s, http2.ErrCodeFlowControl, errReset)
		return c.answered()
	}
	s.wakeWriter()
	return nil
}

// onReset has c.mu.
func (c *conn) onReset(f *http2.RSTStreamFrame) error {
	if err := c.used(f.StreamID); err != nil {
		return err
	}
	s := c.streams[f.StreamID]
	if s == nil {
		return nil
	}
	s.fail(errReset)
	c.forget(s)
	return c.calm()
}

// onData has c.mu.
func (c *conn) onData(f *http2.DataFrame) error {
	size := int(f.Length)
	if err := c.used(f.StreamID); err != nil {
		return err
	}
	if c.open -= size; c.open < 0 {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	s := c.streams[f.StreamID]
	if s == nil || s.heard {
		c.giveBack(size)
		if s == nil && c.cutShort(f.StreamID) {
			return c.calm() // it was on its way
		}
		return c.resetUnknown(f.StreamID, http2.ErrCodeStreamClosed)
	}
	if code := s.take(f.Data(), size, f.StreamEnded()); code != http2.ErrCodeNo {
		c.giveBack(size)
		c.drop(s, code, errReset)
		return c.answered()
	}
	return c.calm()
}

// giveBack lets the client send n more bytes, of all streams together. It has c.mu.
func (c *conn) giveBack(n int) {
	if c.credit += n; c.credit < connWindow/4 || c.over {
		return
	}
	c.out.windowUpdate(0, c.credit)
	c.open += c.credit
	c.credit = 0
	c.kick()
}

// used refuses a stream that was never begun (RFC 9113 section 5.1). It has c.mu.
func (c *conn) used(id uint32) error {
	if id > c.last || id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	return nil
}

// refuse resets the stream of a frame that is not as it must be.
func (c *conn) refuse(wrong http2.StreamError) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.used(wrong.StreamID); err != nil {
		return err
	}
	return c.resetUnknown(wrong.StreamID, wrong.Code)
}

// resetUnknown resets a stream, whether it is open or not. It has c.mu.
func (c *conn) resetUnknown(id uint32, code http2.ErrCode) error {
	if c.over {
		return errGone
	}
	if s := c.streams[id]; s != nil {
		c.drop(s, code, errReset)
	} else {
		c.out.reset(id, code)
	}
	return c.answered()
}
