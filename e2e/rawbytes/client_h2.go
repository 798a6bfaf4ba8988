package rawbytes

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// H2Conn sends header blocks with any field in them, frame by frame.
type H2Conn struct {
	conn *tls.Conn
	addr string
	fr   *http2.Framer
	dec  *hpack.Decoder
	enc  *hpack.Encoder
	buf  bytes.Buffer
	next uint32

	goneAway bool
	// Settings are the peer's, once its first frame is read.
	Settings map[http2.SettingID]uint32
}

// DialH2 offers HTTP/2 alone and completes the exchange of settings.
func DialH2(addr string, roots *x509.CertPool) (*H2Conn, error) {
	conn, err := dial(addr, roots, "h2")
	if err != nil {
		return nil, err
	}
	c := &H2Conn{conn: conn, addr: addr, fr: http2.NewFramer(conn, conn), dec: hpack.NewDecoder(4096, nil), next: 1, Settings: map[http2.SettingID]uint32{}}
	c.enc = hpack.NewEncoder(&c.buf)
	if conn.ConnectionState().NegotiatedProtocol != "h2" {
		return c, c.fail("offer", errors.New("the target does not speak h2"))
	}
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return c, c.fail("preface", err)
	}
	if err := c.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}); err != nil {
		return c, c.fail("settings", err)
	}
	for len(c.Settings) == 0 {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return c, c.fail("settings", err)
		}
		if s, ok := f.(*http2.SettingsFrame); ok && !s.IsAck() {
			s.ForeachSetting(func(v http2.Setting) error { c.Settings[v.ID] = v.Val; return nil })
			if err := c.fr.WriteSettingsAck(); err != nil {
				return c, c.fail("settings", err)
			}
		}
	}
	return c, nil
}

func (c *H2Conn) fail(what string, err error) error {
	c.conn.Close()
	return fmt.Errorf("h2 %s: %w", what, err)
}

// Close ends the connection.
func (c *H2Conn) Close() error { return c.conn.Close() }

// Exchange sends the request on the next stream. Fields whose names begin with
// ":" replace or add pseudo-header fields; names are sent as they are written,
// save that plain ASCII capitals are lowered unless the name starts with "=".
func (c *H2Conn) Exchange(r Request) (*Answer, error) {
	host := r.Host
	if host == "" {
		host = c.addr
	}
	head := Fields{{":method", r.method()}, {":scheme", "https"}, {":authority", host}, {":path", r.Target}}
	var rest Fields
	for _, f := range r.Fields {
		if !strings.HasPrefix(f.Name, ":") {
			rest = append(rest, f)
			continue
		}
		head = append(slices.DeleteFunc(head, func(p Field) bool { return p.Name == f.Name }), f)
	}
	return c.Stream(append(head, rest...), r.Body, r.Trailers)
}

// Stream sends exactly the fields, the body and the trailers, and reads the
// answer.
func (c *H2Conn) Stream(head Fields, body string, trailers Fields) (*Answer, error) {
	id := c.next
	c.next += 2
	if err := c.block(id, head, body == "" && len(trailers) == 0); err != nil {
		return &Answer{Err: err}, nil
	}
	if body != "" {
		if err := c.fr.WriteData(id, len(trailers) == 0, []byte(body)); err != nil {
			return &Answer{Err: err}, nil
		}
	}
	if len(trailers) > 0 {
		if err := c.block(id, trailers, true); err != nil {
			return &Answer{Err: err}, nil
		}
	}
	return c.read(id), nil
}

func (c *H2Conn) block(id uint32, fields Fields, end bool) error {
	c.buf.Reset()
	for _, f := range fields {
		name, exact := strings.CutPrefix(f.Name, "=")
		if !exact {
			name = strings.ToLower(name)
		}
		if err := c.enc.WriteField(hpack.HeaderField{Name: name, Value: f.Value}); err != nil {
			return err
		}
	}
	const most = 16384
	block := c.buf.Bytes()
	n := min(len(block), most)
	err := c.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndStream: end, EndHeaders: n == len(block)})
	for block = block[n:]; err == nil && len(block) > 0; block = block[n:] {
		n = min(len(block), most)
		err = c.fr.WriteContinuation(id, n == len(block), block[:n])
	}
	return err
}

func (c *H2Conn) read(id uint32) *Answer {
	a := &Answer{}
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			a.Err = err
			return a
		}
		done := false
		switch f := f.(type) {
		case *http2.HeadersFrame:
			done, err = c.answerHead(f, id, a)
		case *http2.DataFrame:
			done, err = c.answerData(f, id, a)
		case *http2.PingFrame:
			if !f.IsAck() {
				err = c.fr.WritePing(true, f.Data)
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id && f.ErrCode != http2.ErrCodeNo {
				a.Status, err = 0, fmt.Errorf("stream reset: %s", f.ErrCode)
			}
		case *http2.GoAwayFrame:
			c.goneAway = true
			if f.LastStreamID < id || f.ErrCode != http2.ErrCodeNo {
				err = fmt.Errorf("connection ended: %s", f.ErrCode)
			}
		}
		if done || err != nil {
			a.Err = err
			return a
		}
	}
}

func (c *H2Conn) answerHead(f *http2.HeadersFrame, id uint32, a *Answer) (bool, error) {
	block := bytes.Clone(f.HeaderBlockFragment())
	for done := f.HeadersEnded(); !done; {
		next, err := c.fr.ReadFrame()
		if err != nil {
			return false, err
		}
		cont, ok := next.(*http2.ContinuationFrame)
		if !ok {
			return false, fmt.Errorf("%s inside a header block", next.Header().Type)
		}
		block = append(block, cont.HeaderBlockFragment()...)
		done = cont.HeadersEnded()
	}
	fields, err := c.dec.DecodeFull(block)
	if err != nil || f.StreamID != id {
		return false, err
	}
	pseudo, rest, faults := splitH2(fields, nil)
	a.Faults = append(a.Faults, faults...)
	status, err := strconv.Atoi(pseudo.Get(":status"))
	switch {
	case err != nil && a.Status != 0: // trailers
		return f.StreamEnded(), nil
	case err != nil:
		return false, fmt.Errorf("no status: %w", err)
	case status < 200:
		a.Interim = append(a.Interim, status)
		return false, nil
	}
	a.Status, a.Fields = status, rest
	return f.StreamEnded(), nil
}

func (c *H2Conn) answerData(f *http2.DataFrame, id uint32, a *Answer) (bool, error) {
	if f.StreamID != id {
		return false, nil
	}
	a.Body = append(a.Body, f.Data()...)
	if n := f.Header().Length; n > 0 && !f.StreamEnded() {
		if err := c.fr.WriteWindowUpdate(0, n); err != nil {
			return false, err
		}
		if err := c.fr.WriteWindowUpdate(id, n); err != nil {
			return false, err
		}
	}
	return f.StreamEnded(), nil
}

// AwaitGoAway reads until the peer has said that it takes no new streams. A
// PING is sent and its answer is the end of the wait: what the peer had to say
// about earlier streams comes before it.
func (c *H2Conn) AwaitGoAway() error {
	if c.goneAway {
		return nil
	}
	if err := c.fr.WritePing(false, [8]byte{1}); err != nil {
		return err
	}
	for {
		f, err := c.fr.ReadFrame()
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			return nil
		case *http2.PingFrame:
			if f.IsAck() {
				return errors.New("the connection stays open")
			}
		}
	}
}
