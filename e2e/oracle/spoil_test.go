package oracle_test

import (
	"slices"
)

// spoil changes an entry of the configuration, sometimes, in a way that seldom
// is valid.
func (g *generator) spoil(entry map[string]any) {
	for range g.rand.IntN(3) * g.rand.IntN(2) {
		switch g.rand.IntN(4) {
		case 0:
			entry["issuer"] = g.issuer()
		case 1:
			g.spoilRules(entry)
		case 2:
			g.spoilMappings(entry["claimMappings"].(map[string]any))
		case 3:
			entry[pick(g, []string{"rules", "ClaimMappings", "audiences"})] = []any{}
		}
	}
}

// issuer is what an entry says of its issuer. Whatever URL it gives is refused,
// by gatehouse at least: nobody would answer there.
func (g *generator) issuer() map[string]any {
	issuer := map[string]any{}
	if g.chance(1, 3) {
		issuer["url"] = pick(g, []any{
			"", "http://e.example", "https://u:p@e.example", "https://e.example?x=y", "https://e.example#x", "https://", "https:///x", "https:e.example",
			"https://:443", "https://e.example?", "https://e.example#", "e.example", "ftp://e.example", "https://e.example:x", "https://[::1", 1, nil,
		})
	}
	if g.chance(2, 3) {
		issuer["audiences"] = pick(g, []any{
			[]any{audience}, []any{"x", audience}, []any{}, []any{""}, []any{audience, ""}, []any{audience, audience}, []any{audience, " "}, nil, audience,
		})
		issuer["audienceMatchPolicy"] = pick(g, []any{"MatchAny", "MatchAny", "", "MatchAll", "matchany", nil})
	}
	if g.chance(1, 5) {
		issuer["certificateAuthority"] = pick(g, []any{"x", "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n", 1})
	}
	if g.chance(1, 8) {
		issuer["egressSelectorType"] = pick(g, []any{"cluster", "controlplane", "etcd", ""})
	}
	return issuer
}

func (g *generator) spoilRules(entry map[string]any) {
	claimRules, _ := entry["claimValidationRules"].([]any)
	userRules, _ := entry["userValidationRules"].([]any)
	rule := pick(g, []map[string]any{
		{}, {"claim": "tier"}, {"claim": "tier", "requiredValue": "gold"}, {"claim": "tier", "message": "m"}, {"requiredValue": "gold"},
		{"claim": "tier", "expression": "true"}, {"expression": "true", "requiredValue": "x"}, {"expression": "claims.tier"},
		{"expression": "'text'"}, {"expression": "user.username == 'a'"}, {"expression": "claims."}, {"expression": "true", "message": " "},
		{"expression": " "}, {"expression": ""}, {"expression": "claims.email == 'a'"}, {"expression": "1 == 1.0 || true"},
	})
	if g.chance(1, 3) {
		delete(rule, "claim")
		delete(rule, "requiredValue")
		entry["userValidationRules"] = slices.Repeat(append(userRules, rule), 1+g.rand.IntN(2))
		return
	}
	entry["claimValidationRules"] = slices.Repeat(append(claimRules, rule), 1+g.rand.IntN(2))
}

func (g *generator) spoilMappings(mappings map[string]any) {
	mapping := pick(g, []any{
		map[string]any{}, nil, map[string]any{"claim": "sub"}, map[string]any{"claim": "sub", "prefix": nil}, map[string]any{"prefix": "p:"},
		map[string]any{"claim": "sub", "prefix": "", "expression": "claims.sub"}, map[string]any{"expression": "claims.sub", "prefix": ""},
		map[string]any{"expression": "claims.email"}, map[string]any{"expression": "claims.?email.orValue('x')"}, map[string]any{"expression": "1"},
		map[string]any{"expression": "claims.sub +"}, map[string]any{"claim": " ", "prefix": " "}, map[string]any{"expression": "user.username"}, "sub",
	})
	name := pick(g, []string{"username", "groups", "uid", "extra", "extra"})
	if name != "extra" {
		mappings[name] = mapping
		return
	}
	extra, _ := mappings["extra"].([]any)
	mappings["extra"] = append(extra, map[string]any{
		"key": pick(g, []any{
			"example.com/k0", "example.com/x", "Example.com/x", "example.com/X", "x", "/x", "example.com/", "kubernetes.io/x", "a.k8s.io/x", "k8s.io.example/x", "a/b/c", "", nil,
		}),
		"valueExpression": pick(g, []any{"claims.sub", "", "claims.", "1", "[1]", "null", "claims.groups", nil}),
	})
}
