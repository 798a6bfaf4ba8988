package e2e_test

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"golang.org/x/oauth2"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/nexthop"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

//go:embed testdata/exchange.yaml
var exchangeRights []byte

// deployer is the ServiceAccount whose token is asked for, and deployerUser its
// user name.
const (
	deployer     = "delivery:deployer"
	deployerUser = "system:serviceaccount:delivery:deployer"
)

// exchanging is a gatehouse that exchanges tokens, with exactly the rights that
// `gatehouse rbac` prints for its settings.
type exchanging struct {
	gate
	ci     *authtest.Issuer // of jobs and agents
	keys   string           // the directory of the session keys
	denied string           // the revocation file
	env    map[string]string
}

// exchange starts such a gatehouse, whose account has a namespace of this name. It
// trusts the stage's issuer, one of CI, and others if there are more. The right to
// have things is that of testdata/exchange.yaml.
func (w world) exchange(t *testing.T, namespace string, more ...map[string]any) exchanging {
	t.Helper()
	if err := w.Cluster.Apply(t.Context(), exchangeRights); err != nil {
		t.Fatal(err)
	}
	ci, authority := stagetest.Issuer(t)
	dir := t.TempDir()
	x := exchanging{ci: ci, keys: filepath.Join(dir, "keys"), denied: put(t, filepath.Join(dir, "revoked.yaml"), []byte("revoked: []\n"))}
	if err := os.Mkdir(x.keys, 0o700); err != nil {
		t.Fatal(err)
	}
	x.newKey(t, "signing.pem")
	x.env = w.Env()
	people, err := os.ReadFile(x.env["GATEHOUSE_OIDC_CA_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(x.env, func(name, _ string) bool { return strings.HasPrefix(name, "GATEHOUSE_OIDC_") })
	config, err := yaml.Marshal(map[string]any{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
		"jwt": append([]map[string]any{
			{
				"issuer": map[string]any{"url": w.Issuer.URL, "audiences": []string{authtest.Audience}, "certificateAuthority": string(people)},
				"claimMappings": map[string]any{
					"username": map[string]any{"claim": "email", "prefix": ""}, "groups": map[string]any{"claim": "groups", "prefix": "oidc:"},
				},
			},
			{
				"issuer":        map[string]any{"url": ci.URL, "audiences": []string{authtest.Audience}, "certificateAuthority": string(authority.PEM())},
				"claimMappings": map[string]any{"username": map[string]any{"claim": "sub", "prefix": "ci:"}},
			},
		}, more...),
	})
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(x.env, map[string]string{
		"GATEHOUSE_AUTHENTICATION_CONFIG": put(t, filepath.Join(dir, "authentication.yaml"), config),
		"GATEHOUSE_REVOCATION_FILE":       x.denied,
		"GATEHOUSE_SESSION_KEY_DIR":       x.keys,
		"GATEHOUSE_TOKEN_REVIEW":          "true",
		"GATEHOUSE_EXCHANGE_RATE":         "600",
	})
	// The rights do not depend on where it listens: here, where the how-to says.
	asked := maps.Clone(x.env)
	for line := range strings.Lines(blockWith(t, exchangePage, "", "GATEHOUSE_EXCHANGE_ADDRESS=")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		asked[name] = value
	}
	x.gate = x.replica(t, w, w.account(t, namespace, w.printed(t, asked, namespace)), nil)
	x.awaitReport(t, http.StatusOK, "[+]rights ok\n")
	t.Cleanup(func() { // whatever the test did
		if code, report, err := x.Ops(context.WithoutCancel(t.Context()), "/readyz?verbose"); err != nil || code != http.StatusOK || !strings.Contains(report, "[+]rights ok\n") {
			t.Errorf("at the end: %d %s, %v", code, report, err)
		}
	})
	return x
}

// replica starts one more gatehouse with the environment of x, and what change adds.
func (x *exchanging) replica(t *testing.T, w world, kubeconfig string, change map[string]string) gate {
	t.Helper()
	x.env["GATEHOUSE_KUBECONFIG"] = kubeconfig
	env := maps.Clone(x.env)
	maps.Copy(env, change)
	g := w.startAs(t, gatehouse.Config{Exchange: true}, env, kubeconfig)
	g.client.Timeout = 0
	return g
}

// newKey puts a new key into the directory.
func (x *exchanging) newKey(t *testing.T, name string) {
	t.Helper()
	if _, err := pki.Key(x.keys, name); err != nil {
		t.Fatal(err)
	}
}

// deny replaces the revocation file by one with this entry.
func (x *exchanging) deny(t *testing.T, entry string) {
	t.Helper()
	put(t, x.denied, []byte("revoked:\n- "+entry+"\n"))
}

// must exchanges a token, and fails the test if there is none.
func (g gate) must(t *testing.T, wish gatehouse.Wish) *oauth2.Token {
	t.Helper()
	token, err := g.Exchange(t.Context(), wish)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// refuses checks that an exchange is refused with this error, and a description
// that says so.
func (g gate) refuses(t *testing.T, name string, wish gatehouse.Wish, code, description string) {
	t.Helper()
	_, err := g.Exchange(t.Context(), wish)
	refused := new(oauth2.RetrieveError)
	if !errors.As(err, &refused) || refused.ErrorCode != code || !strings.Contains(refused.ErrorDescription, description) {
		t.Errorf("%s: got %v, want %s: %s", name, err, code, description)
	}
}

// job is what a platform of CI says of one: for five minutes.
func job(repository string) authtest.Claims {
	return authtest.Claims{
		"sub": "repo:" + repository + ":ref:refs/heads/main", "repository": repository,
		"jti": "job-" + repository, "exp": time.Now().Add(5 * time.Minute).Unix(),
	}
}

// jwtClaims returns what a JWT says, and by which key.
func jwtClaims(t *testing.T, token string, v any) (kid string) {
	t.Helper()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256, jose.RS256})
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(signed.UnsafePayloadWithoutVerification(), v); err != nil {
		t.Fatal(err)
	}
	return signed.Signatures[0].Header.KeyID
}

// testExchangeForAccount: a job of CI exchanges its five-minute token for a
// ServiceAccount's token for another service, which verifies it with the cluster's
// own keys and takes it if it is meant for it. Who may have it is RBAC's to say,
// and the API server's audit log names the job.
func (w world) testExchangeForAccount(t *testing.T) {
	x := w.exchange(t, "exchange-account")
	secrets, err := nexthop.Start(t.Context(), t.TempDir(), x.env["GATEHOUSE_KUBECONFIG"], "secrets.example.com")
	if err != nil {
		t.Fatal(err)
	}
	defer secrets.Close()
	shop := x.ci.Token(job("acme/shop"))
	wish := gatehouse.Wish{Subject: shop, Account: deployer, Audience: "secrets.example.com"}
	token := x.must(t, wish)
	if left := time.Until(token.Expiry); left < 50*time.Minute || left > 61*time.Minute || token.TokenType != "Bearer" {
		t.Errorf("%s token for %s, want an hour", token.TokenType, left)
	}
	if code, said, err := secrets.Call(t.Context(), token.AccessToken); err != nil || code != http.StatusOK || said != "welcome, "+deployerUser {
		t.Errorf("the service said %d %s, %v", code, said, err)
	}
	other := wish
	other.Audience, other.Lifetime = "billing.example.com", 10*time.Minute
	billing := x.must(t, other)
	if left := time.Until(billing.Expiry); left > 11*time.Minute {
		t.Errorf("it lives for %s, want 10 minutes", left)
	}
	for name, bad := range map[string]string{"for another": billing.AccessToken, "the job's own": shop} {
		if code, said, err := secrets.Call(t.Context(), bad); err != nil || code != http.StatusUnauthorized {
			t.Errorf("a token %s: the service said %d %s, %v", name, code, said, err)
		}
	}
	// It is no way into the cluster either.
	if a := x.get(t, "/api", token.AccessToken); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("gatehouse took it: %s", a.Status)
	}

	const mayNot = "the cluster's rules, or the scope of your token, do not let you create serviceaccounts/token there"
	x.refuses(t, "another account", gatehouse.Wish{Subject: shop, Account: "delivery:other", Audience: "a"}, "invalid_target", mayNot)
	x.refuses(t, "gatehouse's own", gatehouse.Wish{Subject: shop, Account: "exchange-account:door", Audience: "a"}, "invalid_target", mayNot)
	x.refuses(t, "another repository", gatehouse.Wish{Subject: x.ci.Token(job("evil/shop")), Account: deployer, Audience: "a"}, "invalid_target", mayNot)
	x.refuses(t, "no audience", gatehouse.Wish{Subject: shop, Account: deployer}, "invalid_target", "Say by audience")
	x.refuses(t, "no such account", gatehouse.Wish{Subject: w.Issuer.Token(stage.Person("alice", "developers")), Account: "dev:nobody", Audience: "a"}, "invalid_target", "There is no such ServiceAccount")
	x.refuses(t, "expired", gatehouse.Wish{Subject: x.ci.Token(authtest.Claims{"exp": 1}), Account: deployer, Audience: "a"}, "invalid_request", "Your token expired")
	x.refuses(t, "for another application", gatehouse.Wish{Subject: x.ci.Token(authtest.Claims{"aud": "vault"}), Account: deployer, Audience: "a"}, "invalid_request", "Your token was issued for another application")

	const caller = "ci:repo:acme/shop:ref:refs/heads/main"
	w.awaitTokenRequest(t, "deployer", func(e auditv1.Event) bool {
		return e.User.Username == "system:serviceaccount:exchange-account:door" && e.ImpersonatedUser != nil && e.ImpersonatedUser.Username == caller &&
			slices.Equal(e.ImpersonatedUser.Extra["authentication.kubernetes.io/credential-id"], []string{"JTI=job-acme/shop"})
	})
	if line, err := x.AwaitLog(t.Context(), `"msg":"token exchange"`, `"service_account":"delivery/deployer"`, caller); err != nil || strings.Contains(line, token.AccessToken[:40]) {
		t.Errorf("%v: %s", err, line)
	}
}

// awaitTokenRequest waits until the API server has recorded that a token of an
// account in the namespace delivery was made for whom is asks for.
func (w world) awaitTokenRequest(t *testing.T, account string, is func(auditv1.Event) bool) {
	t.Helper()
	eventually(t, reloadLimit, func() error {
		events, err := w.Cluster.AuditEvents()
		if err != nil {
			return err
		}
		var others []string
		for _, e := range events {
			if e.ObjectRef == nil || e.ObjectRef.Subresource != "token" || e.ObjectRef.Name != account || e.ObjectRef.Namespace != "delivery" || e.Stage != auditv1.StageResponseComplete {
				continue
			}
			if e.ResponseStatus.Code == http.StatusCreated && is(e) {
				return nil
			}
			others = append(others, fmt.Sprintf("%s for %v: %d", e.User.Username, e.ImpersonatedUser, e.ResponseStatus.Code))
		}
		return fmt.Errorf("no such event, but %q", others)
	})
}

// testExchangeOfWorkload: workloads exchange their ServiceAccounts' tokens, those of
// another cluster under the name that it has here, and the cluster's own as
// themselves. The API server makes no session for them.
func (w world) testExchangeOfWorkload(t *testing.T) {
	second, err := w.AnotherCluster(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	if err := second.Apply(t.Context(), []byte(workloads)); err != nil {
		t.Fatal(err)
	}
	x := w.exchange(t, "exchange-workload", secondIssuer(t, second))
	foreign := serviceAccountToken(t, second, "build/ci", firstCluster)
	eventually(t, reloadLimit, func() error { // discovery is in the background
		return status(x.get(t, "/api", foreign), http.StatusOK)
	})
	own := w.builderToken(t, "")
	for _, row := range []struct {
		name, token, user, impersonated string
	}{
		{"of another cluster", foreign, "system:serviceaccount:exchange-workload:door", "second:build:ci"},
		{"of this one", own, stage.BuilderUser, ""},
	} {
		made := x.must(t, gatehouse.Wish{Subject: row.token, Account: deployer, Audience: "vault"})
		var claims struct{ Sub string }
		if jwtClaims(t, made.AccessToken, &claims); claims.Sub != deployerUser {
			t.Errorf("%s: the token is of %s", row.name, claims.Sub)
		}
		w.awaitTokenRequest(t, "deployer", func(e auditv1.Event) bool {
			impersonated := ""
			if e.ImpersonatedUser != nil {
				impersonated = e.ImpersonatedUser.Username
			}
			return e.User.Username == row.user && impersonated == row.impersonated
		})
	}
	x.refuses(t, "a session of an account", gatehouse.Wish{Subject: own, Scope: "read-only"}, "invalid_target", "No session token can name you")
	session := x.must(t, gatehouse.Wish{Subject: foreign, Scope: "read-only"})
	if user, _ := x.whoAmI(t, session.AccessToken); user.Username != "second:build:ci" {
		t.Errorf("the session is of %s", user.Username)
	}
	x.refuses(t, "for the other cluster", gatehouse.Wish{Subject: serviceAccountToken(t, second, "build/ci", "")}, "invalid_request", "Your token was issued for another application")
}

// secondIssuer is another cluster in an AuthenticationConfiguration.
func secondIssuer(t *testing.T, second *cluster.Cluster) map[string]any {
	t.Helper()
	authority, err := os.ReadFile(second.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	return map[string]any{
		"issuer": map[string]any{"url": second.URL(), "audiences": []string{firstCluster}, "certificateAuthority": string(authority)},
		"claimMappings": map[string]any{"username": map[string]any{
			"expression": `"second:" + claims.sub.split(":")[2] + ":" + claims.sub.split(":")[3]`,
		}},
	}
}
