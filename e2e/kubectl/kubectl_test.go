package kubectl_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

// script stands for kubectl: what it prints shows how it was run.
const script = `#!/bin/sh
echo "args: $*"
echo "env: $HOME $KUBECONFIG $STRAY"
read line
echo "stdin: $line" >&2
exit 3
`

// TestRun: a run has the given kubeconfig, context and standard input, a home
// of its own, and nothing of the caller's environment.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("STRAY", "stray")
	binary := filepath.Join(dir, "kubectl")
	if err := os.WriteFile(binary, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := kubectl.New(binary, "the.kubeconfig", dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.WithContext("alice").RunInput(t.Context(), "hello\n", "get", "pods")
	if err != nil {
		t.Fatal(err)
	}
	if r.Code != 3 || r.Stderr != "stdin: hello\n" {
		t.Errorf("got code %d and stderr %q", r.Code, r.Stderr)
	}
	if !strings.Contains(r.Stdout, "args: --context alice get pods\n") {
		t.Errorf("arguments: got %q", r.Stdout)
	}
	home, config, _ := strings.Cut(strings.TrimPrefix(strings.Split(r.Stdout, "\n")[1], "env: "), " ")
	if filepath.Dir(home) != dir || config != "the.kubeconfig " {
		t.Errorf("environment: got home %q and the rest %q", home, config)
	}
}

// TestStart: the lines of a command that goes on can be awaited one by one, and
// waiting fails once it has ended.
func TestStart(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "kubectl")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho one\necho two\nread line\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	k, err := kubectl.New(binary, "", dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := k.Start(t.Context(), "get", "--watch")
	if err != nil {
		t.Fatal(err)
	}
	if line, err := r.AwaitLine(t.Context(), "tw"); line != "two" || err != nil {
		t.Errorf("got %q and %v, want two", line, err)
	}
	if _, err := r.AwaitLine(t.Context(), "three"); err == nil {
		t.Error("a line that never came was found")
	}
	if got := r.Stop().Stdout; got != "one\ntwo" {
		t.Errorf("output: got %q", got)
	}
}
