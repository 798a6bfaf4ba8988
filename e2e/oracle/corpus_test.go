package oracle_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	kubeoidc "k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

const audience = authtest.Audience

var versions = []string{"v1", "v1beta1", "v1alpha1"}

// group is one configuration and the tokens that are judged by it. It is given
// as the fields of one `jwt` entry (what it leaves out is filled in), as a whole
// file, or as flags.
type group struct {
	Config     string         `json:"config"` // what it shows
	Version    string         `json:"version"`
	JWT        map[string]any `json:"jwt"`
	File       string         `json:"file"`
	Flags      *flags         `json:"flags"`
	Disallowed []string       `json:"disallowed"`
	Tokens     []row          `json:"tokens"`
}

type flags struct {
	UsernameClaim  string            `json:"usernameClaim"`
	UsernamePrefix string            `json:"usernamePrefix"`
	GroupsClaim    string            `json:"groupsClaim"`
	GroupsPrefix   string            `json:"groupsPrefix"`
	RequiredClaims map[string]string `json:"requiredClaims"`
	Algorithms     []string          `json:"algorithms"`
}

// row is one token, and kube-apiserver's answer: the user "alice" unless it says
// something else.
type row struct {
	Is      string                     `json:"is"`
	Claims  map[string]json.RawMessage `json:"claims"`
	Without []string                   `json:"without"` // standard claims to leave out
	Payload string                     `json:"payload"` // in place of all claims
	Header  map[string]any             `json:"header"`  // added; null takes a member out
	Raw     string                     `json:"rawHeader"`
	Key     string                     `json:"key"` // default: ES256

	User    *string             `json:"user"`
	Groups  []string            `json:"groups"`
	UID     string              `json:"uid"`
	Extra   map[string][]string `json:"extra"`
	Refused bool                `json:"refused"`
	Because string              `json:"because"` // words of kube-apiserver's refusal
	verdict
}

// verdict says by which divergence gatehouse differs, if it does.
type verdict struct {
	Differs string `json:"differs"`
}

// readCorpus reads a list from a file of testdata, with the places filled in.
func readCorpus[T any](t testing.TB, path string, places map[string]string) []T {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []T
	if err := yaml.UnmarshalStrict([]byte(fill(string(content), places)), &list); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return list
}

// fill replaces $(NAME).
func fill(text string, places map[string]string) string {
	for name, value := range places {
		text = strings.ReplaceAll(text, "$("+name+")", value)
	}
	return text
}

// Promise: whatever the configuration and the token, gatehouse gives the user
// that kube-apiserver gives, or refuses as it does; and each difference is one
// that the documentation names.
func TestCorpus(t *testing.T) {
	w := sharedWorld(t)
	files, err := filepath.Glob("testdata/corpus/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	next := 0
	for _, file := range files {
		for _, g := range readCorpus[group](t, file, w.places()) {
			if g.Version == "" {
				g.Version = versions[next%len(versions)]
				next++
			}
			t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml")+"/"+g.Config, func(t *testing.T) {
				t.Parallel()
				w.judgeGroup(t, g)
			})
		}
	}
}

func (w *world) judgeGroup(t *testing.T, g group) {
	t.Helper()
	reference, ours := w.sides(t, g)
	issuer := w.issuerOf(g)
	for _, r := range g.Tokens {
		token := w.token(t, issuer, r)
		want := askReference(t.Context(), reference, token)
		if fault := r.fault(want); fault != "" {
			t.Errorf("%s: the row is wrong about kube-apiserver: %s; it is %s", r.Is, fault, want)
		}
		judge(t, r.Is, r.verdict, want, askGatehouse(t.Context(), ours, token))
	}
}

// issuerOf returns the `iss` that tokens have if they do not say it.
func (w *world) issuerOf(g group) string {
	if issuer, ok := g.JWT["issuer"].(map[string]any); ok {
		if url, ok := issuer["url"].(string); ok {
			return url
		}
	}
	return w.main.URL
}

// sides gives g's configuration to both.
func (w *world) sides(t *testing.T, g group) (authenticator.Token, *oidc.Issuers) {
	t.Helper()
	if g.Flags != nil {
		return w.sidesOfFlags(t, *g.Flags)
	}
	content := g.content(t, w)
	config, faults, err := referenceLoad(content, g.Disallowed)
	if err != nil || len(faults) > 0 {
		t.Fatalf("kube-apiserver refuses the configuration: %v %v", err, faults.ToAggregate())
	}
	parsed, err := authconfig.Parse(content, g.Disallowed)
	if err != nil {
		t.Fatalf("gatehouse refuses the configuration: %v", err)
	}
	reference, err := newReference(t.Context(), config.JWT, kubeoidc.AllValidSigningAlgorithms(), nil)
	if err != nil {
		t.Fatal(err)
	}
	ours, err := newGatehouse(t.Context(), parsed.Issuers, oidc.Algorithms())
	if err != nil {
		t.Fatal(err)
	}
	return reference, ours
}

func (w *world) sidesOfFlags(t *testing.T, f flags) (authenticator.Token, *oidc.Issuers) {
	t.Helper()
	jwt := referenceFlags(f, w.main.URL, string(w.ca.PEM()))
	reference, err := newReference(t.Context(), []apiserver.JWTAuthenticator{jwt}, f.Algorithms, nil)
	if err != nil {
		t.Fatal(err)
	}
	described, err := authconfig.Flags{
		IssuerURL: w.main.URL, ClientID: audience, UsernameClaim: f.UsernameClaim, UsernamePrefix: f.UsernamePrefix,
		GroupsClaim: f.GroupsClaim, GroupsPrefix: f.GroupsPrefix, RequiredClaims: f.RequiredClaims,
	}.Issuer()
	if err != nil {
		t.Fatal(err)
	}
	described.CertificateAuthority = w.ca.PEM()
	ours, err := newGatehouse(t.Context(), []authconfig.Issuer{described}, f.Algorithms)
	if err != nil {
		t.Fatal(err)
	}
	return reference, ours
}

// content is the file of g.
func (g group) content(t testing.TB, w *world) []byte {
	t.Helper()
	if g.File != "" {
		return []byte(strings.ReplaceAll(g.File, "$VERSION", "apiserver.config.k8s.io/"+g.Version))
	}
	return configuration(t, g.Version, g.entry(w))
}

// entry is g's entry of `jwt`.
func (g group) entry(w *world) any {
	jwt := map[string]any{"claimMappings": map[string]any{"username": map[string]any{"claim": "sub", "prefix": ""}}}
	maps.Copy(jwt, g.JWT)
	issuer := map[string]any{"url": w.main.URL, "audiences": []string{audience}, "certificateAuthority": string(w.ca.PEM())}
	if given, ok := g.JWT["issuer"].(map[string]any); ok {
		maps.Copy(issuer, given)
	}
	jwt["issuer"] = issuer
	return jwt
}

// configuration is a file of these entries.
func configuration(t testing.TB, version string, entries ...any) []byte {
	t.Helper()
	content, err := yaml.Marshal(map[string]any{
		"apiVersion": "apiserver.config.k8s.io/" + version, "kind": "AuthenticationConfiguration", "jwt": entries,
	})
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// fault says what kube-apiserver's answer has that r does not expect.
func (r row) fault(got answer) string {
	if r.Refused != (got.user == nil) {
		return fmt.Sprintf("refused should be %t", r.Refused)
	}
	if r.Refused {
		if !strings.Contains(got.err.Error(), r.Because) {
			return fmt.Sprintf("it should be refused because of %q", r.Because)
		}
		return ""
	}
	name := "alice"
	if r.User != nil {
		name = *r.User
	}
	switch {
	case got.user.Name != name:
		return fmt.Sprintf("the user should be %q", name)
	case r.Groups != nil && !slices.Equal(r.Groups, got.user.Groups):
		return fmt.Sprintf("the groups should be %q", r.Groups)
	case r.UID != "" && r.UID != got.user.UID:
		return fmt.Sprintf("the uid should be %q", r.UID)
	case r.Extra != nil && len(r.Extra)+len(got.user.Extra) > 0 && !cmp.Equal(r.Extra, got.user.Extra):
		return fmt.Sprintf("the extra should be %q", r.Extra)
	}
	return ""
}

// Promise: an identity that kube-apiserver takes at any size is taken up to the
// limit, with every group, and refused beyond it.
func TestLargeIdentity(t *testing.T) {
	w := sharedWorld(t)
	g := group{Config: "many groups", Version: "v1", JWT: map[string]any{"claimMappings": map[string]any{
		"username": map[string]any{"claim": "sub", "prefix": ""}, "groups": map[string]any{"claim": "groups", "prefix": ""},
	}}}
	for n, differs := range map[int]string{2000: "", 4000: "identity-size"} {
		groups, err := json.Marshal(slices.Repeat([]string{strings.Repeat("g", 100)}, n))
		if err != nil {
			t.Fatal(err)
		}
		g.Tokens = append(g.Tokens, row{
			Is: fmt.Sprint(n), Claims: map[string]json.RawMessage{"groups": groups}, verdict: verdict{Differs: differs},
		})
	}
	w.judgeGroup(t, g)
}
