// Package stagetest answers: what do the tests that play on the stage have in
// common?
package stagetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// CanRace reports whether the race detector can be had: it needs a C compiler.
func CanRace(t *testing.T) bool {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "CGO_ENABLED").Output()
	if err != nil {
		t.Fatalf("go env: %v", err)
	}
	race := strings.TrimSpace(string(out)) == "1"
	if !race {
		t.Log("no C compiler: gatehouse is built without the race detector")
	}
	return race
}

// StopAtEnd stops g at the end of the test, which fails if g met a data race or
// panicked. If it failed for another reason, what g printed is shown as shown
// makes it of the lines. Default: all of them.
func StopAtEnd(t *testing.T, g *gatehouse.Instance, shown func(lines []string) string) {
	t.Helper()
	if shown == nil {
		shown = func(lines []string) string { return "gatehouse printed:\n" + strings.Join(lines, "\n") }
	}
	t.Cleanup(func() {
		g.Stop()
		logs := strings.Join(g.Logs(), "\n")
		if strings.Contains(logs, "DATA RACE") || strings.Contains(logs, "panic") {
			t.Errorf("gatehouse raced or panicked:\n%s", logs)
		} else if t.Failed() {
			t.Log(shown(g.Logs()))
		}
	})
}

// Issuer starts an issuer of the test's own, which other tests do not see down.
// authority signed its certificate.
func Issuer(t *testing.T) (issuer *authtest.Issuer, authority *pki.Authority) {
	t.Helper()
	authority, err := pki.NewAuthority(t.TempDir(), "issuer-ca")
	if err != nil {
		t.Fatal(err)
	}
	if issuer, err = authtest.NewIssuer(authority.CA); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Close() })
	return issuer, authority
}

// Page is a page of docs that has what a test found out between two lines.
type Page struct {
	path                 string
	before, shown, after string
}

// ReadPage reads the page of that name, in which the lines begin and end stand.
func ReadPage(t *testing.T, name, begin, end string) Page {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), begin)
	shown, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table", path)
	}
	return Page{path, before + begin, shown, end + after}
}

// Shown returns what stands between the two lines.
func (p Page) Shown() string { return p.shown }

// Write puts table between them.
func (p Page) Write(t *testing.T, table string) {
	t.Helper()
	if err := os.WriteFile(p.path, []byte(p.before+table+p.after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Differs fails the test, for the page shows another table.
func (p Page) Differs(t *testing.T) {
	t.Helper()
	t.Fatalf("%s shows another table; with -update it is written:\n%s", p.path, p.shown)
}
