package migrate

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
)

// Promise: a command line is split into words as a shell does it.
func TestWordsOfText(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"a  b\tc\n d":                    {"a", "b", "c", "d"},
		"a \\\n  b\\\n c \\\r\n d":       {"a", "b", "c", "d"},
		`--p='a b' --q="c \"d\" \x" 'e'`: {"--p=a b", `--q=c "d" \x`, "e"},
		`'' ""x a\ b \"`:                 {"", "x", "a b", `"`},
		"a # not this\nb#c '#d'":         {"a", "b#c", "#d"},
		"\"a\\\nb\"":                     {"ab"},
		"":                               nil,
		"a\\":                            {"a"},
	} {
		if got, err := splitWords(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q and %v, want %q", text, got, err, want)
		}
	}
	for _, text := range []string{`'a`, `"a`, `"a\"`} {
		if got, err := splitWords(text); err == nil {
			t.Errorf("%q: got %q", text, got)
		}
	}
}

// Promise: where kube-oidc-proxy compares a claim with a string that JSON could
// write without quotes, what is made accepts the value and the string, and nothing
// else.
func TestRuleOfJSONValue(t *testing.T) {
	t.Parallel()
	result, err := Words([]string{"--oidc-issuer-url=https://i", "--oidc-client-id=c", "--oidc-required-claim=a.b=true", "--oidc-required-claim=n=2000000"}, Options{From: RafPe})
	if err != nil {
		t.Fatal(err)
	}
	config, err := authconfig.Parse(result.Config, nil)
	if err != nil {
		t.Fatalf("%v:\n%s", err, result.Config)
	}
	for _, test := range []struct {
		flag, number any
		accepted     bool
	}{
		{true, 2000000.0, true},
		{"true", "2000000", true},
		{false, 2000000.0, false},
		{"True", 2000000.0, false},
		{1.0, 2000000.0, false},
		{[]any{true}, 2000000.0, false},
		{nil, 2000000.0, false},
		{true, 2000000.5, false},
		{true, nil, false},
	} {
		claims := map[string]any{"sub": "ana", "a.b": test.flag, "n": test.number}
		if test.number == nil {
			delete(claims, "n")
		}
		user, err := config.Issuers[0].Mapping.User(t.Context(), claims)
		_, refused := errors.AsType[*auth.Refusal](err)
		if (err == nil) != test.accepted || err == nil && user.Name != "ana" || err != nil && !refused {
			t.Errorf("%v and %v: %v, want accepted: %t", test.flag, test.number, err, test.accepted)
		}
	}
}

// Promise: a variable of a container's arguments is put in as the kubelet does.
func TestVariablesOfArguments(t *testing.T) {
	t.Parallel()
	values := map[string]string{"A": "1", "B": ""}
	for text, want := range map[string]struct{ expanded, unknown string }{
		"$(A)":           {"1", ""},
		"x$(A)$(B)y":     {"x1y", ""},
		"$$(A)":          {"$(A)", ""},
		"$(C)-$(A)":      {"$(C)-1", "C"},
		"$A $ $(":        {"$A $ $(", ""},
		"cost $":         {"cost $", ""},
		"$$$(A)":         {"$1", ""},
		"$(not a name) ": {"$(not a name) ", "not a name"},
	} {
		expanded, unknown := expandOne(text, values)
		if diff := cmp.Diff(want, struct{ expanded, unknown string }{expanded, unknown}, cmp.AllowUnexported(want)); diff != "" {
			t.Errorf("%q (-want +got):\n%s", text, diff)
		}
	}
}

// Promise: whatever is read, it is translated or refused, and a setting is one
// line of an env file.
func FuzzText(f *testing.F) {
	for _, seed := range []string{
		"kube-apiserver --oidc-issuer-url=https://i --oidc-client-id=c --oidc-required-claim=a=,b",
		"kube-oidc-proxy --oidc-issuer-url=https://i --oidc-client-id=c --oidc-username-prefix=- --extra-user-headers=a.b/c=d,e=f",
		"kind: Pod\nspec:\n  containers:\n  - image: kube-apiserver\n    args: [--oidc-issuer-url=$(A), --oidc-client-id=c]\n    env: [{name: A, value: https://i}]\n",
		"oidc: {issuerUrl: https://i, clientId: c, requiredClaims: {a: 'true'}, extraProviders: [{}]}\nextraArgs: {v: 2}\n",
		"- --a\n- b\n", "kind: List\nitems: [{kind: List, items: []}, null]\n", "kind: Pod\nspec: {containers: [null]}\n", "{}", "a: &a [*a]\n", "'", "k3s server --kube-apiserver-arg",
		"kube-rbac-proxy --upstream=https://a --oidc-issuer=https://i --oidc-clientID=c",
		"kind: Pod\nspec:\n  containers:\n  - image: azad-kube-proxy\n    env: [{name: TENANT_ID, value: a}, {name: CLIENT_ID, value: b}, {name: CLIENT_SECRET, value: c}]\n",
		"oidc: {issuerUrl: https://i, clientId: c}\nextraVolumes: [{name: a, secret: {secretName: s}}]\nextraVolumeMounts: [{name: a, mountPath: /a}]\nextraArgs: {oidc-ca-file: /a/b}\n",
		"kind: ClusterConfiguration\napiServer: {extraArgs: [{name: v, value: '2'}]}\n",
	} {
		f.Add(seed, byte(0))
		f.Add(seed, byte(3))
		f.Add(seed, byte(128))
	}
	f.Fuzz(func(t *testing.T, text string, from byte) {
		options := Options{Chart: from >= 128, ReadFile: func(string) ([]byte, error) { return nil, errors.New("not here") }}
		from %= 128
		if sources := Sources(); from > 0 {
			options.From = sources[int(from)%len(sources)]
		}
		result, err := Text([]byte(text), options)
		if err != nil {
			return
		}
		for _, s := range result.Settings {
			if !strings.HasPrefix(s.Name, Prefix) || s.Value == "" || strings.ContainsAny(s.Value, "\n\r\x00") {
				t.Errorf("%q", s)
			}
		}
		var values map[string]any
		if err := yaml.Unmarshal(result.Values, &values); err != nil || options.Chart == (values == nil) {
			t.Errorf("%v: %s", err, result.Values)
		}
		for _, note := range result.Notes {
			if strings.ContainsAny(note.Text, "\n\r") {
				t.Errorf("%q", note)
			}
		}
	})
}
