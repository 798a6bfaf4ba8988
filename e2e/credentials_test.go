package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/certified"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

func put(t *testing.T, path string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// testClientCertificate: a client certificate names user and groups to the real
// API server, and stops working within the promised time once it stands on the
// revocation list; kubectl is told why.
func (w world) testClientCertificate(t *testing.T) {
	dir := t.TempDir()
	ca, err := authtest.NewCA("people")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Client("carol@example.com", "oidc:developers", "auditors")
	if err != nil {
		t.Fatal(err)
	}
	list, err := ca.RevocationList(1)
	if err != nil {
		t.Fatal(err)
	}
	crl := put(t, filepath.Join(dir, "ca.crl"), list)
	g := w.start(t, map[string]string{
		"GATEHOUSE_CLIENT_CA_FILE":  put(t, filepath.Join(dir, "ca.crt"), ca.PEM()),
		"GATEHOUSE_CLIENT_CRL_FILE": crl,
	})
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
	for args, want := range map[string]string{
		"auth whoami":                          "[auditors oidc:developers system:authenticated]",
		"auth whoami -o yaml":                  "X509SHA256=",
		"auth can-i delete deployments -n dev": "yes",
		"get deployments -n dev -o name":       "deployment.apps/hello",
	} {
		if r, err := k.Run(t.Context(), strings.Fields(args)...); err != nil || r.Code != 0 || !strings.Contains(r.Stdout, want) {
			t.Errorf("kubectl %s: %+v, %v; want %q", args, r, err, want)
		}
	}
	if list, err = ca.RevocationList(2, pair); err != nil {
		t.Fatal(err)
	}
	put(t, crl, list)
	eventually(t, reloadLimit, func() error {
		r, err := k.Run(t.Context(), "get", "deployments", "-n", "dev")
		if err == nil && !strings.Contains(r.Stderr, "Your client certificate was revoked") {
			err = fmt.Errorf("got %+v", r)
		}
		return err
	})
}

// testAuthenticationConfiguration: kube-apiserver's own configuration file
// brings two issuers, of which one is certified, with expressions, a rule, and
// an extra of its own.
func (w world) testAuthenticationConfiguration(t *testing.T) {
	provider, err := certified.Start(t.Context(), t.TempDir(), map[string]certified.Account{
		"erin": {Email: "erin@example.com", Groups: []string{"developers"}},
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Stop()
	entry := func(url, audience, caFile, rest string) string {
		pem, err := os.ReadFile(caFile)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf("- issuer: {url: %q, audiences: [%q], certificateAuthority: %q}\n%s", url, audience, pem, rest)
	}
	env := w.Env()
	file := put(t, filepath.Join(t.TempDir(), "authentication.yaml"), []byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n"+
		entry(w.Issuer.URL, env["GATEHOUSE_OIDC_CLIENT_ID"], env["GATEHOUSE_OIDC_CA_FILE"], `  claimMappings:
    username: {claim: email, prefix: ""}
    groups: {claim: groups, prefix: "oidc:"}
`)+entry(provider.URL, certified.ClientID, provider.CAFile, `  claimMappings:
    username: {expression: '"certified:" + claims.email'}
    groups: {expression: 'dyn(claims.groups).map(g, "oidc:" + g)'}
  claimValidationRules:
  - {expression: 'claims.email_verified == true', message: the address must be verified}
`)))
	changes := map[string]string{"GATEHOUSE_AUTHENTICATION_CONFIG": file}
	for name := range env {
		if strings.HasPrefix(name, "GATEHOUSE_OIDC_") {
			changes[name] = ""
		}
	}
	g := w.start(t, changes)
	token, err := provider.SignIn(t.Context(), "erin")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ token, user string }{
		{token, "certified:erin@example.com"},
		{w.Issuer.Token(stage.Person("alice", "developers")), "alice@example.com"},
	} {
		eventually(t, reloadLimit, func() error { // discovery is in the background
			_, err := g.kubectl(t, row.token).Must(t.Context(), "", "get", "deployments", "-n", "dev")
			return err
		})
		if got, _ := g.whoAmI(t, row.token); got.Username != row.user || !slices.Contains(got.Groups, "oidc:developers") {
			t.Errorf("got %+v, want %s", got, row.user)
		}
	}
}
