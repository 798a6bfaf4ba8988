package oidc_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

func newKeyOf(t testing.TB, id string, alg jose.SignatureAlgorithm) *authtest.Key {
	t.Helper()
	key, err := authtest.NewKey(id, alg)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Promise: a signed token is judged as kube-apiserver judges it, or more
// strictly where docs/divergences.md says so.
func TestClaims(t *testing.T) {
	w := newWorld(t, nil)
	now := w.clock.Now()
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	for _, tt := range []struct {
		name   string
		claims authtest.Claims
		reason auth.Reason
	}{
		{"good", nil, ""},
		{"audience in a list", authtest.Claims{"aud": []string{"other", "gatehouse"}}, ""},
		{"other audience", authtest.Claims{"aud": "other"}, auth.WrongAudience},
		{"audience as prefix", authtest.Claims{"aud": "gatehouse2"}, auth.WrongAudience},
		{"empty audience list", authtest.Claims{"aud": []string{}}, auth.WrongAudience},
		{"no audience", authtest.Claims{"aud": nil}, auth.MalformedToken},
		{"audience of a number", authtest.Claims{"aud": 1}, auth.MalformedToken},
		{"audience list with a number", authtest.Claims{"aud": []any{"gatehouse", 1}}, auth.MalformedToken},

		{"expired", authtest.Claims{"exp": at(-5 * time.Minute)}, auth.Expired},
		{"expired a second ago", authtest.Claims{"exp": at(-2 * time.Second)}, auth.Expired},
		{"fractional exp", authtest.Claims{"exp": float64(at(time.Hour)) + .5}, ""},
		{"no exp", authtest.Claims{"exp": nil}, auth.MalformedToken},
		{"exp as string", authtest.Claims{"exp": fmt.Sprint(at(time.Hour))}, auth.MalformedToken},
		{"exp beyond all bounds", authtest.Claims{"exp": 1e300}, auth.MalformedToken},
		{"negative exp", authtest.Claims{"exp": -1}, auth.MalformedToken},
		{"nbf within a minute", authtest.Claims{"nbf": at(50 * time.Second)}, ""},
		{"nbf later", authtest.Claims{"nbf": at(2 * time.Minute)}, auth.NotYetValid},
		{"nbf as string", authtest.Claims{"nbf": "x"}, auth.MalformedToken},
		{"no iat", authtest.Claims{"iat": nil}, ""},
		{"iat later", authtest.Claims{"iat": at(2 * time.Minute)}, auth.NotYetValid},
		{"iat as string", authtest.Claims{"iat": "x"}, auth.MalformedToken},

		{"own azp", authtest.Claims{"azp": "gatehouse"}, ""},
		{"foreign azp", authtest.Claims{"azp": "other"}, auth.WrongParty},
		{"foreign azp beside our audience", authtest.Claims{"aud": []string{"other", "gatehouse"}, "azp": "other"}, auth.WrongParty},
		{"azp of a list", authtest.Claims{"azp": []string{"gatehouse"}}, auth.MalformedToken},

		{"logout token", authtest.Claims{"events": map[string]any{"http://schemas.openid.net/event/backchannel-logout": map[string]any{}}}, auth.WrongTokenType},
		{"bound token", authtest.Claims{"cnf": map[string]any{"jkt": "x"}}, auth.WrongTokenType},

		{"issuer with a slash", authtest.Claims{"iss": w.real.URL + "/"}, "not mine"},
		{"issuer in other case", authtest.Claims{"iss": strings.ToUpper(w.real.URL)}, "not mine"},
		{"no issuer", authtest.Claims{"iss": nil}, "not mine"},
		{"issuer of a list", authtest.Claims{"iss": []string{w.real.URL}}, "not mine"},

		{"claim in other case", authtest.Claims{"Sub": "mallory"}, auth.MalformedToken},
		{"claim in other case, Unicode", authtest.Claims{"i\u017fs": "x"}, auth.MalformedToken},
		{"audience in other case", authtest.Claims{"aud": nil, "AUD": "gatehouse"}, auth.MalformedToken},
		{"configured claim in other case", authtest.Claims{"login": "a", "Login": "b"}, auth.MalformedToken},
		{"groups in other case", authtest.Claims{"Groups": []string{"admins"}}, auth.MalformedToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.want(w.real.Token(tt.claims), tt.reason)
		})
	}
}

// Promise: a token is read in one way only: strict JSON, one form of JWS, no
// header that brings its own key or changes how the rest is read.
func TestForm(t *testing.T) {
	w := newWorld(t, nil)
	key := w.real.Key()
	good := w.real.Payload(nil)
	header := func(name string, value any) string {
		return key.SignHeader(map[string]any{"alg": "RS256", "kid": key.ID, name: value}, good)
	}
	inner := strings.TrimSuffix(string(good), "}")
	jwk := key.JWK()
	token := key.Sign(good)
	parts := strings.Split(token, ".")
	for _, tt := range []struct {
		name, token string
		reason      auth.Reason
	}{
		{"good", token, ""},
		{"no typ", key.SignHeader(map[string]any{"alg": "RS256", "kid": key.ID}, good), ""},
		{"typ in lower case", header("typ", "jwt"), ""},
		{"typ as media type", header("typ", "application/jwt"), ""},
		{"access token", header("typ", "at+jwt"), auth.WrongTokenType},
		{"access token as media type", header("typ", "application/at+jwt"), auth.WrongTokenType},
		{"DPoP proof", header("typ", "dpop+jwt"), auth.WrongTokenType},
		{"typ of a number", header("typ", 1), auth.MalformedToken},
		{"jwk", header("jwk", jwk), auth.MalformedToken},
		{"jku", header("jku", w.real.URL+"/keys"), auth.MalformedToken},
		{"x5u", header("x5u", w.real.URL), auth.MalformedToken},
		{"x5c", header("x5c", []string{}), auth.MalformedToken},
		{"crit", header("crit", []string{"x"}), auth.MalformedToken},
		{"empty crit", header("crit", []string{}), auth.MalformedToken},
		{"b64", header("b64", false), auth.MalformedToken},
		{"zip", header("zip", "DEF"), auth.MalformedToken},
		{"cty", header("cty", "JWT"), auth.MalformedToken},
		{"x5t passes", header("x5t", "abc"), ""},
		{"header name in other case", header("ALG", "none"), auth.MalformedToken},
		{"header name twice", key.SignBytes([]byte(`{"alg":"none","alg":"RS256","kid":"key-1"}`), good), auth.MalformedToken},
		{"header of a list", key.SignBytes([]byte(`["RS256"]`), good), auth.MalformedToken},
		{"alg none", key.SignHeader(map[string]any{"alg": "none"}, good), auth.UnsupportedAlgorithm},
		{"alg none, no signature", parts[0] + "." + parts[1] + ".", "not mine"},
		{"alg HS256", header("alg", "HS256"), auth.UnsupportedAlgorithm},
		{"alg not configured", header("alg", "RS512"), auth.UnsupportedAlgorithm},
		{"alg missing", key.SignHeader(map[string]any{"kid": key.ID}, good), auth.UnsupportedAlgorithm},
		{"claim twice", key.Sign([]byte(inner + `,"sub":"mallory"}`)), auth.MalformedToken},
		{"claim twice, escaped", key.Sign([]byte(inner + `,"s\u0075b":"mallory"}`)), auth.MalformedToken},
		{"nested name twice", key.Sign([]byte(inner + `,"x":{"a":1,"a":2}}`)), auth.MalformedToken},
		{"number beyond all bounds", key.Sign([]byte(inner + `,"x":1e400}`)), auth.MalformedToken},
		{"data after the payload", key.Sign(append(good, []byte(`{}`)...)), "not mine"},
		{"payload in broken UTF-8", key.Sign([]byte(inner + ",\"x\":\"\xff\"}")), auth.MalformedToken},
		{"deep payload", key.Sign([]byte(inner + `,"x":` + strings.Repeat("[", 12000) + strings.Repeat("]", 12000) + `}`)), "not mine"},
		{"payload null", key.Sign([]byte("null")), "not mine"},
		{"payload of a list", key.Sign([]byte("[]")), "not mine"},
		{"padding", parts[0] + "." + parts[1] + "=." + parts[2], "not mine"},
		{"four parts", token + ".x", "not mine"},
		{"many dots", strings.Repeat(".", 10000), "not mine"},
		{"JSON serialisation", jsonForm(t, parts), "not mine"},
		{"detached", parts[0] + ".." + parts[2], "not mine"},
		{"zero signature", parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 256)), auth.BadSignature},
		{"signature of another token", parts[0] + "." + parts[1] + "." + strings.Split(w.real.Token(authtest.Claims{"sub": "x"}), ".")[2], auth.BadSignature},
		{"not a token", "garbage", "not mine"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := *w
			w.t = t
			w.want(tt.token, tt.reason)
		})
	}
}

func jsonForm(t *testing.T, parts []string) string {
	t.Helper()
	form, err := json.Marshal(map[string]string{"protected": parts[0], "payload": parts[1], "signature": parts[2]})
	if err != nil {
		t.Fatal(err)
	}
	return string(form)
}

// Promise: what a token says is judged, and told, only once its signature is
// verified.
func TestNothingIsToldBeforeTheSignature(t *testing.T) {
	w := newWorld(t, nil)
	stranger := newKey(t, "key-1")
	for name, claims := range map[string]authtest.Claims{
		"expired":        {"exp": 1000},
		"other audience": {"aud": "other"},
		"foreign azp":    {"azp": "other"},
		"logout token":   {"events": map[string]any{}},
		"no user name":   {"sub": nil},
	} {
		if _, reason := w.ask(stranger.Sign(w.real.Payload(claims))); reason != auth.BadSignature {
			t.Errorf("%s: reason %q, want %q", name, reason, auth.BadSignature)
		}
	}
}

// Promise: each of kube-apiserver's nine algorithms works when it is
// configured, with a key that fits it alone.
func TestAlgorithms(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.Algorithms = oidc.Algorithms() })
	for _, alg := range oidc.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			w := *w
			w.t = t
			key := newKeyOf(t, alg, jose.SignatureAlgorithm(alg))
			w.real.Publish(key)
			w.clock.Advance(time.Minute) // past the pause between fetches on demand
			token := w.real.Token(authtest.Claims{"exp": w.clock.Now().Add(time.Hour).Unix()})
			w.want(token, "")

			other := map[string]string{"R": "ES256", "P": "ES256", "E": "RS256"}[alg[:1]]
			confused := key.SignHeader(map[string]any{"alg": other, "kid": key.ID}, w.real.Payload(nil))
			if _, reason := w.ask(confused); reason == "" {
				t.Errorf("a key of %s verified a token of %s", alg, other)
			}
		})
	}
}

// Promise: an issuer's key says nothing of another issuer's tokens.
func TestTwoIssuers(t *testing.T) {
	a, b := newWorld(t, nil), newWorld(t, nil)
	both, err := oidc.NewIssuers(a.view, b.view)
	if err != nil {
		t.Fatal(err)
	}
	a.issuers = both
	a.want(a.real.Token(nil), "")
	a.want(b.real.Token(nil), "")
	a.want(a.real.Key().Sign(b.real.Payload(nil)), auth.BadSignature)
	if _, err := oidc.NewIssuers(a.view, a.view); err == nil {
		t.Error("one issuer twice was accepted")
	}
}

// Promise: no bytes crash the reader of tokens, and nothing is accepted that
// the issuer did not sign.
func FuzzToken(f *testing.F) {
	ca, err := authtest.NewCA("fuzz")
	if err != nil {
		f.Fatal(err)
	}
	real, err := authtest.NewIssuer(ca)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { real.Close() })
	view, err := oidc.New(oidc.Config{
		URL: real.URL, Audiences: []string{authtest.Audience}, Roots: ca.Pool(),
		Mapping: subject{},
	})
	if err != nil {
		f.Fatal(err)
	}
	issuers, err := oidc.NewIssuers(view)
	if err != nil {
		f.Fatal(err)
	}
	valid := real.Token(nil)
	f.Add(valid)
	f.Add("a.b.c")
	f.Add(strings.Repeat(".", 5))
	f.Fuzz(func(t *testing.T, token string) {
		if id, err := issuers.AuthenticateToken(t.Context(), token); err == nil && token != valid {
			t.Errorf("token %q names %v", token, id)
		}
	})
}
