package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"os/exec"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// record has perf record the stacks of a proxy, if it was asked for and the
// proxy is the first. end ends that.
func record(ctx context.Context, o options, first bool, pids []int) (end func() error, err error) {
	if o.perf == "" || !first {
		return func() error { return nil }, nil
	}
	path, err := exec.LookPath("perf")
	if err != nil {
		return nil, fmt.Errorf("find perf (Debian's package linux-perf): %w", err)
	}
	list := make([]string, len(pids))
	for i, pid := range pids {
		list[i] = strconv.Itoa(pid)
	}
	p, err := proc.Start(ctx, proc.Config{
		Path: path, Args: []string{"record", "-q", "-g", "-F", "999", "-o", o.perf, "-p", strings.Join(list, ",")},
		Env: os.Environ(), Stderr: os.Stderr,
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		// SIGINT has it write what it has.
		if err := p.Signal(syscall.SIGINT); err != nil {
			return fmt.Errorf("end perf: %w", err)
		}
		_, err := p.Wait(ctx)
		return err
	}, nil
}
