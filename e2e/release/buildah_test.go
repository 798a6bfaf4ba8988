package release_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// builder is the image that takes the place of golang:1.26, which no registry here
// has: this machine's own Go and user land.
const builder = "localhost/builder"

// buildah is the real one, with a store of the test's own. It makes no container
// and stacks no file systems: isolation by chroot and copies of folders work in a
// sandbox too.
type buildah struct {
	path   string
	global []string
	flags  string // of a build of our Dockerfile
}

// tool returns the path of a program that Debian has.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: `make tools` installs it", err)
	}
	return path
}

// newBuildah makes the store, and the image builder in it.
func newBuildah(ctx context.Context, t *testing.T, w *world) *buildah {
	t.Helper()
	store, cache := t.TempDir(), t.TempDir()
	b := &buildah{path: tool(t, "buildah"), global: []string{
		"--root", filepath.Join(store, "root"), "--runroot", filepath.Join(store, "run"), "--storage-driver", "vfs",
	}}
	goroot := strings.TrimSpace(run(ctx, t, w.root, "go", "env", "GOROOT"))
	modules := strings.TrimSpace(run(ctx, t, w.root, "go", "env", "GOMODCACHE"))
	run(ctx, t, w.root, "go", "mod", "download") // the build fetches nothing
	b.flags = strings.Join([]string{
		"--isolation", "chroot", "--pull=never",
		"--volume", "/usr:/usr:ro", "--volume", goroot + ":/opt/go:ro", "--volume", modules + ":/opt/modules:ro",
		"--volume", cache + ":/home/builder/.cache", // empty at first, and warm for a second image
	}, " ")
	b.makeBuilder(ctx, t)
	return b
}

// makeBuilder makes an image of folders to mount what is on this machine at, links
// as /bin is one, and the CA certificates.
func (b *buildah) makeBuilder(ctx context.Context, t *testing.T) {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"etc/ssl/certs", "home/builder/.cache", "opt/go", "opt/modules", "tmp", "usr"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bin", "lib", "lib64"} {
		target, err := os.Readlink("/" + name)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			err = os.Symlink(target, filepath.Join(root, name))
		}
		if err != nil {
			t.Fatalf("this machine's /%s is no link into /usr: %v", name, err)
		}
	}
	const authorities = "/etc/ssl/certs/ca-certificates.crt"
	if err := os.WriteFile(root+authorities, read(t, authorities), 0o644); err != nil {
		t.Fatal(err)
	}
	container := strings.TrimSpace(b.run(ctx, t, "from", "scratch"))
	b.run(ctx, t, "copy", container, root, "/")
	b.run(ctx, t, "config", "--env", "PATH=/opt/go/bin:/usr/bin", "--env", "HOME=/home/builder",
		"--env", "GOMODCACHE=/opt/modules", "--env", "GOTOOLCHAIN=local", "--env", "GOPROXY=off", container)
	b.run(ctx, t, "commit", container, builder)
}

func (b *buildah) run(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	return run(ctx, t, "", b.path, append(b.global[:len(b.global):len(b.global)], args...)...)
}

// build runs `make image` in source and returns the folder of the OCI layout that a
// registry would be sent.
func (b *buildah) build(ctx context.Context, t *testing.T, w *world, source, name string) layout {
	t.Helper()
	w.make(ctx, t, source, "image", "BUILDAH="+b.path+" "+strings.Join(b.global, " "),
		"IMAGE="+name, "IMAGE_PLATFORMS="+platform(), "GO_IMAGE="+builder, "IMAGE_FLAGS="+b.flags)
	dir := t.TempDir()
	b.run(ctx, t, "manifest", "push", "--all", "--format", "oci", name, "oci:"+dir)
	return layout{dir}
}

// layout is an image as OCI's image-spec lays it out in a folder.
type layout struct{ dir string }

// decode reads a JSON document of the layout.
func (l layout) decode(t *testing.T, path string, into any) {
	t.Helper()
	if err := json.Unmarshal(read(t, filepath.Join(l.dir, path)), into); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func blob(d digest.Digest) string {
	return filepath.Join("blobs", d.Algorithm().String(), d.Encoded())
}

// list returns the digest by which the image is known, for all its platforms, and
// the platforms.
func (l layout) list(t *testing.T) (digest.Digest, []ispec.Descriptor) {
	t.Helper()
	var index, platforms ispec.Index
	l.decode(t, ispec.ImageIndexFile, &index)
	if len(index.Manifests) != 1 {
		t.Fatalf("the layout holds %d images", len(index.Manifests))
	}
	l.decode(t, blob(index.Manifests[0].Digest), &platforms)
	return index.Manifests[0].Digest, platforms.Manifests
}

// open returns the configuration of an image for one platform, and its layers as
// paths of archives.
func (l layout) open(t *testing.T, one ispec.Descriptor) (ispec.Image, []string) {
	t.Helper()
	var (
		manifest ispec.Manifest
		image    ispec.Image
		layers   []string
	)
	l.decode(t, blob(one.Digest), &manifest)
	l.decode(t, blob(manifest.Config.Digest), &image)
	for _, layer := range manifest.Layers {
		layers = append(layers, filepath.Join(l.dir, blob(layer.Digest)))
	}
	return image, layers
}
