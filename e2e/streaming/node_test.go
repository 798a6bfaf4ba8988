package streaming_test

import (
	"context"
	"embed"
	"encoding/json"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/npm"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

//go:embed node/package.json node/package-lock.json node/.npmrc node/stream.mjs
var nodeSource embed.FS

// nodeClient is Kubernetes' own for JavaScript: browsers and dashboards stream as it
// does, by WebSocket alone.
type nodeClient struct {
	npm.Program
	kubeconfig string
}

// testNode is what that client can do.
func (s *suite) testNode(t *testing.T) {
	source, err := fs.Sub(nodeSource, "node")
	if err != nil {
		t.Fatal(err)
	}
	program, err := npm.Install(t.Context(), "streaming", source, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	name := "@kubernetes/client-node " + nodeVersion(t)
	for _, row := range []struct {
		verb, over, request string
		test                func(context.Context, *testing.T, nodeClient)
	}{
		{"exec", webSocket, `"subresource":"exec"`, nodeExec},
		{"exec, 100 MB each way", webSocket, `"subresource":"exec"`, nodeBig},
		{"attach", webSocket, `"subresource":"attach"`, nodeAttach},
		{"port-forward, 32 MB", webSocket, `"subresource":"portforward"`, nodeForward},
		{"logs -f", http1, `"subresource":"log"`, s.nodeLogs},
		{"get -w", http1, `"verb":"watch"`, s.nodeWatch},
	} {
		s.do(t, cell{row.verb, name, row.over}, row.request, func(t *testing.T, p person) {
			ctx, cancel := context.WithTimeout(t.Context(), bigLimit)
			defer cancel()
			kubeconfig, err := s.gate.Kubeconfig(p.name, p.token)
			if err != nil {
				t.Fatal(err)
			}
			row.test(ctx, t, nodeClient{program, kubeconfig})
		})
	}
}

// nodeVersion is the client's, as the lock file has it.
func nodeVersion(t *testing.T) string {
	t.Helper()
	b, err := nodeSource.ReadFile("node/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	var lock struct {
		Packages map[string]struct{ Version string }
	}
	if err := json.Unmarshal(b, &lock); err != nil {
		t.Fatal(err)
	}
	return lock.Packages["node_modules/@kubernetes/client-node"].Version
}

func (c nodeClient) start(ctx context.Context, t *testing.T, in io.Reader, out, errOut io.Writer, args ...string) *proc.Process {
	t.Helper()
	process, err := proc.Start(ctx, proc.Config{
		Path: c.Node, Args: append([]string{"stream.mjs"}, args...), Dir: c.Dir,
		Env: []string{"KUBECONFIG=" + c.kubeconfig, "NO_PROXY=127.0.0.1"}, Stdin: in, Stdout: out, Stderr: errOut,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { process.Stop() })
	return process
}

// wait waits for the end and its code.
func wait(ctx context.Context, t *testing.T, p *proc.Process, want int, printed *proc.Lines) {
	t.Helper()
	if code, err := p.Wait(ctx); err != nil || code != want {
		t.Fatalf("it ended with code %d and %v, want %d; it printed %q", code, err, want, printed.All())
	}
}

func nodeExec(ctx context.Context, t *testing.T, c nodeClient) {
	var out, errOut proc.Lines
	process := c.start(ctx, t, strings.NewReader("hello\n"), &out, &errOut, "exec", "main", "sh", "-c", "cat; echo oops >&2; exit 7")
	wait(ctx, t, process, 7, &errOut)
	if got := out.All(); len(got) != 1 || got[0] != "hello" {
		t.Errorf("output %q", got)
	}
	if got := errOut.All(); len(got) != 1 || got[0] != "oops" {
		t.Errorf("error output %q", got)
	}
}

func nodeBig(ctx context.Context, t *testing.T, c nodeClient) {
	var errOut proc.Lines
	sent, received := newSource(100<<20), newSink()
	wait(ctx, t, c.start(ctx, t, sent, received, &errOut, "exec", "main", "cat"), 0, &errOut)
	if err := same(sent, received); err != nil {
		t.Error(err)
	}
}

func nodeAttach(ctx context.Context, t *testing.T, c nodeClient) {
	input, keyboard := newKeyboard(t)
	var shown proc.Lines
	process := c.start(ctx, t, input, &shown, &shown, "attach", "main")
	word := "from " + t.Name()
	if _, err := io.WriteString(keyboard, word+"\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := shown.Await(ctx, process.Done(), func(line string) bool { return line == "got "+word }); err != nil {
		t.Fatalf("%v; shown: %q", err, shown.All())
	}
	process.Stop()
}

func nodeForward(ctx context.Context, t *testing.T, c nodeClient) {
	port := echoOnce(ctx, t)
	var errOut proc.Lines
	sent, received := newSource(32<<20), newSink()
	wait(ctx, t, c.start(ctx, t, sent, received, &errOut, "port-forward", "main", port), 0, &errOut)
	if err := same(sent, received); err != nil {
		t.Error(err)
	}
}

func (s *suite) nodeLogs(ctx context.Context, t *testing.T, c nodeClient) {
	var shown proc.Lines
	process := c.start(ctx, t, nil, &shown, &shown, "logs", "notes")
	s.awaitLog(ctx, t, func(text string) error {
		_, err := shown.Await(ctx, process.Done(), func(line string) bool { return strings.Contains(line, text) })
		return err
	})
	process.Stop()
}

func (s *suite) nodeWatch(ctx context.Context, t *testing.T, c nodeClient) {
	var shown proc.Lines
	process := c.start(ctx, t, nil, &shown, &shown, "watch", "main")
	seen := func(name string) error {
		_, err := shown.Await(ctx, process.Done(), func(line string) bool { return line == "ADDED "+name })
		return err
	}
	if err := seen("kube-root-ca.crt"); err != nil {
		t.Fatalf("%v; shown: %q", err, shown.All())
	}
	s.awaitEvent(ctx, t, seen)
	process.Stop()
}
