package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// addTokenReview makes what asks the API server about ServiceAccount tokens.
func (p *parts) addTokenReview(f *faults) {
	if !p.settings.TokenReview {
		return
	}
	var err error
	p.accounts, err = tokenreview.New(tokenreview.Config{
		Reviewer:  tokenreview.NewHTTPReviewer(p.upstream.AsOurselves()),
		Known:     p.issuers.knows,
		Self:      p.ownName,
		Audiences: p.settings.APIAudiences,
		Rate:      p.settings.Limits.TokenReviews,
		Burst:     2 * p.settings.Limits.TokenReviews,
		Observe:   p.reviews.observe,
	})
	if err != nil {
		f.add("TOKEN_REVIEW", "%w", err)
	}
}

// ownName is the user name that the API server has for gatehouse, or "".
func (p *parts) ownName() string { return p.self.name(p.upstream.Target()) }

// forget makes a token be reviewed again.
func (p *parts) forget(token string) {
	if p.accounts != nil {
		p.accounts.Forget(token)
	}
}

// selfName is the user name that the API server has for gatehouse. Its tokens
// must open nothing: whoever has one could name anybody.
type selfName struct{ known atomic.Pointer[selfAt] }

// selfAt is the name under one credential at one API server.
type selfAt struct {
	target        *upstream.Target
	authorization string
	name          string
}

// name returns the name at target, or "" if it is not known. While a new
// credential of ours has not been asked about, the name is that of the last, if
// both say that they are of one account.
func (s *selfName) name(target *upstream.Target) string {
	at := s.known.Load()
	if at == nil || at.target != target {
		return ""
	}
	if now := target.Authorization(); now != at.authorization && subjectOf(now) != subjectOf(at.authorization) {
		return ""
	}
	return at.name
}

func subjectOf(authorization string) string {
	return oidc.UnverifiedSubject(strings.TrimPrefix(authorization, "Bearer "))
}

// learn asks target for the name, if it or our credential is another than before.
func (s *selfName) learn(ctx context.Context, target *upstream.Target) error {
	authorization := target.Authorization()
	if at := s.known.Load(); at != nil && at.target == target && at.authorization == authorization {
		return nil
	}
	name, err := target.WhoAmI(ctx)
	if err != nil {
		return err
	}
	s.known.Store(&selfAt{target, authorization, name})
	return nil
}

// learnSelf keeps the name known, as often as the API server is looked at.
func (h *health) learnSelf(ctx context.Context) {
	p := h.parts
	// It serves also to tell what the API server says of us from what it says of
	// callers, and that nobody may act as; the former works without it, mostly.
	level := slog.LevelDebug
	if p.accounts != nil {
		level = slog.LevelError
	}
	if err := p.self.learn(ctx, p.upstream.Target()); err != nil {
		p.log.Log(ctx, level, "gatehouse's own name is not known, so that no ServiceAccount's token is accepted, and nobody may act as one", "error", err)
	}
}

// accountsCheck is the line of /readyz about ServiceAccount tokens.
func (p *parts) accountsCheck(somebody bool) serve.Check {
	check := serve.Check{Name: "token_review", Degraded: somebody}
	if p.ownName() == "" {
		check.Err = errors.New("gatehouse's own name is not known yet, so that no ServiceAccount token is accepted")
	}
	return check
}

// reviewMetrics count what became of ServiceAccount tokens.
type reviewMetrics struct {
	outcomes *prometheus.CounterVec
	duration prometheus.Histogram
}

func newReviewMetrics() reviewMetrics {
	m := reviewMetrics{
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_token_reviews_total",
			Help: "ServiceAccount tokens, by what became of them: cached_accepted, cached_refused, joined (a review under way), shed (a bound was reached), or the outcome of a review: accepted, refused, failed.",
		}, []string{"outcome"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "gatehouse_token_review_duration_seconds",
			Help:    "Time that the API server took for a TokenReview.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	for _, outcome := range tokenreview.Outcomes() {
		m.outcomes.WithLabelValues(string(outcome))
	}
	return m
}

func (m reviewMetrics) observe(outcome tokenreview.Outcome, took time.Duration) {
	m.outcomes.WithLabelValues(string(outcome)).Inc()
	switch outcome {
	case tokenreview.Accepted, tokenreview.Refused, tokenreview.Failed:
		m.duration.Observe(took.Seconds())
	}
}

func (m reviewMetrics) register(registerer prometheus.Registerer) error {
	for _, c := range []prometheus.Collector{m.outcomes, m.duration} {
		if err := registerer.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}
