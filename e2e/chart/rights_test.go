package chart_test

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// An AuthenticationConfiguration that makes all of claims that needs a right, and
// one that makes nothing of them but a name.
const (
	mapsEverything = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer: {url: https://login.example.com, audiences: [kubernetes]}
    claimMappings:
      username: {expression: claims.name}
      groups: {claim: groups, prefix: ""}
      uid: {claim: sub}
      extra:
        - {key: example.com/tenant, valueExpression: claims.tenant}
        - {key: example.com/desk, valueExpression: claims.desk}
  - issuer: {url: https://example.com, audiences: [kubernetes]}
    claimMappings:
      username: {claim: sub, prefix: ""}
      extra: [{key: example.com/tenant, valueExpression: claims.tenant}]
`
	mapsAName = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
  - issuer: {url: https://login.example.com, audiences: [kubernetes]}
    claimMappings: {username: {claim: sub, prefix: ""}}
`
	needsNoCredential = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous: {enabled: true, conditions: [{path: /healthz}]}
`
)

// way is one of several to set values.
type way struct {
	name   string
	values []any
	args   []string // of `gatehouse rbac`, for the same
}

// identities are ways to say who may sign in.
func identities() []way {
	oidc := []any{"oidc.issuerURL", "https://login.example.com", "oidc.clientID", "kubernetes"}
	return []way{
		{"nothing", nil, nil},
		{"an issuer", oidc, nil},
		{"an issuer of groups", append([]any{"oidc.groupsClaim", "groups"}, oidc...), nil},
		{"an issuer and sessions", append([]any{"exchange.url", exchangeURL, "exchange.sessionKeys.existingSecret", "keys"}, oidc...), nil},
		{"a file of everything", []any{"authenticationConfig.content", mapsEverything}, nil},
		{"a file of a name", []any{"authenticationConfig.content", mapsAName}, nil},
		{"a file of a path", []any{"authenticationConfig.content", needsNoCredential}, nil},
	}
}

// doors are ways to say what may be asked in people's names.
func doors() []way {
	return []way{
		{"open", nil, nil},
		{"read-only", []any{"rbac.readOnly", true}, []string{"--read-only"}},
		{
			"read-only and more",
			[]any{"rbac.readOnly", true, "rbac.apiGroups", list{"zoo.example.com", "apps", "a.example.com"}},
			[]string{"--read-only", "--api-groups", "zoo.example.com,apps,a.example.com"},
		},
		{"legacy", []any{"rbac.legacy", true}, []string{"--legacy"}},
	}
}

// Promise: the chart's rights are those that `gatehouse rbac` prints for the
// settings that the chart gives the pod: for every way to sign in, with and without
// static tokens, certificates, TokenReview and acting as others, through each door.
func TestRightsAreThoseOfGatehouse(t *testing.T) {
	c := open(t)
	binary := filepath.Join(t.TempDir(), "gatehouse")
	if err := build.Gatehouse(t.Context(), binary, build.Options{}); err != nil {
		t.Fatal(err)
	}
	toggles := [][]any{
		{"tokenAuthFile.existingSecret", "tokens"}, {"clientCA.existingSecret", "ca"}, {"tokenReview.enabled", true}, {"impersonation", false},
	}
	turn := 0
	for _, identity := range identities() {
		for toggled := range 1 << len(toggles) {
			pairs := append([]any{}, identity.values...)
			for i, toggle := range toggles {
				if toggled&(1<<i) != 0 {
					pairs = append(pairs, toggle...)
				}
			}
			// Each door with the least of settings and with all, and else in turn.
			turn++
			for i, door := range doors() {
				if toggled != 0 && toggled != 7 && turn%len(doors()) != i {
					continue
				}
				v := with(append(append([]any{}, pairs...), door.values...)...)
				t.Run(fmt.Sprintf("%s %04b %s", identity.name, toggled, door.name), func(t *testing.T) {
					t.Parallel()
					c.compareRights(t, binary, v, door.args)
				})
			}
		}
	}
}

// Promise: an account of another name has the rights under a name of its own, as
// gatehouse's advice says it.
func TestRightsOfAnotherAccount(t *testing.T) {
	c := open(t)
	binary := filepath.Join(t.TempDir(), "gatehouse")
	if err := build.Gatehouse(t.Context(), binary, build.Options{}); err != nil {
		t.Fatal(err)
	}
	c.compareRights(t, binary, with("serviceAccount.name", "front.door"), []string{"--service-account", "front.door"})
}

// compareRights renders the chart and has gatehouse print, in the environment of
// the chart's pod.
func (c chart) compareRights(t *testing.T, binary string, v values, args []string) {
	all := c.mustRender(t, v)
	env := podEnvironment(t, all, t.TempDir())
	printed, err := runGatehouse(t, binary, env, append([]string{"rbac"}, args...)...)
	if err != nil {
		t.Fatalf("gatehouse rbac %v: %v", args, err)
	}
	want, err := parse(printed)
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, o := range want {
		if o.kind() == "Namespace" {
			continue // helm's --create-namespace
		}
		compared++
		got := all.find(o.name())
		if got == nil {
			t.Errorf("%v: the chart has no %s", v, o.name())
			continue
		}
		for _, part := range []string{"rules", "roleRef", "subjects"} {
			if !reflect.DeepEqual(got[part], o[part]) {
				t.Errorf("%v: %s of %s (-gatehouse rbac +chart):\n%s", v, part, o.name(), cmp.Diff(o[part], got[part]))
			}
		}
	}
	if compared != 3 {
		t.Errorf("%d objects were compared, want the account, the role and its binding", compared)
	}
}

// podEnvironment is what the chart gives gatehouse, with the files that it makes
// written below dir in place of the pod's root.
func podEnvironment(t *testing.T, all objects, dir string) []string {
	t.Helper()
	variables, ok := all.find(deployment).at(t, ".spec.template.spec.containers[0].env").([]any)
	if !ok {
		t.Fatal("the container has no environment")
	}
	var env []string
	for _, v := range variables {
		value, _ := v.(m)["value"].(string)
		if strings.HasPrefix(value, "/etc/gatehouse/") {
			value = filepath.Join(dir, value)
		}
		env = append(env, v.(m)["name"].(string)+"="+value)
	}
	config, ok := all.find("ConfigMap/gatehouse").at(t, ".data.authentication-config").(string)
	if ok {
		path := filepath.Join(dir, "etc/gatehouse/authentication-config/config.yaml")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return env
}

// runGatehouse runs one command with exactly this environment.
func runGatehouse(t *testing.T, binary string, env []string, args ...string) (string, error) {
	t.Helper()
	var stdout, stderr strings.Builder
	p, err := proc.Start(t.Context(), proc.Config{Path: binary, Args: args, Env: env, Stdout: &stdout, Stderr: &stderr})
	if err != nil {
		return "", err
	}
	code, err := p.Wait(t.Context())
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d: %s", code, stderr.String())
	}
	return stdout.String(), err
}
