package rawbytes

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2conn is one HTTP/2 connection of the fake, frame by frame.
type h2conn struct {
	u       *Upstream
	fr      *http2.Framer
	dec     *hpack.Decoder
	streams map[uint32]*Record
	// certificate: the client presented one.
	certificate bool

	mu  sync.Mutex // guards writes: fr, enc and buf
	enc *hpack.Encoder
	buf bytes.Buffer
}

// serveH2 decodes header blocks itself, so that a value is recorded exactly as
// it was sent and nothing is refused before it is recorded.
func (u *Upstream) serveH2(c net.Conn) {
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(c, preface); err != nil || string(preface) != http2.ClientPreface {
		return
	}
	h := &h2conn{u: u, fr: http2.NewFramer(c, c), dec: hpack.NewDecoder(4096, nil), streams: map[uint32]*Record{}, certificate: certified(c)}
	h.enc = hpack.NewEncoder(&h.buf)
	h.fr.SetMaxReadFrameSize(1 << 20)
	if h.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 250}) != nil {
		return
	}
	for {
		f, err := h.fr.ReadFrame()
		if err != nil || h.frame(f) != nil {
			return
		}
	}
}

func (h *h2conn) frame(f http2.Frame) error {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if f.IsAck() {
			return nil
		}
		return h.write(func() error {
			if size, ok := f.Value(http2.SettingHeaderTableSize); ok {
				h.enc.SetMaxDynamicTableSizeLimit(size)
			}
			return h.fr.WriteSettingsAck()
		})
	case *http2.PingFrame:
		if !f.IsAck() {
			return h.write(func() error { return h.fr.WritePing(true, f.Data) })
		}
	case *http2.HeadersFrame:
		return h.headers(f)
	case *http2.DataFrame:
		return h.data(f)
	case *http2.RSTStreamFrame:
		delete(h.streams, f.StreamID)
	}
	return nil
}

func (h *h2conn) write(f func() error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return f()
}

func (h *h2conn) headers(f *http2.HeadersFrame) error {
	block := bytes.Clone(f.HeaderBlockFragment())
	for done := f.HeadersEnded(); !done; {
		next, err := h.fr.ReadFrame()
		if err != nil {
			return err
		}
		c, ok := next.(*http2.ContinuationFrame)
		if !ok {
			return fmt.Errorf("%s inside a header block", next.Header().Type)
		}
		block = append(block, c.HeaderBlockFragment()...)
		done = c.HeadersEnded()
	}
	fields, err := h.dec.DecodeFull(block)
	if err != nil {
		return err
	}
	if r := h.streams[f.StreamID]; r != nil {
		h.u.update(func() { _, r.Trailers, r.Faults = splitH2(fields, r.Faults) })
	} else {
		r := &Record{Proto: "HTTP/2.0", Certificate: h.certificate}
		var pseudo Fields
		pseudo, r.Fields, r.Faults = splitH2(fields, nil)
		r.Method, r.Target, r.Authority = pseudo.Get(":method"), pseudo.Get(":path"), pseudo.Get(":authority")
		if len(pseudo) != 4 || pseudo.Get(":scheme") != "https" {
			r.Faults = append(r.Faults, fmt.Sprintf("pseudo-header fields %v", pseudo))
		}
		h.streams[f.StreamID] = r
		h.u.keep(r)
	}
	if f.StreamEnded() {
		h.answer(f.StreamID)
	}
	return nil
}

// splitH2 tells pseudo-header fields from the rest and names what HTTP/2
// forbids: upper case, and fields of the connection.
func splitH2(in []hpack.HeaderField, faults []string) (pseudo, rest Fields, _ []string) {
	for _, f := range in {
		l := Field{f.Name, f.Value}
		switch {
		case strings.HasPrefix(f.Name, ":"):
			pseudo = append(pseudo, l)
			continue
		case !isToken(f.Name) || f.Name != strings.ToLower(f.Name):
			faults = append(faults, fmt.Sprintf("field name %q", f.Name))
		case strings.ContainsAny(f.Value, "\r\n\x00"):
			faults = append(faults, fmt.Sprintf("field %s has a control byte", f.Name))
		}
		switch f.Name {
		case "connection", "upgrade", "keep-alive", "proxy-connection", "transfer-encoding":
			faults = append(faults, "field of the connection: "+f.Name)
		}
		rest = append(rest, l)
	}
	return pseudo, rest, faults
}

func (h *h2conn) data(f *http2.DataFrame) error {
	r := h.streams[f.StreamID]
	if r == nil {
		return nil
	}
	h.u.update(func() { r.Body = append(r.Body, f.Data()...) })
	if n := f.Header().Length; n > 0 {
		if err := h.write(func() error {
			if err := h.fr.WriteWindowUpdate(0, n); err != nil || f.StreamEnded() {
				return err
			}
			return h.fr.WriteWindowUpdate(f.StreamID, n)
		}); err != nil {
			return err
		}
	}
	if f.StreamEnded() {
		h.answer(f.StreamID)
	}
	return nil
}

func (h *h2conn) answer(id uint32) {
	r := h.streams[id]
	delete(h.streams, id)
	a := h.u.replyTo(r)
	if r.Method == "HEAD" {
		a.body = ""
	}
	if !a.held && !a.stalled {
		h.send(id, a, true)
		return
	}
	h.u.wg.Go(func() {
		if a.stalled {
			h.u.hold()
			h.send(id, a, true)
			return
		}
		h.send(id, a, false)
		h.u.hold()
		h.write(func() error { return h.fr.WriteData(id, true, []byte(a.body)) })
	})
}

func (h *h2conn) send(id uint32, a reply, end bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf.Reset()
	h.enc.WriteField(hpack.HeaderField{Name: ":status", Value: strconv.Itoa(a.status)})
	h.enc.WriteField(hpack.HeaderField{Name: "audit-id", Value: "upstream-audit"})
	for _, f := range a.fields {
		h.enc.WriteField(hpack.HeaderField{Name: strings.ToLower(f.Name), Value: f.Value})
	}
	if a.length > 0 {
		h.enc.WriteField(hpack.HeaderField{Name: "content-length", Value: strconv.Itoa(a.length)})
	}
	block := h.buf.Bytes()
	first := block[:min(len(block), 16384)]
	empty := a.body == ""
	h.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndHeaders: len(first) == len(block), EndStream: empty && end})
	for rest := block[len(first):]; len(rest) > 0; {
		n := min(len(rest), 16384)
		h.fr.WriteContinuation(id, n == len(rest), rest[:n])
		rest = rest[n:]
	}
	if !empty {
		h.fr.WriteData(id, end, []byte(a.body))
	}
}
