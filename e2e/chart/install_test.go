package chart_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/kubelet"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

const (
	// limit is how long all of a test may take on a busy machine.
	limit = 10 * time.Minute
	// image is what the node knows as gatehouse.
	image = "gatehouse.test/gatehouse"
)

// world is a real cluster with a node that runs gatehouse's image, an issuer, and
// the chart.
type world struct {
	chart
	*cluster.Cluster
	binaries  build.Binaries
	helmHere  *kubectl.Kubectl // with the admin's kubeconfig
	authority *pki.Authority   // signs gatehouse's certificate
	issuer    *authtest.Issuer
	issuerCA  []byte
	files     string // a folder
}

// start builds gatehouse as it is shipped, and starts everything.
func start(ctx context.Context, t *testing.T) *world {
	t.Helper()
	w := &world{chart: open(t), files: t.TempDir()}
	gatehouse := filepath.Join(w.files, "gatehouse")
	if err := build.Gatehouse(ctx, gatehouse, build.Options{}); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.binaries, err = build.Cluster(ctx, t.Output()); err != nil {
		t.Fatal(err)
	}
	w.Cluster, err = cluster.Start(ctx, cluster.Config{
		Binaries: w.binaries, Dir: t.TempDir(), Node: true,
		Images: map[string]kubelet.Image{image + ":e2e": {Entrypoint: gatehouse}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	w.helmHere = w.helm.WithKubeconfig(w.AdminKubeconfig())
	if w.authority, err = pki.NewAuthority(filepath.Join(w.files, "tls"), "gatehouse-ca"); err != nil {
		t.Fatal(err)
	}
	signer, err := authtest.NewCA("issuer")
	if err != nil {
		t.Fatal(err)
	}
	if w.issuer, err = authtest.NewIssuer(signer); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.issuer.Close() })
	w.issuerCA = signer.PEM()
	return w
}

// Promise: what the chart and the base make is accepted by a real API server, as it
// is, with everything on, and with what `gatehouse migrate` prints, and their pods by a namespace that enforces
// `restricted`; and gatehouse itself, from the chart, serves people: installed,
// tested, upgraded, rolled back and uninstalled by helm, with the notes as printed.
func TestCluster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	w := start(ctx, t)
	define(ctx, t, w.Cluster)
	t.Run("everything", func(t *testing.T) { w.testEverything(ctx, t) })
	t.Run("migrated", func(t *testing.T) { w.testMigrated(ctx, t) })
	t.Run("kustomize", func(t *testing.T) { w.testKustomize(ctx, t) })
	t.Run("life", func(t *testing.T) { w.testLife(ctx, t) })
}

// restricted makes a namespace in which a pod that is not restricted is refused.
func (w *world) restricted(ctx context.Context, t *testing.T, name string) {
	t.Helper()
	w.must(ctx, t, "create", "namespace", name)
	w.must(ctx, t, "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
	refused, err := w.Admin().Run(ctx, "run", "careless", "--image=careless", "-n", name, "--dry-run=server")
	if err != nil || refused.OK() || !strings.Contains(refused.Stderr, "violates PodSecurity") {
		t.Fatalf("the namespace %s takes any pod: %v %+v", name, err, refused)
	}
}

// must is the admin's kubectl.
func (w *world) must(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.Admin().Must(ctx, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testEverything: all objects that the chart can make are what the API server and
// the definitions of others take.
func (w *world) testEverything(ctx context.Context, t *testing.T) {
	w.restricted(ctx, t, "everything")
	args := []string{"install", "all", w.dir, "--namespace", "everything", "--values", filepath.Join("testdata", "everything.yaml")}
	args[len(args)-1], _ = filepath.Abs(args[len(args)-1])
	for _, more := range [][]string{{"--dry-run=server"}, nil} {
		out, err := w.helmHere.Run(ctx, append(args, more...)...)
		if err != nil || !out.OK() || strings.Contains(out.Stderr, "arning") {
			t.Fatalf("helm install %v: %v\n%s", more, err, out.Stderr)
		}
	}
	for _, kind := range []string{"certificate", "tlsroute", "servicemonitor", "prometheusrule", "hpa", "pdb", "networkpolicy"} {
		w.must(ctx, t, "get", kind, "all-gatehouse", "-n", "everything", "-o", "name")
	}
	w.awaitPods(ctx, t, "everything", "all-gatehouse", 1)
	w.helmMust(ctx, t, "uninstall", "all", "--namespace", "everything")
}

// awaitPods waits until the namespace has admitted a Deployment's pods.
func (w *world) awaitPods(ctx context.Context, t *testing.T, namespace, name string, replicas int) {
	t.Helper()
	w.must(ctx, t, "wait", "deployment/"+name, "-n", namespace, fmt.Sprintf("--for=jsonpath={.status.replicas}=%d", replicas), "--timeout=2m")
}

func (w *world) helmMust(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.helmHere.Must(ctx, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// testKustomize: the base is applied as a user does; the example is judged.
func (w *world) testKustomize(ctx context.Context, t *testing.T) {
	base := filepath.Join(w.deploy, "kustomize", "base")
	w.must(ctx, t, "apply", "-k", base)
	w.awaitPods(ctx, t, namespace, "gatehouse", 2)
	out, err := w.Admin().Run(ctx, "apply", "--dry-run=server", "--validate=strict", "-k", filepath.Join(w.deploy, "kustomize", "oidc"))
	if err != nil || !out.OK() || strings.Contains(out.Stderr, "arning") {
		t.Errorf("the example: %v\n%s", err, out.Stderr)
	}
	w.must(ctx, t, "delete", "-k", base, "--timeout=2m")
}

// serving writes a certificate for the Service's name to the folder in which the
// notes are followed, and its CA.
func (w *world) serving(t *testing.T, dir string) {
	t.Helper()
	pair, err := w.authority.Server("gatehouse.gatehouse.svc", "127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"tls.crt": pair.Cert, "tls.key": pair.Key, "gatehouse-ca.crt": w.authority.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// ports are free ones, as values: every pod has the ports of this machine.
func ports(t *testing.T) (serving int, args []string) {
	t.Helper()
	free, err := proc.Ports(2)
	if err != nil {
		t.Fatal(err)
	}
	return free[0], []string{"--set", fmt.Sprintf("ports.proxy=%d,ports.ops=%d", free[0], free[1])}
}

// caller is a kubectl that asks gatehouse at a port, with a token.
func (w *world) caller(t *testing.T, port int, token string) *kubectl.Kubectl {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	file := kubeconfig.File{
		Cluster: "gatehouse", Server: "https://" + proc.Loopback(port), CAFile: w.authority.CAFile,
		Users: []kubeconfig.User{{Name: "caller", Token: token}},
	}
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	k, err := w.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
