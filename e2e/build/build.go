// Package build makes the binaries that the end-to-end tests run: those of a
// real cluster, once and cached, and gatehouse itself, from the tree as it is.
package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// KubernetesVersion is what the cluster says that it is. It must agree with
// k8s.io/kubernetes in go.mod; a test holds that.
const KubernetesVersion = "v1.37.2"

const (
	module     = "github.com/kube-gatehouse/gatehouse/e2e"
	linkFlags  = "-s -w -X k8s.io/component-base/version.gitVersion=" + KubernetesVersion
	etcdModule = "go.etcd.io/etcd/server/v3"
)

// packages are the main packages of the cluster, each with its binary's name.
func packages() map[string]string {
	return map[string]string{
		"k8s.io/kubernetes/cmd/kube-apiserver":          "kube-apiserver",
		"k8s.io/kubernetes/cmd/kube-controller-manager": "kube-controller-manager",
		"k8s.io/kubernetes/cmd/kubectl":                 "kubectl",
		etcdModule:                                      "etcd",
	}
}

// Binaries are the paths of the cluster's programs.
type Binaries struct {
	APIServer, ControllerManager, Kubectl, Etcd string
}

func binariesIn(dir string) Binaries {
	return Binaries{
		APIServer:         filepath.Join(dir, "kube-apiserver"),
		ControllerManager: filepath.Join(dir, "kube-controller-manager"),
		Kubectl:           filepath.Join(dir, "kubectl"),
		Etcd:              filepath.Join(dir, "etcd"),
	}
}

func (b Binaries) all() []string {
	return []string{b.APIServer, b.ControllerManager, b.Kubectl, b.Etcd}
}

// complete reports whether every binary is there.
func (b Binaries) complete() bool {
	for _, path := range b.all() {
		if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
			return false
		}
	}
	return true
}

// Cluster returns the cluster's binaries. It builds them unless a build of the
// same inputs is in the user's cache, and says on progress what it does. It
// must be called with a working directory inside the e2e module. Several
// callers, even in several processes, share one build.
func Cluster(ctx context.Context, progress io.Writer) (Binaries, error) {
	source, err := ModuleDir(ctx)
	if err != nil {
		return Binaries{}, err
	}
	key, err := inputHash(ctx, source)
	if err != nil {
		return Binaries{}, err
	}
	cache, err := CacheDir()
	if err != nil {
		return Binaries{}, err
	}
	target := filepath.Join(cache, key)
	if b := binariesIn(target); b.complete() {
		Touch(target)
		return b, nil
	}
	unlock, err := lock(ctx, target+".lock", progress)
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	if b := binariesIn(target); b.complete() {
		return b, nil // another process built it meanwhile
	}
	if err := buildInto(ctx, source, target, progress); err != nil {
		return Binaries{}, err
	}
	if err := prune(cache, time.Now().Add(-keepFor)); err != nil {
		return Binaries{}, err
	}
	return binariesIn(target), nil
}

// buildInto builds beside target and renames the result into place.
func buildInto(ctx context.Context, source, target string, progress io.Writer) error {
	temporary, err := os.MkdirTemp(filepath.Dir(target), "building-")
	if err != nil {
		return fmt.Errorf("build the cluster: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := compile(ctx, source, temporary, progress); err != nil {
		return err
	}
	if err := os.RemoveAll(target); err != nil { // an incomplete one
		return fmt.Errorf("build the cluster: %w", err)
	}
	if err := os.Rename(temporary, target); err != nil {
		return fmt.Errorf("build the cluster: %w", err)
	}
	return nil
}

func compile(ctx context.Context, source, dir string, progress io.Writer) error {
	fmt.Fprintf(progress, "Building a real Kubernetes %s cluster from source: kube-apiserver, kube-controller-manager, etcd, kubectl.\n"+
		"This takes 4 to 6 minutes on two cores, once: the result is cached in %s.\n", KubernetesVersion, filepath.Dir(dir))
	mains := packages()
	args := []string{"build", "-v", "-o", dir + string(filepath.Separator), "-ldflags", linkFlags}
	list := []string{"list", "-deps"}
	for _, pkg := range slices.Sorted(maps.Keys(mains)) {
		args, list = append(args, pkg), append(list, pkg)
	}
	deps, err := goCommand(ctx, source, list...)
	if err != nil {
		return err
	}
	meter := newMeter(progress, strings.Count(string(deps), "\n"), mains)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env = source, buildEnv("0")
	cmd.Stderr = meter
	started := time.Now()
	err = cmd.Run()
	meter.finish(err == nil)
	if err != nil {
		return fmt.Errorf("build the cluster: go build: %w\n%s", err, meter.messages())
	}
	if err := nameEtcd(dir); err != nil {
		return err
	}
	if !binariesIn(dir).complete() {
		return errors.New("build the cluster: go build left out a binary")
	}
	fmt.Fprintf(progress, "Built in %s.\n", time.Since(started).Round(time.Second))
	return nil
}

// nameEtcd renames etcd's binary, which go names after its module.
func nameEtcd(dir string) error {
	for _, name := range []string{"v3", "server"} {
		err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, "etcd"))
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("name the etcd binary: %w", err)
		}
	}
	return errors.New("name the etcd binary: go build left none")
}

// inputHash covers all that decides what the binaries are: the toolchain, the
// flags, and the version of every module that is linked. What else go.mod holds
// changes nothing.
func inputHash(ctx context.Context, source string) (string, error) {
	h := sha256.New()
	version, err := goCommand(ctx, source, "env", "GOVERSION", "GOOS", "GOARCH", "GOAMD64", "GOARM64")
	if err != nil {
		return "", err
	}
	fmt.Fprintf(h, "%s\n%s\n", version, linkFlags)
	mains := slices.Sorted(maps.Keys(packages()))
	out, err := goCommand(ctx, source, append([]string{"list", "-deps", "-f", moduleFormat}, mains...)...)
	if err != nil {
		return "", fmt.Errorf("hash the inputs of the cluster: %w", err)
	}
	modules := strings.Split(string(out), "\n")
	slices.Sort(modules)
	fmt.Fprintln(h, slices.Compact(modules))
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), nil
}

// moduleFormat prints the module of a package and its version, after any replace.
const moduleFormat = `{{with .Module}}{{.Path}} {{with .Replace}}{{.Path}} {{.Version}}{{else}}{{.Version}}{{end}}{{end}}`

// ModuleDir returns the directory of the e2e module; the root module is its
// parent. The working directory must be inside it.
func ModuleDir(ctx context.Context) (string, error) {
	out, err := goCommand(ctx, "", "list", "-m", "-f", "{{.Dir}}", module)
	if err != nil {
		return "", fmt.Errorf("find the e2e module (run this inside its folder): %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}

// goCommand runs the go command and returns what it printed.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, buildEnv("0"), &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w: %s", args[0], err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// buildEnv is the caller's environment with cgo set. The go command needs its
// proxy, cache and toolchain settings.
func buildEnv(cgo string) []string { return append(os.Environ(), "CGO_ENABLED="+cgo) }
