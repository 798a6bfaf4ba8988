package rawbytes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Field is one header line. Value is what a receiver sees: on HTTP/1.1 without
// the optional white space around it, on HTTP/2 exactly as it was sent.
type Field struct{ Name, Value string }

// Fields is a header in the order of the wire, with repetitions.
type Fields []Field

// All returns the values of every line with the name, whatever its case.
func (f Fields) All(name string) []string {
	var out []string
	for _, l := range f {
		if strings.EqualFold(l.Name, name) {
			out = append(out, l.Value)
		}
	}
	return out
}

// Get returns the first value, or "".
func (f Fields) Get(name string) string {
	if v := f.All(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// Head is the start line and header of one HTTP/1.1 message. Faults names every
// liberty that its sender took with the grammar: parsers disagree about those,
// so a message with a fault is ambiguous even when it can be read.
type Head struct {
	Raw    []byte
	Start  string
	Fields Fields
	Faults []string
}

const maxHead = 4 << 20

func (h *Head) fault(format string, args ...any) {
	h.Faults = append(h.Faults, fmt.Sprintf(format, args...))
}

// line reads up to and with the next LF, keeps it in Raw, and returns it
// without its line end.
func (h *Head) line(br *bufio.Reader) (string, error) {
	raw, err := br.ReadBytes('\n')
	h.Raw = append(h.Raw, raw...)
	if err != nil {
		return "", err
	}
	if len(h.Raw) > maxHead {
		return "", errors.New("head is too long")
	}
	s, crlf := strings.CutSuffix(string(raw), "\r\n")
	if !crlf {
		h.fault("bare LF ends a line")
		s = strings.TrimSuffix(s, "\n")
	}
	if strings.ContainsAny(s, "\r\x00") {
		h.fault("CR or NUL inside a line")
	}
	return s, nil
}

// ReadHead reads one start line and header. The head read so far comes back
// with an error too.
func ReadHead(br *bufio.Reader) (*Head, error) {
	h := &Head{}
	var err error
	if h.Start, err = h.line(br); err != nil {
		return h, err
	}
	h.Fields, err = h.fields(br)
	return h, err
}

func (h *Head) fields(br *bufio.Reader) (Fields, error) {
	var out Fields
	for {
		s, err := h.line(br)
		if err != nil {
			return out, err
		}
		if s == "" {
			return out, nil
		}
		if s[0] == ' ' || s[0] == '\t' {
			h.fault("obs-fold")
			if len(out) > 0 {
				out[len(out)-1].Value += " " + strings.Trim(s, " \t")
			}
			continue
		}
		name, value, ok := strings.Cut(s, ":")
		if !ok || !isToken(name) {
			h.fault("bad field line %q", s)
		}
		out = append(out, Field{name, strings.Trim(value, " \t")})
	}
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		alnum := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !alnum && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// Body reads the body that the header announces. untilEOF says what no
// announcement means: a body up to the end of the connection, or none.
func (h *Head) Body(br *bufio.Reader, untilEOF bool) ([]byte, Fields, error) {
	te, cl := h.Fields.All("Transfer-Encoding"), h.Fields.All("Content-Length")
	if len(te) > 0 && len(cl) > 0 {
		h.fault("Transfer-Encoding and Content-Length")
	}
	if len(cl) > 1 || len(te) > 1 {
		h.fault("repeated Content-Length or Transfer-Encoding")
	}
	switch {
	case len(te) > 0:
		if !strings.EqualFold(te[0], "chunked") {
			h.fault("Transfer-Encoding %q", te[0])
		}
		return h.chunks(br)
	case len(cl) > 0:
		n, err := strconv.ParseUint(cl[0], 10, 31)
		if err != nil {
			h.fault("Content-Length %q", cl[0])
			return nil, nil, fmt.Errorf("content length: %w", err)
		}
		body := make([]byte, n)
		_, err = io.ReadFull(br, body)
		return body, nil, err
	case untilEOF:
		body, err := io.ReadAll(io.LimitReader(br, maxHead))
		return body, nil, err
	}
	return nil, nil, nil
}

func (h *Head) chunks(br *bufio.Reader) ([]byte, Fields, error) {
	var body bytes.Buffer
	for {
		s, err := h.line(br)
		if err != nil {
			return body.Bytes(), nil, err
		}
		n, err := strconv.ParseUint(s, 16, 31)
		if err != nil {
			h.fault("chunk size %q", s)
			return body.Bytes(), nil, fmt.Errorf("chunk size: %w", err)
		}
		if n == 0 {
			trailers, err := h.fields(br)
			return body.Bytes(), trailers, err
		}
		if _, err := io.CopyN(&body, br, int64(n)); err != nil {
			return body.Bytes(), nil, err
		}
		if end, err := h.line(br); err != nil || end != "" {
			h.fault("chunk end %q", end)
			return body.Bytes(), nil, errors.Join(errors.New("chunk end"), err)
		}
	}
}
