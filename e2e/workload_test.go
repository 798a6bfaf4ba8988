package e2e_test

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
)

// firstCluster is the audience of tokens that are meant for gatehouse.
const firstCluster = "gatehouse.first-cluster"

// workloads are two accounts of the second cluster.
const workloads = `
apiVersion: v1
kind: Namespace
metadata: {name: build}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: ci, namespace: build}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: ci, namespace: default}
`

// mayLook is what the first cluster allows the workloads of the second.
const mayLook = `
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: second-cluster-build, namespace: dev}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: "second:serviceaccounts:build"}]
`

// howTo is the page with the configuration that is tested here.
const howTo = "../docs/how-to/workloads-of-another-cluster.md"

// testAnotherCluster: a ServiceAccount of another cluster is somebody here, by
// the token that its own API server gave it for us: no secret is shared. Only a
// token for us counts, and only within the rules; under its own name, which is
// reserved, nobody gets in.
func (w world) testAnotherCluster(t *testing.T) {
	second, err := w.AnotherCluster(context.WithoutCancel(t.Context()), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer second.Stop()
	for to, manifest := range map[*cluster.Cluster]string{second: workloads, w.Cluster: mayLook} {
		if err := to.Apply(t.Context(), []byte(manifest)); err != nil {
			t.Fatal(err)
		}
	}
	g := w.trusting(t, second, nil)
	token := serviceAccountToken(t, second, "build/ci", firstCluster)
	eventually(t, reloadLimit, func() error { // discovery is in the background
		return status(g.get(t, "/api", token), http.StatusOK)
	})
	w.checkWorkload(t, g, token)

	const elsewhere, outOfRule = "Your token was issued for another application", "Your token does not meet a rule of this cluster"
	for name, bad := range map[string]struct{ token, sentence string }{
		"for the second cluster":  {serviceAccountToken(t, second, "build/ci", ""), elsewhere},
		"for another application": {serviceAccountToken(t, second, "build/ci", "vault"), elsewhere},
		"of another namespace":    {serviceAccountToken(t, second, "default/ci", firstCluster), outOfRule},
		"for a day":               {serviceAccountToken(t, second, "build/ci", firstCluster, "--duration=24h"), outOfRule},
		"of the first cluster":    {serviceAccountToken(t, w.Cluster, "default/default", firstCluster), refusedSentence},
	} {
		w.checkRefusal(t, g, name, bad.sentence, bearer(bad.token))
	}
	w.checkOwnName(t, second, token)
	checkUselessAtHome(t, second, token)
}

// trusting starts a gatehouse that trusts the ServiceAccount issuer of a
// cluster and nobody else, as howTo says, or with other mappings.
func (w world) trusting(t *testing.T, issuer *cluster.Cluster, mappings map[string]any) gate {
	t.Helper()
	page, err := os.ReadFile(howTo)
	if err != nil {
		t.Fatal(err)
	}
	const first = "apiVersion: apiserver.config.k8s.io/v1\n"
	_, block, _ := strings.Cut(string(page), "```yaml\n"+first)
	block, _, _ = strings.Cut(block, "```")
	var config struct {
		Kind string           `json:"kind"`
		JWT  []map[string]any `json:"jwt"`
	}
	if err := yaml.UnmarshalStrict([]byte(block), &config); err != nil || len(config.JWT) != 1 {
		t.Fatalf("%s: got %d issuers and %v, want one", howTo, len(config.JWT), err)
	}
	authority, err := os.ReadFile(issuer.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	config.JWT[0]["issuer"] = map[string]any{
		"url": issuer.URL(), "audiences": []string{firstCluster}, "certificateAuthority": string(authority),
	}
	if mappings != nil {
		config.JWT[0]["claimMappings"] = mappings
	}
	file, err := yaml.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	changes := map[string]string{
		"GATEHOUSE_AUTHENTICATION_CONFIG": put(t, filepath.Join(t.TempDir(), "authentication.yaml"), append([]byte(first), file...)),
	}
	for name := range w.Env() {
		if strings.HasPrefix(name, "GATEHOUSE_OIDC_") {
			changes[name] = ""
		}
	}
	return w.start(t, changes)
}

// serviceAccountToken asks the cluster's TokenRequest API for a token of an
// account, NAMESPACE/NAME, as the kubelet does for a projected volume. Without
// an audience it is for the cluster itself.
func serviceAccountToken(t *testing.T, of *cluster.Cluster, account, audience string, flags ...string) string {
	t.Helper()
	namespace, name, _ := strings.Cut(account, "/")
	args := []string{"create", "token", name, "-n", namespace}
	if audience != "" {
		args = append(args, "--audience="+audience)
	}
	out, err := of.Admin().Must(t.Context(), "", append(args, flags...)...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// checkWorkload: kubectl with the token in a file, as a Pod has it, gets what
// the first cluster allows the workload, and no more.
func (w world) checkWorkload(t *testing.T, g gate, token string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "kubeconfig")
	user := kubeconfig.User{Name: "ci", TokenFile: put(t, filepath.Join(dir, "token"), []byte(token))}
	if err := g.File(user).Write(config); err != nil {
		t.Fatal(err)
	}
	k, err := w.Kubectl(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args   string
		code   int
		prints string
	}{
		{"auth whoami", 0, "second:build:ci"},
		{"auth whoami", 0, "[second:serviceaccounts second:serviceaccounts:build system:authenticated]"},
		{"get deployments -n dev", 0, "hello"},
		{"delete deployment hello -n dev", 1, `User "second:build:ci" cannot delete resource "deployments"`},
		{"get pods -n kube-system", 1, `User "second:build:ci" cannot list resource "pods"`},
	} {
		r, err := k.Run(t.Context(), strings.Fields(row.args)...)
		if err != nil || r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
			t.Errorf("kubectl %s: got %+v and %v, want code %d and %q", row.args, r, err, row.code, row.prints)
		}
	}
}

// checkOwnName: mapped without a prefix, the token names a ServiceAccount that
// the first cluster may have as well, and is refused.
func (w world) checkOwnName(t *testing.T, second *cluster.Cluster, token string) {
	t.Helper()
	g := w.trusting(t, second, map[string]any{"username": map[string]any{"claim": "sub", "prefix": ""}})
	var a answer
	eventually(t, reloadLimit, func() error { // discovery is in the background
		a = g.get(t, someResourcePath, token)
		return status(a, http.StatusForbidden)
	})
	if !strings.Contains(a.body, "reserved for Kubernetes itself") || w.reached(t, a.Header.Get("Audit-Id")) {
		t.Errorf("under its own name: got %s: %s", a.Status, a.body)
	}
}

// checkUselessAtHome: a token for the first cluster opens nothing in the second,
// so the first cannot act as its callers there.
func checkUselessAtHome(t *testing.T, second *cluster.Cluster, token string) {
	t.Helper()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	file := kubeconfig.File{Cluster: "second", Server: second.URL(), CAFile: second.CAFile()}
	file.Users = []kubeconfig.User{{Name: "ci", Token: token}}
	if err := file.Write(config); err != nil {
		t.Fatal(err)
	}
	k, err := second.Kubectl(config)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := k.Run(t.Context(), "auth", "whoami"); err != nil || r.OK() || !strings.Contains(r.Stderr, "Unauthorized") {
		t.Errorf("in the second cluster: got %+v and %v, want it to be refused", r, err)
	}
}
