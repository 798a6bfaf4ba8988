package e2e_test

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

func (w world) builderToken(t *testing.T, boundTo string, audiences ...string) string {
	t.Helper()
	token, err := w.BuilderToken(t.Context(), boundTo, audiences...)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// testServiceAccountToken: the cluster's own ServiceAccount is served as itself,
// with everything that the API server knows of it, under its own name in the
// audit log; a token for another audience, gatehouse's own, and one whose object
// is gone are refused.
func (w world) testServiceAccountToken(t *testing.T) {
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_REVIEW": "true"})
	token := w.builderToken(t, "")
	k := g.kubectl(t, token)
	// A refusal is shown whole once kubectl knows what the server has.
	if r, err := k.Run(t.Context(), "get", "deployments", "-n", "dev"); err != nil || r.Code != 0 {
		t.Errorf("kubectl get deployments: %+v, %v", r, err)
	}
	for args, want := range map[string]string{
		"auth whoami":                      "[system:serviceaccounts system:serviceaccounts:dev system:authenticated]",
		"auth whoami -o yaml":              "JTI=",
		"get deployments -n dev -o name":   "deployment.apps/hello",
		"auth can-i get pods -n dev":       "yes",
		"get secrets -n dev":               `User "` + stage.BuilderUser + `" cannot list resource "secrets"`,
		"get pods --as=alice@example.com":  `User "` + stage.BuilderUser + `" cannot impersonate-on:user-info:list resource "pods"`,
		"auth can-i create secrets -n dev": "no",
	} {
		if r, err := k.Run(t.Context(), strings.Fields(args)...); err != nil || !strings.Contains(r.Stdout+r.Stderr, want) {
			t.Errorf("kubectl %s: %+v, %v; want %q", args, r, err, want)
		}
	}
	user, a := g.whoAmI(t, token)
	if user.Username != stage.BuilderUser || user.UID == "" {
		t.Errorf("got %+v", user)
	}
	event := w.auditEvent(t, a.Header.Get("Audit-Id"))
	if event.User.Username != stage.BuilderUser || event.ImpersonatedUser != nil {
		t.Errorf("recorded as %s for %v", event.User.Username, event.ImpersonatedUser)
	}

	own, err := w.Cluster.Token(stage.AccountNamespace, stage.AccountName)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ name, token, want string }{
		{"another audience", w.builderToken(t, "", "vault"), "Your token was issued for another application"},
		{"gatehouse's own", own, "is reserved for Kubernetes itself"},
		{"damaged", token[:len(token)-6] + "AAAAAA", "Your credential was not accepted"},
	} {
		if a := g.get(t, "/api", row.token); a.StatusCode < 400 || a.StatusCode >= 500 || !strings.Contains(a.body, row.want) {
			t.Errorf("%s: %s %s", row.name, a.Status, a.body)
		}
	}
	if closed := w.start(t, nil).get(t, "/api", token); closed.StatusCode != 401 {
		t.Errorf("without the setting: %s %s", closed.Status, closed.body)
	}
}

// testServiceAccountStream: a watch of a ServiceAccount ends when its token is
// taken back, though nobody tells gatehouse.
func (w world) testServiceAccountStream(t *testing.T) {
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_REVIEW": "true"})
	g.client.Timeout = 0
	admin := w.Cluster.Admin()
	if _, err := admin.Must(t.Context(), "", "create", "secret", "generic", "builder-bound", "-n", "dev"); err != nil {
		t.Fatal(err)
	}
	token := w.builderToken(t, "builder-bound")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Second)
	defer cancel()
	watch := g.openWatch(ctx, t, token)
	if _, err := admin.Must(ctx, "", "delete", "secret", "builder-bound", "-n", "dev"); err != nil {
		t.Fatal(err)
	}
	awaitCleanEnd(t, watch)
	if a := g.get(t, "/api", token); a.StatusCode != 401 {
		t.Errorf("afterwards: %s %s", a.Status, a.body)
	}
}

// awaitCleanEnd reads a watch to its end, which must look as if the API server
// had made it.
func awaitCleanEnd(t *testing.T, watch io.Reader) {
	t.Helper()
	if rest, err := io.ReadAll(watch); err != nil {
		t.Errorf("the watch ended with %v after %q, want a clean end", err, rest)
	}
}

// testRevocation: whoever is put on the revocation file is refused and cut off
// within the promised time, whatever the credential: a token by its id, a person
// by name, a certificate by its fingerprint.
func (w world) testRevocation(t *testing.T) {
	dir := t.TempDir()
	ca, err := authtest.NewCA("people")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Client("carol@example.com", "oidc:viewers")
	if err != nil {
		t.Fatal(err)
	}
	file := put(t, filepath.Join(dir, "revoked.yaml"), []byte("revoked: []\n"))
	g := w.start(t, map[string]string{
		"GATEHOUSE_REVOCATION_FILE": file, "GATEHOUSE_CLIENT_CA_FILE": put(t, filepath.Join(dir, "ca.crt"), ca.PEM()),
	})
	g.client.Timeout = 0
	config := filepath.Join(dir, "kubeconfig")
	err = g.File(kubeconfig.User{
		Name: "carol", CertFile: put(t, filepath.Join(dir, "carol.crt"), pair.Cert), KeyFile: put(t, filepath.Join(dir, "carol.key"), pair.Key),
	}).Write(config)
	if err != nil {
		t.Fatal(err)
	}
	k, err := w.Kubectl(config)
	if err != nil {
		t.Fatal(err)
	}
	whoami, err := k.Must(t.Context(), "", "auth", "whoami", "-o", "yaml")
	if err != nil {
		t.Fatal(err)
	}
	id := whoami[strings.Index(whoami, "X509SHA256="):]
	id = strings.Fields(id)[0]

	claims := stage.Person("alice", "viewers")
	claims["jti"] = "stolen-17"
	stolen, bob, alice := w.Issuer.Token(claims), w.Issuer.Token(stage.Person("bob", "viewers")), w.Issuer.Token(stage.Person("alice", "viewers"))
	ctx, cancel := context.WithTimeout(t.Context(), streamLimit)
	defer cancel()
	var watches []io.Reader
	for _, token := range []string{stolen, bob} {
		watches = append(watches, g.openWatch(ctx, t, token))
	}
	put(t, file, fmt.Appendf(nil, "revoked:\n- jti: stolen-17\n- user: bob@example.com\n  issuedBefore: %s\n- credentialID: %s\n  note: laptop lost\n",
		time.Now().Add(time.Minute).UTC().Format(time.RFC3339), id))
	for _, watch := range watches {
		awaitCleanEnd(t, watch)
	}
	for _, token := range []string{stolen, bob} {
		if a := g.get(t, "/api", token); a.StatusCode != 401 || !strings.Contains(a.body, "has been revoked") {
			t.Errorf("got %s %s", a.Status, a.body)
		}
	}
	if a := g.get(t, "/api", alice); a.StatusCode != 200 {
		t.Errorf("another token of hers: %s %s", a.Status, a.body)
	}
	eventually(t, reloadLimit, func() error {
		r, err := k.Run(t.Context(), "get", "pods", "-n", "dev")
		if err == nil && !strings.Contains(r.Stderr, "has been revoked") {
			err = fmt.Errorf("got %+v", r)
		}
		return err
	})
	if !slices.ContainsFunc(g.Logs(), func(line string) bool { return strings.Contains(line, "laptop lost") }) {
		t.Error("the operator's log does not tell the entry")
	}
}
