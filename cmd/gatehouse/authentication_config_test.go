package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// jwt is an entry of an AuthenticationConfiguration for issuer, with the lines
// of its mappings and rules.
func (w *world) jwt(issuer *authtest.Issuer, rest string) string {
	return fmt.Sprintf(`
- issuer:
    url: %s
    audiences: [%s, other]
    audienceMatchPolicy: MatchAny
    certificateAuthority: %q
%s`, issuer.URL, authtest.Audience, w.ca.PEM(), rest)
}

func (w *world) writeConfig(t *testing.T, version, anonymous string, jwts ...string) string {
	t.Helper()
	content := "apiVersion: apiserver.config.k8s.io/" + version + "\nkind: AuthenticationConfiguration\n" + anonymous
	if len(jwts) > 0 {
		content += "jwt:" + strings.Join(jwts, "")
	}
	return w.write(t, "authentication.yaml", content)
}

const (
	plainMapping = `  claimMappings:
    username: {claim: sub, prefix: "plain:"}
`
	celMapping = `  claimMappings:
    username: {expression: '"cel:" + claims.sub'}
    groups: {expression: 'dyn(claims.roles).map(r, "role:" + r)'}
    uid: {claim: oid}
    extra:
    - {key: example.com/tenant, valueExpression: claims.tenant}
  claimValidationRules:
  - {expression: 'claims.tenant == "blue"', message: the tenant must be blue}
  userValidationRules:
  - {expression: '!user.username.endsWith("root")', message: no roots}
`
)

// AUTHENTICATION_CONFIG brings several issuers with mappings and rules of their
// own, and takes effect again when it changes: a removed issuer's tokens are
// refused, a bad file changes nothing.
func testAuthenticationConfig(t *testing.T, _ *world, plain *authtest.Issuer) {
	w := newWorld(t)
	first, second := w.newIssuer(t), w.newIssuer(t)
	file := w.writeConfig(t, "v1beta1", "", w.jwt(first, plainMapping), w.jwt(second, celMapping))
	p := w.start(t, map[string]string{"TOKEN_AUTH_FILE": "", "AUTHENTICATION_CONFIG": file})
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+first.URL+" ok")
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+second.URL+" ok")

	p.expectUser(t, first.Token(authtest.Claims{"aud": "other"}), "plain:subject-1")
	claims := authtest.Claims{"roles": []string{"a", "b"}, "oid": "7", "tenant": "blue"}
	got := p.ask(t, second.Token(claims), "/version")
	want := http.Header{
		"Impersonate-User": {"cel:subject-1"}, "Impersonate-Group": {"role:a", "role:b"}, "Impersonate-Uid": {"7"},
		"Impersonate-Extra-Example.com%2ftenant": {"blue"},
	}
	if diff := cmp.Diff(want, impersonation(got.seen.Header)); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	p.expectRefusal(t, second.Token(nil), http.StatusUnauthorized, "groups in your token cannot be read")
	claims["tenant"] = "red"
	p.expectRefusal(t, second.Token(claims), http.StatusUnauthorized, "does not meet a rule")
	claims["tenant"], claims["sub"] = "blue", "root"
	p.expectRefusal(t, second.Token(claims), http.StatusUnauthorized, "do not meet a rule")
	p.expectRefusal(t, plain.Token(nil), http.StatusUnauthorized, "not accepted")

	w.writeConfig(t, "v1", "", w.jwt(second, plainMapping))
	p.awaitLine(t, "the changed issuers are in effect")
	p.expectUser(t, second.Token(nil), "plain:subject-1")
	p.expectRefusal(t, first.Token(nil), http.StatusUnauthorized, "not accepted")

	w.writeConfig(t, "v1", "", w.jwt(first, "  claimMapping: {}\n"))
	p.awaitLine(t, "changed files are bad, the last good content stays in effect")
	p.expectUser(t, second.Token(nil), "plain:subject-1")
}

// What a changed file takes away ends at once, even while the issuers that it
// adds cannot be reached.
func TestRemovedIssuerEndsAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.newIssuer(t), w.newIssuer(t)
	file := w.writeConfig(t, "v1", "anonymous: {enabled: true}\n", w.jwt(first, plainMapping))
	p := w.start(t, map[string]string{"AUTHENTICATION_CONFIG": file})
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+first.URL+" ok")
	p.expectUser(t, first.Token(nil), "plain:subject-1")
	second.SetDown(true)
	w.writeConfig(t, "v1", "anonymous: {enabled: false}\n", w.jwt(second, plainMapping))
	p.awaitReload(t, "authentication_config")
	p.expectRefusal(t, first.Token(nil), http.StatusUnauthorized, "not accepted")
	p.expectRefusal(t, "", http.StatusUnauthorized, "not signed in")
	second.SetDown(false)
	p.awaitLine(t, "the changed issuers are in effect")
	p.expectUser(t, second.Token(nil), "plain:subject-1")
}

// Without a credential only the paths of `anonymous` may be asked for, as
// system:anonymous; a bad credential is never anonymous.
func TestAnonymousPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := w.writeConfig(t, "v1", "anonymous: {enabled: true, conditions: [{path: /version}]}\n")
	p := w.start(t, map[string]string{"AUTHENTICATION_CONFIG": file})
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	got := p.ask(t, "", "/version")
	want := http.Header{"Impersonate-User": {"system:anonymous"}, "Impersonate-Group": {"system:unauthenticated"}}
	if diff := cmp.Diff(want, impersonation(got.seen.Header)); diff != "" {
		t.Errorf("identity (-want +got):\n%s", diff)
	}
	for _, path := range []string{"/version/", "/versio", "/api", "/version%2f"} {
		p.expectRefusalAt(t, "", path, http.StatusUnauthorized, "not signed in")
	}
	p.expectRefusal(t, "garbage", http.StatusUnauthorized, "not accepted")
	if got := p.ask(t, anaToken, "/version"); got.code != http.StatusOK || got.seen.Header.Get("Impersonate-User") != "ana" {
		t.Errorf("a static token: %d %v", got.code, got.seen.Header)
	}
}

// ALLOW_CLUSTER_ISSUER says whether the issuer of gatehouse's own token may be
// an issuer of people.
func testAllowClusterIssuer(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	issuer := w.newIssuer(t)
	w.write(t, "kubeconfig", kubeconfig(w.upstream.URL, "ca.crt", "token: "+issuer.Token(nil)))
	file := w.writeConfig(t, "v1", "", w.jwt(issuer, plainMapping))
	settings := map[string]string{"AUTHENTICATION_CONFIG": file}
	code, _, stderr := once(t, w.environ(settings), "check")
	if code != exitFault || !strings.Contains(stderr, "GATEHOUSE_AUTHENTICATION_CONFIG: "+file+": jwt[0].issuer.url: Invalid value") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	short := w.oidc(issuer, nil)
	code, _, stderr = once(t, w.environ(short), "check")
	if code != exitFault || !strings.Contains(stderr, "GATEHOUSE_OIDC_ISSUER_URL: is the issuer of the cluster's own ServiceAccount tokens") {
		t.Errorf("the short way: exit code %d:\n%s", code, stderr)
	}
	short["ALLOW_CLUSTER_ISSUER"] = "true"
	if code, _, stderr := once(t, w.environ(short), "check"); code != exitOK {
		t.Errorf("the short way: exit code %d, want 0:\n%s", code, stderr)
	}
	settings["ALLOW_CLUSTER_ISSUER"] = "true"
	if code, _, stderr := once(t, w.environ(settings), "check"); code != exitOK {
		t.Errorf("exit code %d, want 0:\n%s", code, stderr)
	}
}

// A configuration that cannot be honoured, or that kube-apiserver would refuse,
// stops the start with the path to each fault.
func TestBadAuthenticationConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	for name, tt := range map[string]struct{ content, want string }{
		"misspelt field":   {w.jwt(issuer, "  claimMapping: {}\n"), `unknown field "jwt[0].claimMapping"`},
		"no mapping":       {w.jwt(issuer, ""), "jwt[0].claimMappings.username: Required value: claim or expression is required"},
		"egress selector":  {strings.Replace(w.jwt(issuer, plainMapping), "audienceMatchPolicy", "egressSelectorType: cluster\n    audienceMatchPolicy", 1), "jwt[0].issuer.egressSelectorType: Forbidden: gatehouse has no egress selector"},
		"same issuer":      {w.jwt(issuer, plainMapping) + w.jwt(issuer, plainMapping), "jwt[1].issuer.url: Duplicate value"},
		"email expression": {w.jwt(issuer, "  claimMappings: {username: {expression: claims.email}}\n"), "claims.email_verified"},
	} {
		t.Run(name, func(t *testing.T) {
			file := w.write(t, strings.ReplaceAll(name, " ", "-")+".yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:"+tt.content)
			code, _, stderr := once(t, w.environ(map[string]string{"AUTHENTICATION_CONFIG": file}), "check")
			if code != exitFault || !strings.Contains(stderr, "GATEHOUSE_AUTHENTICATION_CONFIG: "+file+": ") || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, want 1 and %q:\n%s", code, tt.want, stderr)
			}
		})
	}
	both := w.oidc(issuer, map[string]string{"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "", w.jwt(issuer, plainMapping))})
	if code, _, stderr := once(t, w.environ(both), "check"); code != exitFault || !strings.Contains(stderr, "excludes the GATEHOUSE_OIDC_ variables") {
		t.Errorf("with OIDC settings: exit code %d:\n%s", code, stderr)
	}
}

// Issuers whose prefixes do not keep two people apart are reported at start and
// by check.
func TestCollisionsAreReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.newIssuer(t), w.newIssuer(t)
	nested := strings.Replace(plainMapping, "plain:", "plain:x", 1)
	file := w.writeConfig(t, "v1", "", w.jwt(a, plainMapping), w.jwt(b, nested))
	code, stdout, stderr := once(t, w.environ(map[string]string{"AUTHENTICATION_CONFIG": file}), "check")
	if want := "can give two people one name"; code != exitOK || !strings.Contains(stdout+stderr, want) {
		t.Errorf("exit code %d, want 0 and %q:\n%s%s", code, want, stdout, stderr)
	}
}

// awaitLine waits for a line of the log with this message.
func (p *process) awaitLine(t *testing.T, message string) {
	t.Helper()
	p.log.await(t, message, func(line string) bool { return field(line, "msg") == message })
}
