package build

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
)

// Options say how gatehouse is built. The zero value builds what is shipped.
type Options struct {
	// Race builds with the race detector; it needs a C compiler.
	Race bool
}

// Gatehouse builds cmd/gatehouse of the root module to the file path. The
// working directory must be inside the e2e module. Go's own cache makes a
// second build of the same sources quick.
func Gatehouse(ctx context.Context, path string, o Options) error {
	source, err := ModuleDir(ctx)
	if err != nil {
		return err
	}
	flags, cgo := []string{"-trimpath", "-ldflags", "-s -w"}, "0"
	if o.Race {
		flags, cgo = []string{"-race"}, "1"
	}
	return program(ctx, filepath.Dir(source), "./cmd/gatehouse", path, cgo, flags...)
}

// Zitadel builds the issuer of the module zitadel to the file path, in the same
// way. The first build on a machine fetches what it is made of.
func Zitadel(ctx context.Context, path string) error {
	source, err := ModuleDir(ctx)
	if err != nil {
		return err
	}
	return program(ctx, filepath.Join(source, "zitadel"), ".", path, "0")
}

// Discovery builds the program of the module discovery to the file path, in the same
// way.
func Discovery(ctx context.Context, path string) error {
	source, err := ModuleDir(ctx)
	if err != nil {
		return err
	}
	return program(ctx, filepath.Join(source, "discovery"), ".", path, "0")
}

// program builds one package of the module in dir to the file path.
func program(ctx context.Context, dir, pkg, path, cgo string, flags ...string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("build %s: %w", path, err)
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", append(append([]string{"build", "-o", path}, flags...), pkg)...)
	cmd.Dir, cmd.Env, cmd.Stderr = dir, buildEnv(cgo), &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build %s: go build: %w\n%s", filepath.Base(path), err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
