//go:build !linux

package proc

import "syscall"

// Attributes puts the child in a process group of its own, so that Ctrl-C
// reaches the parent alone.
func Attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
