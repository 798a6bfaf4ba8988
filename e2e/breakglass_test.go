package e2e_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// glass is the page that testBreakGlass follows.
const glass = "../docs/how-to/break-glass.md"

// shell runs the commands of glass as one person would.
type shell struct {
	dir    string
	env    []string
	blocks map[string][]string // of each chapter; nil once they were run
}

// testBreakGlass: what the page has people prepare gets them in when nobody can
// sign in, and what it has them do afterwards ends that. Each command is run as
// it stands.
func (w world) testBreakGlass(t *testing.T) {
	sh := w.newShell(t)
	g := w.start(t, map[string]string{"GATEHOUSE_TOKEN_AUTH_FILE": put(t, filepath.Join(sh.dir, "tokens.csv"), nil)})
	config, err := g.Kubeconfig("glass", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(config, filepath.Join(sh.dir, "gatehouse.kubeconfig")); err != nil {
		t.Fatal(err)
	}

	sh.script(t, sh.take(t, "Prepare: a kubeconfig that goes to the API server"))
	copied, err := os.ReadFile(filepath.Join(sh.dir, "break-glass.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(sh.dir, "copied.kubeconfig"), copied)
	sh.script(t, sh.take(t, "Prepare: static tokens"))
	out := sh.script(t, sh.take(t, "Test it before you need it"))
	if !regexp.MustCompile(`(?s)Username +break-glass\n.*\nyes\n.*notAfter=`).MatchString(out) {
		t.Errorf("testing it prints\n%s", out)
	}

	add, use, _ := strings.Cut(sh.take(t, "If the issuer is down"), "kubectl")
	sh.script(t, add+"\nprintf %s \"$TOKEN\" > token")
	token, err := os.ReadFile(filepath.Join(sh.dir, "token"))
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, reloadLimit, func() error { return status(g.get(t, "/api", string(token)), http.StatusOK) })
	if out := sh.script(t, "TOKEN=$(cat token)\nkubectl"+use); !strings.Contains(out, "break-glass-token") {
		t.Errorf("through gatehouse, with the token: %s", out)
	}
	if out := sh.script(t, sh.take(t, "If gatehouse is down")); !strings.Contains(out, "hello") {
		t.Errorf("around gatehouse: %s", out)
	}

	sh.script(t, sh.take(t, "Afterwards"))
	eventually(t, reloadLimit, func() error { return status(g.get(t, "/api", string(token)), http.StatusUnauthorized) })
	eventually(t, reloadLimit, func() error { // the API server reads of it a moment later
		if out := sh.script(t, "kubectl --kubeconfig=copied.kubeconfig auth can-i '*' '*' || true"); !strings.HasPrefix(out, "no") {
			return fmt.Errorf("with a copy of the kubeconfig, afterwards: %s", out)
		}
		return nil
	})
	for chapter, left := range sh.blocks {
		if left != nil {
			t.Errorf("%s: the commands of %q were not run", glass, chapter)
		}
	}
}

func (w world) newShell(t *testing.T) *shell {
	t.Helper()
	page, err := os.ReadFile(glass)
	if err != nil {
		t.Fatal(err)
	}
	sh := &shell{dir: t.TempDir(), blocks: map[string][]string{}}
	block := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$")
	for _, chapter := range strings.Split(string(page), "\n## ")[1:] {
		title, text, _ := strings.Cut(chapter, "\n")
		for _, match := range block.FindAllStringSubmatch(text, -1) {
			sh.blocks[title] = append(sh.blocks[title], match[1])
		}
	}
	bin := filepath.Join(sh.dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(w.KubectlPath(), filepath.Join(bin, "kubectl")); err != nil {
		t.Fatal(err)
	}
	sh.env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + sh.dir, "KUBECONFIG=" + w.Cluster.AdminKubeconfig()}
	return sh
}

// take returns the commands of a chapter, and notes that they were run.
func (s *shell) take(t *testing.T, chapter string) string {
	t.Helper()
	blocks := s.blocks[chapter]
	if len(blocks) == 0 {
		t.Fatalf("%s has no commands under %q", glass, chapter)
	}
	s.blocks[chapter] = nil
	return strings.Join(blocks, "\n")
}

// script runs commands of which none may fail, and returns what they print. The
// alias of the page lives as long as a person's shell, and here longer.
func (s *shell) script(t *testing.T, commands string) string {
	t.Helper()
	const alias = "alias glass='kubectl --kubeconfig=break-glass.kubeconfig'\n"
	var stdout, stderr strings.Builder
	p, err := proc.Start(t.Context(), proc.Config{
		Path: "/bin/sh", Args: []string{"-euc", alias + commands}, Dir: s.dir, Env: s.env, Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil {
		t.Fatal(err)
	}
	if code, err := p.Wait(context.WithoutCancel(t.Context())); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v, of\n%s\n%s%s", code, err, commands, stdout.String(), stderr.String())
	}
	return stdout.String()
}
