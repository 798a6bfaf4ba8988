package oracle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

func divergencesPage(t testing.TB) string {
	t.Helper()
	content, err := os.ReadFile(root + "/docs/divergences.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// Promise: the numbers that docs/divergences.md states are those that the tests
// hold.
func TestDocumentedCounts(t *testing.T) {
	page := strings.Join(strings.Fields(divergencesPage(t)), " ")
	for _, words := range []string{
		fmt.Sprintf("more than %s rows", thousands(leastRows)), fmt.Sprintf("more than %s of them to a running kube-apiserver", thousands(leastLive)),
	} {
		if !strings.Contains(page, words) {
			t.Errorf("docs/divergences.md does not say %q", words)
		}
	}
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// namedTests finds `folder: TestName/part` and, for another test of the same
// folder, `TestName`.
var namedTests = regexp.MustCompile("`(?:([a-z0-9/]+): )?(Test\\w+)(?:/…/(\\w+))?[^`]*`")

// Promise: every test that docs/divergences.md names exists, and every row of
// its tables names one, or says that there is none.
func TestDocumentedTestsExist(t *testing.T) {
	folders := map[string]string{"rawbytes": "e2e/rawbytes", "oracle": "e2e/oracle", "oracle/actas": "e2e/oracle/actas"}
	for line := range strings.Lines(divergencesPage(t)) {
		folder := ""
		named := namedTests.FindAllStringSubmatch(line, -1)
		for _, match := range named {
			if match[1] != "" {
				folder = match[1]
			}
			if longer, ok := folders[folder]; ok {
				folder = longer
			}
			sources := testSources(t, folder)
			if folder != "" && !strings.Contains(sources, "\nfunc "+match[2]+"(") {
				t.Errorf("there is no %s in %q", match[2], folder)
			}
			if part := strings.ReplaceAll(match[3], "_", " "); part != "" && !strings.Contains(sources, fmt.Sprintf("%q:", part)) {
				t.Errorf("%s has no part %q", match[2], part)
			}
		}
		if isRow := strings.HasPrefix(line, "| "); isRow && len(named) == 0 && !strings.HasSuffix(line, "| none |\n") && !strings.HasPrefix(line, "| topic |") && !strings.HasPrefix(line, "| module |") {
			t.Errorf("the row names no test: %s", line)
		}
	}
}

// testSources returns the text of a folder's tests.
func testSources(t testing.TB, folder string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	return all.String()
}
