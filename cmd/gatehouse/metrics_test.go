package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// metricsTexts returns /metrics of two gatehouses after traffic of every kind, the
// strange ones included: together they have every setting that adds a metric or a
// value of a label.
func metricsTexts(t *testing.T) []string {
	t.Helper()
	return []string{metricsOfOneIssuer(t), metricsOfAll(t)}
}

// metricsOfOneIssuer has the OIDC settings, an account with a JWT and a client
// certificate, and an API server that fails in the end.
func metricsOfOneIssuer(t *testing.T) string {
	t.Helper()
	w := newWorld(t)
	issuer, cluster := w.newIssuer(t), w.newIssuer(t)
	w.writeClientPair(t)
	w.write(t, "kubeconfig", kubeconfig(w.upstream.URL, "ca.crt", "client-certificate: client.crt, client-key: client.key, token: "+cluster.Token(nil)))
	p := signIn(t, w, issuer, map[string]string{"TOKEN_AUTH_FILE": w.path("tokens.csv")})
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	for _, token := range []string{anaToken, issuer.Token(nil), issuer.Token(authtest.Claims{"aud": "x"}), "unknown-token-of-fay", ""} {
		for _, path := range []string{"/version", "/api/v1/pods", "/api/v1/namespaces/d/pods/p", "/unheard/of?verb=x"} {
			p.ask(t, token, path)
		}
	}
	p.anyMethod(t, "BREW", "/api/v1/pods", nil)
	conn := p.upgrade(t)
	_ = conn.Close()
	w.upstream.setDown(true)
	p.ask(t, anaToken, "/version")
	p.anyMethod(t, http.MethodGet, "/version", http.Header{"Impersonate-User": {"ben"}})
	metrics := p.metrics(t, "connect")
	mustNotHold(t, "/metrics", metrics, "unknown-token-of-fay", issuer.URL, "subject-1", `"ana"`, "BREW", "eyJ", "canary")
	mustNotHold(t, "the log", p.log.text(), "unknown-token-of-fay", "eyJ")
	return metrics
}

// metricsOfAll has every kind of credential but those of the OIDC settings.
func metricsOfAll(t *testing.T) string {
	t.Helper()
	w := newWorld(t)
	w.upstream.reviews.give("token-of-the-builder", builderName)
	issuer, people := w.newIssuer(t), newAuthority(t)
	settings := w.entra(t, newTenant(t, w), nil)
	for name := range settings {
		if strings.HasPrefix(name, "OIDC_") {
			delete(settings, name)
		}
	}
	maps.Copy(settings, map[string]string{
		"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "anonymous: {enabled: true, conditions: [{path: /version}]}\n", w.jwt(issuer, plainMapping)),
		"TOKEN_REVIEW":          "true", "REVOCATION_FILE": w.write(t, "revoked.yaml", "revoked:\n- jti: stolen\n"),
		"CLIENT_CA_FILE": people.path("ca.crt"), "CLIENT_CRL_FILE": people.path("ca.crl"),
		"AUDIT_POLICY_FILE": w.write(t, "audit-policy.yaml", policyOfAll), "AUDIT_LOG_PATH": "-",
	})
	e := w.exchanges(t, settings)
	p := e.process
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+issuer.URL+" ok")
	e.session(t, anaToken)
	e.exchange(t, "")
	e.exchange(t, anaToken, "scope", "canary")
	ana := p.as(t, w, people.issue("ana", "/CN=ana"))
	ana.ask(t, "", "/api")
	for _, token := range []string{"", issuer.Token(authtest.Claims{"jti": "stolen"}), "unknown-token-of-fay"} {
		p.ask(t, token, "/version")
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for _, path := range []string{"/api/v1/namespaces/d/pods", "/api/v1/namespaces/d/pods/canary"} {
			p.anyMethod(t, method, path, http.Header{"User-Agent": {"canary"}})
		}
	}
	for _, as := range []string{"ben", "canary"} {
		p.anyMethod(t, http.MethodGet, "/version", http.Header{"Impersonate-User": {as}})
	}
	p.anyMethod(t, http.MethodGet, "/api/v1/pods?watch=true", nil)
	metrics := p.metrics(t, "watch")
	mustNotHold(t, "/metrics", metrics, "unknown-token-of-fay", "token-of-the-builder", issuer.URL, `"ana"`, "eyJ", "canary")
	return metrics
}

// anyMethod sends a request of ana's, and does not wait for the end of the answer.
func (p *process) anyMethod(t *testing.T, method, path string, header http.Header) {
	t.Helper()
	r := p.request(t, anaToken, path)
	r.Method = method
	maps.Copy(r.Header, header)
	resp, err := p.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}

// metrics returns /metrics once a request of this verb has been counted and none is
// under way any more.
func (p *process) metrics(t *testing.T, verb string) string {
	t.Helper()
	var metrics string
	eventually(t, func() bool {
		code := 0
		code, metrics = p.opsGet(t, "/metrics")
		for _, kind := range []string{"request", "watch", "connect"} {
			if value, _ := seriesValue(metrics, fmt.Sprintf("gatehouse_requests_in_flight{kind=%q}", kind)); value != "0" {
				return false
			}
		}
		return code == http.StatusOK && strings.Contains(metrics, fmt.Sprintf("verb=%q} ", verb))
	}, func() string { return metrics })
	return metrics
}

// Promise: metrics are named as Prometheus asks, have the labels that
// docs/metrics.md tells with those values and no others, and hold no secret and
// no name of a person.
func TestMetrics(t *testing.T) {
	t.Parallel()
	texts := metricsTexts(t)
	checkReference(t, texts)
	for _, text := range texts {
		problems, err := promlint.New(strings.NewReader(text)).Lint()
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range problems {
			t.Errorf("promlint: %s: %s", problem.Metric, problem.Text)
		}
	}
	documented, seen := labelSets(), map[string][]string{}
	for _, one := range allSeries(texts) {
		for label, value := range one.labels {
			set, known := documented[one.metric][label]
			if !known {
				t.Errorf("%s has a label that is not in the list: %s", one.metric, label)
			} else if !set.holds(value) {
				t.Errorf("%s: %s=%q is not of the closed set %q", one.metric, label, value, set.values)
			}
			seen[one.metric+" "+label] = append(seen[one.metric+" "+label], value)
		}
	}
	for metric, labels := range documented {
		for label, set := range labels {
			values := seen[metric+" "+label]
			if len(values) == 0 {
				t.Errorf("%s: nothing has the label %s", metric, label)
			}
			for _, value := range set.values {
				if set.all && !slices.Contains(values, value) {
					t.Errorf("%s: nothing has %s=%q, which is in the list", metric, label, value)
				}
			}
		}
	}
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
