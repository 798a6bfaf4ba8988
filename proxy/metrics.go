package proxy

import (
	"fmt"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// metrics are the proxy's own. Every label has a closed set of values.
type metrics struct {
	requests       *prometheus.CounterVec
	attempts       *prometheus.CounterVec
	ownDuration    prometheus.Histogram
	upstreamFirst  *prometheus.HistogramVec
	upstreamErrors *prometheus.CounterVec
	flying         *prometheus.GaugeVec
	ended          *prometheus.CounterVec
	impersonations *prometheus.CounterVec
	rejected       *prometheus.CounterVec
}

// accepted is the result of an authentication that named somebody.
const accepted = "accepted"

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_requests_total",
			Help: "Requests that ended, by Kubernetes verb, status code, and who answered (upstream or gatehouse).",
		}, []string{"verb", "code", "answered_by"}),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_authentication_attempts_total",
			Help: "Authentication attempts, by kind of credential and result (accepted, or the reason of the refusal).",
		}, []string{"kind", "result"}),
		ownDuration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatehouse_request_own_duration_seconds",
			Help:    "Time a request spent in gatehouse before it was forwarded or answered.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5},
		}),
		upstreamFirst: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "gatehouse_upstream_response_header_duration_seconds",
			Help:    "Time from forwarding a request to the header of the API server's answer, by Kubernetes verb.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"verb"}),
		upstreamErrors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_upstream_errors_total",
			Help: "Requests for which the API server gave no answer that could be passed on, by reason.",
		}, []string{"reason"}),
		flying: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_requests_in_flight",
			Help: "Requests under way, by kind: watch, connect (upgraded connections) or request.",
		}, []string{"kind"}),
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_streams_ended_total",
			Help: "Requests under way that gatehouse ended, by why: shutdown, identity_changed, or the reason for which their credential is refused now.",
		}, []string{"reason"}),
		impersonations: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_impersonations_total",
			Help: "Requests to act as another user that gatehouse decided about, by what allowed it (serviceaccount, user-info or legacy) and decision (allowed, denied or failed).",
		}, []string{"mode", "decision"}),
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_rejected_total",
			Help: "Requests, and connections, for which a limit was reached, by limit.",
		}, []string{"limit"}),
	}
	m.preset()
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.attempts, m.ownDuration, m.upstreamFirst, m.upstreamErrors, m.flying, m.ended, m.impersonations, m.rejected} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// preset makes the series that alerts watch exist before anything happens.
func (m *metrics) preset() {
	for _, kind := range []string{"request", "watch", "connect"} {
		m.flying.WithLabelValues(kind)
	}
	for _, reason := range []string{"unreachable", "own_credential", "own_rights", "certificate", "timeout", "broken"} {
		m.upstreamErrors.WithLabelValues(reason)
	}
	m.ended.WithLabelValues(endedByDrain.label)
	m.ended.WithLabelValues(endedByChange.label)
	for _, reason := range []auth.Reason{auth.Expired, auth.Revoked, auth.UnknownToken, auth.UnknownKey, auth.CertificateExpired, auth.CertificateRevoked} {
		m.ended.WithLabelValues(string(reason)) // as a credential ends that was accepted
	}
	m.impersonations.WithLabelValues("", "denied")
	m.impersonations.WithLabelValues("", "failed")
	m.rejected.WithLabelValues(connectionsLabel)
	for _, why := range rejections() {
		m.rejected.WithLabelValues(why.label)
	}
	for _, kind := range auth.Kinds() {
		if kind != auth.KindNone && kind != auth.KindUnknown {
			m.attempts.WithLabelValues(string(kind), accepted)
		}
	}
}

func (m *metrics) inFlight(kind requestKind) prometheus.Gauge {
	switch kind.verb {
	case "watch", "connect":
		return m.flying.WithLabelValues(kind.verb)
	default:
		return m.flying.WithLabelValues("request")
	}
}

func (m *metrics) authenticated(kind auth.Kind) {
	m.attempts.WithLabelValues(string(kind), accepted).Inc()
}

func (m *metrics) actedAs(mode, decision string) {
	m.impersonations.WithLabelValues(mode, decision).Inc()
}

func (m *metrics) refused(refusal *auth.Refusal) {
	m.attempts.WithLabelValues(string(refusal.Kind), string(refusal.Reason)).Inc()
}

func (m *metrics) upstreamFailed(told answer) {
	m.upstreamErrors.WithLabelValues(upstreamReason(told)).Inc()
}

// upstreamReason is the metric's word for an answer about the way to the API
// server.
func upstreamReason(told answer) string {
	switch told {
	case upstreamDown, upstreamStarts:
		return "unreachable"
	case upstreamSlow:
		return "timeout"
	case upstreamRefused:
		return "own_credential"
	case upstreamForbids:
		return "own_rights"
	case upstreamFalse:
		return "certificate"
	default:
		return "broken"
	}
}

func (m *metrics) observe(x *exchange, end time.Time) {
	answeredBy := "upstream"
	if x.said != nil || x.answered.IsZero() {
		answeredBy = "gatehouse"
	}
	m.requests.WithLabelValues(x.kind.verb, codeLabel(x.writer.status), answeredBy).Inc()
	m.ownDuration.Observe(x.ownEnd(end).Sub(x.start).Seconds())
	if x.ended != nil {
		m.ended.WithLabelValues(x.ended.label).Inc()
	}
	if !x.answered.IsZero() {
		m.upstreamFirst.WithLabelValues(x.kind.verb).Observe(x.answered.Sub(x.forwarded).Seconds())
	}
}

// codeLabel keeps an API server that invents status codes from making series
// without end.
func codeLabel(status int) string {
	if status >= 100 && status <= 599 {
		return strconv.Itoa(status)
	}
	return "other"
}
