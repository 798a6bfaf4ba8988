package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// Pauses between looks at our own rights.
const (
	rightsEvery   = 5 * time.Minute
	rightsRetry   = 5 * time.Second // while one is missing, or nobody could tell
	rightsTimeout = 10 * time.Second
	rightsPause   = 30 * time.Second
)

// ownRights is what is known of our own account's rights.
type ownRights struct {
	current atomic.Pointer[rightsState]
	doubted atomic.Int64 // when a 403 last made us ask, in nanoseconds since 1970
}

// rightsState is what one look found. A look that was not answered keeps the
// verdict of the one before.
type rightsState struct {
	verdict *upstream.Rights // nil before the first
	served  bool             // somebody can be served, by verdict
	at      time.Time        // of verdict
	err     error            // why the last look is no verdict
}

// askRights has our own rights asked about at once.
func (p *parts) askRights() {
	select {
	case p.rightsStale <- struct{}{}:
	default: // they will be
	}
}

// doubtRights has our own rights asked about because the API server refused our
// account something: at most once in rightsPause, as requests may come in any
// number.
func (h *health) doubtRights() {
	now, last := time.Now().UnixNano(), h.rights.doubted.Load()
	if now-last > int64(rightsPause) && h.rights.doubted.CompareAndSwap(last, now) {
		h.parts.askRights()
	}
}

// watchRights asks about our own rights again and again, until ctx ends.
func (h *health) watchRights(ctx context.Context) {
	for {
		// What has changed until now is looked at now.
		select {
		case <-h.parts.rightsStale:
		default:
		}
		pause := h.lookAtRights(ctx)
		select {
		case <-ctx.Done():
			return
		case <-h.parts.rightsStale:
		case <-time.After(pause):
		}
	}
}

// lookAtRights asks once, and says when to ask again.
func (h *health) lookAtRights(ctx context.Context) time.Duration {
	asking, cancel := context.WithTimeout(ctx, rightsTimeout)
	defer cancel()
	needs := h.parts.needs()
	rights, err := h.parts.upstream.Target().OwnRights(asking, needs)
	if ctx.Err() != nil {
		return 0
	}
	next := rightsState{err: err}
	if last := h.rights.current.Load(); err != nil && last != nil {
		next.verdict, next.served, next.at = last.verdict, last.served, last.at
	}
	if err == nil {
		next.verdict, next.at = &rights, time.Now()
		next.served = h.parts.namesPeople() && rights.CanName || needs.TokenReviews && !rights.Lacks(upstream.TokenReviews)
	}
	h.noteRights(h.rights.current.Swap(&next), &next)
	if err != nil || len(rights.Missing) > 0 {
		return rightsRetry
	}
	return rightsEvery
}

// noteRights logs what has changed.
func (h *health) noteRights(last, next *rightsState) {
	log := h.parts.log
	if next.err != nil {
		// An API server that cannot be reached at all has a line of its own.
		if answered(next.err) && (last == nil || last.err == nil) {
			log.Warn("the API server does not tell gatehouse's own rights; the last verdict stays", "error", next.err)
		}
		return
	}
	before := "not known"
	if last != nil && last.verdict != nil {
		before = text(last.verdict.Err())
	}
	switch now := next.verdict.Err(); {
	case text(now) == before:
	case now != nil:
		log.Error("gatehouse's own account lacks rights", "error", now)
	default:
		log.Info("gatehouse's own account has every right that it needs", "impersonation", string(next.verdict.Mode))
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// answered reports whether err is an answer of the API server.
func answered(err error) bool {
	_, ok := errors.AsType[upstream.StatusError](err)
	return ok
}

// check is the line of /readyz about our own rights. Without the right to name
// users nobody is served; any other that is missing turns some away.
func (o *ownRights) check() serve.Check {
	check := serve.Check{Name: "rights"}
	switch state := o.current.Load(); {
	case state == nil:
		check.Err = errors.New("not asked yet")
	case state.verdict == nil:
		// Whoever may not ask, or gets no answer, may well have the rights. An API
		// server that cannot be reached has a line of its own.
		check.Err, check.Degraded = fmt.Errorf("cannot be told: %w", state.err), true
	default:
		check.Err, check.Degraded = state.verdict.Err(), state.served
	}
	return check
}

// rightsMetrics are read off the last verdict. Before the first there are none.
type rightsMetrics struct{ rights *ownRights }

func (rightsMetrics) descs() (missing, rules, checked *prometheus.Desc) {
	return prometheus.NewDesc("gatehouse_rights_missing", "Rights at the API server that the settings need and gatehouse's own account lacks.", nil, nil),
		prometheus.NewDesc("gatehouse_rights_rule_missing", "1 if gatehouse's own account lacks a right of this rule.", []string{"rule"}, nil),
		prometheus.NewDesc("gatehouse_rights_checked_timestamp_seconds", "When the API server last told gatehouse's own rights, in Unix time.", nil, nil)
}

// Describe implements prometheus.Collector.
func (m rightsMetrics) Describe(ch chan<- *prometheus.Desc) {
	missing, rules, checked := m.descs()
	ch <- missing
	ch <- rules
	ch <- checked
}

// Collect implements prometheus.Collector.
func (m rightsMetrics) Collect(ch chan<- prometheus.Metric) {
	state := m.rights.current.Load()
	if state == nil || state.verdict == nil {
		return
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	missing, rules, checked := m.descs()
	gauge(missing, float64(len(state.verdict.Missing)))
	gauge(checked, float64(state.at.Unix()))
	lacking := map[string]bool{}
	for _, right := range state.verdict.Missing {
		lacking[right.Rule()] = true
	}
	for _, name := range upstream.RuleNames() {
		gauge(rules, boolValue(lacking[name]), name)
	}
}
