package main

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// credentialMetrics tell at each scrape when gatehouse's own credential for the
// API server ends: somebody else renews it, and may have stopped to.
type credentialMetrics struct{ upstream *upstream.Live }

func (credentialMetrics) desc() *prometheus.Desc {
	return prometheus.NewDesc("gatehouse_own_credential_expiry_timestamp_seconds",
		"When gatehouse's own credential for the API server ends, in Unix time, by kind (token or certificate). A credential that does not tell has no series.", []string{"kind"}, nil)
}

// Describe implements prometheus.Collector.
func (m credentialMetrics) Describe(ch chan<- *prometheus.Desc) { ch <- m.desc() }

// Collect implements prometheus.Collector.
func (m credentialMetrics) Collect(ch chan<- prometheus.Metric) {
	target := m.upstream.Target()
	if target == nil {
		return
	}
	if ends := oidc.UnverifiedExpiry(strings.TrimPrefix(target.Authorization(), "Bearer ")); !ends.IsZero() {
		ch <- prometheus.MustNewConstMetric(m.desc(), prometheus.GaugeValue, float64(ends.Unix()), "token")
	}
	if ends := target.CertificateEnds; !ends.IsZero() {
		ch <- prometheus.MustNewConstMetric(m.desc(), prometheus.GaugeValue, float64(ends.Unix()), "certificate")
	}
}
