package authconfig_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
)

// file returns a configuration of one issuer with these mappings and rules.
func file(version, rest string) string {
	return `apiVersion: apiserver.config.k8s.io/` + version + `
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: https://issuer.example
    audiences: [gatehouse]
` + rest
}

// Promise: the same expressions give the same user as in kube-apiserver, in
// every version of the file.
func TestExpressions(t *testing.T) {
	const rest = `  claimMappings:
    username: {expression: 'claims.sub + "@" + claims.a__dot__b'}
    groups: {expression: 'claims.?groups.orValue([])'}
    uid: {expression: 'string(int(claims.id))'}
    extra:
    - {key: example.com/team, valueExpression: 'claims.nested.list[0].x__dash__y'}
    - {key: example.com/none, valueExpression: '""'}
  userValidationRules:
  - {expression: "!user.username.startsWith('system:')", message: reserved}
  - {expression: "user.extra.all(k, k != 'example.com/none')", message: empty values are left out}
`
	for _, version := range []string{"v1", "v1beta1", "v1alpha1"} {
		config, err := authconfig.Parse([]byte(file(version, rest)), nil)
		if err != nil {
			t.Fatal(err)
		}
		claims := claimsOf(t, `{"sub":"a","a.b":"c","groups":["x","","y"],"id":7,"nested":{"list":[{"x-y":"blue"}]},"jti":"1"}`)
		user, err := config.Issuers[0].Mapping.User(t.Context(), claims)
		if err != nil {
			t.Fatal(err)
		}
		want := auth.User{Name: "a@c", UID: "7", Groups: []string{"x", "y"}, Extra: map[string][]string{
			"example.com/team": {"blue"}, auth.CredentialIDKey: {"JTI=1"},
		}}
		if diff := cmp.Diff(want, user); diff != "" {
			t.Errorf("%s: user (-want +got):\n%s", version, diff)
		}
	}
}

// Promise: a mapping or rule that fails refuses, each for its reason.
func TestExpressionsRefuse(t *testing.T) {
	const plain = "  claimMappings: {username: {claim: sub, prefix: ''}}\n"
	mapping := func(field, expression string) string {
		return "  claimMappings:\n    username: {claim: sub, prefix: ''}\n    " + field + ": {expression: '" + expression + "'}\n"
	}
	for _, tt := range []struct {
		name, rest string
		reason     auth.Reason
	}{
		{"username of a number", "  claimMappings: {username: {expression: 'claims.id'}}\n", auth.BadUsernameClaim},
		{"empty username", "  claimMappings: {username: {expression: '\"\"'}}\n", auth.BadUsernameClaim},
		{"missing claim", "  claimMappings: {username: {expression: 'claims.nothing'}}\n", auth.BadUsernameClaim},
		{"groups of a number", mapping("groups", "claims.id"), auth.BadGroupsClaim},
		{"groups with a number", mapping("groups", "claims.mixed"), auth.BadGroupsClaim},
		{"groups of a map", mapping("groups", "claims.map"), auth.BadGroupsClaim},
		{"uid of a number", mapping("uid", "claims.id"), auth.BadMapping},
		{"uid claim missing", "  claimMappings:\n    username: {claim: sub, prefix: ''}\n    uid: {claim: nothing}\n", auth.BadMapping},
		{"extra of a number", "  claimMappings:\n    username: {claim: sub, prefix: ''}\n    extra: [{key: example.com/x, valueExpression: claims.id}]\n", auth.BadMapping},
		{"claim rule", plain + "  claimValidationRules: [{expression: 'claims.id == 8', message: 'no'}]\n", auth.ClaimRule},
		{"claim rule that fails", plain + "  claimValidationRules: [{expression: 'claims.nothing == 8'}]\n", auth.ClaimRule},
		{"user rule", plain + "  userValidationRules: [{expression: 'user.username == \"b\"'}]\n", auth.UserRule},
		{"required claim", plain + "  claimValidationRules: [{claim: hd, requiredValue: b.c}]\n", auth.RequiredClaim},
		{"rule beyond its cost", plain + "  claimValidationRules: [{expression: 'dyn(claims.many).all(a, dyn(claims.many).all(b, dyn(claims.many).all(c, a + b + c >= 0.0)))'}]\n", auth.ClaimRule},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, err := authconfig.Parse([]byte(file("v1", tt.rest)), nil)
			if err != nil {
				t.Fatal(err)
			}
			many := "[" + strings.Repeat("1,", 150) + "1]"
			claims := claimsOf(t, `{"sub":"a","id":7,"mixed":["x",1],"map":{"x":"y"},"many":`+many+`}`)
			user, err := config.Issuers[0].Mapping.User(t.Context(), claims)
			if refusal, ok := errors.AsType[*auth.Refusal](err); !ok || refusal.Reason != tt.reason {
				t.Errorf("user %+v, error %v; want %s", user, err, tt.reason)
			}
		})
	}
}

// Promise: a file that kube-apiserver refuses is refused, with the path to each
// fault.
func TestParseBad(t *testing.T) {
	good := "  claimMappings: {username: {claim: sub, prefix: ''}}\n"
	for name, tt := range map[string]struct {
		content string
		want    []string
	}{
		"empty":             {"", []string{"the file is empty"}},
		"other kind":        {"apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers: []\n", []string{"AuthenticationConfiguration"}},
		"other version":     {file("v2", good), []string{"apiserver.config.k8s.io/v2"}},
		"unknown field":     {file("v1", good+"  rules: []\n"), []string{`unknown field "jwt[0].rules"`}},
		"field twice":       {file("v1", good+good), []string{`"claimMappings" already set`}},
		"several faults":    {strings.Replace(file("v1", "  claimMappings: {username: {claim: sub}}\n"), "https:", "http:", 1), []string{"jwt[0].issuer.url", "jwt[0].claimMappings.username.prefix"}},
		"disallowed issuer": {strings.Replace(file("v1", good), "issuer.example", "cluster.example", 1), []string{"jwt[0].issuer.url", "disallowed"}},
		"egress selector":   {strings.Replace(file("v1", good), "audiences:", "egressSelectorType: cluster\n    audiences:", 1), []string{"jwt[0].issuer.egressSelectorType"}},
		"gatehouse's extra": {file("v1", "  claimMappings:\n    username: {claim: sub, prefix: ''}\n    extra: [{key: example.com/a, valueExpression: claims.sub}, {key: kube-gatehouse.github.io/original-user, valueExpression: claims.sub}]\n"),
			[]string{"jwt[0].claimMappings.extra[1].key", "set by gatehouse itself"}},
		"issuer, no host":  {strings.Replace(file("v1", good), "issuer.example", "", 1), []string{"jwt[0].issuer.url", "must have a host"}},
		"issuer, no query": {strings.Replace(file("v1", good), "issuer.example", "issuer.example?", 1), []string{"jwt[0].issuer.url", "not even an empty one"}},
		"two documents":    {file("v1", good) + "---\n" + file("v1", good), nil},
	} {
		_, err := authconfig.Parse([]byte(tt.content), []string{"https://cluster.example"})
		if err == nil {
			if tt.want != nil {
				t.Errorf("%s: accepted", name)
			}
			continue
		}
		for _, want := range tt.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v lacks %q", name, err, want)
			}
		}
	}
}

// Promise: prefixes that do not keep two issuers' people apart are named.
func TestCollisions(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"a:", "b:", 0}, {"", "b:", 1}, {"a:", "a:", 1}, {"a:", "a:b:", 1}, {"", "", 1},
	} {
		entry := func(url, prefix string) string {
			return "- issuer: {url: 'https://" + url + "', audiences: [x]}\n  claimMappings: {username: {claim: sub, prefix: '" + prefix + "'}}\n"
		}
		config, err := authconfig.Parse([]byte("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n"+entry("a", tt.a)+entry("b", tt.b)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := config.Collisions(); len(got) != tt.want {
			t.Errorf("prefixes %q and %q: %q", tt.a, tt.b, got)
		}
	}
}

// Promise: no bytes crash the reader of configurations.
func FuzzParse(f *testing.F) {
	f.Add([]byte(file("v1", "  claimMappings: {username: {claim: sub, prefix: ''}}\n")))
	f.Add([]byte(file("v1", "  claimMappings: {username: {expression: 'claims.sub'}}\n")))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, content []byte) {
		config, err := authconfig.Parse(content, nil)
		if err != nil {
			return
		}
		for _, issuer := range config.Issuers {
			_, _ = issuer.Mapping.User(t.Context(), map[string]any{"sub": "a"})
		}
	})
}
