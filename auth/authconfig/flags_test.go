package authconfig_test

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
)

func claimsOf(t *testing.T, text string) map[string]any {
	t.Helper()
	var claims map[string]any
	if err := json.Unmarshal([]byte(text), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// Promise: claims become the user that kube-apiserver's --oidc-* flags give.
func TestFlagsUser(t *testing.T) {
	const issuer = "https://issuer.example"
	for _, tt := range []struct {
		name   string
		flags  authconfig.Flags
		claims string
		want   auth.User
	}{
		{"sub with the issuer's prefix", authconfig.Flags{}, `{"sub":"alice"}`, auth.User{Name: issuer + "#alice"}},
		{"no prefix", authconfig.Flags{UsernamePrefix: "-"}, `{"sub":"alice"}`, auth.User{Name: "alice"}},
		{"own prefix", authconfig.Flags{UsernamePrefix: "oidc:"}, `{"sub":"alice"}`, auth.User{Name: "oidc:alice"}},
		{"other claim, issuer's prefix", authconfig.Flags{UsernameClaim: "name"}, `{"sub":"x","name":"alice"}`, auth.User{Name: issuer + "#alice"}},
		{"email has no prefix", authconfig.Flags{UsernameClaim: "email"}, `{"email":"a@b.c"}`, auth.User{Name: "a@b.c"}},
		{"email with own prefix", authconfig.Flags{UsernameClaim: "email", UsernamePrefix: "oidc:"}, `{"email":"a@b.c","email_verified":true}`, auth.User{Name: "oidc:a@b.c"}},
		{"email_verified counts for email alone", authconfig.Flags{UsernamePrefix: "-"}, `{"sub":"alice","email_verified":false}`, auth.User{Name: "alice"}},
		{"groups as a list", authconfig.Flags{UsernamePrefix: "-", GroupsClaim: "groups"}, `{"sub":"a","groups":["x","y"]}`, auth.User{Name: "a", Groups: []string{"x", "y"}}},
		{"group as a string", authconfig.Flags{UsernamePrefix: "-", GroupsClaim: "groups", GroupsPrefix: "oidc:"}, `{"sub":"a","groups":"x"}`, auth.User{Name: "a", Groups: []string{"oidc:x"}}},
		{"groups claim missing", authconfig.Flags{UsernamePrefix: "-", GroupsClaim: "groups"}, `{"sub":"a"}`, auth.User{Name: "a"}},
		{"groups claim null", authconfig.Flags{UsernamePrefix: "-", GroupsClaim: "groups"}, `{"sub":"a","groups":null}`, auth.User{Name: "a"}},
		{"groups claim not configured", authconfig.Flags{UsernamePrefix: "-"}, `{"sub":"a","groups":["x"]}`, auth.User{Name: "a"}},
		{"required claim", authconfig.Flags{UsernamePrefix: "-", RequiredClaims: map[string]string{"hd": "b.c"}}, `{"sub":"a","hd":"b.c"}`, auth.User{Name: "a"}},
		{
			"credential id", authconfig.Flags{UsernamePrefix: "-"}, `{"sub":"a","jti":"17"}`,
			auth.User{Name: "a", Extra: map[string][]string{"authentication.kubernetes.io/credential-id": {"JTI=17"}}},
		},
		{"jti of a number is ignored", authconfig.Flags{UsernamePrefix: "-"}, `{"sub":"a","jti":17}`, auth.User{Name: "a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.flags.IssuerURL = issuer
			user, err := mappingOf(t, tt.flags).User(t.Context(), claimsOf(t, tt.claims))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, user); diff != "" {
				t.Errorf("user (-want +got):\n%s", diff)
			}
		})
	}
}

// Promise: claims that do not name a user, or not in the form that was
// configured, are refused, and each rule that narrows is enforced.
func TestFlagsRefuse(t *testing.T) {
	groups := authconfig.Flags{GroupsClaim: "groups"}
	email := authconfig.Flags{UsernameClaim: "email"}
	required := authconfig.Flags{RequiredClaims: map[string]string{"hd": "b.c"}}
	for _, tt := range []struct {
		name   string
		flags  authconfig.Flags
		claims string
		want   auth.Reason
	}{
		{"no user name", authconfig.Flags{}, `{}`, auth.BadUsernameClaim},
		{"user name null", authconfig.Flags{}, `{"sub":null}`, auth.BadUsernameClaim},
		{"user name of a number", authconfig.Flags{}, `{"sub":1}`, auth.BadUsernameClaim},
		{"empty user name", authconfig.Flags{}, `{"sub":""}`, auth.BadUsernameClaim},
		{"blank user name", authconfig.Flags{}, `{"sub":" \t"}`, auth.BadUsernameClaim},
		{"blank user name behind a prefix", authconfig.Flags{UsernamePrefix: "oidc:"}, `{"sub":"\u00a0"}`, auth.BadUsernameClaim},
		{"email not verified", email, `{"email":"a@b.c","email_verified":false}`, auth.UnverifiedEmail},
		{"email_verified as a string", email, `{"email":"a@b.c","email_verified":"true"}`, auth.UnverifiedEmail},
		{"email_verified null", email, `{"email":"a@b.c","email_verified":null}`, auth.UnverifiedEmail},
		{"groups of a number", groups, `{"sub":"a","groups":1}`, auth.BadGroupsClaim},
		{"groups with a number", groups, `{"sub":"a","groups":["x",1]}`, auth.BadGroupsClaim},
		{"groups with null", groups, `{"sub":"a","groups":["x",null]}`, auth.BadGroupsClaim},
		{"groups as an object", groups, `{"sub":"a","groups":{"x":true}}`, auth.BadGroupsClaim},
		{"empty group", groups, `{"sub":"a","groups":["x",""]}`, auth.BadGroupsClaim},
		{"empty string of groups", groups, `{"sub":"a","groups":""}`, auth.BadGroupsClaim},
		{"distributed groups", groups, `{"sub":"a","_claim_names":{"groups":"src1"},"_claim_sources":{"src1":{"endpoint":"https://graph.example"}}}`, auth.UnsupportedClaims},
		{"groups without room", groups, `{"sub":"a","hasgroups":true}`, auth.UnsupportedClaims},
		{"required claim missing", required, `{"sub":"a"}`, auth.RequiredClaim},
		{"required claim of another value", required, `{"sub":"a","hd":"x"}`, auth.RequiredClaim},
		{"required claim in a list", required, `{"sub":"a","hd":["b.c"]}`, auth.RequiredClaim},
		{"required claim true", authconfig.Flags{RequiredClaims: map[string]string{"ok": "true"}}, `{"sub":"a","ok":true}`, auth.RequiredClaim},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.flags.IssuerURL = "https://issuer.example"
			user, err := mappingOf(t, tt.flags).User(t.Context(), claimsOf(t, tt.claims))
			refusal, ok := errors.AsType[*auth.Refusal](err)
			if !ok || refusal.Reason != tt.want {
				t.Errorf("user %+v, error %v; want %s", user, err, tt.want)
			}
		})
	}
}

// Promise: only a claim that is named as that of the groups may stand elsewhere,
// as in kube-apiserver, and a token that has what it refers to is judged by that.
func TestGroupsClaims(t *testing.T) {
	if got := mappingOf(t, authconfig.Flags{IssuerURL: "https://a.example"}).GroupsClaims(); len(got) != 0 {
		t.Errorf("without groups: %q", got)
	}
	mapping := mappingOf(t, authconfig.Flags{IssuerURL: "https://a.example", GroupsClaim: "roles"})
	if got := mapping.GroupsClaims(); len(got) != 1 || got[0] != "roles" || mapping.GroupsByExpression() {
		t.Errorf("with the claim roles: %q", got)
	}
	config, err := authconfig.Parse([]byte(file("v1", "  claimMappings: {username: {claim: sub, prefix: ''}, groups: {expression: 'claims.groups'}}\n")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if mapping := config.Issuers[0].Mapping; len(mapping.GroupsClaims()) != 0 || !mapping.GroupsByExpression() {
		t.Errorf("with an expression: %q", mapping.GroupsClaims())
	}
	for _, claims := range []string{
		`{"sub":"a","roles":["x"],"_claim_names":{"roles":"s"},"_claim_sources":{}}`,
		`{"sub":"a","hasgroups":true}`, // of another claim
	} {
		if _, err := mapping.User(t.Context(), claimsOf(t, claims)); err != nil {
			t.Errorf("%s: %v", claims, err)
		}
	}
}

func mappingOf(t *testing.T, flags authconfig.Flags) authconfig.Mapping {
	t.Helper()
	flags.ClientID = "gatehouse"
	issuer, err := flags.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	return issuer.Mapping
}

// Promise: no claims crash the mapping, and it never gives a blank name.
func FuzzFlags(f *testing.F) {
	f.Add(`{"sub":"alice","groups":["a"]}`, "sub", "groups")
	f.Add(`{"email":"x","email_verified":{}}`, "email", "")
	f.Add(`{"_claim_names":{"g":1}}`, "sub", "g")
	f.Fuzz(func(t *testing.T, text, username, groups string) {
		var claims map[string]any
		if json.Unmarshal([]byte(text), &claims) != nil {
			return
		}
		issuer, err := authconfig.Flags{
			IssuerURL: "https://issuer.example", ClientID: "gatehouse", UsernameClaim: username, UsernamePrefix: "-", GroupsClaim: groups,
		}.Issuer()
		if err != nil {
			return
		}
		user, err := issuer.Mapping.User(t.Context(), claims)
		if err == nil && user.Name == "" {
			t.Errorf("%s gives an empty name", text)
		}
	})
}
