// Package kubectl runs the real kubectl the way a person with a fresh home
// directory would: nothing of the caller's environment reaches it.
package kubectl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// Kubectl is a binary, a kubeconfig, and a home directory that holds the
// discovery cache. It is safe for many goroutines.
type Kubectl struct {
	binary, kubeconfig, context string
	home                        string
	dir                         string // where it runs, if not at home
	env                         []string
}

// Result is what one run printed and how it ended.
type Result struct {
	Stdout, Stderr string
	Code           int
}

// OK reports whether the run succeeded.
func (r Result) OK() bool { return r.Code == 0 }

// New returns a kubectl with an empty home below dir: its discovery cache is
// cold. dir must exist and outlive the Kubectl.
func New(binary, kubeconfig, dir string) (*Kubectl, error) {
	home, err := os.MkdirTemp(dir, "home-")
	if err != nil {
		return nil, fmt.Errorf("make a home for kubectl: %w", err)
	}
	return &Kubectl{binary: binary, kubeconfig: kubeconfig, home: home}, nil
}

// WithContext returns a copy that uses the named context of the kubeconfig.
func (k *Kubectl) WithContext(name string) *Kubectl {
	copied := *k
	copied.context = name
	return &copied
}

// WithEnv returns a copy with more variables, each NAME=value, in its
// environment.
func (k *Kubectl) WithEnv(env ...string) *Kubectl {
	copied := *k
	copied.env = append(copied.env[:len(copied.env):len(copied.env)], env...)
	return &copied
}

// WithKubeconfig returns a copy that uses another kubeconfig.
func (k *Kubectl) WithKubeconfig(path string) *Kubectl {
	copied := *k
	copied.kubeconfig = path
	return &copied
}

// WithDir returns a copy that runs in a folder. Its home stays the same.
func (k *Kubectl) WithDir(path string) *Kubectl {
	copied := *k
	copied.dir = path
	return &copied
}

// WithBinary returns a copy that runs another kubectl.
func (k *Kubectl) WithBinary(path string) *Kubectl {
	copied := *k
	copied.binary = path
	return &copied
}

// Run runs kubectl to its end. A command that fails is a Result with its code,
// not an error; an error says that kubectl could not be run, or that ctx ended.
func (k *Kubectl) Run(ctx context.Context, args ...string) (Result, error) {
	return k.RunInput(ctx, "", args...)
}

// RunInput is Run with a text on standard input.
func (k *Kubectl) RunInput(ctx context.Context, stdin string, args ...string) (Result, error) {
	var stdout, stderr strings.Builder
	cfg := k.config(args)
	cfg.Stdin, cfg.Stdout, cfg.Stderr = strings.NewReader(stdin), &stdout, &stderr
	p, err := proc.Start(ctx, cfg)
	if err != nil {
		return Result{}, err
	}
	<-p.Done()
	code, _ := p.Wait(context.Background())
	result := Result{stdout.String(), stderr.String(), code}
	if ctx.Err() != nil {
		return result, fmt.Errorf("%s %s: %w: %s", k.name(), strings.Join(args, " "), ctx.Err(), result.Stderr)
	}
	return result, nil
}

// Must is RunInput for a command that has to succeed: it returns what the
// command printed, or an error with what it said.
func (k *Kubectl) Must(ctx context.Context, stdin string, args ...string) (string, error) {
	r, err := k.RunInput(ctx, stdin, args...)
	if err != nil {
		return "", err
	}
	if !r.OK() {
		return "", fmt.Errorf("%s %s: exit code %d: %s",
			k.name(), strings.Join(args, " "), r.Code, strings.TrimSpace(r.Stderr))
	}
	return r.Stdout, nil
}

// name is what the binary is called: kubectl, or what is run like it.
func (k *Kubectl) name() string { return filepath.Base(k.binary) }

// Running is a kubectl that goes on, such as a watch.
type Running struct {
	process        *proc.Process
	stdout, stderr proc.Lines
}

// Start starts kubectl and returns at once. The caller stops it, by Stop or by
// ending ctx.
func (k *Kubectl) Start(ctx context.Context, args ...string) (*Running, error) {
	r := &Running{}
	cfg := k.config(args)
	cfg.Stdout, cfg.Stderr = &r.stdout, &r.stderr
	var err error
	r.process, err = proc.Start(ctx, cfg)
	return r, err
}

// Streams are what a kubectl reads and writes. Nil is nothing.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// StartStreams starts kubectl with these streams and returns at once. An
// *os.File, such as a terminal, is handed over as it is.
func (k *Kubectl) StartStreams(ctx context.Context, s Streams, args ...string) (*proc.Process, error) {
	cfg := k.config(args)
	cfg.Stdin, cfg.Stdout, cfg.Stderr = s.In, s.Out, s.Err
	return proc.Start(ctx, cfg)
}

// AwaitLine returns the first line of standard output that contains text. It
// fails when ctx ends, or when kubectl ends without printing such a line.
func (r *Running) AwaitLine(ctx context.Context, text string) (string, error) {
	line, err := r.stdout.Await(ctx, r.process.Done(), func(s string) bool { return strings.Contains(s, text) })
	if err != nil {
		return "", fmt.Errorf("await %q from kubectl: %w; it printed %q and %q", text, err, r.stdout.All(), r.stderr.All())
	}
	return line, nil
}

// Wait waits for kubectl to end by itself and returns all that it printed.
func (r *Running) Wait(ctx context.Context) (Result, error) {
	code, err := r.process.Wait(ctx)
	return r.result(code), err
}

// Stop ends kubectl and returns all that it printed.
func (r *Running) Stop() Result { return r.result(r.process.Stop()) }

func (r *Running) result(code int) Result {
	return Result{strings.Join(r.stdout.All(), "\n"), strings.Join(r.stderr.All(), "\n"), code}
}

// config has no PATH on purpose: an exec plugin or a pager must not come from
// the machine by accident.
func (k *Kubectl) config(args []string) proc.Config {
	env := []string{
		"HOME=" + k.home,
		"KUBECONFIG=" + k.kubeconfig,
		"NO_PROXY=127.0.0.1,localhost",
	}
	env = append(env, k.env...)
	if k.context != "" {
		args = append([]string{"--context", k.context}, args...)
	}
	return proc.Config{Path: k.binary, Args: args, Env: env, Dir: cmp.Or(k.dir, k.home)}
}

// Remove deletes the home directory and its cache.
func (k *Kubectl) Remove() error {
	if err := os.RemoveAll(k.home); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove kubectl's home: %w", err)
	}
	return nil
}
