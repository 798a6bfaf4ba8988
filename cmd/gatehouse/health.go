package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// Pauses between looks at the API server.
const (
	probeEvery   = 5 * time.Second
	probeRetry   = time.Second
	probeTimeout = 5 * time.Second
)

// health is what /readyz and the metrics say of the parts.
type health struct {
	parts    *parts
	stopping atomic.Bool
	upstream atomic.Pointer[error] // what the last probe met; nil before the first
	rights   ownRights
}

// watchUpstream asks the API server again and again, until ctx ends.
func (h *health) watchUpstream(ctx context.Context) {
	for {
		probe, cancel := context.WithTimeout(ctx, probeTimeout)
		err := h.parts.upstream.Target().Probe(probe)
		if err == nil {
			h.learnSelf(probe)
		}
		cancel()
		if ctx.Err() != nil {
			return
		}
		h.note(err)
		pause := probeRetry
		if err == nil {
			pause = probeEvery
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// note keeps the result of a probe and logs it when it changes.
func (h *health) note(err error) {
	last := h.upstream.Swap(&err)
	switch {
	case err != nil && (last == nil || *last == nil):
		h.parts.log.Error("the API server fails its check", "error", err)
	case err == nil && (last == nil || *last != nil):
		h.parts.askRights() // it may be another version, or have other roles, than before
		h.parts.log.Info("the API server passes its check", "server", h.parts.upstream.Target().URL.Host)
	}
}

func (h *health) upstreamError() error {
	if err := h.upstream.Load(); err != nil {
		return *err
	}
	return errors.New("not asked yet")
}

// checks are the lines of /readyz. A replica is ready if it can serve somebody:
// an issuer that is down takes it out only if there is no other credential.
func (h *health) checks() []serve.Check {
	serving := serve.Check{Name: "serving"}
	if h.stopping.Load() {
		serving.Err = errors.New("shutting down")
	}
	checks := []serve.Check{serving, {Name: "apiserver", Err: h.upstreamError()}, h.rights.check()}
	list := h.parts.issuers.list()
	somebody := h.parts.tokenCount.Load() > 0 || h.parts.clientCerts.CAs() != nil
	for _, issuer := range list {
		somebody = somebody || issuer.Status().Ready
	}
	if h.parts.accounts != nil {
		check := h.parts.accountsCheck(somebody)
		somebody = somebody || check.Err == nil
		checks = append(checks, check)
	}
	for _, issuer := range list {
		checks = append(checks, issuerCheck(issuer, somebody))
	}
	return checks
}

// issuerCheck is the line of one issuer. A failure leaves the replica ready if
// somebody else can be served.
func issuerCheck(issuer *oidc.Issuer, somebody bool) serve.Check {
	check := serve.Check{Name: "issuer/" + issuer.URL(), Degraded: somebody}
	status := issuer.Status()
	switch {
	case !status.Ready:
		check.Err = status.Err
	case status.Err != nil:
		check.Err = fmt.Errorf("keys of %s are used: %w", status.Fetched.UTC().Format(time.RFC3339), status.Err)
	}
	return check
}

// issuerHash is how an issuer is named in a label, as kube-apiserver does.
func issuerHash(url string) string {
	sum := sha256.Sum256([]byte(url))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func resultLabel(ok bool) string {
	if ok {
		return "success"
	}
	return "failure"
}

func newFetchCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_jwks_fetches_total",
		Help: "Attempts to fetch an issuer's keys, by issuer (SHA-256 of its URL) and result (success or failure).",
	}, []string{"issuer_hash", "result"})
}

// registerMetrics adds what is known of the process and its parts.
func (h *health) registerMetrics() error {
	gauge := func(name, help string, labels prometheus.Labels, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: labels}, value)
	}
	build := currentBuild()
	all := []prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		gauge("gatehouse_build_info", "1, with the version of this gatehouse in its labels.",
			prometheus.Labels{"version": build.Version, "commit": build.Commit, "go_version": build.Go},
			func() float64 { return 1 }),
		gauge("gatehouse_upstream_ready", "1 if the API server is ready and accepts gatehouse's own credential.", nil,
			func() float64 { return boolValue(h.upstreamError() == nil) }),
		gauge("gatehouse_serving_certificate_expiry_timestamp_seconds", "When the serving certificate ends, in Unix time.", nil,
			func() float64 { return float64(h.parts.certificate.Expires().Unix()) }),
	}
	all = append(all, h.parts.fetches, h.parts.lookups, h.parts.groupLookups, issuerMetrics{&h.parts.issuers}, h.parts.crlMetric(), rightsMetrics{&h.rights}, credentialMetrics{&h.parts.upstream})
	for _, issuer := range h.parts.issuers.list() {
		for _, result := range []bool{true, false} {
			h.parts.fetches.WithLabelValues(issuerHash(issuer.URL()), resultLabel(result))
		}
	}
	for _, c := range all {
		if err := h.parts.metrics.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	if h.parts.accounts == nil {
		return nil
	}
	return h.parts.reviews.register(h.parts.metrics)
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
