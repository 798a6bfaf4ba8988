package kubelet

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/creack/pty"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// task is one process. in, out, err and resize may be nil.
type task struct {
	dir      string
	command  []string
	tty      bool
	in       io.Reader
	out, err io.Writer
	resize   <-chan remotecommand.TerminalSize

	env        []string             // nil: a little of this machine's
	attributes *syscall.SysProcAttr // nil: those of any child
	grace      time.Duration        // to end after SIGTERM; 0: it is killed with all that it started
}

// drainTime is how long output is read after a process ended, which one that it
// left behind may hold open.
const drainTime = 5 * time.Second

// run runs the process to its end. A code other than 0 is a
// [utilexec.CodeExitError]. All that it started is killed when ctx ends.
func (t task) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, t.command[0], t.command[1:]...)
	cmd.Dir = t.dir
	cmd.Env = t.env
	if cmd.Env == nil {
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.dir, "TERM=dumb", "LC_ALL=C"} // no secret of the test's
	}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = drainTime
	if t.grace != 0 {
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = t.grace
	}
	var err error
	if t.tty {
		err = t.withTerminal(cmd)
	} else {
		err = t.withPipes(cmd)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.Exited() {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

// exitCode is the code of what run returned.
func exitCode(err error) int {
	if exit, ok := errors.AsType[utilexec.CodeExitError](err); ok {
		return exit.Code
	}
	return 137 // killed
}

func (t task) withPipes(cmd *exec.Cmd) error {
	cmd.SysProcAttr = t.attributes
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = proc.Attributes()
	}
	cmd.Stdout, cmd.Stderr = t.out, t.err
	if t.in != nil {
		// Not cmd.Stdin: Wait would wait for input that nobody will send.
		stdin, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(stdin, t.in) // a process need not read all
			stdin.Close()
		}()
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Wait()
}

// endOfTransmission is what Ctrl-D sends: a terminal's end of input.
const endOfTransmission = 4

func (t task) withTerminal(cmd *exec.Cmd) error {
	terminal, err := pty.Start(cmd) // in a session, and so a process group, of its own
	if err != nil {
		return err
	}
	defer terminal.Close()
	go func() {
		for size := range t.resize {
			_ = pty.Setsize(terminal, &pty.Winsize{Rows: size.Height, Cols: size.Width}) // it may have ended
		}
	}()
	if t.in != nil {
		go func() {
			_, _ = io.Copy(terminal, t.in)
			_, _ = terminal.Write([]byte{endOfTransmission})
		}()
	}
	drained := make(chan struct{})
	go func() {
		_, _ = io.Copy(orDiscard(t.out), terminal) // ends with EIO when the last process let go
		close(drained)
	}()
	err = cmd.Wait()
	select {
	case <-drained:
	case <-time.After(drainTime):
	}
	return err
}

func orDiscard(w io.Writer) io.Writer {
	if w == nil {
		return io.Discard
	}
	return w
}
