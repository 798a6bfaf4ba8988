//go:build !linux

package proc

import "syscall"

// attributes puts the child in a process group of its own, so that Ctrl-C
// reaches the parent alone.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
