package chart_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// testExchange turns the exchange of tokens on, with the keys in a Secret: a session
// token that its pod makes is taken by the same pod, and its account has the rights.
func (w *world) testExchange(ctx context.Context, t *testing.T, common []string) {
	key, err := pki.Key(t.TempDir(), "signing.pem")
	if err != nil {
		t.Fatal(err)
	}
	w.must(ctx, t, "create", "secret", "generic", "gatehouse-session-keys", "-n", namespace, "--from-file="+key)
	free, err := proc.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	origin := "https://" + proc.Loopback(free[0])
	proxy, proxyPorts := ports(t) // the pod before still has its own
	args := append(append([]string{"upgrade", release}, common...), proxyPorts...)
	w.helmMust(ctx, t, append(args, "--wait", "--timeout", "2m", "--values", w.configuration(t, "oidc:"),
		"--set", fmt.Sprintf("exchange.url=%s,ports.exchange=%d,exchange.sessionKeys.existingSecret=gatehouse-session-keys", origin, free[0]))...)
	w.testRights(ctx, t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.authority.Pool(), MinVersion: tls.VersionTLS12}}}
	defer client.CloseIdleConnections()
	alice := w.issuer.Token(authtest.Claims{"sub": "alice", "groups": []string{"developers"}})
	token, err := gatehouse.Exchange(ctx, client, origin, gatehouse.Wish{Subject: alice, Scope: "read-only"})
	if err != nil {
		t.Fatal(err)
	}
	expect(ctx, t, w.caller(t, proxy, token.AccessToken), `"username":"alice"`, `"oidc:developers"`, `"kube-gatehouse.github.io/scope":["read-only"]`)
}
