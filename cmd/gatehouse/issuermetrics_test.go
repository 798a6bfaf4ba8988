package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// A verified token is known from then on, by the metrics too; one that is
// refused is not. A changed configuration is obeyed at once by tokens that were
// known, and the counters go on.
func TestTokenCache(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	file := w.writeConfig(t, "v1", "", w.jwt(issuer, plainMapping))
	p := w.start(t, map[string]string{"AUTHENTICATION_CONFIG": file, "TOKEN_AUTH_FILE": w.path("tokens.csv")})
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+issuer.URL+" ok")
	p.expectCache(t, "0", "0", "0")
	token, foreign := issuer.Token(nil), issuer.Token(authtest.Claims{"aud": "x"})
	for range 3 {
		p.expectUser(t, token, "plain:subject-1")
	}
	p.expectCache(t, "2", "1", "1")
	for range 2 {
		p.expectRefusal(t, foreign, http.StatusUnauthorized, "another application")
	}
	p.ask(t, anaToken, "/version")
	p.ask(t, "unknown-token", "/version")
	p.expectCache(t, "2", "3", "1")

	w.writeConfig(t, "v1", "", w.jwt(issuer, strings.ReplaceAll(plainMapping, "plain:", "other:")))
	p.awaitLine(t, "the changed issuers are in effect")
	p.expectUser(t, token, "other:subject-1")
	p.expectCache(t, "2", "4", "1")
}

func (p *process) expectCache(t *testing.T, hits, misses, entries string) {
	t.Helper()
	_, metrics := p.opsGet(t, "/metrics")
	for series, want := range map[string]string{
		`gatehouse_token_cache_lookups_total{result="hit"}`:  hits,
		`gatehouse_token_cache_lookups_total{result="miss"}`: misses,
		"gatehouse_token_cache_entries":                      entries,
	} {
		if got, _ := seriesValue(metrics, series); got != want {
			t.Errorf("%s is %q, want %q", series, got, want)
		}
	}
}
