package chart_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
)

// module is a Go module that holds the definitions of custom resources, which are
// read in the module cache. It is no dependency of anything here.
type module struct {
	path, sum string
	files     []string // each is a definition
}

// modules are those of what the chart can make. The sum is as go.sum has it.
func modules() []module {
	return []module{
		{
			"github.com/cert-manager/cert-manager@v1.21.2", "h1:UWgoYM+KLNtRlqmoWOKjKBOBUPVHeepQ6/ac3ERJW68=",
			[]string{"deploy/crds/cert-manager.io_certificates.yaml"},
		},
		{
			"sigs.k8s.io/gateway-api@v1.5.0", "h1:duoo14Ky/fJXpjpmyMISE2RTBGnfCg8zICfTYLTnBJA=",
			[]string{"config/crd/standard/gateway.networking.k8s.io_tlsroutes.yaml"},
		},
		{
			"github.com/prometheus-operator/prometheus-operator@v0.85.0", "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
			[]string{
				"example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
				"example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
			},
		},
	}
}

// define makes the custom resources known to the cluster.
func define(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	t.Helper()
	args := []string{"apply", "--server-side"}
	for _, m := range modules() {
		dir := download(ctx, t, m)
		for _, file := range m.files {
			args = append(args, "-f", filepath.Join(dir, filepath.FromSlash(file)))
		}
	}
	if _, err := c.Admin().Must(ctx, "", args...); err != nil {
		t.Fatal(err)
	}
	_, err := c.Admin().Must(ctx, "", "wait", "--for=condition=Established", "crd", "--all", "--timeout=2m")
	if err != nil {
		t.Fatal(err)
	}
}

// download returns the folder of a module in Go's cache.
func download(ctx context.Context, t *testing.T, m module) string {
	t.Helper()
	out, err := exec.CommandContext(ctx, "go", "mod", "download", "-json", m.path).Output()
	var said struct{ Dir, Sum, Error string }
	if parseErr := json.Unmarshal(out, &said); parseErr != nil || err != nil || said.Error != "" {
		t.Fatalf("go mod download %s: %v, %s", m.path, err, said.Error)
	}
	if said.Sum != m.sum {
		t.Fatalf("%s is another than it was: %s", m.path, said.Sum)
	}
	return said.Dir
}
