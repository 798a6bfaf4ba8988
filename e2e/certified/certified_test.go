package certified_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/certified"
)

// TestSignIn: each certified provider gives an ID token with the claims that
// gatehouse is to read, by the code flow with PKCE and by the device flow, and
// none to an account that does not exist.
func TestSignIn(t *testing.T) {
	for name, start := range map[string]func(context.Context, string, map[string]certified.Account, io.Writer) (*certified.Provider, error){
		"oidc-provider": certified.Start,
		"zitadel":       certified.StartZitadel,
	} {
		t.Run(name, func(t *testing.T) {
			p, err := start(t.Context(), t.TempDir(), map[string]certified.Account{
				"erin": {Email: "erin@example.com", Groups: []string{"developers", "on-call"}},
			}, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Stop()
			for flow, signIn := range map[string]func(context.Context, string) (string, error){
				"code": p.SignIn, "device": p.SignInByDevice,
			} {
				token, err := signIn(t.Context(), "erin")
				if err != nil {
					t.Errorf("%s: %v", flow, err)
					continue
				}
				checkToken(t, flow, p, token)
				if _, err := signIn(t.Context(), "nobody"); err == nil {
					t.Errorf("%s: an account that does not exist signed in", flow)
				}
			}
		})
	}
}

// checkToken checks what the token says of erin.
func checkToken(t *testing.T, flow string, p *certified.Provider, token string) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%s: the ID token has %d parts, want 3", flow, len(parts))
	}
	var header struct{ Alg string }
	var claims struct {
		Iss, Sub, Email string
		Aud             audience
		Groups          []string
		EmailVerified   bool `json:"email_verified"`
	}
	for i, v := range []any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(raw, v); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %s", flow, raw)
	}
	if header.Alg != p.Algorithm || claims.Iss != p.URL || claims.Sub != "erin" || !claims.EmailVerified ||
		!slices.Equal(claims.Aud, audience{certified.ClientID}) ||
		claims.Email != "erin@example.com" || !slices.Equal(claims.Groups, []string{"developers", "on-call"}) {
		t.Errorf("%s: got %+v, signed with %s", flow, claims, header.Alg)
	}
}

// audience is one string or a list of them.
type audience []string

// UnmarshalJSON reads either form.
func (a *audience) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '[' {
		return json.Unmarshal(b, (*[]string)(a))
	}
	*a = audience{""}
	return json.Unmarshal(b, &(*a)[0])
}
