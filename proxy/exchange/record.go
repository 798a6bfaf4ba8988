package exchange

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
)

// Targets are the closed set of the metric's label.
const (
	targetSession = "session"
	targetAccount = "service_account"
	targetNone    = "none" // the request could not be read
)

// issuedResult is the result of an exchange that gave a token. The others are the
// values of `error`.
const issuedResult = "issued"

// Results returns every value of the label result, for documents and tests.
func Results() []string {
	return []string{issuedResult, "invalid_request", "invalid_client", "unsupported_grant_type", "invalid_scope", "invalid_target", "temporarily_unavailable"}
}

type metrics struct{ exchanges *prometheus.CounterVec }

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_token_exchanges_total",
		Help: "Requests to exchange a token, by what was asked for (session, service_account, or none where that could not be read) and result (issued, or the error of RFC 6749).",
	}, []string{"target", "result"})}
	for _, target := range []string{targetSession, targetAccount} {
		m.exchanges.WithLabelValues(target, issuedResult)
		m.exchanges.WithLabelValues(target, "temporarily_unavailable")
	}
	if registerer == nil {
		return m, nil
	}
	if err := registerer.Register(m.exchanges); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return m, nil
}

// record writes the log line, the audit event and the metric of an exchange. No
// token is in them.
func (s *Server) record(x *trade, r *http.Request) {
	result, code := issuedResult, http.StatusOK
	if x.fault != nil {
		result, code = x.fault.name, x.fault.code
	}
	s.metrics.exchanges.WithLabelValues(x.target, result).Inc()
	s.audit(x, r, code)
	attrs := []slog.Attr{
		slog.String("audit_id", x.id), slog.String("client", x.client), slog.String("target", x.target),
		slog.Int("status", code), slog.String("result", result),
	}
	if x.fault != nil {
		attrs = append(attrs, slog.String("detail", x.fault.description))
	}
	if x.account != "" {
		attrs = append(attrs, slog.String("service_account", x.account), slog.String("request_audit_id", x.requestID))
	}
	if x.subject != nil {
		attrs = append(attrs, slog.String("credential", string(x.subject.Kind)), slog.String("user", proxy.Bounded(x.subject.Name)))
		if x.subject.Issuer != "" {
			attrs = append(attrs, slog.String("issuer", x.subject.Issuer))
		}
	}
	if x.actor != nil {
		attrs = append(attrs, slog.String("actor", proxy.Bounded(x.actor.Name)))
	}
	if made := x.issued; made != nil {
		attrs = append(attrs, slog.Time("expires", made.expires.UTC()))
		if made.id != "" {
			attrs = append(attrs, slog.String("jti", made.id))
		}
		if scope := made.scope.String(); scope != "" {
			attrs = append(attrs, slog.String("scope", proxy.Bounded(scope)))
		}
	}
	s.cfg.Log.LogAttrs(context.WithoutCancel(r.Context()), slog.LevelInfo, "token exchange", attrs...)
}

// audit records an exchange as a request of a path that is no resource.
func (s *Server) audit(x *trade, r *http.Request, code int) {
	if s.cfg.Audit == nil {
		return
	}
	request := audit.Request{
		// Not the query: nothing belongs there, and a token may stand there.
		ID: x.id, Received: x.start, Method: strings.ToLower(r.Method), URL: &url.URL{Path: TokenPath}, UserAgent: r.UserAgent(), Client: x.client,
	}
	if x.subject != nil {
		request.User = &x.subject.User
	}
	entry := s.cfg.Audit.Begin(request, s.cfg.Now())
	if entry == nil {
		return
	}
	all := map[string]string{audit.Exchanged: x.target}
	if x.account != "" {
		all[audit.Exchanged] += " " + x.account
	}
	if x.subject != nil {
		audit.NoteCredential(all, x.subject)
	}
	if x.actor != nil {
		all[audit.Actor] = x.actor.Name
	}
	if made := x.issued; made != nil && made.id != "" {
		all[audit.IssuedID] = "JTI=" + made.id
		if scope := made.scope.String(); scope != "" {
			all[audit.Scope] = scope
		}
	}
	o := audit.Outcome{Time: s.cfg.Now(), Annotations: all, Status: metav1.Status{Code: int32(code)}}
	if x.fault != nil {
		o.Status.Status, o.Status.Message = metav1.StatusFailure, x.fault.description
	}
	entry.Complete(o)
}
