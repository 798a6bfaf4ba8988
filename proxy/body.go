package proxy

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

// watchedBody is a request body that remembers whether it could be read.
type watchedBody struct {
	io.ReadCloser
	control  *http.ResponseController
	deadline time.Time // zero if the body may take its time
	whole    atomic.Bool
	broken   atomic.Bool
}

// watchBody watches the body of r, which is about to be forwarded as it comes.
// That of a stream may take any time: an upload through the proxy subresource,
// or what a person types. Any other has as long as a small one.
func (p *Proxy) watchBody(x *exchange, r *http.Request) *watchedBody {
	body := &watchedBody{ReadCloser: r.Body, control: http.NewResponseController(&x.writer)}
	if !x.kind.stream {
		body.deadline = time.Now().Add(p.cfg.Limits.BodyTime)
		body.setDeadline(body.deadline)
	}
	return body
}

// setDeadline is best effort: not every writer has deadlines; net/http's have.
func (b *watchedBody) setDeadline(at time.Time) { _ = b.control.SetReadDeadline(at) }

// slow reports whether the body's time is over. A read cannot tell: over
// HTTP/1.1 the deadline ends the request too, and that may be heard of first.
func (b *watchedBody) slow() bool {
	return !b.deadline.IsZero() && !b.whole.Load() && !time.Now().Before(b.deadline)
}

// Read reads the body. When it is whole, its time no longer counts: over
// HTTP/1.1 the deadline would end a request whose answer takes longer.
func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		b.whole.Store(true)
		if !b.deadline.IsZero() {
			b.setDeadline(time.Time{})
		}
	case !errors.Is(err, http.ErrBodyReadAfterClose):
		b.broken.Store(true)
	}
	return n, err
}

// smallBodyFailed answers a request whose small body could not be read.
func (p *Proxy) smallBodyFailed(x *exchange, r *http.Request, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.reject(x, r, slowBody)
		return
	}
	p.answer(x, r, badBody)
}
