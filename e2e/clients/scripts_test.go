package clients_test

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/npm"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

//go:embed node/package.json node/package-lock.json node/.npmrc node/ops.mjs
var nodeSource embed.FS

// script is a client library, in a program that does one operation in a run:
// ARGS... KUBECONFIG NAMESPACE OPERATION. It prints what came of it.
type script struct {
	client, version string
	path            string
	args            []string
	dir             string
}

// pythonOperations and nodeOperations build on each other.
func pythonOperations() []string {
	return []string{"version", "create", "list, in pages", "patch, replace", "watch", "exec", "apply by the dynamic client", "can-i", "delete"}
}

func nodeOperations() []string {
	return []string{"version", "create", "list", "patch, replace", "watch", "informer", "exec", "apply, server side", "can-i", "delete"}
}

// refreshes is the operation that lists once for each line that it is given.
const refreshes = "across token refreshes"

// python finds Debian's client for Python, which is for Debian's Python.
func python(t *testing.T) (s script, ok bool) {
	t.Helper()
	path, err := filepath.Abs("testdata/ops.py")
	if err != nil {
		t.Fatal(err)
	}
	const interpreter = "/usr/bin/python3"
	out, err := exec.CommandContext(t.Context(), interpreter, "-c", "import kubernetes; print(kubernetes.__version__)").CombinedOutput()
	if err != nil {
		t.Logf("%s: %v\n%s", interpreter, err, out)
		return script{client: pythonClient}, false
	}
	return script{pythonClient, strings.TrimSpace(string(out)), interpreter, []string{path}, t.TempDir()}, true
}

// node is @kubernetes/client-node.
func node(t *testing.T) script {
	t.Helper()
	source, err := fs.Sub(nodeSource, "node")
	if err != nil {
		t.Fatal(err)
	}
	program, err := npm.Install(t.Context(), "clients", source, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	content, err := nodeSource.ReadFile("node/package.json")
	if err != nil {
		t.Fatal(err)
	}
	var manifest struct{ Dependencies map[string]string }
	if err := json.Unmarshal(content, &manifest); err != nil {
		t.Fatal(err)
	}
	return script{nodeClient, manifest.Dependencies[nodeClient], program.Node, []string{"ops.mjs"}, program.Dir}
}

func (s *suite) testPython(t *testing.T) {
	t.Parallel()
	p, ok := python(t)
	if !ok {
		s.found.leaveOut(t, p.client)
		return
	}
	s.testScript(t, p, "python", pythonOperations())
}

func (s *suite) testNode(t *testing.T) {
	t.Parallel()
	s.testScript(t, node(t), "node", nodeOperations())
}

// testScript does each operation on both routes.
func (s *suite) testScript(t *testing.T, p script, name string, operations []string) {
	t.Helper()
	namespaceA, namespaceB := s.namespaces(t, name)
	user := s.client(t, name, "")
	a, b := s.kubeconfig(t, s.direct, user), s.kubeconfig(t, s.through, user)
	for _, operation := range operations {
		s.compare(t, cell{p.client, p.version, operation},
			func(ctx context.Context) outcome { return p.run(ctx, a, namespaceA, operation) },
			func(ctx context.Context) outcome { return p.run(ctx, b, namespaceB, operation) })
	}
}

// start starts it for an operation.
func (p script) start(ctx context.Context, c proc.Config, kubeconfig, namespace, operation string) (*proc.Process, error) {
	c.Path, c.Dir = p.path, p.dir
	c.Args = append(p.args[:len(p.args):len(p.args)], kubeconfig, namespace, operation)
	c.Env = []string{"HOME=" + filepath.Dir(kubeconfig), "NO_PROXY=127.0.0.1"}
	return proc.Start(ctx, c)
}

// run runs an operation to its end.
func (p script) run(ctx context.Context, kubeconfig, namespace, operation string) outcome {
	var printed, failed proc.Lines
	process, err := p.start(ctx, proc.Config{Stdout: &printed, Stderr: &failed}, kubeconfig, namespace, operation)
	if err != nil {
		return came("", err)
	}
	defer process.Stop()
	code, err := process.Wait(ctx)
	if err != nil {
		return came(strings.Join(failed.All(), "\n"), err)
	}
	o := outcome{ok: code == 0, said: fmt.Sprintf("%s\nexit code %d", strings.Join(printed.All(), "\n"), code)}
	if !o.ok {
		said := strings.Join(failed.All(), "\n")
		o.said += "\n" + said
		o.fault = lastLine(said)
	}
	return o
}
