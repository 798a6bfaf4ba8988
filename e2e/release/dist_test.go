package release_test

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What `make dist` makes for one platform.
var (
	program = "gatehouse_" + version + "_" + runtime.GOOS + "_" + runtime.GOARCH
	bill    = program + ".cdx.json"
	archive = "gatehouse-" + strings.TrimPrefix(version, "v") + ".tgz"
)

const sums = "SHA256SUMS"

// Promise: every file of a release is in SHA256SUMS and verifies, the binary says
// which release it is, and another folder makes the same files.
//
// Both binaries here are linked from one build cache: that no package's compiled
// code depends on the folder shows in the image, which is built without a cache.
func (w *world) testDist(t *testing.T) {
	entries, err := os.ReadDir(w.dist)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if diff := cmp.Diff([]string{sums, archive, program, bill}, names); diff != "" {
		t.Errorf("the files (-want +got):\n%s", diff)
	}
	verified := run(t.Context(), t, w.dist, "sha256sum", "--check", "--strict", sums)
	if want := archive + ": OK\n" + program + ": OK\n" + bill + ": OK\n"; verified != want {
		t.Errorf("sha256sum verified:\n%s, want:\n%s", verified, want)
	}
	var says struct{ Version, Commit, Go, Platform string }
	said := run(t.Context(), t, w.dist, filepath.Join(w.dist, program), "version", "-o", "json")
	if err := json.Unmarshal([]byte(said), &says); err != nil {
		t.Fatal(err)
	}
	if says.Version != version || says.Commit != commit || says.Platform != platform() {
		t.Errorf("the binary says that it is %+v", says)
	}
	again := filepath.Join(t.TempDir(), "dist")
	w.makeDist(t.Context(), t, w.other, again)
	if diff := cmp.Diff(string(read(t, filepath.Join(w.dist, sums))), string(read(t, filepath.Join(again, sums)))); diff != "" {
		t.Errorf("another folder makes another release (-here +there):\n%s", diff)
	}
}

// Promise: the SBOM lists the modules that are linked into the binary, each with
// its version, Go itself, and no others, and names the binary by its hash.
func (w *world) testBillOfMaterials(t *testing.T) {
	type component struct{ Name, Version string }
	var listed struct {
		BOMFormat, SpecVersion string
		Metadata               struct {
			Component  component
			Properties []struct{ Name, Value string }
		}
		Components []component
	}
	if err := json.Unmarshal(read(t, filepath.Join(w.dist, bill)), &listed); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(filepath.Join(w.dist, program))
	if err != nil {
		t.Fatal(err)
	}
	linked := []component{}
	for _, module := range info.Deps {
		linked = append(linked, component{module.Path, module.Version})
	}
	linked = append(linked, component{"std", info.GoVersion})
	if diff := cmp.Diff(linked, listed.Components); diff != "" {
		t.Errorf("the modules (-linked +listed):\n%s", diff)
	}
	if len(linked) < 20 || listed.BOMFormat != "CycloneDX" || listed.SpecVersion != "1.6" {
		t.Errorf("%d modules in %s %s", len(linked), listed.BOMFormat, listed.SpecVersion)
	}
	if want := (component{info.Main.Path, version}); listed.Metadata.Component != want {
		t.Errorf("it is of %v, want %v", listed.Metadata.Component, want)
	}
	hash := ""
	for _, p := range listed.Metadata.Properties {
		if p.Name == "cdx:gomod:binary:hash:SHA-256" {
			hash = p.Value
		}
	}
	if want := sum(read(t, filepath.Join(w.dist, program))); hash != want {
		t.Errorf("it is of a binary with the hash %q, want %s", hash, want)
	}
}

// Promise: the chart of a release installs the image of that release.
func (w *world) testChart(ctx context.Context, t *testing.T) {
	packed := filepath.Join(w.dist, archive)
	about := run(ctx, t, w.dist, w.helm, "show", "chart", packed)
	for _, line := range []string{"version: " + strings.TrimPrefix(version, "v") + "\n", "appVersion: " + version + "\n"} {
		if !strings.Contains("\n"+about, "\n"+line) {
			t.Errorf("the chart says:\n%s, want %q", about, line)
		}
	}
	rendered := run(ctx, t, w.dist, w.helm, "template", "gatehouse", packed, "--kube-version", "1.37.0",
		"--set", "image.repository=registry.example.com/gatehouse")
	if !strings.Contains(rendered, "registry.example.com/gatehouse:"+version) {
		t.Errorf("the chart does not install %s", version)
	}
}
