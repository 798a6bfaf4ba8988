package authconfig_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
)

const explained = `  claimMappings:
    username: {claim: email, prefix: "oidc:"}
    groups: {expression: 'dyn(claims.roles).map(r, "role:" + r)'}
    uid: {claim: oid}
    extra:
    - {key: example.com/tenant, valueExpression: claims.tenant}
  claimValidationRules:
  - {expression: 'claims.tenant != "red"', message: not red}
  - {claim: hd, requiredValue: example.com}
  - {expression: 'claims.tenant == "blue"', message: the tenant must be blue}
  userValidationRules:
  - {expression: '!user.username.endsWith("root")', message: no roots}
`

func explainedMapping(t *testing.T) authconfig.Mapping {
	t.Helper()
	config, err := authconfig.Parse([]byte(file("v1", explained)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return config.Issuers[0].Mapping
}

// Promise: every field stands beside the mapping that made it, and every rule
// beside its place in the configuration.
func TestExplain(t *testing.T) {
	claims := claimsOf(t, `{"email":"a@b","roles":["x","y"],"oid":"7","tenant":"blue","hd":"example.com","jti":"1"}`)
	mapping := explainedMapping(t)
	want := []auth.Mapped{
		{Field: "username", Rule: "username.claim `email` with prefix \"oidc:\"", Values: []string{"oidc:a@b"}},
		{Field: "groups", Rule: "groups.expression `dyn(claims.roles).map(r, \"role:\" + r)`", Values: []string{"role:x", "role:y"}},
		{Field: "uid", Rule: "uid.claim `oid`", Values: []string{"7"}},
		{Field: `extra["authentication.kubernetes.io/credential-id"]`, Rule: "claim `jti`, as kube-apiserver does", Values: []string{"JTI=1"}},
		{Field: `extra["example.com/tenant"]`, Rule: "valueExpression `claims.tenant`", Values: []string{"blue"}},
		{Field: "claimValidationRules[1]", Rule: "the claim `hd` must be the string \"example.com\""},
		{Field: "claimValidationRules[0]", Rule: "`claims.tenant != \"red\"`"},
		{Field: "claimValidationRules[2]", Rule: "`claims.tenant == \"blue\"`"},
		{Field: "userValidationRules[0]", Rule: "`!user.username.endsWith(\"root\")`"},
	}
	if diff := cmp.Diff(want, mapping.Explain(t.Context(), claims)); diff != "" {
		t.Errorf("explanation (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"example.com/tenant"}, mapping.ExtraKeys()); diff != "" {
		t.Errorf("extra keys (-want +got):\n%s", diff)
	}
}

// Promise: User and Explain never disagree: what User refuses, Explain finds
// fault with in the same words and at the place in the configuration; what User
// accepts has no fault, and the same values.
func TestExplainAgreesWithUser(t *testing.T) {
	mapping := explainedMapping(t)
	for claims, place := range map[string]string{
		`{"email":"a","roles":[],"oid":"7","tenant":"blue","hd":"example.com"}`:                        "",
		`{"roles":[],"oid":"7","tenant":"blue","hd":"example.com"}`:                                    "username",
		`{"email":"a","email_verified":false,"roles":[],"oid":"7","tenant":"blue","hd":"example.com"}`: "username",
		`{"email":"a","roles":"x","oid":"7","tenant":"blue","hd":"example.com"}`:                       "groups",
		`{"email":"a","roles":[],"oid":7,"tenant":"blue","hd":"example.com"}`:                          "uid",
		`{"email":"a","roles":[],"oid":"7","hd":"example.com"}`:                                        "extra",
		`{"email":"a","roles":[],"oid":"7","tenant":"blue","hd":"example.org"}`:                        "claimValidationRules[1]",
		`{"email":"a","roles":[],"oid":"7","tenant":"green","hd":"example.com"}`:                       "claimValidationRules[2]",
		`{"email":"root","roles":[],"oid":"7","tenant":"blue","hd":"example.com"}`:                     "userValidationRules[0]",
		`{"email":"root","roles":[],"oid":"7","tenant":"red","hd":"example.com"}`:                      "claimValidationRules[0]",
		`{"email":"a","roles":["` + strings.Repeat("x", 300) + `"],"oid":"","tenant":"blue","hd":"x"}`: "claimValidationRules[1]",
	} {
		user, err := mapping.User(t.Context(), claimsOf(t, claims))
		rows := mapping.Explain(t.Context(), claimsOf(t, claims))
		var first *auth.Mapped
		for i, row := range rows {
			if row.Err != nil {
				first = &rows[i]
				break
			}
		}
		if err == nil {
			if place != "" || first != nil || rows[0].Values[0] != user.Name {
				t.Errorf("%s: User accepts %+v, Explain says %+v", claims, user, rows)
			}
			continue
		}
		refusal, ok := errors.AsType[*auth.Refusal](err)
		if !ok || first == nil || !strings.HasPrefix(first.Field, place) || !strings.Contains(refusal.Detail, said(first.Err)) {
			t.Errorf("%s: User refuses with %v; Explain, at %s, with %+v", claims, err, place, first)
			continue
		}
		if strings.Contains(place, "Rules") && !strings.HasPrefix(refusal.Detail, place+": ") {
			t.Errorf("%s: the refusal %q does not name %s", claims, refusal.Detail, place)
		}
	}
}

func said(err error) string {
	if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
		return refusal.Detail
	}
	return err.Error()
}
