package certified

import (
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

//go:embed package.json package-lock.json .npmrc server.mjs
var source embed.FS

// install returns a directory in the cache with the server and its packages.
func install(ctx context.Context, progress io.Writer) (string, error) {
	npm, err := find("npm")
	if err != nil {
		return "", err
	}
	cache, err := build.CacheDir()
	if err != nil {
		return "", err
	}
	key, err := sourceHash()
	if err != nil {
		return "", err
	}
	target := filepath.Join(cache, "certified-"+key)
	if _, err := os.Stat(target); err == nil {
		build.Touch(target)
		return target, nil
	}
	fmt.Fprintln(progress, "Installing oidc-provider with npm ci, once: the result is cached.")
	temporary, err := os.MkdirTemp(cache, "installing-")
	if err != nil {
		return "", fmt.Errorf("install oidc-provider: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, source); err != nil {
		return "", fmt.Errorf("install oidc-provider: %w", err)
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = temporary
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install oidc-provider: npm ci: %w\n%s", err, out)
	}
	err = os.Rename(temporary, target)
	if err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been first
		return "", fmt.Errorf("install oidc-provider: %w", err)
	}
	return target, nil
}

// sourceHash names the installed version of the embedded files.
func sourceHash() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := source.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash oidc-provider's files: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), nil
}

// find returns the path of node or npm, or says how to get it.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("oidc-provider needs Node 20 or later and npm (on Debian: apt-get install nodejs npm): %w", err)
	}
	return path, nil
}
