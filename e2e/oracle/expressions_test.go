package oracle_test

import (
	"encoding/json"
	"strings"
	"testing"
)

// expression is one row of testdata/expressions.yaml.
type expression struct {
	CEL     string   `json:"cel"`
	Gives   []string `json:"gives"`
	Refused bool     `json:"refused"`
	// Compiles is false if the configuration is refused.
	Compiles *bool `json:"compiles"`
	verdict
}

const expressionKey = "example.com/value"

// expressionClaims are what the expressions read.
const expressionClaims = `{
	"s": "alice", "e": "", "z": null, "t": true,
	"n": 5, "one": 1, "f": 1.5, "neg": -3, "big": 9007199254740993, "huge": 1e300, "nums": [1, 2],
	"l": ["a", "b", "c"], "le": [], "lm": ["a", 1], "ln": [["x"], ["y"]], "lz": ["a", null], "lempty": ["a", "", "b"],
	"lopt": [{"name": "n1"}, {}], "objs": [{"name": "n1", "r.s": "q"}, {"name": "n2"}],
	"flat": {"k": "v"}, "dotted_map": {"p.q": "r"},
	"o": {"k": "v", "d.t": {"e/f": "deep"}, "in_list": [1, 2], "deep_list": [[{"v.w": "bottom"}]]},
	"nested_escape": {"p.q": "escaped", "p__dot__q": "literal"},
	"a.b": "dotted", "x/y": "slashed", "dash-ed": "dashed", "in": "reserved", "under__score": "underscored",
	"https://example.com/role": "urled", "ż ó": "unicode", "": "nameless",
	"csv": "a,b,,c", "email": "a@b.c", "badre": "(", "ip": "10.1.2.3", "cidr": "10.0.0.0/8", "ver": "1.2.3",
	"url": "https://example.com:8443/p/q", "when": "2030-01-01T00:00:00Z", "dur": "1h"
}`

// Promise: an expression makes of claims what it makes of them in
// kube-apiserver: the same values, the same faults, the same expressions refused.
func TestExpressions(t *testing.T) {
	w := sharedWorld(t)
	r := row{}
	if err := json.Unmarshal([]byte(expressionClaims), &r.Claims); err != nil {
		t.Fatal(err)
	}
	for i, e := range readCorpus[expression](t, "testdata/expressions.yaml", w.places()) {
		g := group{Config: e.CEL, Version: versions[i%len(versions)], JWT: map[string]any{"claimMappings": map[string]any{
			"username": map[string]any{"claim": "sub", "prefix": ""},
			"extra":    []any{map[string]any{"key": expressionKey, "valueExpression": e.CEL}},
		}}}
		t.Run(strings.ReplaceAll(e.CEL, "/", "_"), func(t *testing.T) {
			t.Parallel()
			if e.Compiles != nil && !*e.Compiles {
				w.judgeConfig(t, g.content(t, w), nil, e.verdict, []string{"Invalid jwt[0].claimMappings.extra[0].valueExpression"})
				return
			}
			one := r
			one.Is, one.Refused, one.verdict = e.CEL, e.Refused, e.verdict
			one.Extra = map[string][]string{}
			if len(e.Gives) > 0 {
				one.Extra[expressionKey] = e.Gives
			}
			g.Tokens = []row{one}
			w.judgeGroup(t, g)
		})
	}
}
