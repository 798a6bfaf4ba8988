package e2e_test

import (
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// testRights: RBAC in the cluster decides about the person whom the token
// names, and its denials name that person.
func (w world) testRights(t *testing.T) {
	tokens := w.tokens(t, `robot-secret,ci-robot,ci-1,"ci,builders"`)
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_AUTH_FILE": tokens.Path()})
	alice := w.Issuer.Token(stage.Person("alice", "developers"))
	bob := w.Issuer.Token(stage.Person("bob", "viewers"))
	for _, row := range []struct {
		name, token, args string
		code              int
		prints            string
	}{
		{"alice may change", alice, "create configmap rights -n dev --from-literal=a=b", 0, "configmap/rights created"},
		{"bob may look", bob, "get deployments -n dev", 0, "hello"},
		{"bob may not change", bob, "delete deployment hello -n dev", 1, `User "bob@example.com" cannot delete resource "deployments"`},
		{"alice may not leave her namespace", alice, "get pods -n kube-system", 1, `User "alice@example.com" cannot list resource "pods"`},
		{"the robot may change", "robot-secret", "label configmap rights -n dev a=b", 0, "configmap/rights labeled"},
		{"the robot may not leave", "robot-secret", "get nodes", 1, `User "ci-robot" cannot list resource "nodes"`},
		{"alice can", alice, "auth can-i delete deployments -n dev", 0, "yes"},
		{"bob cannot", bob, "auth can-i delete deployments -n dev", 1, "no"},
		{"alice is", alice, "auth whoami", 0, "alice@example.com"},
		{"alice is in", alice, "auth whoami", 0, "[oidc:developers system:authenticated]"},
		{"the robot is", "robot-secret", "auth whoami", 0, "[ci builders system:authenticated]"},
	} {
		r, err := g.kubectl(t, row.token).Run(t.Context(), strings.Fields(row.args)...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
			t.Errorf("%s: kubectl %s: got %+v, want code %d and %q", row.name, row.args, r, row.code, row.prints)
		}
	}
}

// testIdentity: the API server sees exactly the user, uid, groups and extra
// that the credential stands for, both in its answer about the caller and in
// its own audit log, where gatehouse is the one who acts for them.
func (w world) testIdentity(t *testing.T) {
	tokens := w.tokens(t, `robot-secret,ci-robot,ci-1,"ci,builders"`)
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_AUTH_FILE": tokens.Path()})
	claims := stage.Person("alice", "developers", "ünïcode & 100%")
	claims["jti"] = "token-17"
	for name, row := range map[string]struct {
		token string
		want  authenticationv1.UserInfo
	}{
		"ID token": {w.Issuer.Token(claims), authenticationv1.UserInfo{
			Username: "alice@example.com",
			Groups:   []string{"oidc:developers", "oidc:ünïcode & 100%", "system:authenticated"},
			Extra:    map[string]authenticationv1.ExtraValue{"authentication.kubernetes.io/credential-id": {"JTI=token-17"}},
		}},
		"static token": {"robot-secret", authenticationv1.UserInfo{
			Username: "ci-robot", UID: "ci-1", Groups: []string{"ci", "builders", "system:authenticated"},
		}},
	} {
		got, a := g.whoAmI(t, row.token)
		checkUser(t, name+", as answered", got, row.want)
		event := w.auditEvent(t, a.Header.Get("Audit-Id"))
		if event.ImpersonatedUser == nil {
			t.Fatalf("%s: the API server recorded no impersonated user", name)
		}
		checkUser(t, name+", as recorded", *event.ImpersonatedUser, row.want)
		account := "system:serviceaccount:" + stage.AccountNamespace + ":" + stage.AccountName
		if event.User.Username != account {
			t.Errorf("%s: recorded as done by %s, want %s", name, event.User.Username, account)
		}
	}
}

// checkUser compares all that RBAC and audit go by.
func checkUser(t *testing.T, name string, got, want authenticationv1.UserInfo) {
	t.Helper()
	same := got.Username == want.Username && got.UID == want.UID && slices.Equal(got.Groups, want.Groups) &&
		len(got.Extra) == len(want.Extra)
	for key, values := range want.Extra {
		same = same && slices.Equal(got.Extra[key], values)
	}
	if !same {
		t.Errorf("%s:\n got %+v\nwant %+v", name, got, want)
	}
}
