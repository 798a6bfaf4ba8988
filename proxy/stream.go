package proxy

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
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
	// maxRechecks bounds the verdicts that are reached at one time.
	maxRechecks = 16
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
	end      context.CancelCauseFunc
	grace    time.Time // not judged before; zero for what is a stream by its kind

	// Of streams.mu:
	due      time.Time // when to judge it again
	checking bool
	again    bool // something changed while it was being judged
}

// streams is the list.
type streams struct {
	changed chan struct{}

	mu       sync.Mutex
	all      map[*stream]struct{}
	draining bool
}

func newStreams() streams {
	return streams{changed: make(chan struct{}, 1), all: map[*stream]struct{}{}}
}

func (l *streams) add(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all[s] = struct{}{}
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
	slots := make(chan struct{}, maxRechecks)
	for {
		changed := false
		select {
		case <-ctx.Done():
			return
		case <-p.streams.changed:
			changed = true
		case <-ticker.C:
		}
		for _, s := range p.streams.take(p.cfg.Now(), changed) {
			slots <- struct{}{}
			go func() {
				defer func() { <-slots }()
				p.streams.give(s, p.recheck(s))
			}()
		}
	}
}

// recheck judges s as its request was judged when it came, and ends it if the
// verdict is another one. It returns when to judge it again.
func (p *Proxy) recheck(s *stream) (due time.Time) {
	identity, err := p.judgeSafely(s.request)
	now := p.cfg.Now()
	switch refusal := refusalOf(err); {
	case err == nil && sameUser(&identity.User, &s.identity.User):
		return nextLook(identity, now)
	case err == nil:
		s.end(endedByChange)
	case !refusal.NoVerdict():
		s.end(&ended{label: string(refusal.Reason), refusal: refusal})
	case !s.identity.Expires.IsZero() && s.identity.Expires.Before(now):
		refusal = auth.Refuse(s.identity.Kind, auth.Expired, "it ended while nobody could judge it")
		refusal.At = s.identity.Expires
		s.end(&ended{label: string(refusal.Reason), refusal: refusal})
	default:
		return now.Add(undecided)
	}
	return now.Add(recheckEvery) // it is gone by then
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

// begin puts an exchange into the list. The caller ends it with done.
func (p *Proxy) begin(x *exchange, r *http.Request) (_ *http.Request, done func()) {
	ctx, end := context.WithCancelCause(r.Context())
	r = r.WithContext(ctx)
	s := &stream{request: r, identity: x.identity, watch: x.kind.watch, end: end, due: nextLook(x.identity, x.start)}
	if !x.kind.stream {
		s.grace = x.start.Add(plainGrace)
	}
	x.writer.ctx = ctx
	p.streams.add(s)
	return r, func() {
		p.streams.remove(s)
		x.ended, _ = errors.AsType[*ended](context.Cause(ctx))
		end(nil)
	}
}

// streamBody is the body of an answer that gatehouse may end. A watch then ends
// as if the API server had ended it, so that clients begin it again. Any other
// answer must not look whole: not even if the API server, which hears of the end
// first, ends it properly in the last moment.
type streamBody struct {
	io.ReadCloser
	ctx   context.Context
	watch bool
}

// endable returns body, ending with ctx. A connection that can be written to, as
// an upgrade has it, stays one.
func endable(ctx context.Context, body io.ReadCloser, watch bool) io.ReadCloser {
	b := streamBody{body, ctx, watch}
	if w, ok := body.(io.Writer); ok {
		return struct {
			streamBody
			io.Writer
		}{b, w}
	}
	return b
}

// Read reads the answer.
func (b streamBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		return n, nil
	}
	cause, ours := errors.AsType[*ended](context.Cause(b.ctx))
	switch {
	case ours && b.watch:
		return n, io.EOF
	case ours:
		return n, cause
	default:
		return n, err
	}
}
