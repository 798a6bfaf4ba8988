package proc

import "syscall"

// attributes puts the child in a process group of its own, so that Ctrl-C
// reaches the parent alone, and has the kernel end it if the parent dies.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
