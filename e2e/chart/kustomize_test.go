package chart_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

var update = flag.Bool("update", false, "write what is generated in deploy/kustomize")

// Of Helm alone.
var helmLabels = []string{"helm.sh/chart", "app.kubernetes.io/managed-by"}

// Promise: the kustomize base is what the chart makes of its defaults, but for
// Helm's own labels and test, and has a namespace that enforces `restricted`.
func TestKustomizeBase(t *testing.T) {
	c := open(t)
	var want objects
	for _, o := range c.mustRender(t, nil) {
		if o.at(t, `.metadata.annotations['helm\.sh/hook']`) != nil {
			continue // the test
		}
		o = object(deepCopy(t, values(o)))
		for _, label := range helmLabels {
			delete(o.metadata()["labels"].(m), label)
		}
		want = append(want, o)
	}
	if *update {
		write(t, filepath.Join(c.deploy, "kustomize", "base", "gatehouse.yaml"),
			"# Generated from deploy/chart/gatehouse and its default values, by\n"+
				"#   cd e2e && go test ./chart -run TestKustomizeBase -update\n", want)
	}
	got := c.kustomize(t, "base")
	for _, o := range want {
		if diff := cmp.Diff(o, got.find(o.name())); diff != "" {
			t.Errorf("%s (-chart +base):\n%s", o.name(), diff)
		}
	}
	for _, o := range got {
		if want.find(o.name()) == nil && o.name() != "Namespace/gatehouse" {
			t.Errorf("the chart has no %s", o.name())
		}
	}
	if level := got.find("Namespace/gatehouse").at(t, `.metadata.labels['pod-security\.kubernetes\.io/enforce']`); level != "restricted" {
		t.Errorf("the namespace enforces %v", level)
	}
}

// Promise: the example of an overlay has the rights that `gatehouse rbac` prints for
// its settings, and its ServiceAccount tokens are off.
func TestKustomizeExample(t *testing.T) {
	c := open(t)
	binary := filepath.Join(t.TempDir(), "gatehouse")
	if err := build.Gatehouse(t.Context(), binary, build.Options{}); err != nil {
		t.Fatal(err)
	}
	got := c.kustomize(t, "oidc")
	printed, err := runGatehouse(t, binary, podEnvironment(t, got, t.TempDir()), "rbac")
	if err != nil {
		t.Fatal(err)
	}
	want, err := parse(printed)
	if err != nil {
		t.Fatal(err)
	}
	role := want.find("ClusterRole/gatehouse")
	if *update {
		write(t, filepath.Join(c.deploy, "kustomize", "oidc", "rights.yaml"),
			"# What `gatehouse rbac` prints for settings.yaml.\n", objects{role})
		got = c.kustomize(t, "oidc")
	}
	if diff := cmp.Diff(role["rules"], got.find("ClusterRole/gatehouse")["rules"]); diff != "" {
		t.Errorf("the rights (-gatehouse rbac +overlay):\n%s", diff)
	}
	if on := got.find(deployment).at(t, environment("GATEHOUSE_TOKEN_REVIEW")); on != "false" {
		t.Errorf("GATEHOUSE_TOKEN_REVIEW is %v", on)
	}
	if image := got.find(deployment).at(t, pod+".containers[0].image"); image != "registry.example.com/gatehouse:v0" {
		t.Errorf("the image is %v", image)
	}
}

// kustomize is what `kubectl kustomize` makes of a folder of deploy/kustomize.
func (c chart) kustomize(t *testing.T, folder string) objects {
	t.Helper()
	binaries, err := build.Cluster(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	k, err := kubectl.New(binaries.Kubectl, os.DevNull, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	stream, err := k.Must(t.Context(), "", "kustomize", filepath.Join(c.deploy, "kustomize", folder))
	if err != nil {
		t.Fatal(err)
	}
	all, err := parse(stream)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// write writes objects as a file.
func write(t *testing.T, path, heading string, all objects) {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(heading)
	for i, o := range all {
		if i > 0 {
			b.WriteString("---\n")
		}
		y, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(y)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}
