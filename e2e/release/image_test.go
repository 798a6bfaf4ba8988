package release_test

import (
	"context"
	"crypto/x509"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testImage builds the image by the real buildah, first from another folder and
// with nothing cached, and unpacks what a registry would be sent.
func (w *world) testImage(ctx context.Context, t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("an image is built and run by root alone")
	}
	b := newBuildah(ctx, t, w)
	first := b.build(ctx, t, w, w.other, "localhost/gatehouse:first")
	name, platforms := first.list(t)
	if len(platforms) != 1 {
		t.Fatalf("the image is for %d platforms", len(platforms))
	}
	image, layers := first.open(t, platforms[0])
	rootfs := filepath.Join(t.TempDir(), "rootfs")
	if err := os.Mkdir(rootfs, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		run(ctx, t, rootfs, "tar", "--extract", "--file", layer, "--numeric-owner", "--preserve-permissions")
	}
	t.Run("configuration", func(t *testing.T) { testConfiguration(t, image) })
	t.Run("files", func(t *testing.T) { w.testFiles(t, rootfs) })
	t.Run("serves", func(t *testing.T) { testServes(ctx, t, image, rootfs) })
	t.Run("again", func(t *testing.T) {
		if again, _ := b.build(ctx, t, w, w.root, "localhost/gatehouse:second").list(t); again != name {
			t.Errorf("the same source made %s, then %s", name, again)
		}
	})
}

// Promise: the image runs `gatehouse serve` as user 65532, says what it is, and is
// told no time but the commit's.
func testConfiguration(t *testing.T, image ispec.Image) {
	want := ispec.ImageConfig{
		User:         "65532:65532",
		ExposedPorts: map[string]struct{}{"8443/tcp": {}, "8080/tcp": {}},
		Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "ZONEINFO=/zoneinfo.zip"},
		Entrypoint:   []string{"/gatehouse"},
		Cmd:          []string{"serve"},
		Labels: map[string]string{
			ispec.AnnotationTitle:       "gatehouse",
			ispec.AnnotationDescription: "The front door of a Kubernetes cluster for any identity",
			ispec.AnnotationLicenses:    "Apache-2.0",
			ispec.AnnotationSource:      "https://github.com/kube-gatehouse/gatehouse",
			ispec.AnnotationVersion:     version,
			ispec.AnnotationRevision:    commit,
		},
	}
	if diff := cmp.Diff(want, image.Config); diff != "" {
		t.Errorf("the configuration (-want +got):\n%s", diff)
	}
	if image.OS != "linux" || image.Architecture != runtime.GOARCH {
		t.Errorf("it is for %s/%s", image.OS, image.Architecture)
	}
	if image.Created == nil || image.Created.Format("2006-01-02T15:04:05Z07:00") != "2023-11-14T22:13:20Z" {
		t.Errorf("it was made at %v, want the commit's time, %s", image.Created, epoch)
	}
}

// Promise: the image holds the binary that `make dist` makes, CA certificates, the
// time zones, and nothing else: no shell, no account, no library.
//
// The binary was built in /src by another home, with an empty cache, another
// environment and Go in another folder; that of `make dist` in the repository, from
// the user's cache. The Go version is the same, and so is the kind of machine.
func (w *world) testFiles(t *testing.T, rootfs string) {
	files := tree(t, rootfs)
	if got, want := files["gatehouse"], sum(read(t, filepath.Join(w.dist, program))); got != want {
		t.Errorf("the image's binary has the hash %q, that of make dist %s", got, want)
	}
	for _, name := range []string{"gatehouse", "zoneinfo.zip", "etc/ssl/certs/ca-certificates.crt"} {
		if files[name] == "" {
			t.Errorf("the image lacks %s", name)
		}
		info, err := os.Stat(filepath.Join(rootfs, name))
		if err == nil && info.Mode()&0o7022 != 0 {
			t.Errorf("%s may be written by others, or gives rights: %s", name, info.Mode())
		}
		delete(files, name)
	}
	if len(files) > 0 {
		t.Errorf("the image has more: %v", files)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(read(t, filepath.Join(rootfs, "etc/ssl/certs/ca-certificates.crt"))) {
		t.Error("no CA certificate in the image can be read")
	}
}

// tree returns the hash of each file below dir; "link" and the like for what is
// neither file nor folder.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[name] = entry.Type().String()
		if entry.Type().IsRegular() {
			files[name] = sum(read(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}
