package kubelet

import (
	"context"
	"io"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// container is a process with a log, or nothing but a log if its command is left
// to an image that nobody knows.
type container struct {
	spec    corev1.Container
	image   *Image // nil if nobody knows it
	dir     string
	ctx     context.Context
	cancel  context.CancelFunc
	log     output
	stdin   *io.PipeWriter // what attached clients write, nil unless the container takes it
	input   *io.PipeReader
	resize  chan remotecommand.TerminalSize
	started time.Time

	done chan struct{} // closed when it has ended

	mu      sync.Mutex // guards what follows
	ended   *corev1.ContainerStateTerminated
	reason  string // why it does not run yet, of an image that is known
	waiting string // the same, in words
	running bool
	ready   bool
	inside  task // what a process in its root has, of an image that is known
}

func newContainer(ctx context.Context, dir string, spec corev1.Container) *container {
	c := &container{spec: spec, dir: dir, started: time.Now(), reason: "ContainerCreating", resize: make(chan remotecommand.TerminalSize), done: make(chan struct{})}
	c.ctx, c.cancel = context.WithCancel(ctx)
	if spec.Stdin {
		c.input, c.stdin = io.Pipe()
	}
	return c
}

// run runs the container's command to its end.
func (c *container) run() {
	defer close(c.done)
	defer c.cancel()
	defer c.log.Close()
	command := append(c.spec.Command[:len(c.spec.Command):len(c.spec.Command)], c.spec.Args...)
	if len(command) == 0 {
		<-c.ctx.Done()
		return
	}
	t := task{dir: c.dir, command: command, tty: c.spec.TTY, out: &c.log, err: &c.log, resize: c.resize}
	if c.stdin != nil {
		defer c.input.Close()
		t.in = c.input
	}
	c.end(t.run(c.ctx))
}

// end notes how the container's command ended.
func (c *container) end(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ready, c.running = false, false
	c.ended = &corev1.ContainerStateTerminated{
		Reason: "Completed", StartedAt: metav1.NewTime(c.started).Rfc3339Copy(), FinishedAt: metav1.Now().Rfc3339Copy(),
	}
	if err != nil {
		c.ended.Reason, c.ended.Message, c.ended.ExitCode = "Error", err.Error(), int32(exitCode(err))
	}
}

// setReady notes whether the container is ready, and reports whether that is new.
func (c *container) setReady(ready bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	ready = ready && c.ended == nil
	changed := c.ready != ready
	c.ready = ready
	return changed
}

// isReady is true of every container that runs, unless its image is known and has
// not said so.
func (c *container) isReady() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.image == nil || c.ready
}

func (c *container) state() corev1.ContainerState {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended != nil {
		return corev1.ContainerState{Terminated: c.ended}
	}
	if c.image != nil && !c.running {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: c.reason, Message: c.waiting}}
	}
	return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.NewTime(c.started).Rfc3339Copy()}}
}

// attach connects streams to the container until ctx ends, as it does with the
// container, or until out breaks.
// What the container printed before is not repeated, as a kubelet's runtime does
// not.
func (c *container) attach(ctx context.Context, in io.Reader, out io.Writer, resize <-chan remotecommand.TerminalSize) error {
	seen := c.log.len() // before it answers what in says
	go func() {
		for size := range resize {
			select {
			case c.resize <- size:
			case <-ctx.Done():
				return
			}
		}
	}()
	if in != nil && c.stdin != nil {
		go func() {
			_, _ = io.Copy(c.stdin, in) // an end of either is the end of it
			if c.spec.StdinOnce {
				c.stdin.Close()
			}
		}()
	}
	if out == nil {
		<-ctx.Done()
		return nil
	}
	return c.log.copyTo(ctx, out, seen, true)
}
