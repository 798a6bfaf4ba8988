package proxy

import (
	"bufio"
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
)

// exchange is one request and its answer, as far as logs and metrics go.
type exchange struct {
	id     string
	client string // address
	via    string // the gatehouses behind which the API server is, this one included
	kind   requestKind
	writer recorder
	// changes is that of [streams] before the request was judged.
	changes uint64
	hangUp  func() // ends the exchange; nil before it is forwarded
	// What serving has begun and [Proxy.leave] ends; each is nil until then.
	usage    *usage
	listed   *stream
	sending  *watchedBody
	response *http.Response
	relays   bool // the body of response is still to be given to the caller
	// patience ends the exchange if the API server does not begin to answer; nil
	// for a stream.
	patience *time.Timer

	start     time.Time // when the request was read
	forwarded time.Time // when it was handed to the transport; zero if it was not
	answered  time.Time // when the API server's header came; zero if none did

	identity    *auth.Identity // who asked; nil if refused
	as          *auth.User     // whom the request is for, if it is somebody else
	mode        string         // what allowed that
	denied      *auth.User     // whom the caller may not act as
	notAs       string         // his name, as the log shows it
	refusal     *auth.Refusal  // why not
	rejected    string         // the limit that was reached
	outOfScope  string         // the word of the scope that does not allow it
	review      *selfReview    // nil if the answer is passed on as it is
	body        *watchedBody   // the request's; nil if it has none
	upstreamErr error
	said        *answer // gatehouse's own; nil if the answer is the API server's
	aborted     bool    // the answer was cut off
	panicked    bool
	ended       *ended // why gatehouse ended it; nil if it did not
	token       string // the caller's own, if it is passed on

	judged bool         // by the audit policy
	entry  *audit.Entry // nil if it is not recorded
}

// heard says that the API server has begun to answer, or need not any more.
func (x *exchange) heard() {
	if x.patience != nil {
		x.patience.Stop()
	}
}

// recorder notes what is answered. Flush and deadlines reach the real writer by
// Unwrap.
type recorder struct {
	http.ResponseWriter
	ctx     context.Context // of the request; ends a connection that was taken over
	status  int
	bytes   int64
	flushes bool // everything that is written goes out at once
}

// Unwrap serves http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Hijack takes the connection over, and closes it when the request is cut off:
// the copying alone would wait until the caller hangs up.
func (w *recorder) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err == nil {
		context.AfterFunc(w.ctx, func() { _ = conn.Close() }) // it may be closed already
	}
	return conn, buffered, err
}

// WriteHeader notes the status. Informational answers of the API server end
// here: they are not checked and cleaned as the final one is, and a 101 among
// them would be believed by the next hop.
func (w *recorder) WriteHeader(code int) {
	if code < 200 {
		return
	}
	if w.status == 0 {
		w.status = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write counts the body.
func (w *recorder) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	if err != nil || !w.flushes {
		return n, err
	}
	return n, w.flush()
}

// flush sends what was written.
func (w *recorder) flush() error { return http.NewResponseController(w.ResponseWriter).Flush() }

// observe writes the one log line of a request, and its metrics.
func (p *Proxy) observe(x *exchange, r *http.Request) {
	end := p.cfg.Now()
	p.metrics.observe(x, end)
	level := slog.LevelInfo
	if x.upstreamErr != nil {
		level = slog.LevelWarn
	}
	if !p.cfg.Log.Enabled(r.Context(), level) {
		return
	}
	shown := shownOf(r.Header)
	attrs := make([]slog.Attr, 0, 24)
	attrs = append(attrs,
		slog.String("audit_id", x.id),
		slog.String("client", x.client),
		slog.String("proto", r.Proto),
		slog.String("method", Bounded(r.Method)),
		slog.String("path", shown(r.URL.Path)),
		slog.String("verb", x.kind.verb),
	)
	attrs = appendResource(attrs, x, shown)
	attrs = appendIdentity(attrs, x, shown)
	attrs = append(attrs,
		slog.Int("status", x.writer.status),
		slog.Int64("bytes", x.writer.bytes),
		slog.Float64("ms", milliseconds(x.start, end)),
		slog.Float64("own_ms", milliseconds(x.start, x.ownEnd(end))),
	)
	if !x.answered.IsZero() {
		attrs = append(attrs, slog.Float64("upstream_ms", milliseconds(x.forwarded, x.answered)))
	}
	if x.rejected != "" {
		attrs = append(attrs, slog.String("rejected", x.rejected))
	}
	if x.outOfScope != "" {
		attrs = append(attrs, slog.String("out_of_scope", x.outOfScope))
	}
	if x.ended != nil {
		attrs = append(attrs, slog.String("ended", x.ended.label))
	}
	if x.aborted {
		attrs = append(attrs, slog.Bool("aborted", true))
	}
	if trace := traceID(r.Header); trace != "" {
		attrs = append(attrs, slog.String("trace_id", trace))
	}
	if agent := r.UserAgent(); agent != "" {
		attrs = append(attrs, slog.String("user_agent", shown(agent)))
	}
	p.cfg.Log.LogAttrs(r.Context(), level, "request", attrs...)
}

// ownEnd returns when gatehouse's own part ended: at the forwarding, or, for an
// answer of its own, at the end.
func (x *exchange) ownEnd(end time.Time) time.Time {
	if x.forwarded.IsZero() {
		return end
	}
	return x.forwarded
}

func appendResource(attrs []slog.Attr, x *exchange, shown func(string) string) []slog.Attr {
	info := x.kind.info
	if info == nil || !info.IsResourceRequest {
		return attrs
	}
	for _, field := range [...]struct{ key, value string }{
		{"group", info.APIGroup}, {"resource", info.Resource}, {"subresource", info.Subresource},
		{"namespace", info.Namespace}, {"name", info.Name},
	} {
		if field.value != "" {
			attrs = append(attrs, slog.String(field.key, shown(field.value)))
		}
	}
	return attrs
}

func appendIdentity(attrs []slog.Attr, x *exchange, shown func(string) string) []slog.Attr {
	if x.refusal != nil {
		return append(attrs, slog.String("credential", string(x.refusal.Kind)),
			slog.String("refused", string(x.refusal.Reason)), slog.String("detail", Bounded(x.refusal.Detail)))
	}
	if x.identity == nil {
		return attrs
	}
	attrs = append(attrs, slog.String("credential", string(x.identity.Kind)),
		slog.String("user", Bounded(x.identity.Name)), slog.Int("groups", len(x.identity.Groups)))
	if x.identity.Issuer != "" {
		attrs = append(attrs, slog.String("issuer", x.identity.Issuer))
	}
	if scope := x.identity.Scope.String(); scope != "" {
		attrs = append(attrs, slog.String("scope", Bounded(scope)))
	}
	if len(x.identity.Actors) > 0 {
		attrs = append(attrs, slog.String("actor", Bounded(x.identity.Actors[0])))
	}
	if x.as != nil {
		attrs = append(attrs, slog.String("as", shown(x.as.Name)), slog.Int("as_groups", len(x.as.Groups)), slog.String("as_mode", x.mode))
	}
	if x.denied != nil {
		attrs = append(attrs, slog.String("not_as", x.notAs), slog.Int("not_as_groups", len(x.denied.Groups)))
	}
	return attrs
}

// hidden stands in the log for a text of the caller's own that holds his token.
const hidden = "(not shown: it holds the caller's token)"

// shownOf returns what is shown of the texts that the caller of a request with this
// header chose: bounded, and nothing of one that holds his token. People paste it
// into odd places, such as the name of a user to act as.
func shownOf(h http.Header) func(string) string {
	var tokens []string
	for _, value := range h["Authorization"] {
		if _, token, _ := strings.Cut(value, " "); token != "" {
			tokens = append(tokens, strings.TrimSpace(token))
		}
	}
	return func(s string) string {
		for _, token := range tokens {
			if token != "" && strings.Contains(s, token) {
				return hidden
			}
		}
		return Bounded(s)
	}
}

// Bounded keeps a caller's text from filling the log. Handlers of slog escape
// the rest.
func Bounded(s string) string {
	const limit = 512
	if len(s) > limit {
		return s[:limit] + "…"
	}
	return s
}

func milliseconds(from, to time.Time) float64 {
	return float64(to.Sub(from).Microseconds()) / 1000
}
