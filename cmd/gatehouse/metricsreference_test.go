package main

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// present says when a metric is there, if it is not always.
var present = map[string]string{
	"gatehouse_audit_events_total":                      "With `GATEHOUSE_AUDIT_POLICY_FILE` only.",
	"gatehouse_token_reviews_total":                     "With `GATEHOUSE_TOKEN_REVIEW` only.",
	"gatehouse_token_review_duration_seconds":           "With `GATEHOUSE_TOKEN_REVIEW` only.",
	"gatehouse_rights_missing":                          "Once the API server has told.",
	"gatehouse_rights_rule_missing":                     "Once the API server has told.",
	"gatehouse_rights_checked_timestamp_seconds":        "Once the API server has told.",
	"gatehouse_issuer_ready":                            "For each issuer in use.",
	"gatehouse_issuer_keys":                             "For each issuer in use.",
	"gatehouse_issuer_keys_fetched_timestamp_seconds":   "For each issuer in use.",
	"gatehouse_jwks_fetches_total":                      "For each issuer that was ever in use.",
	"gatehouse_token_cache_entries":                     "With an issuer only. 16,384 at most.",
	"gatehouse_own_credential_expiry_timestamp_seconds": "For each credential that tells.",
}

// series is one line of /metrics.
type series struct {
	metric string // without the suffix of a histogram's part
	labels map[string]string
}

// allSeries returns gatehouse's own, without the buckets' label `le`.
func allSeries(texts []string) []series {
	var all []series
	types := typesOf(texts)
	label := regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	for line := range strings.Lines(strings.Join(texts, "")) {
		name, _, _ := strings.Cut(strings.Fields(line)[0], "{")
		if !strings.HasPrefix(name, "gatehouse_") {
			continue
		}
		one := series{metric: name, labels: map[string]string{}}
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if bare, found := strings.CutSuffix(name, suffix); found && types[bare] == "histogram" {
				one.metric = bare
			}
		}
		for _, match := range label.FindAllStringSubmatch(line, -1) {
			if match[1] != "le" || one.metric == name {
				one.labels[match[1]] = match[2]
			}
		}
		all = append(all, one)
	}
	return all
}

func typesOf(texts []string) map[string]string {
	types := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^# TYPE (gatehouse_\w+) (\w+)$`).FindAllStringSubmatch(strings.Join(texts, ""), -1) {
		types[match[1]] = match[2]
	}
	return types
}

// metricsReference writes the catalogue of what texts expose.
func metricsReference(texts []string) string {
	var b strings.Builder
	b.WriteString(`# Metrics

` + "`/metrics` on [the ops port](operations.md#two-ports), for Prometheus. No label holds a user, a path or text that a\n" +
		"caller chose: each has the values below and no others. This page is written by `make docs` from what the\n" +
		"process registers. What to act on is in [the runbook](runbook.md), and\n" +
		"`deploy/dashboard.json` is a dashboard for Grafana.\n\n" +
		"Beside these there are `go_*` and `process_*`, the usual ones of the Prometheus client.\n")
	types, sets, all := typesOf(texts), labelSets(), strings.Join(texts, "")
	for _, metric := range slices.Sorted(maps.Keys(types)) {
		help := regexp.MustCompile(`(?m)^# HELP ` + metric + ` (.*)$`).FindStringSubmatch(all)[1]
		fmt.Fprintf(&b, "\n## `%s`\n\n%s. %s", metric, strings.ToUpper(types[metric][:1])+types[metric][1:], help)
		if present[metric] != "" {
			b.WriteString(" " + present[metric])
		}
		if types[metric] == "histogram" {
			fmt.Fprintf(&b, " Upper bounds of its buckets: %s.", strings.Join(bucketsOf(metric, all), ", "))
		}
		b.WriteString("\n")
		if len(sets[metric]) > 0 {
			b.WriteString("\n| label | values |\n|---|---|\n")
		}
		for _, label := range slices.Sorted(maps.Keys(sets[metric])) {
			fmt.Fprintf(&b, "| `%s` | %s |\n", label, sets[metric][label])
		}
	}
	return b.String()
}

func bucketsOf(metric, text string) []string {
	var bounds []string
	for _, match := range regexp.MustCompile(`(?m)^`+metric+`_bucket\{.*le="([^"]+)"`).FindAllStringSubmatch(text, -1) {
		if seconds, err := strconv.ParseFloat(match[1], 64); err == nil && match[1] != "+Inf" {
			if bound := strconv.FormatFloat(seconds, 'f', -1, 64) + " s"; !slices.Contains(bounds, bound) {
				bounds = append(bounds, bound)
			}
		}
	}
	return bounds
}

// checkReference holds docs/metrics.md to what texts expose, and texts to what is
// registered.
func checkReference(t *testing.T, texts []string) {
	t.Helper()
	const page = moduleRoot + "/docs/metrics.md"
	want := metricsReference(texts)
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, read(t, page)); diff != "" {
		t.Errorf("docs/metrics.md is not current: run `make docs` (-want +got):\n%s", diff)
	}
	types := typesOf(texts)
	for _, name := range registered(t) {
		if types[name] == "" && strings.HasPrefix(name, "gatehouse_") {
			t.Errorf("%s is registered, and not in the catalogue: the test must make it appear", name)
		}
	}
}

// registered returns the names of all metrics that a gatehouse with TokenReview
// and an issuer registers, whether they have a series or not.
func registered(t *testing.T) []string {
	t.Helper()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	p, err := load(environment(w.environ(w.oidc(issuer, map[string]string{"TOKEN_REVIEW": "true"}))), newLog(nil, t.Output()))
	if err != nil {
		t.Fatal(err)
	}
	h := &health{parts: p}
	if err := h.registerMetrics(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.newProxy(); err != nil {
		t.Fatal(err)
	}
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		p.metrics.Describe(descriptions)
	}()
	var names []string
	for description := range descriptions {
		match := regexp.MustCompile(`fqName: "(\w+)"`).FindStringSubmatch(description.String())
		if match == nil {
			t.Fatalf("a description without a name: %s", description)
		}
		names = append(names, match[1])
	}
	if len(names) < 30 {
		t.Errorf("only %d metrics are registered", len(names))
	}
	return names
}

// writeClientPair issues a client certificate as client.crt and client.key, and
// returns when it ends.
func (w *world) writeClientPair(t *testing.T) time.Time {
	t.Helper()
	pair, err := w.ca.Client("gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "client.crt", string(pair.Cert))
	w.write(t, "client.key", string(pair.Key))
	loaded, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	return loaded.Leaf.NotAfter
}

// Promise: the metrics tell when gatehouse's own credential ends, and follow it
// when it is renewed.
func TestOwnCredentialExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	certificateEnds := w.writeClientPair(t)
	const first, second = 4102444800, 4133980800
	token := func(ends int) string { return issuer.Token(map[string]any{"exp": ends}) }
	w.write(t, "token", token(first))
	w.write(t, "kubeconfig", kubeconfig(w.upstream.URL, "ca.crt", "client-certificate: client.crt, client-key: client.key, tokenFile: token"))
	p := w.start(t, nil)
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	ends := func(kind string) float64 {
		_, metrics := p.opsGet(t, "/metrics")
		value, _ := seriesValue(metrics, fmt.Sprintf("gatehouse_own_credential_expiry_timestamp_seconds{kind=%q}", kind))
		seconds, _ := strconv.ParseFloat(value, 64)
		return seconds
	}
	if got := ends("token"); got != first {
		t.Errorf("the token ends at %v, want %v", got, first)
	}
	if got, want := ends("certificate"), float64(certificateEnds.Unix()); got != want {
		t.Errorf("the certificate ends at %v, want %v", got, want)
	}
	w.write(t, "token", token(second))
	p.awaitReload(t, "upstream_token")
	if got := ends("token"); got != second {
		t.Errorf("the new token ends at %v, want %v", got, second)
	}
}
