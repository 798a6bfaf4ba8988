package oidc_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// telling is a mapping that says how it made the user.
type telling struct{ subject }

func (telling) Explain(_ context.Context, claims map[string]any) []auth.Mapped {
	sub, _ := claims["sub"].(string)
	return []auth.Mapped{{Field: "username", Rule: "sub", Values: []string{sub}}}
}

// Promise: the verdict of an explanation is AuthenticateToken's, and only of a
// token whose signature is good is it said what its claims would make.
func TestExplainVerdict(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.Mapping = telling{} })
	stranger, err := authtest.NewKey("key-1", jose.RS256)
	if err != nil {
		t.Fatal(err)
	}
	hour := time.Now().Add(-time.Hour).Unix()
	for name, test := range map[string]struct {
		token    string
		verified bool
		reason   auth.Reason // empty: accepted
		fault    string      // of the signature
	}{
		"good":              {w.real.Token(nil), true, "", ""},
		"expired":           {w.real.Token(authtest.Claims{"exp": hour, "iat": hour - 1}), true, auth.Expired, ""},
		"another audience":  {w.real.Token(authtest.Claims{"aud": "x"}), true, auth.WrongAudience, ""},
		"forged":            {stranger.Sign(w.real.Payload(nil)), false, auth.BadSignature, "does not fit"},
		"forged, expired":   {stranger.Sign(w.real.Payload(authtest.Claims{"exp": hour})), false, auth.BadSignature, "does not fit"},
		"another algorithm": {stranger.SignHeader(map[string]any{"alg": "HS256"}, w.real.Payload(nil)), false, auth.UnsupportedAlgorithm, "not checked, as \"HS256\" is none of the accepted algorithms: RS256"},
		"no algorithm":      {stranger.SignHeader(map[string]any{"alg": "none"}, w.real.Payload(nil)), false, auth.UnsupportedAlgorithm, "not checked"},
		"another key":       {stranger.SignHeader(map[string]any{"alg": "RS256", "kid": "k9"}, w.real.Payload(nil)), false, auth.UnknownKey, "publishes no key"},
		"a key in it":       {stranger.SignHeader(map[string]any{"alg": "RS256", "jku": "https://evil.example"}, w.real.Payload(nil)), false, auth.MalformedToken, "form is broken"},
		"no base64":         {w.real.Token(nil) + "!", false, auth.MalformedToken, "form is broken"},
	} {
		x := w.issuers.Explain(t.Context(), test.token)
		id, err := w.issuers.AuthenticateToken(t.Context(), test.token)
		if diff := cmp.Diff(id, x.Identity); diff != "" {
			t.Errorf("%s: identity (-server +explain):\n%s", name, diff)
		}
		if (err == nil) != (x.Err == nil) || err != nil && err.Error() != x.Err.Error() {
			t.Errorf("%s: the server says %v, the explanation %v", name, err, x.Err)
		}
		var reason auth.Reason
		if refusal, ok := errors.AsType[*auth.Refusal](x.Err); ok {
			reason = refusal.Reason
		}
		if reason != test.reason || x.Verified != test.verified || (x.Mapped != nil) != test.verified || x.Issuer != w.view {
			t.Errorf("%s: %q, verified %t, mapped %v", name, reason, x.Verified, x.Mapped)
		}
		if test.fault != "" && (x.Signature == nil || !strings.Contains(x.Signature.Error(), test.fault)) {
			t.Errorf("%s: signature %v, want %q", name, x.Signature, test.fault)
		}
		if test.verified && x.Key != "key-1" {
			t.Errorf("%s: key %q", name, x.Key)
		}
	}
}

// What is no token of a configured issuer is said to be what it is.
func TestExplainForeign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	key := w.real.Key()
	for token, want := range map[string]string{
		"opaque":                        "it is no JWT",
		"a.b.c.d.e":                     "encrypted token",
		"a.b.":                          "without a signature",
		"a.b.c":                         "the second is not",
		key.Sign([]byte(`{"sub":"x"}`)): "without `iss`",
		key.Sign([]byte(`{"iss":7}`)):   "`iss` is not a string",
	} {
		if x := w.issuers.Explain(t.Context(), token); !errors.Is(x.Err, auth.ErrNotMine) || x.Form == nil || !strings.Contains(x.Form.Error(), want) {
			t.Errorf("%.20s: %+v, want %q", token, x, want)
		}
		if w.issuers.Owner(token) != nil {
			t.Errorf("%.20s has an owner", token)
		}
	}
	x := w.issuers.Explain(t.Context(), key.Sign([]byte(`{"iss":"https://other.example","sub":"x"}`)))
	if x.Name != "https://other.example" || x.Issuer != nil || x.Verified || x.Signature == nil || x.Claims["sub"] != "x" || !errors.Is(x.Err, auth.ErrNotMine) {
		t.Errorf("%+v", x)
	}
	if w.issuers.Owner(w.real.Token(nil)) != w.view {
		t.Error("a token of the issuer has another owner")
	}
}

// Fetch asks once, and Keys and Usable say what came of it.
func TestFetch(t *testing.T) {
	t.Parallel()
	ca, err := authtest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	real, err := authtest.NewIssuer(ca)
	if err != nil {
		t.Fatal(err)
	}
	defer real.Close()
	issuer, err := oidc.New(oidc.Config{
		URL: real.URL, Audiences: []string{authtest.Audience}, Mapping: subject{}, Roots: ca.Pool(), Algorithms: []string{"ES256"},
	})
	if err != nil {
		t.Fatal(err)
	}
	real.SetDown(true)
	if err := issuer.Fetch(t.Context()); err == nil || !strings.Contains(err.Error(), "status 503") {
		t.Errorf("an issuer that is down: %v", err)
	}
	real.SetDown(false)
	err = issuer.Fetch(t.Context())
	keys, from := issuer.Keys()
	if diff := cmp.Diff([]oidc.Key{{ID: "key-1", Algorithm: "RS256"}}, keys); diff != "" || err != nil || from != real.URL+"/keys" {
		t.Errorf("%v, from %s, keys (-want +got):\n%s", err, from, diff)
	}
	if issuer.Usable() {
		t.Error("an RSA key is said to fit ES256")
	}
	curve, err := authtest.NewKey("key-2", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	curve.Algorithm = "" // a key set need not say it
	real.Publish(real.Key(), curve)
	if err := issuer.Fetch(t.Context()); err != nil || !issuer.Usable() {
		t.Errorf("%v, usable %t", err, issuer.Usable())
	}
	if keys, _ := issuer.Keys(); len(keys) != 2 || keys[1].Algorithm != "ES256" {
		t.Errorf("keys %+v", keys)
	}
}
