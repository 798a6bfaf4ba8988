package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// testActor: an agent acts for alice with a token of its own, where the cluster lets
// it; both are seen, and the session ends with either of them.
func (w world) testActor(t *testing.T) {
	x := w.exchange(t, "exchange-actor")
	alice := w.signedIn("alice", "developers", "actor-alice")
	agent := x.ci.Token(authtest.Claims{"sub": "agent", "jti": "actor-agent", "exp": time.Now().Add(20 * time.Minute).Unix()})
	token := x.must(t, gatehouse.Wish{Subject: alice, Actor: agent, Scope: lent})
	var claims struct {
		Sub string
		Act struct{ Sub string }
	}
	if jwtClaims(t, token.AccessToken, &claims); claims.Sub != "alice@example.com" || claims.Act.Sub != "ci:agent" {
		t.Errorf("the token says %+v", claims)
	}
	if left := time.Until(token.Expiry); left > 20*time.Minute+time.Second {
		t.Errorf("it outlives the actor's: %s", left)
	}
	const mayNot = "the verb act-for on users.kube-gatehouse.github.io"
	x.refuses(t, "for somebody else", gatehouse.Wish{Subject: w.signedIn("bob", "viewers", "actor-bob"), Actor: agent}, "invalid_request", mayNot)
	x.refuses(t, "somebody else", gatehouse.Wish{Subject: alice, Actor: x.ci.Token(job("acme/shop"))}, "invalid_request", mayNot)
	x.refuses(t, "herself in the other's", gatehouse.Wish{Subject: agent, Actor: alice}, "invalid_request", mayNot)
	x.refuses(t, "an account's token", gatehouse.Wish{Subject: alice, Actor: agent, Account: "dev:builder", Audience: "vault"}, "invalid_request", "Nobody can act in the token of a ServiceAccount")
	x.expect(t,
		asked{"who", token.AccessToken, "auth whoami -o yaml", 0, "kube-gatehouse.github.io/actor:\n      - ci:agent\n"},
		asked{"lists", token.AccessToken, "get pods -n dev", 0, "hello-"},
		asked{"deletes", token.AccessToken, "delete deployment hello -n dev", 1, mayNotBeUsed("read-only")},
	)
	event := w.auditEvent(t, x.get(t, someResourcePath, token.AccessToken).Header.Get("Audit-Id"))
	if !recordedActor(event, "alice@example.com", "ci:agent") {
		t.Errorf("the API server recorded %+v", event.ImpersonatedUser)
	}
	workload := x.must(t, gatehouse.Wish{Subject: alice, Actor: w.builderToken(t, ""), Scope: lent})
	if user, _ := x.whoAmI(t, workload.AccessToken); user.Username != "alice@example.com" || !slices.Equal(user.Extra["kube-gatehouse.github.io/actor"], []string{stage.BuilderUser}) {
		t.Errorf("with a ServiceAccount as the actor: %+v", user)
	}
	hers := x.must(t, gatehouse.Wish{Subject: alice, Scope: lent})
	ctx, cancel := context.WithTimeout(t.Context(), 2*streamLimit)
	defer cancel()
	watch, own := x.openWatch(ctx, t, token.AccessToken), x.openWatch(ctx, t, hers.AccessToken)
	x.deny(t, fmt.Sprintf("{jti: actor-agent, issuer: %q}", x.ci.URL))
	awaitCleanEnd(t, watch)
	if a := x.get(t, "/api", token.AccessToken); a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.body, "Your access has been revoked") {
		t.Errorf("without the agent: %s %s", a.Status, a.body)
	}
	if a := x.get(t, "/api", hers.AccessToken); a.StatusCode != http.StatusOK {
		t.Errorf("what she keeps: %s %s", a.Status, a.body)
	}
	if a := x.get(t, "/api", workload.AccessToken); a.StatusCode != http.StatusOK {
		t.Errorf("what she lent to a workload: %s %s", a.Status, a.body)
	}
	x.deny(t, "user: "+stage.BuilderUser)
	eventually(t, reloadLimit, func() error { return status(x.get(t, "/api", workload.AccessToken), http.StatusUnauthorized) })
	x.deny(t, "jti: actor-alice")
	awaitCleanEnd(t, own)
}

func recordedActor(e auditv1.Event, user, actor string) bool {
	return e.ImpersonatedUser != nil && e.ImpersonatedUser.Username == user &&
		slices.Equal(e.ImpersonatedUser.Extra["kube-gatehouse.github.io/actor"], []string{actor})
}
