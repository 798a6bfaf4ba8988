package h2server

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2/wire"
)

// fields is a request's header as it is decoded.
type fields struct {
	names *wire.Names
	limit int // RFC 9113 section 6.5.2

	size      int
	pseudo    [4]string // by the constants below
	has       [4]bool
	header    wire.Header
	malformed bool // RFC 9113 section 8.1.1
	large     bool
	bad       bool // what is understood and may not be: answered, as net/http does
}

// The pseudo-header fields of a request (RFC 9113 section 8.3.1). There is no
// :protocol (RFC 8441): it is not offered.
const (
	method = iota
	scheme
	authority
	path
)

var pseudoNames = [...]string{method: ":method", scheme: ":scheme", authority: ":authority", path: ":path"}

func (f *fields) reset() { *f = fields{names: f.names, limit: f.limit} }

// add takes one field. What is too large or malformed is not kept.
func (f *fields) add(field hpack.HeaderField) {
	f.size += int(field.Size())
	f.large = f.large || f.size > f.limit
	switch {
	case f.malformed || f.large:
	case !httpguts.ValidHeaderFieldValue(field.Value):
		f.malformed = true
	case field.IsPseudo():
		f.addPseudo(field)
	case !wire.ValidName(field.Name):
		f.malformed = true
	default:
		f.addRegular(field)
	}
}

func (f *fields) addPseudo(field hpack.HeaderField) {
	for i, name := range pseudoNames {
		if name == field.Name && !f.has[i] && f.header.Fields() == nil {
			f.pseudo[i], f.has[i] = field.Value, true
			return
		}
	}
	f.malformed = true
}

func (f *fields) addRegular(field hpack.HeaderField) {
	switch field.Name {
	case "connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive":
		f.bad = true // RFC 9113 section 8.2.2
	case "te":
		f.bad = f.bad || field.Value != "trailers"
	}
	f.header.Add(f.names.Canonical(field.Name), field.Value)
}

// trailer reports whether the fields may be one.
func (f *fields) trailer() bool { return !f.malformed && !f.large && f.has == [4]bool{} }

// request returns what the fields ask for; nil if they are malformed. ends says that
// no body follows.
func (f *fields) request(ends bool) *http.Request {
	header := f.header.Fields()
	if header == nil {
		header = http.Header{}
	}
	if f.malformed || !f.hasPseudo() || !f.nameHost(header) {
		return nil
	}
	length, ok := bodyLength(header["Content-Length"], ends)
	if !ok {
		return nil
	}
	r := &http.Request{
		Method: f.pseudo[method], Host: f.pseudo[authority], Header: header, ContentLength: length,
		Proto: "HTTP/2.0", ProtoMajor: 2, RequestURI: f.pseudo[path],
	}
	// None is passed on. To put cookies together (RFC 9113 section 8.2.3) would make
	// 256 KiB of 60 bytes, if they are in the table.
	delete(header, "Cookie")
	delete(header, "Trailer")
	if r.Method == http.MethodConnect {
		r.URL, r.RequestURI = &url.URL{Host: r.Host}, r.Host
		return r
	}
	var err error
	if r.URL, err = url.ParseRequestURI(r.RequestURI); err != nil {
		return nil
	}
	return r
}

func (f *fields) hasPseudo() bool {
	if !validMethod(f.pseudo[method]) {
		return false
	}
	if f.pseudo[method] == http.MethodConnect { // RFC 9113 section 8.5
		return !f.has[path] && !f.has[scheme] && f.pseudo[authority] != ""
	}
	return f.pseudo[path] != "" && (f.pseudo[scheme] == "https" || f.pseudo[scheme] == "http")
}

func validMethod(name string) bool {
	return name != "" && strings.IndexFunc(name, func(c rune) bool { return !httpguts.IsTokenRune(c) }) < 0
}

// nameHost settles what host the request is for, and reports whether it says one
// thing. There need be none, as with net/http.
func (f *fields) nameHost(header http.Header) bool {
	hosts := header["Host"]
	delete(header, "Host")
	switch {
	case len(hosts) > 1:
		return false
	case len(hosts) == 1 && !f.has[authority]:
		f.pseudo[authority] = hosts[0]
	case len(hosts) == 1 && !strings.EqualFold(hosts[0], f.pseudo[authority]):
		f.bad = true // RFC 9113 section 8.3.1
	}
	host := f.pseudo[authority]
	return httpguts.ValidHostHeader(host) && !strings.Contains(host, "@")
}

// bodyLength returns what a request's Content-Length says of its body, -1 for nothing,
// and whether it says one thing that can be.
func bodyLength(lengths []string, ends bool) (n int64, ok bool) {
	if len(lengths) == 0 {
		if ends {
			return 0, true
		}
		return -1, true
	}
	for _, other := range lengths[1:] {
		if other != lengths[0] {
			return 0, false
		}
	}
	if strings.Trim(lengths[0], "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(lengths[0], 10, 64)
	return n, err == nil && (n == 0 || !ends)
}

// onHeader takes a header that is whole.
func (c *conn) onHeader(id uint32) error {
	field, ends := &c.read.field, c.read.ends
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return errGone
	}
	if id <= c.last {
		return c.onTrailer(id)
	}
	c.last = id
	if c.parting == told {
		c.cut(id) // the client knows that it is not served
		return nil
	}
	c.served = id
	if len(c.streams) >= c.server.cfg.Streams {
		c.wasted++
		c.reset(id, http2.ErrCodeRefusedStream, ends)
		return c.answered()
	}
	handler := c.server.cfg.Handler
	if field.large {
		handler = plain(http.StatusRequestHeaderFieldsTooLarge)
		field.reset()
		field.pseudo = [4]string{method: http.MethodGet, path: "/", scheme: "https"}
	}
	r := field.request(ends)
	switch {
	case r == nil:
		c.reset(id, http2.ErrCodeProtocol, ends)
		return c.answered()
	case field.bad:
		handler = plain(http.StatusBadRequest)
	}
	c.begin(id, r, handler, ends)
	return nil
}

// plainTime is how long a client may take to read what plain answers.
const plainTime = 30 * time.Second

// plain answers what is no request by HTTP/2.
func plain(code int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(plainTime)) // never fails
		http.Error(w, strconv.Itoa(code)+" "+http.StatusText(code), code)
	})
}

// onTrailer takes what comes after a body. It says nothing that is passed on. It has
// c.mu.
func (c *conn) onTrailer(id uint32) error {
	s := c.streams[id]
	switch {
	case s == nil && c.cutShort(id):
		return nil // it was on its way
	case s == nil:
		return http2.ConnectionError(http2.ErrCodeStreamClosed) // RFC 9113 section 5.1
	case s.heard:
		return c.resetUnknown(id, http2.ErrCodeStreamClosed)
	case !c.read.ends || !c.read.field.trailer():
		return c.resetUnknown(id, http2.ErrCodeProtocol)
	}
	if code := s.take(nil, 0, true); code != http2.ErrCodeNo {
		return c.resetUnknown(id, code)
	}
	return nil
}
