package e2e_test

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// lent is the scope of what alice lends.
const lent = "read-only no-secrets"

// mayNotBeUsed is what is said of what a scope does not allow.
func mayNotBeUsed(word string) string {
	return "Your token may not be used for this: its scope has the word " + word + "."
}

// signedIn returns an ID token of a person, with an id.
func (w world) signedIn(name, group, jti string) string {
	claims := stage.Person(name, group)
	claims["jti"] = jti
	return w.Issuer.Token(claims)
}

// testLentSession: alice may change everything in dev. With what she lends an agent,
// kubectl lists pods; it may not read Secrets, delete, run something in a pod, or
// make other credentials, and is told why. Who asks sees the scope.
func (w world) testLentSession(t *testing.T) {
	x := w.exchange(t, "exchange-lent")
	alice := w.signedIn("alice", "developers", "alice-lends")
	token := x.must(t, gatehouse.Wish{Subject: alice, Scope: lent, Lifetime: 10 * time.Minute})
	if left := time.Until(token.Expiry); left > 11*time.Minute || token.Extra("scope") != "no-secrets read-only" {
		t.Errorf("for %s, with the scope %v", left, token.Extra("scope"))
	}
	agent := token.AccessToken
	const noCredentials = "Your token may not be used to make other credentials"
	x.expect(t,
		asked{"she herself", alice, "create configmap lent -n dev", 0, "created"},
		asked{"list", agent, "get pods -n dev", 0, "hello-"},
		asked{"get", agent, "get deployment hello -n dev -o name", 0, "deployment.apps/hello"},
		asked{"secrets", agent, "get secrets -n dev", 1, mayNotBeUsed("no-secrets")},
		asked{"delete", agent, "delete deployment hello -n dev", 1, mayNotBeUsed("read-only")},
		asked{"create", agent, "create configmap more -n dev", 1, mayNotBeUsed("read-only")},
		asked{"exec", agent, "exec deployment/hello -n dev -- true", 1, mayNotBeUsed("read-only")},
		asked{"a token", agent, "create token builder -n dev", 1, noCredentials},
		asked{"can", agent, "auth can-i list pods -n dev", 0, "yes"},
		asked{"cannot", agent, "auth can-i delete deployments -n dev", 1, "no"},
		asked{"who", agent, "auth whoami -o yaml", 0, "kube-gatehouse.github.io/scope:\n      - no-secrets\n      - read-only\n"},
		asked{"its id", agent, "auth whoami -o yaml", 0, "authentication.kubernetes.io/credential-id:\n      - JTI="},
		asked{"as her", agent, "auth whoami", 0, "alice@example.com"},
		asked{"not hers", agent, "get pods -n kube-system", 1, `User "alice@example.com" cannot list resource "pods"`},
	)
	for _, path := range []string{"pods/hello/exec?command=true", "pods/hello/attach", "pods/hello/portforward", "pods/hello/proxy/", "services/hello/proxy/"} {
		a, err := x.ask(t.Context(), http.MethodGet, "/api/v1/namespaces/dev/"+path, "", bearer(agent))
		if err != nil || a.StatusCode != http.StatusForbidden || !strings.Contains(a.body, mayNotBeUsed("read-only")) || w.reached(t, a.Header.Get("Audit-Id")) {
			t.Errorf("%s: %s %s, %v", path, a.Status, a.body, err)
		}
	}
	x.refuses(t, "an account's token", gatehouse.Wish{Subject: agent, Account: "dev:builder", Audience: "vault"}, "invalid_target", "or the scope of your token")
	x.refuses(t, "an unknown word", gatehouse.Wish{Subject: alice, Scope: "read-only admin"}, "invalid_scope", "'admin'")

	id := jti(t, token)
	a := x.get(t, someResourcePath, agent)
	event := w.auditEvent(t, a.Header.Get("Audit-Id"))
	if e := event.ImpersonatedUser; e == nil || e.Username != "alice@example.com" ||
		!slices.Equal(e.Extra["authentication.kubernetes.io/credential-id"], []string{"JTI=" + id}) ||
		!slices.Equal(e.Extra["kube-gatehouse.github.io/scope"], []string{"no-secrets", "read-only"}) {
		t.Errorf("the API server recorded %+v", e)
	}
}

// jti is the id of a session token.
func jti(t *testing.T, token *oauth2.Token) string {
	t.Helper()
	var claims struct{ JTI string }
	jwtClaims(t, token.AccessToken, &claims)
	return claims.JTI
}

// testSessionAs: who may act as another user by the cluster's rules does so with a
// session too, unless its scope says no.
func (w world) testSessionAs(t *testing.T) {
	x := w.exchange(t, "exchange-as")
	bob := w.signedIn("bob", "viewers", "bob-lends")
	whole, narrow := x.must(t, gatehouse.Wish{Subject: bob}), x.must(t, gatehouse.Wish{Subject: bob, Scope: "no-impersonation"})
	reading := x.must(t, gatehouse.Wish{Subject: bob, Scope: "read-only"})
	x.expect(t,
		asked{"may", whole.AccessToken, "create configmap session-as -n dev --as=devops-admin", 0, "created"},
		asked{"no scope is none", whole.AccessToken, "auth whoami", 0, "bob@example.com"},
		asked{"may not", narrow.AccessToken, "get configmaps -n dev --as=devops-admin", 1, mayNotBeUsed("no-impersonation")},
		asked{"as oneself", narrow.AccessToken, "get configmaps -n dev", 0, "kube-root-ca.crt"},
		asked{"to read", reading.AccessToken, "get configmap session-as -n dev --as=devops-admin -o name", 0, "configmap/session-as"},
		asked{"the scope stays", reading.AccessToken, "delete configmap session-as -n dev --as=devops-admin", 1, mayNotBeUsed("read-only")},
		asked{"and is seen", reading.AccessToken, "auth whoami --as=devops-admin -o yaml", 0, "kube-gatehouse.github.io/scope:\n      - read-only\n"},
	)
}

// testSessionEnds: a session ends within the promised time, its watches too, when its
// own id is revoked, the id of the token it was made of, or the user; and when its
// time is over.
func (w world) testSessionEnds(t *testing.T) {
	const revoked = "Your access has been revoked"
	for name, row := range map[string]struct {
		entry func(session string) string // of the revocation file; empty: none
		life  time.Duration
		says  string
	}{
		"its id":               {func(id string) string { return "jti: " + id }, 0, revoked},
		"its credential id":    {func(id string) string { return "credentialID: JTI=" + id }, 0, revoked},
		"the original's id":    {func(string) string { return "{jti: ends-1, issuer: " + w.Issuer.URL + "}" }, 0, revoked},
		"the user":             {func(string) string { return "user: alice@example.com" }, 0, revoked},
		"the original subject": {func(string) string { return "{issuer: " + w.Issuer.URL + ", subject: alice}" }, 0, revoked},
		"its time":             {nil, 5 * time.Second, "Your token expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := w.exchange(t, "exchange-ends-"+strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), "'", ""))
			first := x.must(t, gatehouse.Wish{Subject: w.signedIn("alice", "developers", "ends-1"), Lifetime: row.life})
			// What is made of the session ends with it.
			second := x.must(t, gatehouse.Wish{Subject: first.AccessToken, Scope: lent})
			other := x.must(t, gatehouse.Wish{Subject: w.signedIn("bob", "viewers", "ends-2")})
			ctx, cancel := context.WithTimeout(t.Context(), 2*streamLimit)
			defer cancel()
			var watches []io.Reader
			for _, token := range []string{first.AccessToken, second.AccessToken} {
				watches = append(watches, x.openWatch(ctx, t, token))
			}
			watch, err := x.kubectl(t, second.AccessToken).Start(ctx, "get", "configmaps", "-n", "dev", "--watch")
			if err != nil {
				t.Fatal(err)
			}
			defer watch.Stop()
			if _, err := watch.AwaitLine(ctx, "kube-root-ca.crt"); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			if row.entry != nil {
				x.deny(t, row.entry(jti(t, first)))
			}
			for _, stream := range watches {
				awaitCleanEnd(t, stream)
			}
			if _, err := watch.Wait(ctx); err != nil {
				t.Errorf("kubectl's watch goes on: %v", err)
			}
			if took := time.Since(began); took > reloadLimit {
				t.Errorf("it took %s", took)
			}
			for _, token := range []string{first.AccessToken, second.AccessToken} {
				if a := x.get(t, "/api", token); a.StatusCode != http.StatusUnauthorized || !strings.Contains(a.body, row.says) {
					t.Errorf("afterwards: %s %s", a.Status, a.body)
				}
				x.refuses(t, "afterwards", gatehouse.Wish{Subject: token}, "invalid_request", row.says)
			}
			if a := x.get(t, "/api", other.AccessToken); a.StatusCode != http.StatusOK {
				t.Errorf("somebody else's: %s %s", a.Status, a.body)
			}
		})
	}
}

// testExchangeAgain: a token that is exchanged for another never allows more, and
// never lives longer, whatever is asked for.
func (w world) testExchangeAgain(t *testing.T) {
	x := w.exchange(t, "exchange-again")
	ended := stage.Person("alice", "developers")
	ended["exp"] = time.Now().Add(3 * time.Minute).Unix()
	alice := w.Issuer.Token(ended)
	long := x.must(t, gatehouse.Wish{Subject: alice, Lifetime: time.Hour})
	if left := time.Until(long.Expiry); left > 3*time.Minute+time.Second {
		t.Errorf("the session outlives the token: %s", left)
	}
	reading := x.must(t, gatehouse.Wish{Subject: long.AccessToken, Scope: "read-only", Lifetime: time.Minute})
	for name, scope := range map[string]string{"none": "", "the same": "read-only", "another": "namespaces=dev", "one that sounds like more": "verbs=get,list,watch,create,update,patch,delete"} {
		again := x.must(t, gatehouse.Wish{Subject: reading.AccessToken, Scope: scope, Lifetime: time.Hour})
		if again.Expiry.After(reading.Expiry.Add(time.Second)) {
			t.Errorf("%s: it ends at %s, and the first at %s", name, again.Expiry, reading.Expiry)
		}
		x.expect(t,
			asked{name, again.AccessToken, "get deployments -n dev", 0, "hello"},
			asked{name, again.AccessToken, "delete deployment hello -n dev", 1, mayNotBeUsed("read-only")},
		)
	}
	w.checkLifetimes(t, x, alice)
	dev := x.must(t, gatehouse.Wish{Subject: alice, Scope: "namespaces=dev"})
	neither := x.must(t, gatehouse.Wish{Subject: dev.AccessToken, Scope: "namespaces=kube-system"})
	x.expect(t,
		asked{"dev", dev.AccessToken, "get deployments -n dev", 0, "hello"},
		asked{"not in both", neither.AccessToken, "get deployments -n dev", 1, mayNotBeUsed("namespaces=kube-system")},
		asked{"not in both", neither.AccessToken, "get deployments -n kube-system", 1, mayNotBeUsed("namespaces=dev")},
	)
	x.refuses(t, "a damaged one", gatehouse.Wish{Subject: long.AccessToken + "A"}, "invalid_request", refusedSentence)
}

// checkLifetimes: an operator lets sessions outlive the tokens of an issuer, and live
// for less if they began with those of another. A session of a session never outlives it.
func (w world) checkLifetimes(t *testing.T, x exchanging, alice string) {
	t.Helper()
	g := x.replica(t, w, x.env["GATEHOUSE_KUBECONFIG"], map[string]string{
		"GATEHOUSE_SESSION_OUTLIVE": w.Issuer.URL, "GATEHOUSE_SESSION_LIFETIMES": x.ci.URL + "=1m", "GATEHOUSE_SESSION_MAX_LIFETIME": "30m",
	})
	for _, row := range []struct {
		name, subject string
		least, most   time.Duration
	}{
		{"a token of people", alice, 29 * time.Minute, 30*time.Minute + time.Second},
		{"one of CI", x.ci.Token(job("acme/shop")), 50 * time.Second, time.Minute + time.Second},
		{"a session", g.must(t, gatehouse.Wish{Subject: alice, Lifetime: 2 * time.Minute}).AccessToken, time.Minute, 2*time.Minute + time.Second},
	} {
		if left := time.Until(g.must(t, gatehouse.Wish{Subject: row.subject, Lifetime: time.Hour}).Expiry); left < row.least || left > row.most {
			t.Errorf("made of %s it lives for %s, want %s", row.name, left, row.most)
		}
	}
}
