package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// A request may go on for hours, and its credential be worth nothing meanwhile.
// So every request that is forwarded stands in a list with what it rests on, and
// is judged again by the same authenticator: when its credential ends, when
// somebody says that something changed ([Proxy.Recheck]), and now and then,
// because an API server does not say that it deleted an account.
const (
	lookEvery    = time.Second      // how often the list is looked through
	recheckEvery = time.Minute      // how long a stream goes unjudged at most
	undecided    = 10 * time.Second // the same, while no verdict can be reached
	// plainGrace is how long a request that is no stream goes unjudged: the API
	// server would end it by then, and one that was good may finish.
	plainGrace = time.Minute
	// maxRechecks bounds the verdicts that are reached at one time, of each kind
	// of credential: an API server that is slow to judge ServiceAccounts holds
	// up nobody else's end.
	maxRechecks = 16
	// unreadAfter is how long a request that was ended may wait for its caller to
	// read what is left of the answer.
	unreadAfter = 5 * time.Second
)

// ended is why gatehouse ends a request that is under way.
type ended struct {
	label   string        // the metric's and the log's word
	refusal *auth.Refusal // of its credential, if that is why
}

func (e *ended) Error() string { return "ended by gatehouse: " + e.label }

var (
	endedByDrain  = &ended{label: "shutdown"}
	endedByChange = &ended{label: "identity_changed"}
)

// stream is a request under way.
type stream struct {
	request  *http.Request // the caller's; read only
	identity *auth.Identity
	watch    bool
	cancel   context.CancelCauseFunc
	writer   http.ResponseWriter
	grace    time.Time // not judged before; zero for what is a stream by its kind

	// Of streams.mu:
	due      time.Time // when to judge it again
	checking bool
	again    bool // something changed while it was being judged

	writing sync.Mutex
	over    bool // the writer must not be used any more
}

// end ends s because of cause. An answer that its caller has not read to the end
// some time later is broken off: the copying alone would wait until the caller
// leaves.
func (s *stream) end(cause *ended) {
	s.cancel(cause)
	time.AfterFunc(unreadAfter, func() {
		s.writing.Lock()
		defer s.writing.Unlock()
		if !s.over {
			// Not every writer has deadlines; a connection that was taken over is closed already.
			_ = http.NewResponseController(s.writer).SetWriteDeadline(time.Now())
		}
	})
}

// leave says that the request of s is over.
func (s *stream) leave() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.over = true
}

// streams is the list.
type streams struct {
	changed chan struct{}
	changes atomic.Uint64 // how often something changed

	mu       sync.Mutex
	all      map[*stream]struct{}
	draining bool
}

func newStreams() streams {
	return streams{changed: make(chan struct{}, 1), all: map[*stream]struct{}{}}
}

// add takes s into the list. seen is l.changes of before s was judged: what has
// changed since, nobody has judged s by.
func (l *streams) add(s *stream, seen uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[s] = struct{}{}
	if l.changes.Load() != seen {
		s.due = time.Time{}
	}
	if s.watch && l.draining {
		s.end(endedByDrain)
	}
}

func (l *streams) remove(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, s)
}

func (l *streams) endWatches() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.draining = true
	for s := range l.all {
		if s.watch {
			s.end(endedByDrain)
		}
	}
}

func (l *streams) isDraining() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

// take returns the streams to be judged now; all of them if something changed.
func (l *streams) take(now time.Time, changed bool) []*stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	var due []*stream
	for s := range l.all {
		switch {
		case now.Before(s.grace):
		case s.checking:
			s.again = s.again || changed
		case changed || !now.Before(s.due):
			s.checking = true
			due = append(due, s)
		}
	}
	return due
}

// give ends what take began.
func (l *streams) give(s *stream, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s.due, s.checking = due, false
	if s.again {
		s.due, s.again = time.Time{}, false
	}
}

// Recheck says that something on which verdicts rest has changed: keys, files,
// revocations. Every stream whose request would not be accepted any more, or
// would be another user's, is ended. It does not wait for that.
func (p *Proxy) Recheck() {
	p.streams.changes.Add(1)
	select {
	case p.streams.changed <- struct{}{}:
	default: // one is waiting to be heard
	}
}

// Run ends streams whose credentials end, until ctx does. Without it they would
// go on.
func (p *Proxy) Run(ctx context.Context) {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	slots := map[auth.Kind]chan struct{}{}
	for {
		changed := false
		select {
		case <-ctx.Done():
			return
		case <-p.streams.changed:
			changed = true
		case <-ticker.C:
		}
		due := map[auth.Kind][]*stream{}
		for _, s := range p.streams.take(p.cfg.Now(), changed) {
			due[s.identity.Kind] = append(due[s.identity.Kind], s)
		}
		for kind, list := range due {
			if slots[kind] == nil {
				slots[kind] = make(chan struct{}, maxRechecks)
			}
			go p.recheckAll(list, slots[kind])
		}
	}
}

// recheckAll judges each of list in one of slots.
func (p *Proxy) recheckAll(list []*stream, slots chan struct{}) {
	for _, s := range list {
		slots <- struct{}{}
		go func() {
			defer func() { <-slots }()
			p.streams.give(s, p.recheck(s))
		}()
	}
}

// recheck judges s once more, and ends it if it may not go on. It returns when to
// judge it again.
func (p *Proxy) recheck(s *stream) (due time.Time) {
	if s.request.Context().Err() != nil {
		return p.cfg.Now().Add(recheckEvery) // it is gone by then
	}
	due, end := p.judgeAgain(s.request, s.identity)
	if end != nil {
		s.end(end)
	}
	return due
}

// judgeAgain judges r as it was judged when it came as before. It returns why it
// may not go on, nil if it may, and when to ask again.
func (p *Proxy) judgeAgain(r *http.Request, before *auth.Identity) (due time.Time, end *ended) {
	identity, err := p.judgeSafely(r)
	now := p.cfg.Now()
	refusal := refusalOf(err)
	switch {
	case err == nil && sameUser(&identity.User, &before.User):
		return nextLook(identity, now), nil
	case err == nil:
		return now.Add(recheckEvery), endedByChange
	case !refusal.NoVerdict():
	case !before.Expires.IsZero() && before.Expires.Before(now):
		refusal = auth.Refuse(before.Kind, auth.Expired, "it ended while nobody could judge it")
		refusal.At = before.Expires
	default:
		// Who is denied by name is denied even if the credential cannot be judged.
		if refusal = refusalOf(p.cfg.Denied(before)); refusal == nil {
			return now.Add(undecided), nil
		}
	}
	return now.Add(recheckEvery), &ended{label: string(refusal.Reason), refusal: refusal}
}

// outdated reports whether what x was judged by may have changed since: a request
// can wait for its body longer than a revoked credential may work.
func (p *Proxy) outdated(x *exchange) bool {
	expires := x.identity.Expires
	return p.streams.changes.Load() != x.changes || !expires.IsZero() && expires.Before(p.cfg.Now())
}

// judgeSafely keeps a panic of an authenticator from ending the process.
func (p *Proxy) judgeSafely(r *http.Request) (identity *auth.Identity, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("an authenticator panicked")
		}
	}()
	return p.judge(r)
}

func nextLook(identity *auth.Identity, now time.Time) time.Time {
	next := now.Add(recheckEvery)
	if !identity.Expires.IsZero() && identity.Expires.Before(next) {
		return identity.Expires
	}
	return next
}

// sameUser reports whether the API server would treat a and b alike.
func sameUser(a, b *auth.User) bool {
	sorted := func(groups []string) []string { return slices.Sorted(slices.Values(groups)) }
	return a.Name == b.Name && a.UID == b.UID &&
		(slices.Equal(a.Groups, b.Groups) || slices.Equal(sorted(a.Groups), sorted(b.Groups))) &&
		maps.EqualFunc(a.Extra, b.Extra, slices.Equal[[]string])
}

// list puts an exchange into the list, and returns its context. It is ended with
// unlist.
func (p *Proxy) list(x *exchange, r *http.Request) context.Context {
	ctx, cancel := context.WithCancelCause(r.Context())
	s := &stream{
		request: r, identity: x.identity, watch: x.kind.watch, cancel: cancel, writer: x.writer.ResponseWriter,
		due: nextLook(x.identity, x.start),
	}
	if !x.kind.stream {
		s.grace = x.start.Add(plainGrace)
	}
	x.writer.ctx, x.hangUp = ctx, func() { cancel(nil) }
	if !x.kind.stream {
		x.patience = time.AfterFunc(p.cfg.Limits.AnswerTime, func() { cancel(errTooSlow) })
	}
	p.streams.add(s, x.changes)
	x.listed = s
	return ctx
}

// unlist takes an exchange out of the list.
func (p *Proxy) unlist(x *exchange) {
	p.streams.remove(x.listed)
	x.listed.leave()
	x.heard()
	x.ended, _ = errors.AsType[*ended](context.Cause(x.writer.ctx))
	x.hangUp()
}

// streamBody is the body of an answer that gatehouse may end. A watch then ends
// as if the API server had ended it, so that clients begin it again. Any other
// answer must not look whole: not even if the API server, which hears of the end
// first, ends it properly in the last moment.
//
// A watch whose connection to the API server breaks ends in the same way. A
// broken connection is what client-go expects then: it goes on from the last
// event. Over HTTP/2 only the stream could be broken, and for that error each
// informer would list everything again. An event of which a part is missing is
// no JSON, so nobody takes it for a whole one.
type streamBody struct {
	io.ReadCloser
	ctx    context.Context
	watch  bool
	tunnel bool // breaks as it does: the tunnel has its own ways
}

// endable returns body, ending with ctx. A connection that can be written to, as
// an upgrade has it, stays one; hangUp ends it when it is of no more use.
func endable(ctx context.Context, body io.ReadCloser, watch bool, hangUp func()) io.ReadCloser {
	b := streamBody{ReadCloser: body, ctx: ctx, watch: watch}
	if w, ok := body.(io.Writer); ok {
		b.tunnel = true
		return &tunnel{streamBody: b, w: w, hangUp: hangUp}
	}
	if whole, ok := body.(io.WriterTo); ok {
		return &copiedBody{b, whole}
	}
	return b
}

// Read reads the answer.
func (b streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	return n, b.end(err)
}

// end returns the error for an answer that ends with err, io.EOF for a whole one.
func (b streamBody) end(err error) error {
	cause, ours := errors.AsType[*ended](context.Cause(b.ctx))
	switch {
	case ours && b.watch:
		return io.EOF
	case ours:
		return cause
	case b.watch && !b.tunnel && b.ctx.Err() == nil:
		return io.EOF
	default:
		return err
	}
}

// copiedBody is a streamBody that needs no buffer to be copied.
type copiedBody struct {
	streamBody
	whole io.WriterTo
}

// WriteTo writes the answer to w.
func (b *copiedBody) WriteTo(w io.Writer) (int64, error) {
	n, err := b.whole.WriteTo(w)
	if err == nil {
		err = io.EOF
	}
	if err = b.end(err); errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
