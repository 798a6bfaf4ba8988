package proxy

import (
	"io"
	"net/http"
	"net/textproto"
	"strings"
)

// hopHeaders speak of one connection alone (RFC 9110 section 7.6.1).
var hopHeaders = [...]string{
	"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

// relay gives an answer to the caller as it comes. One that cannot be given whole
// is broken off, so that it does not look whole.
func (p *Proxy) relay(x *exchange, r *http.Request, resp *http.Response) {
	defer resp.Body.Close()
	header := x.writer.Header()
	withoutHop(resp.Header)
	for name, values := range resp.Header {
		if name != "Audit-Id" {
			header[name] = values
		}
	}
	x.writer.WriteHeader(resp.StatusCode)
	if x.kind.stream { // it would hold the header, of which there is a copy, for hours
		clear(header)
		resp.Header = nil
	}
	var err error
	if resp.Body != http.NoBody {
		err = p.relayBody(x, r, resp)
	}
	if err != nil {
		if r.Context().Value(http.ServerContextKey) != nil {
			panic(http.ErrAbortHandler)
		}
		return
	}
	for name, values := range resp.Trailer {
		header[http.TrailerPrefix+name] = values
	}
}

// relayBody copies an answer's body. One whose length is not known may be a
// stream: nothing of it waits for more.
func (p *Proxy) relayBody(x *exchange, r *http.Request, resp *http.Response) error {
	streams := resp.ContentLength < 0 && r.Method != http.MethodHead
	var w io.Writer = &x.writer
	if streams {
		flushing := flushWriter{&x.writer, http.NewResponseController(&x.writer)}
		if err := flushing.control.Flush(); err != nil { // the header
			return err
		}
		w = flushing
	}
	if copies, ok := resp.Body.(io.WriterTo); ok {
		_, err := copies.WriteTo(w)
		return err
	}
	if x.kind.watch {
		_, err := io.CopyBuffer(w, resp.Body, make([]byte, watchBuffer))
		return err
	}
	buffer := p.buffers.Get()
	_, err := io.CopyBuffer(w, resp.Body, buffer)
	if err == nil {
		// Else net/http's HTTP/2 server may be reading it still, as it does when its
		// client reset the stream: it must not hold another caller's answer then.
		p.buffers.Put(buffer)
	}
	return err
}

// watchBuffer is the size of what a watch over HTTP/1.1 holds while nothing
// comes: most events are smaller.
const watchBuffer = 4 << 10

// flushWriter has everything that is written go out at once.
type flushWriter struct {
	io.Writer
	control *http.ResponseController
}

func (w flushWriter) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		return n, err
	}
	return n, w.control.Flush()
}

// withoutHop takes out of h what the hop behind said of its own connection.
func withoutHop(h http.Header) {
	for _, line := range h["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			if name = textproto.TrimString(name); name != "" {
				h.Del(name)
			}
		}
	}
	for _, name := range hopHeaders {
		delete(h, name)
	}
}
