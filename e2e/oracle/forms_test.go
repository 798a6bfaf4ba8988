package oracle_test

import (
	"encoding/base64"
	"strings"
	"testing"
)

// parts joins what is done to the three parts of a token.
func parts(change func(header, payload, signature string) []string) func(string) string {
	return func(token string) string {
		p := strings.Split(token, ".")
		return strings.Join(change(p[0], p[1], p[2]), ".")
	}
}

// flip changes the last bits of a part of base64url that carry nothing.
func flip(part string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, part[len(part)-1])
	return part[:len(part)-1] + string(alphabet[last^1])
}

// another mixes a token with the same one of another signature and payload.
func another(mix func(own, other []string) []string) func(string) string {
	return func(token string) string {
		w := theWorld.w
		other := w.keys["ES256"].Sign([]byte(`{"iss":"` + w.main.URL + `","aud":"gatehouse","exp":2000000100,"sub":"bob"}`))
		return strings.Join(mix(strings.Split(token, "."), strings.Split(other, ".")), ".")
	}
}

var b64 = base64.RawURLEncoding

// forms are what is done to a good token. Its signature by ES256, 64 bytes, has
// 86 characters: four bits are left over.
var forms = []struct {
	is      string
	change  func(string) string
	refused bool // by kube-apiserver
	verdict
}{
	{"unchanged", func(s string) string { return s }, false, verdict{}},
	{"empty", func(string) string { return "" }, true, verdict{}},
	{"one part", parts(func(h, _, _ string) []string { return []string{h} }), true, verdict{}},
	{"two parts", parts(func(h, p, _ string) []string { return []string{h, p} }), true, verdict{}},
	{"empty signature", parts(func(h, p, _ string) []string { return []string{h, p, ""} }), true, verdict{}},
	{"empty header", parts(func(_, p, s string) []string { return []string{"", p, s} }), true, verdict{}},
	{"empty payload", parts(func(h, _, s string) []string { return []string{h, "", s} }), true, verdict{}},
	{"four parts", parts(func(h, p, s string) []string { return []string{h, p, s, s} }), true, verdict{}},
	{"dot behind", func(s string) string { return s + "." }, true, verdict{}},
	{"dot before", func(s string) string { return "." + s }, true, verdict{}},
	{"space behind", func(s string) string { return s + " " }, false, verdict{Differs: "token-characters"}},
	{"space before", func(s string) string { return " " + s }, false, verdict{Differs: "token-characters"}},
	{"newline behind", func(s string) string { return s + "\n" }, false, verdict{Differs: "token-characters"}},
	{"newline in the signature", parts(func(h, p, s string) []string { return []string{h, p, s[:9] + "\n" + s[9:]} }), false, verdict{Differs: "token-characters"}},
	{"newline in the payload", parts(func(h, p, s string) []string { return []string{h, p[:9] + "\n" + p[9:], s} }), false, verdict{Differs: "token-characters"}},
	{"padding", parts(func(h, p, s string) []string { return []string{h, p, s + "=="} }), true, verdict{}},
	{"spare bits of the signature", parts(func(h, p, s string) []string { return []string{h, p, flip(s)} }), false, verdict{Differs: "spare-bits"}},
	{"standard base64", func(s string) string { return strings.NewReplacer("-", "+", "_", "/").Replace(s) + "+" }, true, verdict{}},
	{"signature of zeros", parts(func(h, p, _ string) []string { return []string{h, p, b64.EncodeToString(make([]byte, 64))} }), true, verdict{}},
	{"signature cut off", parts(func(h, p, s string) []string { return []string{h, p, s[:40]} }), true, verdict{}},
	{"signature with bytes more", parts(func(h, p, s string) []string { return []string{h, p, s + "AAAA"} }), true, verdict{}},
	{"signature of another token", another(func(own, other []string) []string { return []string{own[0], own[1], other[2]} }), true, verdict{}},
	{"payload of another token", another(func(own, other []string) []string { return []string{own[0], other[1], own[2]} }), true, verdict{}},
	{"no signature, alg none", parts(func(_, p, _ string) []string { return []string{b64.EncodeToString([]byte(`{"alg":"none"}`)), p, ""} }), true, verdict{}},
	{"flattened JSON", parts(func(h, p, s string) []string {
		return []string{`{"protected":"` + h + `","payload":"` + p + `","signature":"` + s + `"}`}
	}), true, verdict{}},
	{"in quotes", func(s string) string { return `"` + s + `"` }, true, verdict{}},
	{"with the scheme", func(s string) string { return "Bearer " + s }, true, verdict{}},
	{"twice", func(s string) string { return s + s }, true, verdict{}},
	{"parts in another order", parts(func(h, p, s string) []string { return []string{p, h, s} }), true, verdict{}},
}

// Promise: whatever is done to the form of a token, gatehouse reads it as
// kube-apiserver does, or refuses it.
func TestForms(t *testing.T) {
	w := sharedWorld(t)
	reference, ours := w.sides(t, group{Version: "v1"})
	token := w.token(t, w.main.URL, row{})
	for _, tt := range forms {
		changed := tt.change(token)
		want := askReference(t.Context(), reference, changed)
		if tt.refused != (want.user == nil) {
			t.Errorf("%s: the row is wrong about kube-apiserver: %s", tt.is, want)
		}
		judge(t, tt.is, tt.verdict, want, askGatehouse(t.Context(), ours, changed))
	}
}
