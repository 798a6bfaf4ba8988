package proc

import "syscall"

// Attributes puts the child in a process group of its own, so that Ctrl-C
// reaches the parent alone, and has the kernel end it if the parent dies.
func Attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
