package proxy

import (
	"cmp"
	"net/http"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Limits bound what one caller, and all of them together, can use up. A field
// that is zero has its default.
type Limits struct {
	// TokenBytes is how long a bearer token may be. Default, and most:
	// auth.MaxTokenBytes.
	TokenBytes int
	// HeaderLines is how many header lines a request may have. Default: 1024.
	HeaderLines int
	// Requests and Streams bound what is under way at one time. Default: 4000
	// and 20000.
	Requests, Streams int
	// RequestsPerUser and StreamsPerUser are the same for one user. Default: 400
	// and 2000.
	RequestsPerUser, StreamsPerUser int
	// FailuresPerAddress is how many authentications of one address may fail in
	// a second, over ten seconds, before credentials of that address which were
	// not accepted lately are judged a few at a time. Default: 20.
	FailuresPerAddress int
	// BodyTime is how long the body of a request may take to arrive, unless it
	// is a stream. Default: one minute.
	BodyTime time.Duration
	// AnswerTime is how long the API server may take to begin its answer, unless
	// that is to a stream. Default: two minutes.
	AnswerTime time.Duration
}

// DefaultLimits returns those of a cluster with a thousand users.
func DefaultLimits() Limits {
	return Limits{
		TokenBytes:      auth.MaxTokenBytes,
		HeaderLines:     1024,
		Requests:        4000,
		Streams:         20000,
		RequestsPerUser: 400, StreamsPerUser: 2000,
		FailuresPerAddress: 20,
		BodyTime:           time.Minute, // a kube-apiserver ends the request by then
		AnswerTime:         2 * time.Minute,
	}
}

// orDefault returns l with its zero fields filled.
func (l Limits) orDefault() Limits {
	d := DefaultLimits()
	return Limits{
		TokenBytes: cmp.Or(l.TokenBytes, d.TokenBytes), HeaderLines: cmp.Or(l.HeaderLines, d.HeaderLines),
		Requests: cmp.Or(l.Requests, d.Requests), RequestsPerUser: cmp.Or(l.RequestsPerUser, d.RequestsPerUser),
		Streams: cmp.Or(l.Streams, d.Streams), StreamsPerUser: cmp.Or(l.StreamsPerUser, d.StreamsPerUser),
		FailuresPerAddress: cmp.Or(l.FailuresPerAddress, d.FailuresPerAddress), BodyTime: cmp.Or(l.BodyTime, d.BodyTime),
		AnswerTime: cmp.Or(l.AnswerTime, d.AnswerTime),
	}
}

// rejection is a limit that was reached: the metric's and the log's word for it,
// and what the caller is told. A client repeats what is answered with
// Retry-After (client-go, up to ten times), so only what was not forwarded, and
// may fit in a moment later, has it.
type rejection struct {
	label  string
	answer answer
}

func (r *rejection) Error() string { return "a limit was reached: " + r.label }

// connectionsLabel counts connections that were closed at once.
const connectionsLabel = "connections"

// The rejections: a closed set, of which each has a label of its own.
var (
	tooManyLines    = &rejection{"header_lines", answer{code: 431, reason: metav1.StatusReasonBadRequest, message: "The request has more header lines than are accepted."}}
	tooManyRequests = &rejection{"user_requests", tooMany("You have too many requests under way: try again in a moment.")}
	tooManyStreams  = &rejection{"user_streams", tooMany("You have too many watches and other streams open: close some, or try again in a moment.")}
	fullOfRequests  = &rejection{"all_requests", tooMany("gatehouse has too many requests under way to take more of yours: try again in a moment.")}
	fullOfStreams   = &rejection{"all_streams", tooMany("gatehouse has too many streams open to take more of yours: try again in a moment.")}
	tooManyFailures = &rejection{"failed_authentications", tooMany("Too many credentials that are not accepted come from your address, and yours could not be looked at: try again in a moment.")}
	slowBody        = &rejection{"slow_body", answer{code: 408, reason: metav1.StatusReasonTimeout, message: "The request's body took too long to arrive."}}
)

func rejections() []*rejection {
	return []*rejection{tooManyLines, tooManyRequests, tooManyStreams, fullOfRequests, fullOfStreams, tooManyFailures, slowBody}
}

func tooMany(message sentence) answer {
	return answer{code: 429, reason: metav1.StatusReasonTooManyRequests, message: message, again: always}
}

// reject answers a request for which a limit was reached.
func (p *Proxy) reject(x *exchange, r *http.Request, why *rejection) {
	x.rejected = why.label
	p.metrics.rejected.WithLabelValues(why.label).Inc()
	p.answer(x, r, why.answer)
}

// RejectedConnection counts a connection that was closed because there were too
// many.
func (p *Proxy) RejectedConnection() { p.metrics.rejected.WithLabelValues(connectionsLabel).Inc() }

// headerLines counts the lines of a header.
func headerLines(h http.Header) int {
	lines := 0
	for _, values := range h {
		lines += len(values)
	}
	return lines
}
