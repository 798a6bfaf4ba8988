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

// addresses finds where the demo's gatehouse and its ops port are in what it prints.
var addresses = regexp.MustCompile(`gatehouse listens on https://(127\.0\.0\.1:\d+)\.|Health and metrics: http://(127\.0\.0\.1:\d+)/`)

// thisRun puts the demo's directory and addresses, and free ports, in place of those
// of a page.
func thisRun(t *testing.T, page, dir string, printed []string) *strings.Replacer {
	t.Helper()
	pairs := []string{regexp.MustCompile(`/tmp/gatehouse-demo-\d+`).FindString(page), dir}
	for _, found := range addresses.FindAllStringSubmatch(strings.Join(printed, "\n"), -1) {
		if found[1] != "" {
			pairs = append(pairs, "127.0.0.1:8443", found[1])
		} else {
			pairs = append(pairs, "127.0.0.1:8080", found[2])
		}
	}
	ports := []string{"10443", "10080", "9443", "9080"}
	free, err := proc.Ports(len(ports))
	if err != nil {
		t.Fatal(err)
	}
	for i, port := range ports {
		pairs = append(pairs, port, strconv.Itoa(free[i]))
	}
	return strings.NewReplacer(pairs...)
}

// Promise: docs/tutorial.md and docs/quickstart-in-a-cluster.md are what happens: the
// demo prints what they show, and each command, as written and in order, does what
// they show. (Of what is written, the demo's directory and the ports are other ones.)
func TestDocuments(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts the demo")
	}
	source, err := build.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(source)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	started := time.Now()
	printed, dir := startDemo(ctx, t)
	t.Logf("the demo invited after %s", time.Since(started).Round(time.Second))
	for _, row := range []struct {
		page  string
		where string // the reader has to be
		skip  bool
	}{
		{"quickstart-in-a-cluster.md", root, !helm.CanRun()},
		{"tutorial.md", t.TempDir(), false},
	} {
		t.Run(row.page, func(t *testing.T) {
			if row.skip {
				t.Skip("helm is built for linux/amd64 alone")
			}
			b, err := os.ReadFile(filepath.Join(root, "docs", row.page))
			if err != nil {
				t.Fatal(err)
			}
			page := parse(string(b))
			if steps := page.steps; len(steps) < 20 || steps[0].command != "make demo" {
				t.Fatalf("the page has the steps %+v", steps)
			}
			replace := thisRun(t, string(b), dir, printed)
			for _, line := range page.printed {
				shown := settled(replace.Replace(line))
				if !slices.ContainsFunc(printed, func(l string) bool { return settled(l) == shown }) {
					t.Errorf("the demo does not print %q, but\n%s", line, strings.Join(printed, "\n"))
				}
			}
			begun := time.Now()
			openShell(ctx, t, row.where).play(ctx, t, page.steps[1:], replace)
			t.Logf("the page was done in %s", time.Since(begun).Round(time.Second))
		})
	}
	t.Run("other pods", func(t *testing.T) { testOtherPods(ctx, t, dir) })
}

// Promise: a pod that somebody tries on the demo never becomes a process of their
// machine: it waits, says for what, and nobody gets into it.
func testOtherPods(ctx context.Context, t *testing.T, dir string) {
	t.Helper()
	reached := filepath.Join(dir, "reached")
	const waits = "kubectl wait pod/try --namespace dev --timeout=1m --for=jsonpath='{.status.containerStatuses[0].state.waiting.reason}'=ErrImagePull"
	openShell(ctx, t, dir).play(ctx, t, []step{
		{0, "export PATH=$PWD:$PATH KUBECONFIG=$PWD/cluster/admin.kubeconfig", nil},
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
