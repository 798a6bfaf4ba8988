package faults_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

const (
	// Time runs 300 times as fast for an issuer's keys: they are fetched every
	// second in the place of 5 minutes, and too old after 288 in the place of 24
	// hours. An hour has 12 refreshes.
	fastRefresh     = "1s"
	fastMaxAge      = "288s"
	refreshesAnHour = 12
	// flaps is how often the issuer goes down and comes back.
	flaps = 10
)

// issuer is one of a test's own: others are not to be down with it.
func newIssuer(t *testing.T) (*authtest.Issuer, map[string]string) {
	t.Helper()
	issuer, authority := stagetest.Issuer(t)
	return issuer, map[string]string{
		"GATEHOUSE_OIDC_ISSUER_URL": issuer.URL, "GATEHOUSE_OIDC_CA_FILE": authority.CAFile,
		"GATEHOUSE_JWKS_REFRESH_INTERVAL": fastRefresh, "GATEHOUSE_JWKS_MAX_AGE": fastMaxAge,
	}
}

// Promise: while an issuer is down, keys that are known go on verifying new
// tokens, for much longer than an hour; other credentials never notice. Who
// cannot be judged because gatehouse started meanwhile is told to try again, and
// is served once the issuer is back, without a restart.
func (s *suite) testIssuer(t *testing.T) {
	issuer, env := newIssuer(t)
	issuer.SetDown(true)
	tokens, err := stage.NewTokens(t.TempDir(), "robot-secret,ci-robot,1")
	if err != nil {
		t.Fatal(err)
	}
	env["GATEHOUSE_TOKEN_AUTH_FILE"] = tokens.Path()
	g := s.startGatehouse(t, gatehouse.Config{}, env)
	people, robots := &tally{}, &tally{}
	fresh := read("")
	fresh.token = func() string { return issuer.Token(stage.Person("alice", "developers")) }
	client := s.client(t, http2)
	keepAsking(t, client, g.URL(), 2, 50*time.Millisecond, robots, read("robot-secret"))
	asking := keepAsking(t, client, g.URL(), 4, 50*time.Millisecond, people, fresh)
	eventually(t, limit, robots.more(50))
	issuer.SetDown(false)
	eventually(t, limit, people.more(1))
	back := time.Now()
	eventually(t, limit, people.more(100))
	asking.stop()
	people.judge(func(f failure) bool { return f.began.Before(back) && toldToComeBack(f) })
	people.report(t, s.rows, row{
		fault: "issuer down at start", load: "reads with ID tokens",
		why: "ID tokens until the issuer is back: 503 with Retry-After",
	})

	s.testIssuerLater(t, issuer, g, fresh)
	if code, report, err := g.Ops(t.Context(), "/readyz"); err != nil || code != http.StatusOK {
		t.Errorf("readiness: %d %s %v", code, report, err)
	}
	robots.judge(nobody)
	robots.report(t, s.rows, row{fault: "issuer down and flapping", load: "reads with static tokens", why: "nothing"})
}

// testIssuerLater has an issuer down whose keys are known.
func (s *suite) testIssuerLater(t *testing.T, issuer *authtest.Issuer, g *gatehouse.Instance, fresh ask) {
	for _, one := range []struct {
		fault  string
		happen func()
	}{
		{"issuer down for an hour, 300 times as fast", func() {
			before := mustMetrics(t, g)
			issuer.SetDown(true)
			awaitMetric(t, g, before, refreshesAnHour, "gatehouse_jwks_fetches_total", `result="failure"`)
		}},
		{"issuer flapping", func() {
			for i := range 2 * flaps {
				before, down := mustMetrics(t, g), i%2 == 1
				issuer.SetDown(down)
				result := map[bool]string{true: `result="failure"`, false: `result="success"`}[down]
				awaitMetric(t, g, before, 1, "gatehouse_jwks_fetches_total", result)
			}
			issuer.SetDown(false)
		}},
	} {
		people := &tally{}
		asking := keepAsking(t, s.client(t, http2), g.URL(), 4, 50*time.Millisecond, people, fresh)
		one.happen()
		asking.stop()
		people.judge(nobody)
		people.report(t, s.rows, row{fault: one.fault, load: "reads with new ID tokens", why: "nothing"})
	}
}

// toldToComeBack reports whether a failure is a 503 that says when to ask again.
func toldToComeBack(f failure) bool {
	return strings.HasPrefix(f.err.Error(), `503 Service Unavailable, Retry-After "1"`)
}

// nobody may fail.
func nobody(failure) bool { return false }
