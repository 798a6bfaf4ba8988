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
	path, err = filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("build gatehouse: %w", err)
	}
	args, cgo := []string{"build", "-o", path}, "0"
	if o.Race {
		args, cgo = append(args, "-race"), "1"
	} else {
		args = append(args, "-trimpath", "-ldflags", "-s -w")
	}
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/gatehouse")...)
	cmd.Dir, cmd.Env, cmd.Stderr = filepath.Dir(source), buildEnv(cgo), &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build gatehouse: go build: %w\n%s", err, strings.TrimSpace(stderr.String()))
	}
	return nil
}
