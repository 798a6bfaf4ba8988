package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/helm"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// printer takes what the demo prints.
type printer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (p *printer) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.text.Write(b)
}

func (p *printer) lines() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Split(p.text.String(), "\n")
}

// startDemo runs the demo until the test ends, and returns what it has printed
// when it invites, and its directory.
func startDemo(ctx context.Context, t *testing.T) (printed []string, dir string) {
	t.Helper()
	ctx, stop := context.WithCancel(ctx)
	out, ended := &printer{}, make(chan error, 1)
	go func() { ended <- run(ctx, out, false) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("the demo: %v\n%s", err, strings.Join(out.lines(), "\n"))
		}
	})
	for {
		printed = out.lines()
		for _, line := range printed {
			if found, ok := strings.CutPrefix(line, "  DEMO="); ok {
				dir = found
			}
		}
		if slices.Contains(printed, "Ctrl-C ends everything and removes its files.") {
			return printed, dir
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("the demo has ended: %v\n%s", err, strings.Join(printed, "\n"))
		case <-ctx.Done():
			t.Fatal(ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Promise: docs/quickstart-in-a-cluster.md is what happens: the demo prints what it
// shows, and each command, as written and in order, does what it shows. (Of what
// is written, the demo's directory and the ports are other ones.)
func TestQuickstart(t *testing.T) {
	if !helm.CanRun() {
		t.Skip("helm is built for linux/amd64 alone")
	}
	if testing.Short() {
		t.Skip("it starts the demo")
	}
	source, err := build.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(source)
	page, err := os.ReadFile(filepath.Join(root, "docs", "quickstart-in-a-cluster.md"))
	if err != nil {
		t.Fatal(err)
	}
	quickstart := parse(string(page))
	if steps := quickstart.steps; len(steps) < 20 || steps[0].command != "make demo" {
		t.Fatalf("the page has the steps %+v", steps)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	started := time.Now()
	printed, dir := startDemo(ctx, t)
	up := time.Since(started)
	for _, line := range quickstart.printed {
		if !slices.ContainsFunc(printed, func(l string) bool { return settled(l) == settled(line) }) {
			t.Errorf("the demo does not print %q, but\n%s", line, strings.Join(printed, "\n"))
		}
	}
	home := t.TempDir()
	s := openShell(ctx, t, root, "PATH="+os.Getenv("PATH"), "HOME="+home, "NO_PROXY=127.0.0.1,localhost")
	s.play(ctx, t, quickstart.steps[1:], thisRun(t, string(page), dir))
	t.Logf("the demo invited after %s, and the page was done after %s", up.Round(time.Second), time.Since(started).Round(time.Second))
	testOtherPods(ctx, t, s, dir)
}

// thisRun puts the demo's directory and free ports in place of those of a page.
func thisRun(t *testing.T, page, dir string) *strings.Replacer {
	t.Helper()
	pairs := []string{regexp.MustCompile(`/tmp/gatehouse-demo-\d+`).FindString(page), dir}
	ports := []string{"10443", "10080", "9443"}
	free, err := proc.Ports(len(ports))
	if err != nil {
		t.Fatal(err)
	}
	for i, port := range ports {
		pairs = append(pairs, port, strconv.Itoa(free[i]))
	}
	return strings.NewReplacer(pairs...)
}

// Promise: a pod that somebody tries on the demo never becomes a process of their
// machine: it waits, says for what, and nobody gets into it.
func testOtherPods(ctx context.Context, t *testing.T, s *shell, dir string) {
	reached := filepath.Join(dir, "reached")
	const waits = "kubectl wait pod/try --namespace dev --timeout=1m --for=jsonpath='{.status.containerStatuses[0].state.waiting.reason}'=ErrImagePull"
	s.play(ctx, t, []step{
		{0, "kubectl run try --namespace dev --image=busybox --restart=Never --command -- touch " + reached, []string{"pod/try created"}},
		{0, waits, []string{"pod/try condition met"}},
		{0, "kubectl get pod try --namespace dev -o jsonpath='{.status.containerStatuses[0].state.waiting.message}'",
			[]string{"the stand-in node knows no image but " + imageName}},
		{0, "kubectl exec try --namespace dev -- touch " + reached + " 2>&1 | grep -o 'is waiting to start.*'", []string{"is waiting to start: ErrImagePull"}},
		{0, "kubectl logs try --namespace dev 2>&1 | grep -o 'is waiting to start.*'", []string{"is waiting to start: ErrImagePull"}},
		{0, "kubectl delete pod try --namespace dev", []string{`pod "try" deleted from dev namespace`}},
	}, strings.NewReplacer())
	if _, err := os.Stat(reached); err == nil {
		t.Error("a pod's command ran on this machine")
	}
}
