package main

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// explainJSON runs `explain -o json`.
func explainJSON(t *testing.T, environ []string, token string, args ...string) (int, explanation) {
	t.Helper()
	code, stdout, stderr := onceWith(t, token, environ, append([]string{"explain", "-o", "json"}, args...)...)
	var e explanation
	if err := json.Unmarshal([]byte(stdout), &e); err != nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, stdout, stderr)
	}
	return code, e
}

// tokens are credentials of every kind, good and bad.
func tokens(t *testing.T, issuer *authtest.Issuer) map[string]string {
	t.Helper()
	forger, err := authtest.NewKey("key-1", jose.RS256)
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-30 * time.Minute).Unix()
	good := func(more authtest.Claims) authtest.Claims {
		claims := authtest.Claims{"roles": []string{"dev", "ops"}, "oid": "7", "tenant": "blue", "jti": "id-1"}
		for name, value := range more {
			claims[name] = value
		}
		return claims
	}
	return map[string]string{
		"good":              issuer.Token(good(nil)),
		"expired":           issuer.Token(good(authtest.Claims{"exp": past})),
		"not valid yet":     issuer.Token(good(authtest.Claims{"nbf": time.Now().Add(time.Hour + time.Minute).Unix()})),
		"another audience":  issuer.Token(good(authtest.Claims{"aud": "another"})),
		"another party":     issuer.Token(good(authtest.Claims{"azp": "another"})),
		"another kind":      issuer.Token(good(authtest.Claims{"events": map[string]any{}})),
		"no roles":          issuer.Token(good(authtest.Claims{"roles": nil})),
		"no uid":            issuer.Token(good(authtest.Claims{"oid": nil})),
		"another tenant":    issuer.Token(good(authtest.Claims{"tenant": "red"})),
		"root":              issuer.Token(good(authtest.Claims{"sub": "root"})),
		"control character": issuer.Token(good(authtest.Claims{"sub": "a\x1b[2J\nVerdict accepted"})),
		"forged":            forger.Sign(issuer.Payload(good(nil))),
		"forged, expired":   forger.Sign(issuer.Payload(good(authtest.Claims{"exp": past}))),
		"no algorithm":      forger.SignHeader(map[string]any{"alg": "none"}, issuer.Payload(good(nil))),
		"unknown key":       forger.SignHeader(map[string]any{"alg": "RS256", "kid": "k9"}, issuer.Payload(good(nil))),
		"key in the header": forger.SignHeader(map[string]any{"alg": "RS256", "jku": "https://evil.example"}, issuer.Payload(good(nil))),
		"repeated name":     issuer.Key().Sign([]byte(`{"iss":"` + issuer.URL + `","aud":"a","aud":"gatehouse"}`)),
		"another issuer":    issuer.Token(good(authtest.Claims{"iss": "https://other.example"})),
		"static":            anaToken,
		"opaque":            "opaque-token-of-nobody-4711",
		"with a comma":      "a,b",
		"beyond ASCII":      "tökén",
		"too long":          issuer.Token(good(authtest.Claims{"long": strings.Repeat("x", auth.MaxTokenBytes)})),
	}
}

// Promise: explain and the server give one verdict: the same user, or the same
// answer, for every token.
func TestExplainAgreesWithServe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	settings := map[string]string{"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "anonymous: {enabled: true}\n", w.jwt(issuer, celMapping))}
	p := w.start(t, settings)
	p.awaitReady(t, http.StatusOK, "[+]issuer/"+issuer.URL+" ok")
	for name, token := range tokens(t, issuer) {
		got := p.ask(t, token, "/version")
		code, e := explainJSON(t, w.environ(settings), token)
		if e.Accepted {
			want := http.Header{"Impersonate-User": {e.User.Username}}
			if e.User.Groups != nil {
				want["Impersonate-Group"] = e.User.Groups
			}
			if e.User.UID != "" {
				want["Impersonate-Uid"] = []string{e.User.UID}
			}
			for key, values := range e.User.Extra {
				want[http.CanonicalHeaderKey("Impersonate-Extra-"+strings.ReplaceAll(key, "/", "%2f"))] = values
			}
			if diff := cmp.Diff(want, impersonation(got.seen.Header)); diff != "" || code != exitOK || got.code != http.StatusOK {
				t.Errorf("%s: exit code %d, the server answers %d; identity (-explain +server):\n%s", name, code, got.code, diff)
			}
			expectMapping(t, name, e)
			continue
		}
		var status struct{ Message string }
		if err := json.Unmarshal([]byte(got.body), &status); err != nil {
			t.Fatal(err)
		}
		if code != exitFault || e.User != nil || e.Refusal.Code != got.code || e.Refusal.Message != status.Message {
			t.Errorf("%s: exit code %d, explain says %+v, the server %d %s", name, code, e.Refusal, got.code, status.Message)
		}
	}
}

// expectMapping compares the fields with the user that they make.
func expectMapping(t *testing.T, name string, e explanation) {
	t.Helper()
	var user explainedUser
	for _, field := range e.Mapping {
		switch key, isExtra := strings.CutPrefix(field.Field, `extra["`); {
		case field.Rule == "" || field.Fault != "":
			t.Errorf("%s: %+v of an accepted token", name, field)
		case field.Field == "username":
			user.Username = field.Values[0]
		case field.Field == "groups":
			user.Groups = field.Values
		case field.Field == "uid":
			user.UID = field.Values[0]
		case isExtra:
			if user.Extra == nil {
				user.Extra = map[string][]string{}
			}
			user.Extra[strings.TrimSuffix(key, `"]`)] = field.Values
		}
	}
	if diff := cmp.Diff(*e.User, user); diff != "" {
		t.Errorf("%s: the mapping makes another user (-user +mapping):\n%s", name, diff)
	}
}

// Promise: the token itself and its signature appear nowhere in the output, nor
// anything that a terminal would act upon; what nobody verified is called so.
func TestExplainHoldsNoToken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	environ := w.environ(map[string]string{"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "", w.jwt(issuer, celMapping))})
	for name, token := range tokens(t, issuer) {
		for _, format := range []string{"", "json"} {
			_, stdout, stderr := onceWith(t, token, environ, "explain", "-o", format)
			secrets := []string{token}
			if parts := strings.Split(token, "."); len(parts) == 3 {
				secrets = append(secrets, parts...)
				if raw, err := base64.RawURLEncoding.DecodeString(parts[2]); err == nil {
					secrets = append(secrets, base64.StdEncoding.EncodeToString(raw)[:40])
				}
			}
			for _, secret := range secrets {
				if len(secret) > 3 && strings.Contains(stdout+stderr, secret) {
					t.Errorf("%s: the output holds a part of the token:\n%s", name, stdout)
				}
			}
			if strings.ContainsFunc(stdout, func(c rune) bool { return c < ' ' && c != '\n' || c == 0x7f }) || strings.Contains(stdout, "\nVerdict accepted") {
				t.Errorf("%s: the output holds control characters: %q", name, stdout)
			}
			unverified := slices.Contains([]string{"forged", "forged, expired", "another issuer", "unknown key"}, name)
			if format == "" && unverified != strings.Contains(stdout, "NOT verified: anybody can have written this") && name != "no algorithm" && name != "key in the header" && name != "repeated name" {
				t.Errorf("%s: claims are not called what they are:\n%s", name, stdout)
			}
		}
	}
}

// pages are the settings, the claims, and the parts of a page that an accepted
// and a refused token have in common.
type pages struct {
	environ                  []string
	issuer                   *authtest.Issuer
	claims                   authtest.Claims
	expires, common, mapping string
}

func newPages(t *testing.T) pages {
	t.Helper()
	w := newWorld(t)
	first, issuer := w.newIssuer(t), w.newIssuer(t)
	file := w.writeConfig(t, "v1", "", w.jwt(first, plainMapping), w.jwt(issuer, celMapping))
	issued := time.Now().Add(-61 * time.Second).Truncate(time.Second)
	expires := issued.Add(2*time.Hour).UTC().Format(time.RFC3339) + ", in 1 hour"
	return pages{
		environ: w.environ(map[string]string{"AUTHENTICATION_CONFIG": file}), issuer: issuer, expires: expires,
		claims: authtest.Claims{"roles": []string{"dev"}, "oid": "7", "iat": issued.Unix(), "exp": issued.Add(2 * time.Hour).Unix()},
		common: `Issuer      ` + issuer.URL + `
            configured as jwt[1] of ` + file + `
            1 key from ` + issuer.URL + `/keys
Signature   verified: RS256, by the key key-1, typ JWT
Claims      (verified)
            iss     ` + issuer.URL + `
            sub     subject-1
            aud     gatehouse
            exp     ` + expires + `
            iat     ` + issued.UTC().Format(time.RFC3339) + `, 1 minute ago
            oid     7
            roles   ["dev"]
            tenant  `,
		mapping: `User        cel:subject-1
              from username.expression ` + "`" + `"cel:" + claims.sub` + "`" + `
Groups      role:dev
              from groups.expression ` + "`" + `dyn(claims.roles).map(r, "role:" + r)` + "`" + `
UID         7
              from uid.claim ` + "`oid`" + `
Extra       example.com/tenant = `,
	}
}

// A page for a person, whole: of a token that is accepted.
func TestExplainAccepted(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	p.claims["tenant"] = "blue"
	code, stdout, stderr := onceWith(t, p.issuer.Token(p.claims), p.environ, "explain")
	want := `Verdict     accepted, until ` + p.expires + `
Credential  OIDC ID token
` + p.common + `blue
Steps       form ok, algorithm ok, signature ok, claims ok, mapping ok, rules ok, names ok
` + p.mapping + `blue
              from valueExpression ` + "`claims.tenant`" + `
Rules       claimValidationRules[0] is met: ` + "`claims.tenant == \"blue\"`" + `
            userValidationRules[0] is met: ` + "`!user.username.endsWith(\"root\")`" + `
Note        The API server adds the group system:authenticated itself.
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK || trouble(stderr) != "" {
		t.Errorf("exit code %d, %s; page (-want +got):\n%s", code, stderr, diff)
	}
}

// A page for a person, whole: of a token that a rule refuses.
func TestExplainRefused(t *testing.T) {
	t.Parallel()
	p := newPages(t)
	p.claims["tenant"] = "red"
	code, stdout, stderr := onceWith(t, "Bearer "+p.issuer.Token(p.claims)+"\n", p.environ, "explain", "-")
	want := `Verdict     refused: claim_rule (401)
            Your token does not meet a rule of this cluster: ask your administrator for access.
Why         claimValidationRules[0]: ` + "`claims.tenant == \"blue\"`" + ` is not true: the tenant must be blue
Credential  OIDC ID token
` + p.common + `red
Steps       form ok, algorithm ok, signature ok, claims ok, mapping ok, RULES REFUSED, names not reached
Identity    (what it would be, if nothing else refused it)
` + p.mapping + `red
              from valueExpression ` + "`claims.tenant`" + `
Rules       claimValidationRules[0] is NOT met: ` + "`claims.tenant == \"blue\"`" + ` is not true: the tenant must be blue
            userValidationRules[0] is met: ` + "`!user.username.endsWith(\"root\")`" + `
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitFault || trouble(stderr) != "" {
		t.Errorf("exit code %d, %s; page (-want +got):\n%s", code, stderr, diff)
	}
}

// A command line or an input that makes no sense ends with exit code 2, and is
// never repeated: it may be a token.
func TestExplainUsage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	environ := w.environ(nil)
	for _, test := range []struct {
		args  []string
		stdin string
		want  string
	}{
		{[]string{"sEcReT"}, "", "takes no token as an argument"},
		{[]string{"-", "sEcReT"}, "", "takes no token as an argument"},
		{[]string{"-sEcReT"}, "", "unknown flag"},
		{[]string{"--sEcReT"}, "", "unknown flag"},
		{[]string{"--token=sEcReT"}, "", "unknown flag"},
		{[]string{"--timeout=sEcReT"}, "", "--timeout: it cannot be read"},
		{[]string{"--timeout=0s"}, "", "longer than nothing"},
		{[]string{"-o", "sEcReT"}, "", "json is the one there is"},
		{[]string{"--token-file"}, "", "--token-file needs a value"},
		{[]string{"--token-file", "/nonexistent"}, "", "/nonexistent"},
		{[]string{"--certificate", w.path("tls.key")}, "", "holds no certificate"},
		{[]string{"--certificate", w.path("tls.crt"), "-"}, "", "not both"},
		{nil, "", "no token was given"},
		{nil, "sEcReT sEcReT", "more than one token"},
	} {
		code, stdout, stderr := onceWith(t, test.stdin, environ, append([]string{"explain"}, test.args...)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "sEcReT") {
			t.Errorf("explain %q < %q: exit code %d, %q, %q; want 2 and %q", test.args, test.stdin, code, stdout, stderr, test.want)
		}
	}
	_, stdout, _ := once(t, nil, "__complete", "explain", "-o", "")
	if !strings.HasPrefix(stdout, "json\n") {
		t.Errorf("-o is completed with %q", stdout)
	}
}
