package e2e_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/certified"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// erin is the one account of a certified provider.
var erin = map[string]certified.Account{"erin": {Email: "erin@example.com", Groups: []string{"developers"}}}

// testCertifiedIssuer: an ID token of a provider that others wrote and the
// OpenID Foundation certified is accepted, with its e-mail address and groups.
func (w world) testCertifiedIssuer(t *testing.T) {
	provider, err := certified.Start(t.Context(), t.TempDir(), erin, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Stop()
	w.checkProvider(t, provider)
}

// testCertifiedGoIssuer: the same holds for a second provider, which signs with
// ES256 and puts azp, amr, at_hash and more into its ID tokens.
func (w world) testCertifiedGoIssuer(t *testing.T) {
	provider, err := certified.StartZitadel(t.Context(), t.TempDir(), erin, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer provider.Stop()
	w.checkProvider(t, provider)
}

// checkProvider: erin, signed in by either flow, is who the provider says and
// may do what her groups may. Nobody else's tokens count.
func (w world) checkProvider(t *testing.T, provider *certified.Provider) {
	g := w.start(t, map[string]string{
		"GATEHOUSE_OIDC_ISSUER_URL":   provider.URL,
		"GATEHOUSE_OIDC_CLIENT_ID":    certified.ClientID,
		"GATEHOUSE_OIDC_CA_FILE":      provider.CAFile,
		"GATEHOUSE_OIDC_SIGNING_ALGS": provider.Algorithm,
	})
	byCode, err := provider.SignIn(t.Context(), "erin")
	if err != nil {
		t.Fatal(err)
	}
	byDevice, err := provider.SignInByDevice(t.Context(), "erin")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, reloadLimit, func() error { // discovery is in the background
		return status(g.get(t, "/api", byCode), http.StatusOK)
	})
	for flow, token := range map[string]string{"code": byCode, "device": byDevice} {
		k := g.kubectl(t, token)
		for _, row := range []struct {
			args   string
			code   int
			prints string
		}{
			{"auth whoami", 0, "erin@example.com"},
			{"auth whoami", 0, "[oidc:developers system:authenticated]"},
			{"get deployments -n dev", 0, "hello"},
			{"get nodes", 1, `User "erin@example.com" cannot list resource "nodes"`},
		} {
			r, err := k.Run(t.Context(), strings.Fields(row.args)...)
			if err != nil || r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
				t.Errorf("by %s: kubectl %s: got %+v and %v, want code %d and %q", flow, row.args, r, err, row.code, row.prints)
			}
		}
	}
	ours := g.get(t, "/api", w.Issuer.Token(stage.Person("alice", "developers")))
	if ours.StatusCode != http.StatusUnauthorized {
		t.Errorf("a token of an issuer that is not configured: got %s", ours.Status)
	}
}
