package clients_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/helm"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

// operation is something that people do with a client whose commands are steps.
type operation struct {
	name  string
	steps []step
}

// helmOperations run one after the other, and build on each other.
func helmOperations(chart string) []operation {
	return []operation{
		{"install", []step{
			{args: "install web " + chart, want: "STATUS: deployed"},
			{args: "install web " + chart, want: "still in use", code: 1},
			{args: "get manifest web", want: "account: default"},
		}},
		{"list, status", []step{
			{args: "list -o json", want: "web-1.0.0"},
			{args: "status web", want: "STATUS: deployed", loose: true},
		}},
		{"upgrade", []step{
			{args: "upgrade web " + chart + " --set level=high", want: "has been upgraded"},
			{args: "get values web", want: "level: high"},
		}},
		{"history, rollback", []step{
			{args: "history web", want: "superseded"},
			{args: "rollback web 1", want: "Rollback was a success"},
			{args: "get manifest web", want: "level: low"},
		}},
		{"uninstall", []step{
			{args: "uninstall web --wait", want: `release "web" uninstalled`},
			{args: "status web", want: "not found", code: 1},
		}},
	}
}

// testHelm is a chart's life with helm 3 and helm 4.
func (s *suite) testHelm(t *testing.T) {
	t.Parallel()
	if !helm.CanRun() {
		s.found.leaveOut(t, "helm")
		return
	}
	chart, err := filepath.Abs("testdata/chart")
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range []string{helm.Three, helm.Four} {
		binary, err := helm.Binary(t.Context(), layer, t.Output())
		if err != nil {
			t.Fatal(err)
		}
		version := s.said(t, binary, "version", "--template={{.Version}}")
		a, b := s.pair(t, "helm-"+strings.ReplaceAll(version, ".", "-"), binary)
		s.run(t, "helm", version, a, b, helmOperations(chart))
	}
}

// terraformOperations run one after the other, and build on each other.
func terraformOperations() []operation {
	return []operation{
		{"init", []step{{args: "init -no-color", want: `Successfully configured the backend "kubernetes"`}}},
		{"apply", []step{
			{args: "apply -no-color -auto-approve", want: "1 added"},
			{args: "state list -no-color", want: "terraform_data.settings"},
			{args: "plan -no-color -detailed-exitcode", want: "No changes"},
			{args: "apply -no-color -auto-approve -var level=high", want: `level = "high"`},
		}},
		{"workspaces", []step{
			{args: "workspace new -no-color other", want: "Created and switched"},
			{args: "workspace select -no-color default", want: "Switched"},
			{args: "workspace delete -no-color other", want: "Deleted"},
		}},
		{"destroy", []step{{args: "destroy -no-color -auto-approve", want: "1 destroyed"}}},
	}
}

// testTerraform is Terraform's kubernetes backend, where Terraform is: it is in no
// registry that this module fetches from.
func (s *suite) testTerraform(t *testing.T) {
	t.Parallel()
	binary, err := exec.LookPath("terraform")
	if err != nil {
		s.found.leaveOut(t, terraform)
		return
	}
	var said struct {
		Version string `json:"terraform_version"`
	}
	if err := json.Unmarshal([]byte(s.said(t, binary, "version", "-json")), &said); err != nil {
		t.Fatal(err)
	}
	a, b := s.pair(t, "terraform", binary)
	a, b = inFolder(t, a), inFolder(t, b)
	s.run(t, terraform, "v"+said.Version, a, b, terraformOperations())
}

// inFolder has Terraform work in a folder of its own.
func inFolder(t *testing.T, k *kubectl.Kubectl) *kubectl.Kubectl {
	t.Helper()
	content, err := os.ReadFile("testdata/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	return k.WithDir(dir).WithEnv("TF_IN_AUTOMATION=1", "CHECKPOINT_DISABLE=1")
}

// said is what a program prints of itself.
func (s *suite) said(t *testing.T, binary string, args ...string) string {
	t.Helper()
	k, err := s.Kubectl("")
	if err != nil {
		t.Fatal(err)
	}
	printed, err := k.WithBinary(binary).Must(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return printed
}

// run does each operation on both routes.
func (s *suite) run(t *testing.T, client, version string, a, b *kubectl.Kubectl, operations []operation) {
	t.Helper()
	for _, o := range operations {
		s.compare(t, cell{client, version, o.name},
			func(ctx context.Context) outcome { return runSteps(ctx, a, o.steps) },
			func(ctx context.Context) outcome { return runSteps(ctx, b, o.steps) })
	}
}
