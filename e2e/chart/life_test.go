package chart_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// testLife is what an operator does with the chart, from the first installation to
// the last.
func (w *world) testLife(ctx context.Context, t *testing.T) {
	w.restricted(ctx, t, namespace)
	common := []string{
		w.dir, "--namespace", namespace, "--set", "image.repository=" + image + ",image.tag=e2e,replicaCount=1",
		"--set", "shutdown.delaySeconds=0,shutdown.timeoutSeconds=1",
	}
	first, firstPorts := ports(t)
	notes := w.helmMust(ctx, t, append(append([]string{"install", release}, common...), firstPorts...)...)
	w.testNotes(ctx, t, notes)
	w.testRights(ctx, t)

	second, secondPorts := ports(t)
	people := append([]string{"upgrade", release}, append(common, secondPorts...)...)
	people = append(people, "--wait", "--timeout", "2m")
	w.helmMust(ctx, t, append(people, "--values", w.configuration(t, "oidc:"))...)
	robot := strings.TrimSpace(w.must(ctx, t, "create", "token", "default", "-n", namespace))
	alice := w.caller(t, second, w.issuer.Token(authtest.Claims{"sub": "alice", "groups": []string{"developers"}}))
	expect(ctx, t, alice, `"username":"alice"`, `"oidc:developers"`)
	if out, err := w.caller(t, second, robot).Run(ctx, "auth", "whoami"); err != nil || out.OK() {
		t.Errorf("a ServiceAccount token is accepted beside an issuer: %v %+v", err, out)
	}
	w.testRights(ctx, t)
	w.helmMust(ctx, t, "test", release, "--namespace", namespace, "--timeout", "2m")

	before := w.podNames(ctx, t)
	w.helmMust(ctx, t, append(people, "--values", w.configuration(t, "staff:"))...)
	expect(ctx, t, alice, `"staff:developers"`)
	if after := w.podNames(ctx, t); after != before {
		t.Errorf("a changed file has replaced the pods: %s, then %s", before, after)
	}

	w.testExchange(ctx, t, common)

	w.helmMust(ctx, t, "rollback", release, "1", "--namespace", namespace, "--wait", "--timeout", "2m")
	expect(ctx, t, w.caller(t, first, robot), `"username":"system:serviceaccount:gatehouse:default"`)
	w.must(ctx, t, "delete", "secret", "gatehouse-session-keys", "-n", namespace)
	w.helmMust(ctx, t, "uninstall", release, "--namespace", namespace, "--wait", "--timeout", "2m")
	w.testNothingLeft(ctx, t)
}

// configuration writes values with an AuthenticationConfiguration of our issuer.
func (w *world) configuration(t *testing.T, prefix string) string {
	t.Helper()
	config := m{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
		"jwt": list{m{
			"issuer":        m{"url": w.issuer.URL, "audiences": list{authtest.Audience}, "certificateAuthority": string(w.issuerCA)},
			"claimMappings": m{"username": m{"claim": "sub", "prefix": ""}, "groups": m{"claim": "groups", "prefix": prefix}},
		}},
	}
	b, err := sigsyaml.Marshal(with("authenticationConfig.content", config))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// asker is a kubectl.
type asker interface {
	Must(ctx context.Context, stdin string, args ...string) (string, error)
}

// expect asks who the caller is until the answer has each text: a changed file takes
// some seconds.
func expect(ctx context.Context, t *testing.T, caller asker, texts ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		said, err := caller.Must(ctx, "", "auth", "whoami", "-o", "jsonpath={.status.userInfo}")
		missing := ""
		for _, text := range texts {
			if !strings.Contains(said, text) {
				missing = text
			}
		}
		if err == nil && missing == "" {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("whoami: %v, %q, want %q", err, said, texts)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// testNotes follows the notes: each command of theirs, in order, in one shell.
func (w *world) testNotes(ctx context.Context, t *testing.T, notes string) {
	free, err := proc.Ports(1)
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, match := range regexp.MustCompile(`(?m)^    (\S.*)$`).FindAllStringSubmatch(notes, -1) {
		script.WriteString(strings.ReplaceAll(match[1], "9443", strconv.Itoa(free[0])) + "\n")
		if strings.HasSuffix(match[1], "&") { // a person takes a moment, and the shell's jobs end with it
			script.WriteString("forward=$!\ntrap 'kill $forward' EXIT\n" +
				fmt.Sprintf("until kubectl get --raw /readyz --kubeconfig=/dev/null --server=https://127.0.0.1:%d --insecure-skip-tls-verify --token=none 2>&1 | grep -q 'not accepted'; do sleep 0.1; done\n", free[0]))
		}
	}
	dir := t.TempDir()
	w.serving(t, dir)
	path := filepath.Join(w.files, "bin")
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, binary := range map[string]string{"kubectl": w.binaries.Kubectl, "helm": w.helmBinary} {
		if err := os.Symlink(binary, filepath.Join(path, name)); err != nil {
			t.Fatal(err)
		}
	}
	var out strings.Builder
	p, err := proc.Start(ctx, proc.Config{
		Path: "/bin/sh", Args: []string{"-eu", "-c", script.String()}, Dir: dir, Stdout: &out, Stderr: &out,
		Env: []string{"PATH=" + path + ":" + os.Getenv("PATH"), "HOME=" + dir, "KUBECONFIG=" + w.AdminKubeconfig()},
	})
	if err != nil {
		t.Fatal(err)
	}
	code, err := p.Wait(ctx)
	said := out.String()
	me := regexp.MustCompile(`(?m)^Username +system:serviceaccount:gatehouse:default$`)
	if err != nil || code != 0 || !me.MatchString(said) {
		t.Fatalf("the notes, followed: exit code %d, %v\n%s\nthey are:\n%s", code, err, said, notes)
	}
	if !strings.Contains(said, "ok    rights") {
		t.Errorf("helm test does not show what gatehouse check found:\n%s", said)
	}
}

// testRights: what gatehouse's own pod prints for its settings is what it has.
func (w *world) testRights(ctx context.Context, t *testing.T) {
	t.Helper()
	printed, err := parse(w.must(ctx, t, "exec", "-n", namespace, "deploy/gatehouse", "--", "/gatehouse", "rbac"))
	if err != nil {
		t.Fatal(err)
	}
	there, err := parse(w.must(ctx, t, "get", "clusterrole", "gatehouse", "-o", "yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(printed.find("ClusterRole/gatehouse")["rules"], there[0]["rules"]); diff != "" {
		t.Errorf("the rights (-gatehouse rbac +cluster):\n%s", diff)
	}
}

func (w *world) podNames(ctx context.Context, t *testing.T) string {
	t.Helper()
	return w.must(ctx, t, "get", "pods", "-n", namespace, "-l", "app.kubernetes.io/name=gatehouse", "-o", "name")
}

// testNothingLeft: what is left is the operator's own.
func (w *world) testNothingLeft(ctx context.Context, t *testing.T) {
	t.Helper()
	const kinds = "deployments,replicasets,pods,services,serviceaccounts,configmaps,secrets,poddisruptionbudgets"
	left := w.must(ctx, t, "get", kinds, "-n", namespace, "-o", "name")
	own := "configmap/kube-root-ca.crt\nsecret/gatehouse-tls\nserviceaccount/default\n"
	for name := range strings.Lines(left) {
		if !strings.Contains(own, name) {
			t.Errorf("left in the namespace: %s", name)
		}
	}
	if roles := w.must(ctx, t, "get", "clusterroles,clusterrolebindings", "-o", "name"); strings.Contains(roles, "gatehouse") {
		t.Errorf("left in the cluster: %s", roles)
	}
}
