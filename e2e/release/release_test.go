package release_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/helm"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// What is released here. Nothing of it is taken from the clone, whose state others
// could not repeat.
const (
	version = "v0.0.0-e2e"
	commit  = "0123456789abcdef0123456789abcdef01234567"
	epoch   = "1700000000"
	// limit is how long all of a test may take on a busy machine.
	limit = 30 * time.Minute
)

// world is a release of this source.
type world struct {
	root  string // of the repository
	other string // a copy of the source in another folder, without its history
	dist  string // what `make dist` made
	helm  string
}

// Promise: what is released verifies as the how-to says, lists what it is made of,
// and is the same byte for byte from another folder, and in the image; the image
// holds nothing else, and serves people as nobody, on a root that it cannot write.
func TestRelease(t *testing.T) {
	if !helm.CanRun() {
		t.Skip("the helm that packs the chart is built for linux/amd64 alone")
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	w := start(ctx, t)
	t.Run("dist", w.testDist)
	t.Run("bill of materials", w.testBillOfMaterials)
	t.Run("chart", func(t *testing.T) { w.testChart(ctx, t) })
	t.Run("image", func(t *testing.T) { w.testImage(ctx, t) })
}

// start makes what is released for this machine.
func start(ctx context.Context, t *testing.T) *world {
	t.Helper()
	module, err := build.ModuleDir(ctx)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{root: filepath.Dir(module), other: filepath.Join(t.TempDir(), "elsewhere"), dist: filepath.Join(t.TempDir(), "dist")}
	if w.helm, err = helm.Binary(ctx, helm.Four, t.Output()); err != nil {
		t.Fatal(err)
	}
	copySource(t, w.root, w.other)
	w.makeDist(ctx, t, w.root, w.dist)
	return w
}

// copySource copies what is built, with times of its own: no history, no output.
func copySource(t *testing.T, from, to string) {
	t.Helper()
	entries, err := os.ReadDir(from)
	if err != nil {
		t.Fatal(err)
	}
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool {
		return slices.Contains([]string{".git", "bin", "docs", "e2e"}, e.Name())
	})
	for _, e := range entries {
		target := filepath.Join(to, e.Name())
		if e.IsDir() {
			err = os.CopyFS(target, os.DirFS(filepath.Join(from, e.Name())))
		} else if err = os.MkdirAll(to, 0o755); err == nil {
			err = os.WriteFile(target, read(t, filepath.Join(from, e.Name())), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(to, "e2e", "sbom"), os.DirFS(filepath.Join(from, "e2e", "sbom"))); err != nil {
		t.Fatal(err)
	}
}

func (w *world) makeDist(ctx context.Context, t *testing.T, source, dist string) {
	t.Helper()
	w.make(ctx, t, source, "dist", "DIST="+dist, "PLATFORMS="+platform(), "HELM="+w.helm)
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }

// make runs a target of the Makefile in source, as one would by hand: without what
// the make that runs this test hands down.
func (w *world) make(ctx context.Context, t *testing.T, source, target string, variables ...string) {
	t.Helper()
	args := []string{"-n", "5", "make", "-C", source, target, "VERSION=" + version, "COMMIT=" + commit, "EPOCH=" + epoch}
	cmd := exec.CommandContext(ctx, "nice", append(args, variables...)...) // other tests run beside a compiler
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, "MAKE") || strings.HasPrefix(s, "MFLAGS=") })
	cmd.SysProcAttr = proc.Attributes()
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) } // its compilers, too
	cmd.WaitDelay = 10 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// run runs a program to its end and returns what it printed.
func run(ctx context.Context, t *testing.T, dir, path string, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Dir, cmd.Stderr, cmd.SysProcAttr = dir, &stderr, proc.Attributes()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", path, strings.Join(args, " "), err, out, stderr.String())
	}
	return string(out)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func sum(content []byte) string {
	digest := sha256.Sum256(content)
	return hex.EncodeToString(digest[:])
}
