package proxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// forward sends r to target with exactly this header, and begins to give the
// answer back. Nothing in it decides anything about the caller. body is the whole
// of the request's, or nil if that is to be streamed.
func (p *Proxy) forward(x *exchange, r *http.Request, target *upstream.Target, header http.Header, body []byte) {
	ctx := p.list(x, r)
	if body == nil && r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
		x.body = p.watchBody(x, r)
	}
	out := outgoing(ctx, x, r, target, header, body)
	x.forwarded = p.cfg.Now()
	if header["Upgrade"] != nil {
		r = r.WithContext(ctx)
		if x.body != nil {
			r.Body = x.body
		}
		p.upgrade(x, r, out, target)
		return
	}
	x.sending = x.body
	resp, err := transport(target, x.token != "", false).RoundTrip(out)
	if err == nil {
		if err = p.received(x, out, resp); err != nil {
			_ = resp.Body.Close() // it is not wanted
		}
	}
	if err != nil {
		p.upstreamFailed(ctx, x, r, err)
		return
	}
	resp.Request = nil // a watch would hold it for hours
	p.answerBegins(x, r, resp)
}

// outgoing returns the request that goes to target.
func outgoing(ctx context.Context, x *exchange, r *http.Request, target *upstream.Target, header http.Header, body []byte) *http.Request {
	out := (&http.Request{
		Method: r.Method, URL: outgoingURL(r.URL, target.URL), Host: target.URL.Host, Header: header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}).WithContext(ctx)
	switch {
	case body != nil:
		// With it the transport can send the request again if the API server
		// refused the stream, as it does when it goes away.
		out.ContentLength = int64(len(body))
		out.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
		out.Body, _ = out.GetBody()
	case x.body != nil:
		out.ContentLength, out.Body = r.ContentLength, x.body
	}
	return out
}

// upgrade forwards a request to switch to another protocol, and then both ways.
func (p *Proxy) upgrade(x *exchange, r, out *http.Request, target *upstream.Target) {
	reverse := httputil.ReverseProxy{
		Transport: transport(target, x.token != "", true),
		ErrorLog:  slog.NewLogLogger(p.cfg.Log.Handler(), slog.LevelDebug),
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.Out.Header, pr.Out.URL, pr.Out.Host, pr.Out.Trailer = out.Header, out.URL, out.Host, nil
		},
		BufferPool:     &p.buffers,
		ModifyResponse: func(resp *http.Response) error { return p.received(x, out, resp) },
		ErrorHandler: func(_ http.ResponseWriter, r *http.Request, err error) {
			p.upstreamFailed(r.Context(), x, r, err)
		},
	}
	reverse.ServeHTTP(&x.writer, r)
}

// received judges and cleans what the API server answered to out.
func (p *Proxy) received(x *exchange, out *http.Request, resp *http.Response) error {
	// An API server may answer because it hears that the request was given up: over
	// HTTP/1.1 that answer can still arrive.
	if err := context.Cause(out.Context()); err != nil {
		return err
	}
	x.answered = p.cfg.Now()
	x.heard()
	if err := checkResponse(resp, out.Header.Get("Upgrade"), x); err != nil {
		return err
	}
	if err := p.checkForbidden(x, resp); err != nil {
		return err
	}
	cleanResponse(resp.Header)
	x.writer.Header().Set("Audit-Id", x.id) // an informational answer takes it away
	// A watch tells no length; what does would be short of it.
	watch := x.kind.watch && (resp.ContentLength < 0 || resp.StatusCode == http.StatusSwitchingProtocols)
	resp.Body = endable(out.Context(), resp.Body, watch, x.hangUp)
	if x.review != nil {
		if err := p.narrowReview(x, resp); err != nil {
			return err
		}
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		x.writer.status = resp.StatusCode // the connection is taken over, and writes it itself
	}
	p.recordStart(x, resp.StatusCode)
	return nil
}

// transport returns the connections to send a request by. A caller's own token
// goes over connections that carry nothing of gatehouse's.
func transport(target *upstream.Target, passedThrough, upgrade bool) http.RoundTripper {
	switch {
	case passedThrough && upgrade:
		return target.Callers.Upgrades
	case passedThrough:
		return target.Callers.Requests
	case upgrade:
		return target.Upgrades
	default:
		return target.Requests
	}
}

// maxSmallBody is the largest body that is read before the request is
// forwarded. What people and controllers write is mostly below.
const maxSmallBody = 256 << 10

// smallBody returns the whole body of r if its length is known and small, else
// nil. It may take as long as limit to arrive.
func smallBody(w http.ResponseWriter, r *http.Request, limit time.Duration) ([]byte, error) {
	if r.ContentLength <= 0 || r.ContentLength > maxSmallBody || r.Header["Upgrade"] != nil {
		return nil, nil
	}
	// The API server's own time-outs do not see the request yet. Not every
	// writer has deadlines; net/http's have.
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Now().Add(limit))
	var body bytes.Buffer // grows with what arrives, not with what was announced
	if _, err := io.CopyN(&body, r.Body, r.ContentLength); err != nil {
		return nil, err
	}
	_ = control.SetReadDeadline(time.Time{})
	return body.Bytes(), nil
}

// outgoingURL puts the path and query of in, byte for byte, behind the API
// server's address, which may have a path of its own.
func outgoingURL(in, target *url.URL) *url.URL {
	out := *in
	out.Scheme, out.Host, out.User, out.Fragment = target.Scheme, target.Host, nil, ""
	if prefix := strings.TrimSuffix(target.Path, "/"); prefix != "" {
		out.RawPath = strings.TrimSuffix(target.EscapedPath(), "/") + in.EscapedPath()
		out.Path = prefix + in.Path
	}
	return &out
}

var (
	errOwnCredential = errors.New("the API server answered 401: it does not accept gatehouse's own credential")
	errCallersToken  = errors.New("the API server answered 401: it does not accept the caller's own token")
	errUnaskedSwitch = errors.New("the API server switched to a protocol that was not asked for")
	errTooSlow       = errors.New("the API server did not begin to answer in time")
	errRedirected    = errors.New("the API server answered an upgrade with a redirect")
)

// checkResponse refuses answers that would tell the caller something untrue, or
// open a raw connection that nobody asked for. protocol is the one that was
// asked for, or empty. A 401 of what the API server proxies to is not its own.
func checkResponse(resp *http.Response, protocol string, x *exchange) error {
	unauthorized := resp.StatusCode == http.StatusUnauthorized && !x.kind.proxied()
	switch {
	case unauthorized && x.token != "":
		return errCallersToken
	case unauthorized:
		return errOwnCredential
	case resp.StatusCode == http.StatusSwitchingProtocols && (protocol == "" || !strings.EqualFold(resp.Header.Get("Upgrade"), protocol)):
		return errUnaskedSwitch
	case resp.StatusCode >= 300 && resp.StatusCode < 400 && protocol != "":
		return errRedirected
	}
	return nil
}

// cleanResponse takes out what speaks of the hop behind gatehouse, and what
// gatehouse says itself.
func cleanResponse(h http.Header) {
	for _, name := range []string{"Audit-Id", "Alt-Svc", "Www-Authenticate", "Proxy-Authenticate"} {
		delete(h, name)
	}
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
}

// upstreamFailed answers a request for which no answer came.
func (p *Proxy) upstreamFailed(ctx context.Context, x *exchange, r *http.Request, err error) {
	if errors.Is(err, errCallersToken) {
		p.cfg.OnRefusedToken(x.token)
		p.refuse(x, r, auth.Refuse(x.identity.Kind, auth.UnknownToken, "the API server does not accept the token any more"))
		return
	}
	if x.body != nil && x.body.slow() {
		p.reject(x, r, slowBody)
		return
	}
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errTooSlow):
		err = cause
	case cause != nil:
		p.answerGone(x, r, cause)
		return
	}
	if x.body != nil && x.body.broken.Load() {
		p.answer(x, r, badBody) // not the API server's fault
		return
	}
	if refusal, ok := errors.AsType[*ownRefusal](err); ok {
		p.accountForbidden(x, r, refusal)
		return
	}
	x.upstreamErr = err
	a := upstreamAnswer(err)
	p.metrics.upstreamFailed(a)
	p.cfg.Log.Error("the API server did not answer", "audit_id", x.id, "error", err)
	p.answer(x, r, a)
}

// answerGone answers a request that was over before an answer came, because of
// cause.
func (p *Proxy) answerGone(x *exchange, r *http.Request, cause error) {
	if ours, ok := errors.AsType[*ended](cause); ok {
		p.answerEnded(x, r, ours)
		return
	}
	if p.streams.isDraining() {
		p.answer(x, r, cutOff) // by us; if the caller left, it does no harm
		return
	}
	x.writer.status = statusClientGone
	// Returning would make net/http answer 200.
	panic(http.ErrAbortHandler)
}

// answerEnded answers a request that gatehouse ended before an answer came.
func (p *Proxy) answerEnded(x *exchange, r *http.Request, cause *ended) {
	switch {
	case cause.refusal != nil:
		p.refuse(x, r, cause.refusal)
	case cause == endedByChange:
		p.answer(x, r, identityChanged)
	default:
		p.answer(x, r, cutOff)
	}
}

// statusClientGone is what logs and metrics show for a caller who left.
const statusClientGone = 499

func upstreamAnswer(err error) answer {
	switch {
	case errors.Is(err, errOwnCredential):
		return upstreamRefused
	case errors.Is(err, errReview):
		return unclearReview
	}
	netErr, isNet := errors.AsType[net.Error](err)
	opErr, isOp := errors.AsType[*net.OpError](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case untrusted:
		return upstreamFalse
	case isOp && opErr.Op == "dial":
		return upstreamDown
	case errors.Is(err, errTooSlow), errors.Is(err, context.DeadlineExceeded), isNet && netErr.Timeout():
		return upstreamSlow
	default:
		return upstreamBroken
	}
}

// bufferPool lends the buffers that answers are copied through.
type bufferPool struct{ pool sync.Pool }

const bufferSize = 32 << 10

func (b *bufferPool) Get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

func (b *bufferPool) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
