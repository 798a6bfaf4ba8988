package main

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// metricsWorld returns /metrics of a gatehouse after traffic of every kind, the
// strange ones included, and what nobody may find in it.
func metricsWorld(t *testing.T) (metrics string, issuer *authtest.Issuer, p *process) {
	t.Helper()
	w := newWorld(t)
	issuer = w.newIssuer(t)
	p = signIn(t, w, issuer, map[string]string{"TOKEN_AUTH_FILE": w.path("tokens.csv")})
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	for _, token := range []string{anaToken, issuer.Token(nil), issuer.Token(authtest.Claims{"aud": "x"}), "unknown-token-of-fay", ""} {
		for _, path := range []string{"/version", "/api/v1/pods", "/api/v1/namespaces/d/pods/p", "/unheard/of?verb=x"} {
			p.ask(t, token, path)
		}
	}
	strange := p.request(t, anaToken, "/api/v1/pods")
	strange.Method = "BREW"
	resp, err := p.client.Do(strange)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	conn := p.upgrade(t)
	_ = conn.Close()
	w.upstream.setDown(true)
	p.ask(t, anaToken, "/version")
	code, metrics := p.opsGet(t, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("/metrics: %d", code)
	}
	return metrics, issuer, p
}

// Metrics are named as Prometheus asks, have labels of closed sets alone, and
// hold no secret and no name of a person.
func TestMetrics(t *testing.T) {
	t.Parallel()
	metrics, issuer, p := metricsWorld(t)
	problems, err := promlint.New(strings.NewReader(metrics)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("promlint: %s: %s", problem.Metric, problem.Text)
	}
	mustNotHold(t, "/metrics", metrics, "unknown-token-of-fay", issuer.URL, "subject-1", `"ana"`, "BREW", "eyJ")
	mustNotHold(t, "the log", p.log.text(), "unknown-token-of-fay", "eyJ")

	closed := closedLabels(issuer)
	for series := range strings.Lines(metrics) {
		name, labels, found := strings.Cut(series, "{")
		if !found || !strings.HasPrefix(name, "gatehouse_") {
			continue
		}
		for _, label := range regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`).FindAllStringSubmatch(labels, -1) {
			if allowed, known := closed[label[1]]; !known {
				t.Errorf("%s has a label that is not in the list: %s", name, label[1])
			} else if !slices.Contains(allowed, label[2]) {
				t.Errorf("%s: %s=%q is not of the closed set %q", name, label[1], label[2], allowed)
			}
		}
	}
}

// closedLabels are the values that each label may have.
func closedLabels(issuer *authtest.Issuer) map[string][]string {
	build := currentBuild()
	closed := map[string][]string{
		"version": {build.Version}, "commit": {build.Commit}, "go_version": {build.Go},
		"verb":        {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "connect", "other"},
		"answered_by": {"upstream", "gatehouse"},
		"result":      {"accepted", "success", "failure", "hit", "miss"},
		"limit":       {"header_lines", "user_requests", "user_streams", "all_requests", "all_streams", "failed_authentications", "slow_body", "connections"},
		"reason":      {"unreachable", "own_credential", "own_rights", "certificate", "timeout", "broken", "shutdown", "identity_changed"},
		"kind":        {"request", "watch", "connect"},
		"source":      {"serving_certificate", "upstream", "upstream_token", "token_auth_file", "oidc_ca_file"},
		"resolver":    {"distributed", "entra"},
		"rule":        upstream.RuleNames(),
		"issuer_hash": {issuerHash(issuer.URL)},
		"mode":        {"", "serviceaccount", "user-info", "legacy"},
		"decision":    {"allowed", "denied", "failed"},
		"le":          {"+Inf"},
		"code":        {"other"},
	}
	for _, kind := range auth.Kinds() {
		closed["kind"] = append(closed["kind"], string(kind))
	}
	for _, reason := range auth.Reasons() {
		closed["result"] = append(closed["result"], string(reason))
		closed["reason"] = append(closed["reason"], string(reason))
	}
	for code := 100; code < 600; code++ {
		closed["code"] = append(closed["code"], strconv.Itoa(code))
	}
	for _, buckets := range [][]float64{
		{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5},
		{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	} {
		for _, bucket := range buckets {
			closed["le"] = append(closed["le"], strconv.FormatFloat(bucket, 'g', -1, 64))
		}
	}
	return closed
}

// The series that alerts and dashboards use exist from the start, before
// anything has happened, and tell the state of the parts.
func TestMetricsAtStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	p := signIn(t, w, issuer, map[string]string{"TOKEN_AUTH_FILE": w.path("tokens.csv")})
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	_, metrics := p.opsGet(t, "/metrics")
	hash := fmt.Sprintf(`{issuer_hash=%q}`, issuerHash(issuer.URL))
	build := currentBuild()
	want := map[string]string{
		"gatehouse_issuer_ready" + hash:                                                                                "1",
		"gatehouse_issuer_keys" + hash:                                                                                 "1",
		"gatehouse_issuer_keys_fetched_timestamp_seconds" + hash:                                                       "",
		"gatehouse_upstream_ready":                                                                                     "1",
		"gatehouse_serving_certificate_expiry_timestamp_seconds":                                                       "",
		`gatehouse_requests_in_flight{kind="watch"}`:                                                                   "0",
		`gatehouse_requests_in_flight{kind="connect"}`:                                                                 "0",
		`gatehouse_requests_in_flight{kind="request"}`:                                                                 "0",
		`gatehouse_upstream_errors_total{reason="own_credential"}`:                                                     "0",
		`gatehouse_authentication_attempts_total{kind="oidc",result="accepted"}`:                                       "0",
		`gatehouse_authentication_attempts_total{kind="token_file",result="accepted"}`:                                 "0",
		`gatehouse_jwks_fetches_total{issuer_hash="` + issuerHash(issuer.URL) + `",result="success"}`:                  "1",
		`gatehouse_jwks_fetches_total{issuer_hash="` + issuerHash(issuer.URL) + `",result="failure"}`:                  "0",
		`gatehouse_token_cache_lookups_total{result="hit"}`:                                                            "0",
		`gatehouse_token_cache_lookups_total{result="miss"}`:                                                           "0",
		"gatehouse_token_cache_entries":                                                                                "0",
		fmt.Sprintf("gatehouse_build_info{commit=%q,go_version=%q,version=%q}", build.Commit, build.Go, build.Version): "1",
	}
	for _, source := range []string{"serving_certificate", "upstream", "upstream_token", "token_auth_file", "oidc_ca_file"} {
		want[fmt.Sprintf("gatehouse_reload_last_successful{source=%q}", source)] = "1"
		want[fmt.Sprintf("gatehouse_reloads_total{result=%q,source=%q}", "failure", source)] = "0"
		want[fmt.Sprintf("gatehouse_reloads_total{result=%q,source=%q}", "success", source)] = "0"
	}
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if value, found := seriesValue(metrics, series); !found || want[series] != "" && value != want[series] {
			t.Errorf("%s is %q, want %q", series, value, want[series])
		}
	}
}

// seriesValue returns the value of a series, written as /metrics does.
func seriesValue(metrics, series string) (value string, found bool) {
	for line := range strings.Lines(metrics) {
		if value, found := strings.CutPrefix(line, series+" "); found {
			return strings.TrimSpace(value), true
		}
	}
	return "", false
}
