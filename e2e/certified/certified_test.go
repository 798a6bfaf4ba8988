package certified_test

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/certified"
)

// TestSignIn: the certified provider gives an ID token with the claims that
// gatehouse is to read, by the code flow with PKCE.
func TestSignIn(t *testing.T) {
	p, err := certified.Start(t.Context(), t.TempDir(), map[string]certified.Account{
		"erin": {Email: "erin@example.com", Groups: []string{"developers", "on-call"}},
	}, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	token, err := p.SignIn(t.Context(), "erin")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("the ID token has %d parts, want 3", len(parts))
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Iss, Sub, Aud, Email string
		Groups               []string
		EmailVerified        bool `json:"email_verified"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Iss != p.URL || claims.Sub != "erin" || claims.Aud != certified.ClientID || !claims.EmailVerified ||
		claims.Email != "erin@example.com" || !slices.Equal(claims.Groups, []string{"developers", "on-call"}) {
		t.Errorf("claims: got %s", payload)
	}
	if _, err := p.SignIn(t.Context(), "nobody"); err == nil {
		t.Error("an account that does not exist signed in")
	}
}
