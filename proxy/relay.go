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

// answerBegins gives the header of an answer to the caller. If there may be a
// body, it leaves that to relay.
func (p *Proxy) answerBegins(x *exchange, r *http.Request, resp *http.Response) {
	x.response = resp
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
	if resp.Body == http.NoBody {
		passTrailer(x, resp)
		return
	}
	// One whose length is not known may be a stream: nothing of it waits for more.
	if resp.ContentLength < 0 && r.Method != http.MethodHead {
		x.writer.flushes = true
		if err := x.writer.flush(); err != nil { // the header
			breakOff(r)
			return
		}
	}
	x.relays = true
}

// relay gives the body of an answer to the caller as it comes, and then its
// trailer. A watch waits here: see serveAside about its stack.
func (p *Proxy) relay(x *exchange, r *http.Request) {
	var err error
	if copies, ok := x.response.Body.(io.WriterTo); ok {
		_, err = copies.WriteTo(&x.writer)
	} else {
		err = p.copyBody(x)
	}
	if err != nil {
		breakOff(r)
		return
	}
	passTrailer(x, x.response)
}

// copyBody copies a body through a buffer.
func (p *Proxy) copyBody(x *exchange) error {
	if x.kind.watch {
		_, err := io.CopyBuffer(&x.writer, x.response.Body, make([]byte, watchBuffer))
		return err
	}
	buffer := p.buffers.Get()
	_, err := io.CopyBuffer(&x.writer, x.response.Body, buffer)
	if err == nil {
		// Else the writer may be reading it still, as net/http's HTTP/2 server does
		// after a reset: it must not hold another caller's answer then.
		p.buffers.Put(buffer)
	}
	return err
}

// watchBuffer is the size of what a watch over HTTP/1.1 holds while nothing
// comes: most events are smaller.
const watchBuffer = 4 << 10

func passTrailer(x *exchange, resp *http.Response) {
	header := x.writer.Header()
	for name, values := range resp.Trailer {
		header[http.TrailerPrefix+name] = values
	}
}

// breakOff ends an answer that cannot be given whole, so that it does not look so.
func breakOff(r *http.Request) {
	if r.Context().Value(http.ServerContextKey) != nil {
		panic(http.ErrAbortHandler)
	}
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
