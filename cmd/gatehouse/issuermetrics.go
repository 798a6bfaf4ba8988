package main

import "github.com/prometheus/client_golang/prometheus"

// issuerMetrics are read off the issuers in use at each scrape, so that the
// series of an issuer that was removed end.
type issuerMetrics struct{ issuers *issuers }

func issuerDesc(name, help string) *prometheus.Desc {
	return prometheus.NewDesc(name, help+", by issuer (SHA-256 of its URL).", []string{"issuer_hash"}, nil)
}

func (issuerMetrics) descs() (ready, keys, fetched *prometheus.Desc) {
	return issuerDesc("gatehouse_issuer_ready", "1 if the issuer's keys are known"),
		issuerDesc("gatehouse_issuer_keys", "Keys of the issuer in use"),
		issuerDesc("gatehouse_issuer_keys_fetched_timestamp_seconds", "When the issuer's keys were last fetched, in Unix time, 0 if never")
}

// entriesDesc is not by issuer: all share one cache.
func entriesDesc() *prometheus.Desc {
	return prometheus.NewDesc("gatehouse_token_cache_entries", "Verified ID tokens that are kept, some of which may have ended.", nil, nil)
}

func newLookupCounter() *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_token_cache_lookups_total",
		Help: "ID tokens of a known issuer, by result (hit: known from before; miss: verified, whether good or bad).",
	}, []string{"result"})
}

// Describe implements prometheus.Collector.
func (m issuerMetrics) Describe(ch chan<- *prometheus.Desc) {
	ready, keys, fetched := m.descs()
	ch <- ready
	ch <- keys
	ch <- fetched
	ch <- entriesDesc()
}

// Collect implements prometheus.Collector.
func (m issuerMetrics) Collect(ch chan<- prometheus.Metric) {
	ready, keys, fetched := m.descs()
	list := m.issuers.list()
	if len(list) > 0 {
		ch <- prometheus.MustNewConstMetric(entriesDesc(), prometheus.GaugeValue, float64(m.issuers.cached()))
	}
	for _, issuer := range list {
		status, hash := issuer.Status(), issuerHash(issuer.URL())
		last := 0.0
		if !status.Fetched.IsZero() {
			last = float64(status.Fetched.Unix())
		}
		ch <- prometheus.MustNewConstMetric(ready, prometheus.GaugeValue, boolValue(status.Ready), hash)
		ch <- prometheus.MustNewConstMetric(keys, prometheus.GaugeValue, float64(status.Keys), hash)
		ch <- prometheus.MustNewConstMetric(fetched, prometheus.GaugeValue, last, hash)
	}
}
