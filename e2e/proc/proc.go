// Package proc starts a child process, keeps its output, and makes certain
// that it ends: when it is stopped, when its context ends, or when the parent
// dies.
package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// Config says what to start. Path is required; the rest may be zero.
type Config struct {
	Path string
	Args []string
	// Env is the whole environment; nothing is inherited. Nil is an empty one.
	Env []string
	// Dir is the working directory. Default: the parent's.
	Dir string
	// Stdin, Stdout and Stderr default to nothing. Each is written by one goroutine.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Grace is how long the process may take after SIGTERM before it is
	// killed. Default: 10 s.
	Grace time.Duration
}

// Process is a started child. Its methods may be called by many goroutines.
type Process struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	done   chan struct{}
}

// Start runs the process. It lives until it ends by itself, Stop is called, or
// ctx ends; the latter two send SIGTERM and, after Grace, SIGKILL.
func Start(ctx context.Context, cfg Config) (*Process, error) {
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, cfg.Path, cfg.Args...)
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = cfg.Dir, cfg.Stdin, cfg.Stdout, cfg.Stderr
	cmd.Env = cfg.Env
	if cmd.Env == nil {
		cmd.Env = []string{} // nil would inherit
	}
	cmd.SysProcAttr = Attributes()
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = cfg.Grace
	if cmd.WaitDelay == 0 {
		cmd.WaitDelay = 10 * time.Second
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", cfg.Path, err)
	}
	p := &Process{cmd: cmd, cancel: cancel, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // the exit code is read from ProcessState
		cancel()
		close(p.done)
	}()
	return p, nil
}

// Pid is the process id of the child.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed once the process has ended and its output is written.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends a signal to the process. It fails if the process has ended.
func (p *Process) Signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal process %d: %w", p.Pid(), err)
	}
	return nil
}

// Stop ends the process with SIGTERM, then SIGKILL after Grace, and returns
// its exit code: -1 if a signal ended it. Stopping twice is harmless.
func (p *Process) Stop() int {
	p.cancel()
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

// Wait waits for the process to end and returns its exit code, or fails when
// ctx ends first (the process goes on).
func (p *Process) Wait(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("wait for process %d: %w", p.Pid(), ctx.Err())
	}
}

// ErrEnded says that a process ended while something was still awaited of it.
var ErrEnded = errors.New("process ended")

// Await calls ready every 50 ms until it returns nil. It fails when ctx ends,
// with ready's last error, or as soon as the process has ended, with ErrEnded.
func (p *Process) Await(ctx context.Context, ready func(context.Context) error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%w with code %d", ErrEnded, p.cmd.ProcessState.ExitCode())
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer: %w", ctx.Err(), err)
		case <-tick.C:
		}
	}
}
