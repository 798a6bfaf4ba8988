package main

import (
	"net/http"
	"strings"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

func oidcSettingTests() map[string]settingTest {
	return map[string]settingTest{
		"OIDC_ISSUER_URL":       testIssuerURL,
		"OIDC_CLIENT_ID":        testClientID,
		"OIDC_CA_FILE":          testIssuerCA,
		"OIDC_USERNAME_CLAIM":   testUsernameClaim,
		"OIDC_USERNAME_PREFIX":  testUsernamePrefix,
		"OIDC_GROUPS_CLAIM":     testGroupsClaim,
		"OIDC_GROUPS_PREFIX":    testGroupsPrefix,
		"OIDC_REQUIRED_CLAIMS":  testRequiredClaims,
		"OIDC_SIGNING_ALGS":     testSigningAlgs,
		"AUTHENTICATION_CONFIG": testAuthenticationConfig,
		"ALLOW_CLUSTER_ISSUER":  testAllowClusterIssuer,
		"CLIENT_CA_FILE":        testClientCertificates,
		"CLIENT_CRL_FILE":       testClientCertificates,
		"CLIENT_CRL_STALE":      testClientCRLStale,
		"AUTHORIZED_PARTIES":    testAuthorizedParties,
		"TOKEN_TYPES":           testTokenTypes,
		"JWKS_ORIGINS":          testJWKSOrigins,
		"JWKS_REFRESH_INTERVAL": testJWKSRefreshInterval,
		"JWKS_MAX_AGE":          testJWKSMaxAge,
	}
}

// signIn starts a gatehouse that accepts issuer's tokens, and returns once it
// has the issuer's keys.
func signIn(t *testing.T, w *world, issuer *authtest.Issuer, more map[string]string) *process {
	t.Helper()
	p := w.start(t, w.oidc(issuer, more))
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+issuer.URL+" ok")
	return p
}

// expectUser asks with token and compares the user that the API server saw.
func (p *process) expectUser(t *testing.T, token, user string, groups ...string) {
	t.Helper()
	got := p.ask(t, token, "/version")
	if got.code != http.StatusOK {
		t.Errorf("status %d, want 200: %s", got.code, got.body)
		return
	}
	want := http.Header{"Impersonate-User": {user}}
	if len(groups) > 0 {
		want["Impersonate-Group"] = groups
	}
	if diff := cmp.Diff(want, impersonation(got.seen.Header)); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
}

// expectRefusal asks with token and expects this status, with words of the
// sentence that says why.
func (p *process) expectRefusal(t *testing.T, token string, code int, words string) {
	t.Helper()
	p.expectRefusalAt(t, token, "/version", code, words)
}

func (p *process) expectRefusalAt(t *testing.T, token, path string, code int, words string) {
	t.Helper()
	if got := p.ask(t, token, path); got.code != code || !strings.Contains(got.body, words) {
		t.Errorf("%s: status %d %s, want %d with %q", path, got.code, got.body, code, words)
	}
}

// Tokens of OIDC_ISSUER_URL are accepted, and no others.
func testIssuerURL(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, nil)
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
	p.expectRefusal(t, issuer.Token(authtest.Claims{"iss": issuer.URL + "/other"}), http.StatusUnauthorized, "not accepted")
}

// A token's audience must hold OIDC_CLIENT_ID.
func testClientID(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, map[string]string{"OIDC_CLIENT_ID": "cluster-7"})
	p.expectUser(t, issuer.Token(authtest.Claims{"aud": []string{"x", "cluster-7"}}), issuer.URL+"#subject-1")
	p.expectRefusal(t, issuer.Token(nil), http.StatusUnauthorized, "another application")
}

// The issuer's certificate is verified by OIDC_CA_FILE: by the CA that signed
// it its keys are fetched, and by another they are not.
func testIssuerCA(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, nil)
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")

	stranger, err := authtest.NewCA("stranger")
	if err != nil {
		t.Fatal(err)
	}
	p = w.start(t, w.oidc(issuer, map[string]string{"OIDC_CA_FILE": w.write(t, "stranger.crt", string(stranger.PEM()))}))
	p.awaitReady(t, http.StatusServiceUnavailable, "certificate signed by unknown authority")
	p.expectRefusal(t, issuer.Token(nil), http.StatusServiceUnavailable, "issuer's keys are not known")
}

// OIDC_USERNAME_CLAIM names the claim that the user is taken from. email wants
// email_verified, as kube-apiserver does.
func testUsernameClaim(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, map[string]string{"OIDC_USERNAME_CLAIM": "login"})
	p.expectUser(t, issuer.Token(authtest.Claims{"login": "ana"}), issuer.URL+"#ana")
	p.expectRefusal(t, issuer.Token(nil), http.StatusUnauthorized, "which claim is used")

	p = signIn(t, w, issuer, map[string]string{"OIDC_USERNAME_CLAIM": "email"})
	p.expectUser(t, issuer.Token(authtest.Claims{"email": "ana@example.com", "email_verified": true}), "ana@example.com")
	p.expectUser(t, issuer.Token(authtest.Claims{"email": "ana@example.com"}), "ana@example.com")
	p.expectRefusal(t, issuer.Token(authtest.Claims{"email": "ana@example.com", "email_verified": false}),
		http.StatusUnauthorized, "not verified")
}

// OIDC_USERNAME_PREFIX holds kube-apiserver's rules: unset, it is the issuer
// and # but for email, which has none, and - is none.
func testUsernamePrefix(t *testing.T, w *world, issuer *authtest.Issuer) {
	token := issuer.Token(authtest.Claims{"email": "ana@example.com"})
	for _, test := range []struct{ claim, prefix, want string }{
		{"sub", "", issuer.URL + "#subject-1"},
		{"sub", "-", "subject-1"},
		{"sub", "corp:", "corp:subject-1"},
		{"email", "", "ana@example.com"},
		{"email", "-", "ana@example.com"},
		{"email", "corp:", "corp:ana@example.com"},
	} {
		t.Run(test.claim+" "+test.prefix, func(t *testing.T) {
			t.Parallel()
			p := signIn(t, w, issuer, map[string]string{"OIDC_USERNAME_CLAIM": test.claim, "OIDC_USERNAME_PREFIX": test.prefix})
			p.expectUser(t, token, test.want)
		})
	}
}

// Groups come from OIDC_GROUPS_CLAIM, a string or a list, and without it there
// are none.
func testGroupsClaim(t *testing.T, w *world, issuer *authtest.Issuer) {
	list := issuer.Token(authtest.Claims{"roles": []string{"dev", "ops"}, "groups": []string{"x"}})
	p := signIn(t, w, issuer, map[string]string{"OIDC_GROUPS_CLAIM": "roles"})
	p.expectUser(t, list, issuer.URL+"#subject-1", "dev", "ops")
	p.expectUser(t, issuer.Token(authtest.Claims{"roles": "dev"}), issuer.URL+"#subject-1", "dev")
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
	p.expectRefusal(t, issuer.Token(authtest.Claims{"roles": 7}), http.StatusUnauthorized, "groups")

	p = signIn(t, w, issuer, nil)
	p.expectUser(t, list, issuer.URL+"#subject-1")
}

// OIDC_GROUPS_PREFIX is put before each group. What it makes is judged, not
// what the token says: a prefix keeps system:masters from being it.
func testGroupsPrefix(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, map[string]string{"OIDC_GROUPS_CLAIM": "groups", "OIDC_GROUPS_PREFIX": "corp:"})
	p.expectUser(t, issuer.Token(authtest.Claims{"groups": []string{"dev", "system:masters"}}),
		issuer.URL+"#subject-1", "corp:dev", "corp:system:masters")
}

// Each of OIDC_REQUIRED_CLAIMS must be a string of exactly its value.
func testRequiredClaims(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, map[string]string{"OIDC_REQUIRED_CLAIMS": "hd=example.com,env=prod=1"})
	p.expectUser(t, issuer.Token(authtest.Claims{"hd": "example.com", "env": "prod=1"}), issuer.URL+"#subject-1")
	for name, claims := range map[string]authtest.Claims{
		"none":          nil,
		"one of two":    {"hd": "example.com"},
		"another value": {"hd": "example.com", "env": "prod"},
		"another case":  {"hd": "Example.com", "env": "prod=1"},
		"a list":        {"hd": []string{"example.com"}, "env": "prod=1"},
	} {
		t.Run(name, func(t *testing.T) {
			p.expectRefusal(t, issuer.Token(claims), http.StatusUnauthorized, "lacks a claim")
		})
	}
}

// OIDC_SIGNING_ALGS are accepted, and the default is not besides them.
func testSigningAlgs(t *testing.T, w *world, _ *authtest.Issuer) {
	issuer := w.newIssuer(t)
	rsa := issuer.Key()
	curve, err := authtest.NewKey("key-2", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	issuer.Publish(curve, rsa)
	p := signIn(t, w, issuer, map[string]string{"OIDC_SIGNING_ALGS": "ES384,ES256"})
	p.expectUser(t, curve.Sign(issuer.Payload(nil)), issuer.URL+"#subject-1")
	p.expectRefusal(t, rsa.Sign(issuer.Payload(nil)), http.StatusUnauthorized, "not accepted")
}

// A token's azp may name a client of AUTHORIZED_PARTIES or the client id; *
// stands for any.
func testAuthorizedParties(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, map[string]string{"AUTHORIZED_PARTIES": "cli,web"})
	for _, party := range []string{"cli", "web", authtest.Audience} {
		p.expectUser(t, issuer.Token(authtest.Claims{"azp": party}), issuer.URL+"#subject-1")
	}
	p.expectRefusal(t, issuer.Token(authtest.Claims{"azp": "game"}), http.StatusUnauthorized, "may not be used with this cluster")

	p = signIn(t, w, issuer, map[string]string{"AUTHORIZED_PARTIES": "*"})
	p.expectUser(t, issuer.Token(authtest.Claims{"azp": "game"}), issuer.URL+"#subject-1")
}

// TOKEN_TYPES takes the place of the default, JWT.
func testTokenTypes(t *testing.T, w *world, issuer *authtest.Issuer) {
	p := signIn(t, w, issuer, map[string]string{"TOKEN_TYPES": "at+jwt"})
	header := map[string]any{"alg": "RS256", "kid": issuer.Key().ID, "typ": "application/at+jwt"}
	p.expectUser(t, issuer.Key().SignHeader(header, issuer.Payload(nil)), issuer.URL+"#subject-1")
	p.expectRefusal(t, issuer.Token(nil), http.StatusUnauthorized, "no ID token")
}

// Keys come from another origin only if JWKS_ORIGINS names it.
func testJWKSOrigins(t *testing.T, w *world, _ *authtest.Issuer) {
	issuer, keys := w.newIssuer(t), w.newIssuer(t)
	keys.Publish(issuer.Key())
	issuer.EditDiscovery(func(doc map[string]any) { doc["jwks_uri"] = keys.URL + "/keys" })

	p := w.start(t, w.oidc(issuer, nil))
	p.awaitReady(t, http.StatusServiceUnavailable, "jwks_uri is on another origin")
	if n := keys.KeyFetches.Load(); n != 0 {
		t.Errorf("the other origin was asked %d times", n)
	}
	p = signIn(t, w, issuer, map[string]string{"JWKS_ORIGINS": "https://keys.example.com," + keys.URL})
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
}

// A withdrawn key stops working within JWKS_REFRESH_INTERVAL.
func testJWKSRefreshInterval(t *testing.T, w *world, _ *authtest.Issuer) {
	issuer := w.newIssuer(t)
	p := signIn(t, w, issuer, map[string]string{"JWKS_REFRESH_INTERVAL": "1s"})
	token := issuer.Token(nil)
	p.expectUser(t, token, issuer.URL+"#subject-1")
	next, err := authtest.NewKey("key-2", jose.RS256)
	if err != nil {
		t.Fatal(err)
	}
	issuer.Publish(next)
	awaitRefusal(t, p, token, http.StatusUnauthorized)
	p.expectUser(t, issuer.Token(nil), issuer.URL+"#subject-1")
}

// Keys older than JWKS_MAX_AGE are not used any more, while younger ones are:
// the issuer was reached last before it went down.
func testJWKSMaxAge(t *testing.T, w *world, _ *authtest.Issuer) {
	issuer := w.newIssuer(t)
	p := signIn(t, w, issuer, map[string]string{"JWKS_REFRESH_INTERVAL": "1s", "JWKS_MAX_AGE": "2s"})
	issuer.SetDown(true)
	token := issuer.Token(nil)
	p.expectUser(t, token, issuer.URL+"#subject-1")
	awaitRefusal(t, p, token, http.StatusServiceUnavailable)
	issuer.SetDown(false)
	p.awaitReady(t, http.StatusOK, "[+]issuer")
	p.expectUser(t, token, issuer.URL+"#subject-1")
}

func awaitRefusal(t *testing.T, p *process, token string, code int) {
	t.Helper()
	var got reply
	eventually(t, func() bool {
		got = p.ask(t, token, "/version")
		return got.code == code
	}, func() string { return got.body })
}
