package oracle_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator draws configurations and claims. What it draws depends on the seed
// alone.
type generator struct{ rand *rand.Rand }

func pick[T any](g *generator, list []T) T { return list[g.rand.IntN(len(list))] }

func (g *generator) chance(n, of int) bool { return g.rand.IntN(of) < n }

// claimNames are what configurations read and tokens hold.
var claimNames = []string{"sub", "name", "email", "email_verified", "groups", "roles", "uid", "jti", "a.b", "nested", "tier"}

// words are what is seen everywhere, and oddities what should not be.
var (
	words    = []string{"alice", "bob", "a", "b", "c", "gold", "żółw", "a,b", "a.b", "true", "1", "A", "😀", "system:authenticated"}
	oddities = []string{
		"", " ", "system:masters", "kubeadm:x", "x ", " x", "a\tb", "a\u0000b", "\ufffd", "\u00a0", "null", "a__dot__b", strings.Repeat("long", 50),
	}
)

func (g *generator) word() string {
	if g.chance(1, 15) {
		return pick(g, oddities)
	}
	return pick(g, words)
}

// registeredValues are what the claims of the standard may hold by mistake.
var registeredValues = map[string][]any{
	"aud": {audience, []any{audience}, []any{"x", audience}, []any{}, "x", nil, 1, []any{audience, nil}, []any{audience, 1}, map[string]any{}},
	"azp": {audience, "x", "", nil, 1},
	"exp": {2_000_000_000, 1_999_999_999, 2_000_000_000.5, "2000000100", nil, 0, -1, 1e11, 1e12, true},
	"nbf": {2_000_000_060, 2_000_000_061, 0, nil, "1", -1, 1.5},
	"iat": {2_000_000_060, 2_000_000_061, 0, nil, "1", "x"},
	"iss": {"https://other.example", nil, 1, ""},
	"cnf": {map[string]any{}}, "events": {nil},
	"_claim_names":   {map[string]any{}, map[string]any{"groups": "s"}, map[string]any{"other": "s"}, nil, 1},
	"_claim_sources": {map[string]any{}, map[string]any{"s": map[string]any{"JWT": "x"}}, nil},
	"Sub":            {"bob"}, "GROUPS": {"g"}, "nonce": {"n", 1},
}

// value is one for the claim name, of the kind that it should be, mostly.
func (g *generator) value(name string) any {
	if g.chance(1, 20) {
		return g.any(2)
	}
	switch name {
	case "tier":
		return pick(g, []string{"gold", "gold", "gold", "gold", "tin"})
	case "groups", "roles":
		list := make([]any, g.rand.IntN(4))
		for i := range list {
			list[i] = g.word()
		}
		return list
	case "email_verified":
		return pick(g, []any{true, true, true, true, false, "true", nil})
	case "nested":
		return map[string]any{"k": g.word(), "a.b": g.any(1), "list": []any{g.any(1), map[string]any{"x.y": g.word()}}}
	default:
		return g.word()
	}
}

// any is a JSON value of any kind.
func (g *generator) any(depth int) any {
	kinds := 6
	if depth > 0 {
		kinds = 8
	}
	switch g.rand.IntN(kinds) {
	case 0:
		return nil
	case 1:
		return g.chance(1, 2)
	case 2:
		return pick(g, []float64{0, 1, -1, 1.5, 1e300, 9007199254740993})
	case 6:
		list := make([]any, g.rand.IntN(3))
		for i := range list {
			list[i] = g.any(depth - 1)
		}
		return list
	case 7:
		object := map[string]any{}
		for range g.rand.IntN(3) {
			object[pick(g, []string{"k", "a.b", "in", ""})] = g.any(depth - 1)
		}
		return object
	default:
		return g.word()
	}
}

// jwt is an entry of the configuration, valid for the most part.
func (g *generator) jwt() map[string]any {
	mappings := map[string]any{"username": g.mapping(g.text, true, "sub", "name", "email")}
	if g.chance(2, 3) {
		mappings["groups"] = g.mapping(g.list, true, "groups", "roles")
	}
	if g.chance(1, 2) {
		mappings["uid"] = g.mapping(g.text, false, "uid", "a.b")
	}
	var extra []any
	for i := range g.rand.IntN(3) {
		extra = append(extra, map[string]any{"key": fmt.Sprintf("example.com/k%d", i), "valueExpression": g.list(2)})
	}
	mappings["extra"] = extra
	entry := map[string]any{"claimMappings": mappings}
	var rules, userRules []any
	for range g.rand.IntN(3) {
		if g.chance(1, 2) {
			rules = append(rules, map[string]any{"claim": g.claim("tier"), "requiredValue": "gold"})
		} else {
			rules = append(rules, map[string]any{"expression": g.condition("claims", 2), "message": "m"})
		}
	}
	for range g.rand.IntN(2) {
		userRules = append(userRules, map[string]any{"expression": g.condition("user", 2)})
	}
	entry["claimValidationRules"], entry["userValidationRules"] = rules, userRules
	return entry
}

func (g *generator) mapping(expression func(int) string, prefixed bool, likely ...string) map[string]any {
	if g.chance(1, 2) {
		return map[string]any{"expression": expression(2)}
	}
	mapping := map[string]any{"claim": g.claim(likely...)}
	if prefixed && !g.chance(1, 40) {
		mapping["prefix"] = pick(g, []string{"", "", "p:", "system:"})
	}
	return mapping
}

// claim is one of likely, mostly.
func (g *generator) claim(likely ...string) string {
	if g.chance(1, 5) {
		return pick(g, claimNames)
	}
	return pick(g, likely)
}

// text is an expression that should give a string.
func (g *generator) text(depth int) string {
	leaves := []string{
		"claims.sub", "claims.name", "claims.email", "claims.a__dot__b", "claims['a.b']", "claims.nested.k", "claims.nested.a__dot__b",
		"claims.?name.orValue('none')", "claims.?nested.?k.orValue('')", "claims.nested.list[1].x__dot__y", "'constant'",
		"string(claims.tier)", "claims.?roles[?0].orValue('')", "string(claims.email_verified)", "claims.iss",
		"''", "claims.groups", "claims.absent", "dyn(claims.roles)[0]",
	}
	if depth == 0 || g.chance(1, 2) {
		return leaves[g.rand.IntN(len(leaves)-4*g.rand.IntN(2))] // the last of them seldom work
	}
	return pick(g, []func() string{
		func() string { return g.text(depth-1) + " + " + g.text(depth-1) },
		func() string {
			return "(" + g.condition("claims", depth-1) + " ? " + g.text(depth-1) + " : claims.sub)"
		},
		func() string { return "string(" + g.text(depth-1) + ").upperAscii()" },
		func() string { return "dyn(" + g.list(depth-1) + ")[0]" },
	})()
}

// list is an expression that should give a list of strings, or a string.
func (g *generator) list(depth int) string {
	leaves := []string{
		"claims.groups", "claims.roles", "['x', '']", "[]", "claims.?roles.orValue([])", "claims.name", "null", "claims.nested.list",
		"string(claims.name).split(',')", "[dyn(claims.sub), claims.name]", "claims.roles + claims.groups",
	}
	if depth == 0 || g.chance(1, 2) {
		return pick(g, leaves)
	}
	return pick(g, []func() string{
		func() string { return "dyn(" + g.list(depth-1) + ").map(x, 'p:' + x)" },
		func() string { return "dyn(" + g.list(depth-1) + ").filter(x, x != 'a')" },
		func() string { return "dyn(" + g.list(depth-1) + ").transformList(i, x, i < 2, x)" },
		func() string { return "dyn(" + g.list(depth-1) + ") + dyn(" + g.list(depth-1) + ")" },
		func() string {
			return "(" + g.condition("claims", depth-1) + " ? dyn(" + g.list(depth-1) + ") : dyn(" + g.list(depth-1) + "))"
		},
	})()
}

// condition is an expression over claims or user that should give a boolean.
func (g *generator) condition(over string, depth int) string {
	leaves := map[string][]string{
		"claims": {
			"has(claims.tier)", "claims.tier == 'gold'", "claims.email_verified == true", "claims.?email_verified.orValue(true) == true",
			"claims.exp > 5", "type(claims.groups) == list", "dyn(claims.roles).all(r, r != 'b')", "string(claims.name).matches('^[a-z]+$')",
			"'a' in dyn(claims.groups)", "size(string(claims.sub)) < 9", "claims.nested == {'k': 'a'}", "true",
		},
		"user": {
			"!user.username.startsWith('system:')", "user.groups.all(x, x != 'b')", "user.uid != 'bob'", "size(user.extra) < 2",
			"!('example.com/k0' in user.extra)", "user.extra['example.com/k0'][0] != 'a'", "user.groups.size() < 3", "has(user.uid)",
			"user.?extra[?'example.com/k1'].hasValue() == false", "user.username.matches('^[^ ]*$')",
		},
	}[over]
	if depth == 0 || g.chance(1, 2) {
		return pick(g, leaves)
	}
	return pick(g, []func() string{
		func() string { return "(" + g.condition(over, depth-1) + " && " + g.condition(over, depth-1) + ")" },
		func() string { return "(" + g.condition(over, depth-1) + " || " + g.condition(over, depth-1) + ")" },
		func() string { return "!(" + g.condition(over, depth-1) + ")" },
	})()
}
