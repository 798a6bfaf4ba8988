package streaming_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

const builtKubectl = "kubectl " + build.KubernetesVersion

// verb is one that streams: what gatehouse's log says of its request, and how it
// is tried.
type verb struct {
	request string
	run     func(*testing.T, *kubectl.Kubectl)
	long    bool
}

// upgrading are the verbs that change to SPDY or WebSocket.
func (s *suite) upgrading() map[string]verb {
	const exec, attach, forward = `"subresource":"exec"`, `"subresource":"attach"`, `"subresource":"portforward"`
	return map[string]verb{
		"exec":                   {exec, s.exec, false},
		"exec -it, resized":      {exec, s.terminal, false},
		"exec, 100 MB each way":  {exec, s.bigExec, true},
		"cp, both ways":          {exec, s.copyFiles, false},
		"attach":                 {attach, s.attach, false},
		"debug":                  {attach, s.debug, false},
		"port-forward, 32 MB":    {forward, s.portForward, false},
		"proxy, exec through it": {exec, s.proxyExec, true},
	}
}

// answered are the verbs that read an answer which goes on.
func (s *suite) answered() map[string]verb {
	const watch = `"verb":"watch"`
	return map[string]verb{
		"logs -f":                   {`"subresource":"log"`, s.logs, false},
		"get -w":                    {watch, s.watch, false},
		"rollout status":            {watch, s.rollout, false},
		"proxy, watched through it": {watch, s.proxyWatch, true},
	}
}

// testKubectl is every verb that streams, by the kubectl of the cluster's own
// version.
func (s *suite) testKubectl(t *testing.T) {
	s.verbs(t, builtKubectl, false, func(k *kubectl.Kubectl) *kubectl.Kubectl { return k })
}

// verbs tries every verb with a client, or all but the long ones. with makes a
// kubectl that client.
func (s *suite) verbs(t *testing.T, client string, short bool, with func(*kubectl.Kubectl) *kubectl.Kubectl) {
	try := func(verbs map[string]verb, overs ...string) {
		for name, v := range verbs {
			if v.long && short {
				continue
			}
			for _, over := range overs {
				s.do(t, cell{name, client, over}, v.request, func(t *testing.T, p person) {
					v.run(t, with(s.kubectl(t, s.gate, p, over)))
				})
			}
		}
	}
	try(s.upgrading(), webSocket, spdy)
	try(s.answered(), http2, http1)
}

// exec: input arrives, both outputs come back apart, and the exit code.
func (s *suite) exec(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := k.RunInput(ctx, "hello\n", "exec", "-i", "-n", "dev", "shell", "-c", "main", "--", "sh", "-c", "cat; echo oops >&2; exit 7")
	if err != nil {
		t.Fatal(err)
	}
	if r.Stdout != "hello\n" || !strings.HasPrefix(r.Stderr, "oops\n") || r.Code != 7 {
		t.Errorf("got %+v", r)
	}
}

// resizes prints the terminal's size whenever it changes, until a line comes.
const resizes = `trap 'stty size' WINCH; stty size; while ! read -r line; do :; done; echo "got $line"; exit 3`

// terminal: a terminal is one, on either end, and has the size of the person's.
func (s *suite) terminal(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	person, screen, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer person.Close()
	resize := func(rows, columns uint16) {
		if err := pty.Setsize(person, &pty.Winsize{Rows: rows, Cols: columns}); err != nil {
			t.Fatal(err)
		}
	}
	resize(40, 100)
	process, err := k.StartStreams(ctx, kubectl.Streams{In: screen, Out: screen, Err: screen},
		"exec", "-it", "-n", "dev", "shell", "-c", "main", "--", "sh", "-c", resizes)
	screen.Close()
	if err != nil {
		t.Fatal(err)
	}
	shown := newScreen()
	go func() {
		_, _ = io.Copy(shown, person) // until the last who has the screen open ends
		close(shown.ended)
	}()
	shown.await(ctx, t, "40 100")
	resize(50, 132)
	if err := process.Signal(syscall.SIGWINCH); err != nil { // it is not the terminal's foreground process
		t.Fatal(err)
	}
	shown.await(ctx, t, "50 132")
	if _, err := io.WriteString(person, "typed\n"); err != nil {
		t.Fatal(err)
	}
	shown.await(ctx, t, "got typed")
	if code, err := process.Wait(ctx); err != nil || code != 3 {
		t.Errorf("got code %d and %v, want 3", code, err)
	}
}

// catUntilTold returns a command that sends back what it gets and ends when the
// returned function is called: when all has arrived. With SPDY the API server
// itself may lose what a caller has not read when the command ends; see
// docs/streaming.md.
func (s *suite) catUntilTold(ctx context.Context, t *testing.T) (command []string, tell func()) {
	t.Helper()
	file := fmt.Sprintf("told-%d", s.people.Add(1))
	return []string{"sh", "-c", "cat; until test -e " + file + "; do sleep 0.05; done"}, func() {
		_, err := s.Cluster.Admin().Must(ctx, "", "exec", "-n", "dev", "shell", "-c", "main", "--", "touch", file)
		if err != nil {
			t.Error(err)
		}
	}
}

// bigExec: 100 MB go in and come out at the same time, and are the same.
func (s *suite) bigExec(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), bigLimit)
	defer cancel()
	var stderr bytes.Buffer
	sent := newSource(100 << 20)
	received := newSinkFor(sent)
	command, tell := s.catUntilTold(ctx, t)
	started := time.Now()
	process, err := k.StartStreams(ctx, kubectl.Streams{In: sent, Out: received, Err: &stderr},
		append([]string{"exec", "-i", "-n", "dev", "shell", "-c", "main", "--"}, command...)...)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-received.full:
	case <-process.Done():
	}
	t.Logf("100 MB each way in %s", time.Since(started).Round(time.Millisecond))
	tell()
	code, err := process.Wait(ctx)
	if err != nil || code != 0 {
		t.Fatalf("got code %d, %v and %q after %d bytes", code, err, stderr.String(), received.n)
	}
	if err := same(sent, received); err != nil {
		t.Error(err)
	}
}

// copyFiles: a file that went to the pod and came back is the same.
func (s *suite) copyFiles(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	dir := t.TempDir()
	there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
	content, err := io.ReadAll(newSource(8 << 20))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(there, content, 0o600); err != nil {
		t.Fatal(err)
	}
	inPod := fmt.Sprintf("dev/shell:copied-%d", s.people.Add(1))
	for _, paths := range [][]string{{there, inPod}, {inPod, back}} {
		if _, err := k.Must(ctx, "", append([]string{"cp", "-c", "main"}, paths...)...); err != nil {
			t.Fatal(err)
		}
	}
	if returned, err := os.ReadFile(back); err != nil || !bytes.Equal(returned, content) {
		t.Errorf("%d bytes returned of %d, %v", len(returned), len(content), err)
	}
}

// attach: what is typed reaches the running process, and its answer comes back.
func (s *suite) attach(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	typed, keyboard := newKeyboard(t)
	var shown proc.Lines
	process, err := k.StartStreams(ctx, kubectl.Streams{In: typed, Out: &shown, Err: &shown},
		"attach", "-i", "-n", "dev", "shell", "-c", "main")
	if err != nil {
		t.Fatal(err)
	}
	defer process.Stop()
	for _, word := range []string{t.Name() + " one", t.Name() + " two"} {
		if _, err := io.WriteString(keyboard, word+"\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := shown.Await(ctx, process.Done(), func(line string) bool { return line == "got "+word }); err != nil {
			t.Fatalf("%v; shown: %q", err, shown.All())
		}
	}
}

// debug: one more container is added to the pod and attached to.
func (s *suite) debug(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := k.RunInput(ctx, "hello\n", "debug", "-i", "-n", "dev", "shell", "--image=example.invalid/tools:1", "--",
		"sh", "-c", `read -r line; echo "got $line"`)
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || !strings.Contains(r.Stdout, "got hello\n") {
		t.Errorf("got %+v", r)
	}
}

// logs: a line that the container prints arrives at once.
func (s *suite) logs(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	following, err := k.Start(ctx, "logs", "-f", "-n", "dev", "shell", "-c", "notes")
	if err != nil {
		t.Fatal(err)
	}
	defer following.Stop()
	s.awaitLog(ctx, t, func(text string) error {
		_, err := following.AwaitLine(ctx, text)
		return err
	})
}

// awaitLog has the container notes print two lines, and waits until each is seen.
func (s *suite) awaitLog(ctx context.Context, t *testing.T, seen func(text string) error) {
	t.Helper()
	if err := seen("ready"); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		line := fmt.Sprintf("%s %d", t.Name(), i)
		_, err := s.Cluster.Admin().Must(ctx, line+"\n", "exec", "-i", "-n", "dev", "shell", "-c", "notes", "--", "sh", "-c", "cat >> notes")
		if err != nil {
			t.Fatal(err)
		}
		at := time.Now()
		if err := seen(line); err != nil {
			t.Fatal(err)
		}
		soon(t, at)
	}
}

// atOnce is more than anything takes that is not kept back by a buffer, and less
// than a person waits for.
const atOnce = 5 * time.Second

func soon(t *testing.T, since time.Time) {
	t.Helper()
	if took := time.Since(since); took > atOnce {
		t.Errorf("it took %s, want it at once", took)
	}
}

// watch: an event arrives at once.
func (s *suite) watch(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	watching, err := k.Start(ctx, "get", "configmaps", "-n", "dev", "-w")
	if err != nil {
		t.Fatal(err)
	}
	defer watching.Stop()
	if _, err := watching.AwaitLine(ctx, "kube-root-ca.crt"); err != nil {
		t.Fatal(err)
	}
	s.awaitEvent(ctx, t, func(name string) error {
		_, err := watching.AwaitLine(ctx, name)
		return err
	})
}

// awaitEvent makes a ConfigMap and waits until it is seen.
func (s *suite) awaitEvent(ctx context.Context, t *testing.T, seen func(name string) error) {
	t.Helper()
	name := fmt.Sprintf("event-%d", s.people.Add(1))
	if _, err := s.Cluster.Admin().Must(ctx, "", "create", "configmap", name, "-n", "dev"); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if err := seen(name); err != nil {
		t.Fatal(err)
	}
	soon(t, at)
}

// paused is a deployment that begins when somebody says so.
const paused = `{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":%[1]q,"namespace":"dev"},"spec":{
"paused":true,"replicas":3,"selector":{"matchLabels":{"app":%[1]q}},"template":{"metadata":{"labels":{"app":%[1]q}},
"spec":{"containers":[{"name":"web","image":"example.invalid/web:1"}]}}}}`

// rollout: it tells of every step, and ends when the last new pod runs.
func (s *suite) rollout(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	name := fmt.Sprintf("web-%d", s.people.Add(1))
	if err := s.Cluster.Apply(ctx, fmt.Appendf(nil, paused, name)); err != nil {
		t.Fatal(err)
	}
	status, err := k.Start(ctx, "rollout", "status", "-n", "dev", "deployment/"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer status.Stop()
	if _, err := status.AwaitLine(ctx, "Waiting for deployment"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Cluster.Admin().Must(ctx, "", "rollout", "resume", "-n", "dev", "deployment/"+name); err != nil {
		t.Fatal(err)
	}
	r, err := status.Wait(ctx)
	if err != nil || !r.OK() || !strings.Contains(r.Stdout, "successfully rolled out") {
		t.Errorf("got %+v and %v", r, err)
	}
}
