package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const moduleRoot = "../.."

// files returns the paths below the module's root that end so, e2e included.
func files(t *testing.T, suffix string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(moduleRoot, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
			return filepath.SkipDir
		case !entry.IsDir() && strings.HasSuffix(path, suffix):
			found = append(found, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Promise: a document names no test that does not exist.
func TestDocumentedTestsExist(t *testing.T) {
	t.Parallel()
	exists := map[string]bool{}
	function := regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	for _, path := range files(t, "_test.go") {
		for _, match := range function.FindAllStringSubmatch(read(t, path), -1) {
			exists[match[1]] = true
		}
	}
	name := regexp.MustCompile(`\b(Test|Fuzz)[A-Z]\w*`)
	checked := 0
	for _, path := range files(t, ".md") {
		for _, named := range name.FindAllString(read(t, path), -1) {
			checked++
			if !exists[named] {
				t.Errorf("%s names %s, which is no test", path, named)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d names were found: the documents are elsewhere", checked)
	}
}

// Promise: a link from one document to another leads somewhere.
func TestDocumentedLinksLead(t *testing.T) {
	t.Parallel()
	link := regexp.MustCompile(`\]\(([^)\s:]+)\)`)
	heading := regexp.MustCompile(`(?m)^#+ (.+)$`)
	fenced := regexp.MustCompile("(?ms)^ *```.*?^ *```$") // where # begins a comment
	for _, path := range files(t, ".md") {
		for _, match := range link.FindAllStringSubmatch(read(t, path), -1) {
			file, anchor, _ := strings.Cut(match[1], "#")
			target := path
			if file != "" {
				target = filepath.Join(filepath.Dir(path), file)
			}
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s links to %s: %v", path, match[1], err)
				continue
			}
			if anchor == "" {
				continue
			}
			found := false
			for _, h := range heading.FindAllStringSubmatch(fenced.ReplaceAllString(read(t, target), ""), -1) {
				found = found || anchorOf(h[1]) == anchor
			}
			if !found {
				t.Errorf("%s links to %s, where there is no such heading", path, match[1])
			}
		}
	}
}

// anchorOf returns the anchor of a heading, as GitHub makes it.
func anchorOf(heading string) string {
	heading = strings.ToLower(heading)
	heading = regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(heading, "")
	return strings.ReplaceAll(heading, " ", "-")
}

// Promise: what the documents show of kubeconfig, migrate and exchange is what they print.
// A line … stands for the rest.
func TestDocumentedOutput(t *testing.T) {
	t.Parallel()
	block := regexp.MustCompile("(?ms)^```\n\\$ gatehouse ((?:kubeconfig|migrate|exchange) [^\n]+)\n(.*?)^```$")
	checked := 0
	for _, path := range files(t, ".md") {
		for _, match := range block.FindAllStringSubmatch(read(t, path), -1) {
			checked++
			args, errorsAlone := strings.CutSuffix(match[1], " > gatehouse.env")
			args, noErrors := strings.CutSuffix(args, " 2>/dev/null")
			_, got, stderr := once(t, nil, strings.Fields(args)...)
			if errorsAlone {
				got = stderr
			} else if !noErrors && stderr != "" && !strings.Contains(args, "authentication-config") {
				t.Errorf("%s: %s also prints %q", path, args, stderr)
			}
			want, rest := strings.CutSuffix(match[2], "…\n")
			if got != want && !(rest && strings.HasPrefix(got, want)) {
				t.Errorf("%s: %s (-want +got):\n%s", path, args, cmp.Diff(want, got))
			}
		}
	}
	if checked < 6 {
		t.Errorf("only %d commands were found", checked)
	}
}

// Promise: docs/upgrades.md names the version of Kubernetes that the tests run, and
// that of its libraries which are linked.
func TestUpgradesNameTheVersions(t *testing.T) {
	t.Parallel()
	page := read(t, moduleRoot+"/docs/upgrades.md")
	for path, version := range map[string]string{
		"e2e/build/build.go": `KubernetesVersion = "(v[0-9.]+)"`,
		"go.mod":             `k8s.io/apiserver (v[0-9.]+)`,
	} {
		match := regexp.MustCompile(version).FindStringSubmatch(read(t, filepath.Join(moduleRoot, path)))
		if match == nil {
			t.Fatalf("%s has no %s", path, version)
		}
		if !strings.Contains(page, match[1]) {
			t.Errorf("docs/upgrades.md does not name %s of %s", match[1], path)
		}
	}
}
