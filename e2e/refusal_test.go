package e2e_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

const (
	expiredSentence  = "Your token expired 5 minutes ago: sign in again."
	refusedSentence  = "Your credential was not accepted"
	notAsked         = "You are not signed in"
	badPeople        = "developers"
	fiveMinutesAgo   = -5*time.Minute - time.Second
	inTwoHours       = 2*time.Hour + time.Minute
	someResourcePath = "/api/v1/namespaces/dev/pods"
)

// changed returns the claims of alice with some changed.
func changed(change authtest.Claims) authtest.Claims {
	c := stage.Person("alice", badPeople)
	for name, value := range change {
		c[name] = value
	}
	return c
}

func from(now time.Time, d time.Duration) int64 { return now.Add(d).Unix() }

// badTokens are tokens that must not be accepted, each with the sentence that
// says why.
func (w world) badTokens(t *testing.T) map[string]struct{ token, sentence string } {
	t.Helper()
	now := time.Now()
	other, err := authtest.NewKey(w.Issuer.Key().ID, w.Issuer.Key().Algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]struct{ token, sentence string }{
		"expired": {w.Issuer.Token(changed(authtest.Claims{
			"iat": from(now, -time.Hour), "exp": from(now, fiveMinutesAgo)})), expiredSentence},
		"not yet valid": {w.Issuer.Token(changed(authtest.Claims{
			"nbf": from(now, inTwoHours)})), "Your credential is not valid yet"},
		"for another application": {w.Issuer.Token(changed(authtest.Claims{
			"aud": "another"})), "Your token was issued for another application"},
		"without a verified address": {w.Issuer.Token(changed(authtest.Claims{
			"email_verified": false})), "Your e-mail address is not verified"},
		"without a name": {w.Issuer.Token(changed(authtest.Claims{
			"email": nil})), "Your token does not name you"},
		"of another issuer": {w.Issuer.Token(changed(authtest.Claims{
			"iss": "https://issuer.example"})), refusedSentence},
		"signed by another key": {other.Sign(w.Issuer.Payload(stage.Person("alice", badPeople))), refusedSentence},
		// "expired" is said only of a token whose signature was verified.
		"expired, signed by another key": {other.Sign(w.Issuer.Payload(changed(authtest.Claims{
			"exp": from(now, fiveMinutesAgo)}))), refusedSentence},
		"garbage": {"this-is-no-token", refusedSentence},
	}
}

// testRefusals: a credential that is not accepted is answered with 401, as a
// Status and as a Warning with the same sentence, and nothing of it reaches the
// API server.
func (w world) testRefusals(t *testing.T) {
	g := w.start(t, nil)
	for name, bad := range w.badTokens(t) {
		w.checkRefusal(t, g, name, bad.sentence, bearer(bad.token))
	}
	good := bearer(w.Issuer.Token(stage.Person("alice", "developers")))
	w.checkRefusal(t, g, "no credential", notAsked)
	w.checkRefusal(t, g, "Basic", "This kind of credential is not accepted", "Authorization: Basic YWxpY2U6c2VjcmV0")
	w.checkRefusal(t, g, "two credentials", "more than one credential", good, bearer("another"))
	w.checkRefusal(t, g, "twice the same", "more than one credential", good, good)
	w.checkRefusal(t, g, "no token", "The Authorization header cannot be read", "Authorization: Bearer")
}

func (w world) checkRefusal(t *testing.T, g gate, name, sentence string, headers ...string) {
	t.Helper()
	a, err := g.ask(t.Context(), http.MethodGet, someResourcePath, "", headers...)
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Kind, APIVersion, Status, Reason, Message string
		Code                                      int
	}
	if err := json.Unmarshal([]byte(a.body), &status); err != nil {
		t.Fatalf("%s: %q is no JSON: %v", name, a.body, err)
	}
	if a.StatusCode != http.StatusUnauthorized || status.Kind != "Status" || status.APIVersion != "v1" ||
		status.Status != "Failure" || status.Reason != "Unauthorized" || status.Code != http.StatusUnauthorized {
		t.Errorf("%s: got %s with %s", name, a.Status, a.body)
	}
	if !strings.Contains(status.Message, sentence) {
		t.Errorf("%s: got the message %q, want %q", name, status.Message, sentence)
	}
	for header, want := range map[string]string{
		"Warning":                `299 - "` + status.Message + `"`,
		"Content-Type":           "application/json",
		"Cache-Control":          "no-cache, private",
		"X-Content-Type-Options": "nosniff",
	} {
		if got := a.Header.Get(header); got != want {
			t.Errorf("%s: %s: got %q, want %q", name, header, got, want)
		}
	}
	if got := a.Header.Get("WWW-Authenticate"); !strings.HasPrefix(got, "Bearer") {
		t.Errorf("%s: WWW-Authenticate: got %q", name, got)
	}
	if id := a.Header.Get("Audit-Id"); id == "" || w.reached(t, id) {
		t.Errorf("%s: the audit id is %q, and reached the API server: %v", name, id, id != "" && w.reached(t, id))
	}
}

// testKubectlRefusals: kubectl with a cold discovery cache, which drops the
// body of an error, prints the reason all the same, once.
func (w world) testKubectlRefusals(t *testing.T) {
	g := w.start(t, nil)
	for name, bad := range w.badTokens(t) {
		r, err := g.kubectl(t, bad.token).Run(t.Context(), "get", "pods", "-n", "dev")
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() || !strings.HasPrefix(r.Stderr, "Warning: "+bad.sentence) || strings.Count(r.Stderr, "Warning: ") != 1 {
			t.Errorf("%s: got %+v, want %q once and first", name, r, "Warning: "+bad.sentence)
		}
	}
}

// testImpersonation: where that is turned off, a request that asks to act as
// somebody else is refused with 403 and a reason, in whatever spelling, and does
// not reach the API server.
func (w world) testImpersonation(t *testing.T) {
	g := w.start(t, map[string]string{"GATEHOUSE_IMPERSONATION": "false"})
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	r, err := g.kubectl(t, token).Run(t.Context(), "get", "pods", "-n", "dev", "--as=admin", "--as-group=system:masters")
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || !strings.HasPrefix(r.Stderr, "Warning: Acting as another user (--as) is not offered here") {
		t.Errorf("--as: got %+v", r)
	}
	for _, header := range []string{
		"Impersonate-User: admin", "impersonate-group: system:masters", "Impersonate-Uid: 1",
		"Impersonate-Extra-Scopes: all", "Impersonate_User: admin",
	} {
		a, err := g.ask(t.Context(), http.MethodGet, someResourcePath, "", bearer(token), header)
		if err != nil {
			t.Fatal(err)
		}
		if a.StatusCode != http.StatusForbidden || w.reached(t, a.Header.Get("Audit-Id")) {
			t.Errorf("%s: got %s", header, a.Status)
		}
	}
}

// testReserved: a name or group that Kubernetes keeps for itself is refused
// with 403 even where the prefix that would guard it was taken away, and does
// not reach the API server.
func (w world) testReserved(t *testing.T) {
	g := w.start(t, map[string]string{"GATEHOUSE_OIDC_GROUPS_PREFIX": "", "GATEHOUSE_OIDC_USERNAME_CLAIM": "sub", "GATEHOUSE_OIDC_USERNAME_PREFIX": "-"})
	for name, claims := range map[string]authtest.Claims{
		"group":   {"sub": "alice", "groups": []string{"developers", "system:masters"}},
		"user":    {"sub": "system:kube-controller-manager"},
		"account": {"sub": "system:serviceaccount:kube-system:default"},
	} {
		a := g.get(t, someResourcePath, w.Issuer.Token(claims))
		if a.StatusCode != http.StatusForbidden || !strings.Contains(a.body, "reserved for Kubernetes itself") ||
			w.reached(t, a.Header.Get("Audit-Id")) {
			t.Errorf("%s: got %s: %s", name, a.Status, a.body)
		}
	}
}

// testShippedRights: with the rights that the manifests in deploy/ give, gatehouse's
// account can say who a person is, and can neither do anything as itself nor
// become an administrator or a node: the API server says no.
func (w world) testShippedRights(t *testing.T) {
	k, err := w.Kubectl(w.Env()["GATEHOUSE_KUBECONFIG"])
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args   string
		code   int
		prints string
	}{
		{"auth whoami --as=alice --as-group=oidc:developers --as-uid=1", 0, "[oidc:developers system:authenticated]"},
		{"get pods -n dev", 1, "forbidden"},
		{"get secrets -A", 1, "forbidden"},
		{"get pods -A --as=alice --as-group=system:masters", 1, "forbidden"},
		{"get pods -A --as=system:node:one --as-group=system:nodes", 1, "forbidden"},
	} {
		r, err := k.Run(t.Context(), strings.Fields(row.args)...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
			t.Errorf("kubectl %s: got %+v, want code %d and %q", row.args, r, row.code, row.prints)
		}
	}
}
