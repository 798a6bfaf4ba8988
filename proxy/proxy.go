// Package proxy answers: how does an authenticated request reach the API
// server and come back?
//
// The way of a request is one straight line, [Proxy.ServeHTTP]: check its form,
// decide who asks, check that the identity survives the wire, build the
// outgoing header, forward, stream back. Everything that can refuse stands
// before the forwarding; from there on code only writes.
package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/address"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// Config is what a [Proxy] is made of.
type Config struct {
	// Target returns the API server to use now. It never returns nil.
	Target        func() *upstream.Target
	Authenticator auth.Authenticator
	// Names says which identities may be forwarded. Default: no reserved name.
	Names auth.NamePolicy
	// Permits decides who may act as whom. Default: nobody as anybody.
	Permits *impersonate.Permits
	// OnRefusedToken hears of a token that the API server refused when it was
	// passed on. Default: nobody does.
	OnRefusedToken func(token string)
	// Denied returns an error for an identity that may not go on, even while its
	// credential cannot be judged again. Default: nobody is denied.
	Denied func(*auth.Identity) error
	// Limits bound what callers can use. Default: DefaultLimits.
	Limits Limits
	// Proxies are those whose word on their callers' addresses counts. Default:
	// nobody's does.
	Proxies address.Proxies
	// ID is by what this gatehouse knows its own requests if they come back to
	// it, as crypto/rand.Text makes it. Default: a new one.
	ID string
	// Self returns the user name that the API server has for gatehouse, or "" if
	// it is not known. What the API server says of it is the operator's affair, and
	// nobody may act as it. Default: never known.
	Self func() string
	// MayName reports whether the API server has said that gatehouse's account may
	// name users, so that what it may not do for them is a narrower door. Default:
	// it has not.
	MayName func() bool
	// NotReady reports whether the API server is known not to be ready. It then
	// does not know yet what gatehouse's account may do. Default: it is ready.
	NotReady func() bool
	// OnForbidden hears that the API server refused to gatehouse's own account
	// what it did for a caller. Default: nobody does.
	OnForbidden func()
	// Audit records requests. Default: nobody does.
	Audit *audit.Trail
	// Metrics gets the proxy's metrics. Default: nobody does.
	Metrics prometheus.Registerer
	// Log gets one line for each request. Default: discarded.
	Log *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Proxy is an http.Handler that forwards requests as the user who made them.
type Proxy struct {
	cfg     Config
	metrics *metrics
	kinds   requestKinds
	buffers bufferPool

	streams  streams
	wait     sync.WaitGroup
	inFlight inFlight
	failures *failures
}

// New returns a Proxy. The error says what is missing in cfg, or that its
// metrics are registered already.
func New(cfg Config) (*Proxy, error) {
	if cfg.Target == nil || cfg.Authenticator == nil {
		return nil, errors.New("proxy: a target and an authenticator are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Self == nil {
		cfg.Self = func() string { return "" }
	}
	if cfg.OnRefusedToken == nil {
		cfg.OnRefusedToken = func(string) {}
	}
	if cfg.Denied == nil {
		cfg.Denied = func(*auth.Identity) error { return nil }
	}
	if cfg.ID == "" {
		cfg.ID = rand.Text()
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	cfg.Limits = cfg.Limits.orDefault()
	return &Proxy{
		cfg: cfg, metrics: m, kinds: newRequestKinds(), streams: newStreams(),
		inFlight: newInFlight(cfg.Limits), failures: newFailures(cfg.Limits),
	}, nil
}

// EndWatches ends the watches under way, as the API server would, and refuses
// new ones, so that clients begin them again at another replica. Other requests
// go on.
func (p *Proxy) EndWatches() { p.streams.endWatches() }

// Wait returns when no request is under way, upgraded connections included, or
// when ctx ends. It may be called once no new request can come.
func (p *Proxy) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		p.wait.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ServeHTTP answers one request: all of it up to the answer's header is serve's,
// and the rest is relayed as it comes.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// Without a query it is no watch, and growStack comes before any other call.
	aside := r.ProtoMajor == 2 && r.URL.RawQuery != "" && asksForWatch(r.URL.RawQuery)
	if r.ProtoMajor == 2 && !aside {
		growStack(len(r.Method))
	}
	p.wait.Add(1)
	defer p.wait.Done()
	x := &exchange{
		start:   p.cfg.Now(),
		writer:  recorder{ResponseWriter: w, ctx: r.Context()},
		changes: p.streams.changes.Load(),
	}
	defer p.finish(x, r)
	defer p.leave(x)
	if aside {
		p.serveAside(x, r)
	} else {
		p.serve(x, r)
	}
	if x.relays {
		p.relay(x, r)
	}
}

// serve is the straight line. What it begins ends with leave.
func (p *Proxy) serve(x *exchange, r *http.Request) {
	x.id = uuid.NewString()
	x.client = p.cfg.Proxies.Caller(r.RemoteAddr, r.Header["X-Forwarded-For"])
	x.kind = p.kinds.of(r)
	p.metrics.inFlight(x.kind).Inc()
	var loops bool
	if x.via, loops = p.via(r.Header[impersonate.HopHeader]); loops {
		p.cfg.Log.Error("a request came back: the API server's address leads to gatehouse", "audit_id", x.id)
		p.answer(x, r, looping)
		return
	}
	protocol, fault := checkForm(r)
	if fault != nil {
		p.answer(x, r, *fault)
		return
	}
	identity, err := p.signIn(x, r)
	if err != nil {
		p.refuse(x, r, err)
		return
	}
	x.identity = identity
	p.beginRecord(x, r)
	var full *rejection
	if x.usage, full = p.inFlight.enter(caller{identity.Kind, identity.Name}, classOf(x.kind)); full != nil {
		p.reject(x, r, full)
		return
	}
	if identity.Kind == auth.KindClientCert && r.Header["Authorization"] == nil && fromAnotherSite(r) {
		p.answer(x, r, crossSite)
		return
	}
	if refused := p.withinScope(x, r); refused != nil {
		p.answer(x, r, *refused)
		return
	}
	if refused := p.actAs(x, r); refused != nil {
		p.answer(x, r, *refused)
		return
	}
	if x.kind.watch && p.streams.isDraining() {
		p.answer(x, r, draining)
		return
	}
	p.send(x, r, protocol)
}

// leave ends what serving x began, in the order of defer, and all of it even if
// something panics.
func (p *Proxy) leave(x *exchange) {
	if x.kind.verb != "" {
		defer p.metrics.inFlight(x.kind).Dec()
	}
	if x.usage != nil {
		defer p.inFlight.leave(caller{x.identity.Kind, x.identity.Name}, x.usage, classOf(x.kind))
	}
	if x.listed != nil {
		defer p.unlist(x)
	}
	if x.sending != nil {
		defer x.sending.Close() // the transport must not read what the server takes back
	}
	if x.response != nil {
		_ = x.response.Body.Close() // all that is wanted of it was read
	}
}

// send makes the request that goes to the API server, and forwards it.
func (p *Proxy) send(x *exchange, r *http.Request, protocol string) {
	target := p.cfg.Target()
	if target.HasPath() && hasDotSegment(r.URL.Path) {
		p.answer(x, r, badTarget)
		return
	}
	header, err := p.outgoingHeader(x, r, target, protocol)
	if err != nil {
		p.cfg.Log.Error("request not forwarded", "audit_id", x.id, "error", err)
		p.answer(x, r, internalError)
		return
	}
	body, err := smallBody(&x.writer, r, p.cfg.Limits.BodyTime)
	if err != nil {
		p.smallBodyFailed(x, r, err)
		return
	}
	if body != nil && p.outdated(x) {
		x.changes = p.streams.changes.Load()
		if _, end := p.judgeAgain(r, x.identity); end != nil {
			p.answerEnded(x, r, end)
			return
		}
	}
	if x.review = p.selfReviewOf(x); x.review != nil {
		body = x.review.prepare(header, body)
	}
	p.forward(x, r, target, header, body)
}

// outgoingHeader returns the whole header to send. A ServiceAccount's own token
// is passed on; everybody else is impersonated.
func (p *Proxy) outgoingHeader(x *exchange, r *http.Request, target *upstream.Target, protocol string) (http.Header, error) {
	request := impersonate.Request{
		In: r.Header, Upgrade: protocol, User: x.as,
		Authorization: target.Authorization(), AuditID: x.id, ClientAddress: x.client, Via: x.via,
	}
	if x.identity.Kind != auth.KindServiceAccount {
		if x.as == nil {
			request.User = withOwn(&x.identity.User, x.identity)
		}
		return impersonate.Header(request)
	}
	token, err := auth.BearerToken(r.Header)
	if err != nil {
		return nil, fmt.Errorf("the token to pass on: %w", err)
	}
	x.token = token
	return impersonate.Passed(request, token)
}

// authenticate returns whom the request's credential names.
func (p *Proxy) authenticate(r *http.Request) (*auth.Identity, error) {
	identity, err := p.judge(r)
	if err != nil {
		return nil, err
	}
	p.metrics.authenticated(identity.Kind)
	return identity, nil
}

// judge is authenticate without a trace.
func (p *Proxy) judge(r *http.Request) (*auth.Identity, error) {
	return Identify(p.cfg.Authenticator, p.cfg.Names, r)
}

// refusalOf returns the refusal that err is, or that of an authenticator that
// failed; nil for nil.
func refusalOf(err error) *auth.Refusal {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
		return refusal
	}
	return auth.Refuse(auth.KindUnknown, auth.InternalAuthFailed, err.Error())
}

func (p *Proxy) refuse(x *exchange, r *http.Request, err error) {
	if why, ok := errors.AsType[*rejection](err); ok {
		p.reject(x, r, why)
		return
	}
	refusal := refusalOf(err)
	p.metrics.refused(refusal)
	x.refusal = refusal
	p.answer(x, r, refusalAnswer(refusal, p.cfg.Now()))
}

func (p *Proxy) answer(x *exchange, r *http.Request, a answer) {
	x.said = &a
	x.writer.Header().Set("Audit-Id", x.id) // an informational answer takes it away
	a.write(&x.writer, r)
}

// finish writes the log line and the metrics of an exchange, and keeps a panic
// within its request.
func (p *Proxy) finish(x *exchange, r *http.Request) {
	fault := recover()
	if fault != nil && fault != http.ErrAbortHandler { //nolint:errorlint // the panic's value is compared, as net/http does
		// The value may hold anything, a token too; the stack names functions.
		stack := debug.Stack()
		if aside, ok := fault.(*panicAside); ok {
			stack = aside.stack
		}
		p.cfg.Log.Error("panic while serving a request", "audit_id", x.id, "stack", string(stack))
		x.panicked = true
		if x.writer.status == 0 {
			p.answer(x, r, internalError)
			fault = nil
		}
	}
	x.aborted = fault != nil
	p.observe(x, r)
	p.endRecord(x, r)
	if fault != nil {
		panic(http.ErrAbortHandler) // ends this stream or connection alone
	}
}
