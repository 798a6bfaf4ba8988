package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// watchedBody is a request body that remembers why it could not be read.
type watchedBody struct {
	io.ReadCloser
	control *http.ResponseController // nil if the body may take its time
	fault   atomic.Pointer[error]
}

// watchBody watches the body of r, which is about to be forwarded as it comes.
// That of a stream may take any time: an upload through the proxy subresource,
// or what a person types. Any other has as long as a small one.
func (p *Proxy) watchBody(x *exchange, r *http.Request) *watchedBody {
	body := &watchedBody{ReadCloser: r.Body}
	if !x.kind.stream {
		body.control = http.NewResponseController(&x.writer)
		// Not every writer has deadlines; net/http's have.
		_ = body.control.SetReadDeadline(time.Now().Add(p.cfg.Limits.BodyTime))
	}
	return body
}

// Read reads the body. When it is whole, its time no longer counts: with
// HTTP/1.1 the deadline would end a request whose answer takes longer.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		if b.control != nil {
			_ = b.control.SetReadDeadline(time.Time{})
		}
	case !errors.Is(err, http.ErrBodyReadAfterClose):
		b.fault.CompareAndSwap(nil, &err)
	}
	return n, err
}

// bodyFailed answers a request whose body could not be read.
func (p *Proxy) bodyFailed(x *exchange, r *http.Request, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.reject(x, r, slowBody)
		return
	}
	p.answer(x, r, badBody)
}
