package oidc_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// accepted is the outcome of a token that is good.
const accepted = auth.Reason("")

// damaged returns token with a signature that has one bit flipped.
func damaged(token string) string {
	cut := strings.LastIndex(token, ".") + 1
	signature, err := base64.RawURLEncoding.DecodeString(token[cut:])
	if err != nil {
		panic(err)
	}
	signature[len(signature)/2] ^= 1
	return token[:cut] + base64.RawURLEncoding.EncodeToString(signature)
}

// hmacToken returns a token of HS256 with a secret.
func hmacToken(payload, secret []byte) string {
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","kid":"key-1","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(payload)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// ofMapping makes kube-apiserver's mapping of a user name and groups count, as
// its flags configure it.
func ofMapping(t *testing.T, username, groups string) func(*oidc.Config, *authtest.Issuer) {
	t.Helper()
	return func(c *oidc.Config, _ *authtest.Issuer) {
		issuer, err := authconfig.Flags{IssuerURL: c.URL, ClientID: authtest.Audience, UsernameClaim: username, UsernamePrefix: "-", GroupsClaim: groups}.Issuer()
		if err != nil {
			t.Fatal(err)
		}
		c.Mapping = issuer.Mapping
	}
}

// Promise: gatehouse passes the modules of the OpenID Connect conformance suite
// for relying parties that concern what it does: it verifies ID tokens, and takes
// no part in signing in. The names are the suite's, without oidcc-client-test-.
func TestConformance(t *testing.T) {
	for name, module := range map[string]func(*testing.T){
		"invalid-iss":               conformIssuer,
		"missing-sub":               conformMissingSubject,
		"invalid-aud":               conformClaims(authtest.Claims{"aud": "other"}, auth.WrongAudience),
		"missing-aud":               conformClaims(authtest.Claims{"aud": nil}, auth.MalformedToken),
		"missing-iat":               conformClaims(authtest.Claims{"iat": nil}, accepted), // laxer than the module: as kube-apiserver, which does not look at it
		"kid-absent-single-jwks":    conformOneKey,
		"kid-absent-multiple-jwks":  conformTwoKeys,
		"idtoken-sig-none":          conformNone,
		"invalid-sig-rs256":         conformDamaged(jose.RS256),
		"invalid-sig-hs256":         conformHMAC,
		"invalid-sig-es256":         conformDamaged(jose.ES256),
		"discovery-issuer-mismatch": conformDiscovery,
		"discovery-jwks-uri-keys":   conformKeysURL,
		"signing-key-rotation":      conformRotation,
		"aggregated-claims":         conformAggregated,
		"distributed-claims":        conformDistributed,
	} {
		t.Run(name, module)
	}
}

// conformClaims is a module in which the token has these claims.
func conformClaims(claims authtest.Claims, outcome auth.Reason) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, nil)
		w.want(w.real.Token(nil), accepted)
		w.want(w.real.Token(claims), outcome)
	}
}

// The token is signed by the right key, and names another issuer: it is not this
// issuer's, and with no other configured it is nobody's.
func conformIssuer(t *testing.T) {
	w := newWorld(t, nil)
	w.want(w.real.Token(authtest.Claims{"iss": w.real.URL + "/other"}), "not mine")
}

// The module wants a refusal. gatehouse refuses where `sub` names the user, and
// else is laxer, as kube-apiserver: the claim is then not needed.
func conformMissingSubject(t *testing.T) {
	w := newWorld(t, nil)
	w.want(w.real.Token(authtest.Claims{"sub": nil}), auth.BadUsernameClaim)
	w = newWorld(t, ofMapping(t, "login", ""))
	w.want(w.real.Token(authtest.Claims{"sub": nil, "login": "ana"}), accepted)
}

// A token without `kid` is accepted where only one key fits.
func conformOneKey(t *testing.T) {
	w := newWorld(t, nil)
	w.want(w.real.Key().SignHeader(map[string]any{"alg": "RS256"}, w.real.Payload(nil)), accepted)
}

// The module allows either. gatehouse is strict: a token must say who signed it.
func conformTwoKeys(t *testing.T) {
	w := newWorld(t, func(_ *oidc.Config, real *authtest.Issuer) { real.Publish(real.Key(), newKey(t, "key-2")) })
	w.want(w.real.Key().SignHeader(map[string]any{"alg": "RS256"}, w.real.Payload(nil)), auth.UnknownKey)
}

// The module lets a relying party accept an unsigned token that came straight from
// the token endpoint. gatehouse is stricter: it never sees where a token came from.
func conformNone(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.Algorithms = oidc.Algorithms() })
	part := base64.RawURLEncoding.EncodeToString
	payload := part(w.real.Payload(nil))
	signature := w.real.Token(nil)
	signature = signature[strings.LastIndex(signature, ".")+1:]
	for _, alg := range []string{"none", "None", "NONE", ""} {
		header := part([]byte(`{"alg":"` + alg + `","kid":"key-1"}`))
		for _, token := range []string{header + "." + payload + ".", header + "." + payload + "." + signature} {
			if _, reason := w.ask(token); reason == accepted { // without a signature it is nobody's
				t.Errorf("alg %q was accepted", alg)
			}
		}
	}
}

func conformDamaged(alg jose.SignatureAlgorithm) func(*testing.T) {
	return func(t *testing.T) {
		w := newWorld(t, func(c *oidc.Config, real *authtest.Issuer) {
			c.Algorithms = []string{string(alg)}
			real.Publish(newKeyOf(t, "key-1", alg))
		})
		w.want(w.real.Token(nil), accepted)
		w.want(damaged(w.real.Token(nil)), auth.BadSignature)
	}
}

// gatehouse is stricter than the module: it has no client secret, so that a good
// signature of HS256 is refused too, by whatever a forger could take for a key.
func conformHMAC(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.Algorithms = oidc.Algorithms() })
	public, err := json.Marshal(w.real.Key().JWK())
	if err != nil {
		t.Fatal(err)
	}
	good := hmacToken(w.real.Payload(nil), []byte("secret"))
	for _, token := range []string{good, damaged(good), hmacToken(w.real.Payload(nil), public), hmacToken(w.real.Payload(nil), nil)} {
		if _, reason := w.ask(token); reason == accepted || reason == "not mine" {
			t.Errorf("refused with %q", reason)
		}
	}
}

func conformDiscovery(t *testing.T) {
	w := startWorld(t, func(_ *oidc.Config, real *authtest.Issuer) {
		real.EditDiscovery(func(doc map[string]any) { doc["issuer"] = real.URL + "/other" })
	})
	if w.nextFetch() {
		t.Error("the document was believed")
	}
	w.want(w.real.Token(nil), auth.IssuerUnavailable)
}

// The keys are those that stand where the document says, and no others.
func conformKeysURL(t *testing.T) {
	moved := newKey(t, "key-1")
	w := newWorld(t, func(_ *oidc.Config, real *authtest.Issuer) {
		real.EditDiscovery(func(doc map[string]any) { doc["jwks_uri"] = real.URL + "/keys?moved" })
		real.ServeKeySet(func(rw http.ResponseWriter, r *http.Request) {
			key := real.Key()
			if r.URL.RawQuery == "moved" {
				key = moved
			}
			_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key.JWK()}})
		})
	})
	w.want(moved.Sign(w.real.Payload(nil)), accepted)
	w.want(w.real.Token(nil), auth.BadSignature)
}

// The module rotates the key between two tokens: the second is accepted at once.
func conformRotation(t *testing.T) {
	w := newWorld(t, nil)
	w.want(w.real.Token(nil), accepted)
	w.real.Publish(newKey(t, "key-2"))
	w.want(w.real.Token(nil), accepted)
	w.clock.Advance(pastThePause)
	w.real.Publish(newKey(t, "key-3"))
	w.want(w.real.Token(authtest.Claims{"exp": w.clock.Now().Add(time.Hour).Unix()}), accepted)
}

// The modules want claims that stand elsewhere to be used, or not to disturb.
// gatehouse is stricter: where the groups stand elsewhere the token is refused,
// since without them a person would be somebody else. Other claims do not disturb.
func conformAggregated(t *testing.T) {
	w := newWorld(t, ofMapping(t, "sub", "groups"))
	inner := w.real.Key().Sign(w.real.Payload(authtest.Claims{"groups": []string{"admins"}, "address": "x"}))
	elsewhere := func(claim string) string {
		return w.real.Token(authtest.Claims{"_claim_names": map[string]any{claim: "src1"}, "_claim_sources": map[string]any{"src1": map[string]any{"JWT": inner}}})
	}
	w.want(elsewhere("groups"), auth.UnsupportedClaims)
	w.want(elsewhere("address"), accepted)
}

// As aggregated claims; and nobody is asked. With the operator's list of endpoints
// they are used: TestDistributedGroups in auth/oidc/distributed.
func conformDistributed(t *testing.T) {
	w := newWorld(t, ofMapping(t, "sub", "groups"))
	asked := newWorld(t, nil)
	before := asked.real.KeyFetches.Load()
	elsewhere := func(claim string) string {
		return w.real.Token(authtest.Claims{"_claim_names": map[string]any{claim: "src1"},
			"_claim_sources": map[string]any{"src1": map[string]any{"endpoint": asked.real.URL + "/keys", "access_token": "x"}}})
	}
	w.want(elsewhere("groups"), auth.UnsupportedClaims)
	w.want(elsewhere("shoe_size"), accepted)
	if asked.real.KeyFetches.Load() != before {
		t.Error("the endpoint of the token was asked")
	}
}
