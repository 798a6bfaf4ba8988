package proc_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

func shell(ctx context.Context, t *testing.T, script string, out *proc.Lines) *proc.Process {
	t.Helper()
	p, err := proc.Start(ctx, proc.Config{
		Path: "/bin/sh", Args: []string{"-c", script}, Stdout: out, Stderr: out, Grace: 300 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestStop: a process gets SIGTERM first and can end with a code of its own;
// one that does not heed it is killed after the grace time.
func TestStop(t *testing.T) {
	var out proc.Lines
	polite := shell(t.Context(), t, `trap 'exit 7' TERM; echo up; while :; do read x <&3 || :; done`, &out)
	if _, err := out.Await(t.Context(), polite.Done(), func(s string) bool { return s == "up" }); err != nil {
		t.Fatal(err)
	}
	if code := polite.Stop(); code != 7 {
		t.Errorf("polite: got code %d, want 7", code)
	}
	var deafOut proc.Lines
	deaf := shell(t.Context(), t, `trap '' TERM; echo up; while :; do :; done`, &deafOut)
	if _, err := deafOut.Await(t.Context(), deaf.Done(), func(s string) bool { return s == "up" }); err != nil {
		t.Fatal(err)
	}
	if code := deaf.Stop(); code != -1 {
		t.Errorf("deaf: got code %d, want -1", code)
	}
}

// TestEnd: a process ends with its context, waiting for its readiness ends with
// the process, and it inherits no environment.
func TestEnd(t *testing.T) {
	t.Setenv("STRAY", "stray")
	ctx, cancel := context.WithCancel(t.Context())
	var out proc.Lines
	p := shell(ctx, t, `echo "[$STRAY]"; exec sleep 60`, &out)
	if _, err := out.Await(t.Context(), p.Done(), func(s string) bool { return s == "[]" }); err != nil {
		t.Error(err)
	}
	cancel()
	<-p.Done()
	err := p.Await(t.Context(), func(context.Context) error { return errors.New("not yet") })
	if !errors.Is(err, proc.ErrEnded) {
		t.Errorf("await: got %v, want ErrEnded", err)
	}
}

// TestPorts: the ports are different and free, and one that is taken is passed
// over.
func TestPorts(t *testing.T) {
	ports, err := proc.Ports(3)
	if err != nil {
		t.Fatal(err)
	}
	if ports[0] == ports[1] || ports[1] == ports[2] || ports[0] == ports[2] {
		t.Errorf("ports %v are not all different", ports)
	}
	l, err := net.Listen("tcp", proc.Loopback(ports[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if other, err := proc.PortsNear(ports[0]); err != nil || other[0] == ports[0] {
		t.Errorf("port near a taken one: got %d and %v", other, err)
	}
	if same, err := proc.PortsNear(ports[1]); err != nil || same[0] != ports[1] {
		t.Errorf("port near a free one: got %d and %v", same, err)
	}
	if both, err := proc.PortsNear(ports[1], ports[1]); err != nil || both[0] != ports[1] || both[1] == ports[1] {
		t.Errorf("ports near one that is wanted twice: got %d and %v", both, err)
	}
}
