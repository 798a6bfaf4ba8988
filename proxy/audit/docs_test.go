package audit

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Promise: the documents tell every annotation, and no other.
func TestAnnotationsAreDocumented(t *testing.T) {
	_, section, _ := strings.Cut(content(t, "../../docs/operations.md"), "\n## Audit\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, table, found := strings.Cut(section, "| annotation, below `kube-gatehouse.github.io/` |")
	if !found {
		t.Fatal("docs/operations.md has no table of annotations")
	}
	var code, documented []string
	for _, match := range regexp.MustCompile(`auth\.OwnExtraPrefix \+ "([a-z-]+)"`).FindAllStringSubmatch(content(t, "event.go"), -1) {
		code = append(code, match[1])
	}
	for _, match := range regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1) {
		documented = append(documented, match[1])
	}
	slices.Sort(code)
	slices.Sort(documented)
	if len(code) < 5 || !slices.Equal(code, documented) {
		t.Errorf("the code has %q, the document %q", code, documented)
	}
}

// Promise: the policy of the how-to is one.
func TestDocumentedPolicy(t *testing.T) {
	blocks := regexp.MustCompile("(?ms)^```yaml\n(apiVersion: audit.*?)^```").FindAllStringSubmatch(content(t, "../../docs/how-to/audit.md"), -1)
	if len(blocks) != 1 {
		t.Fatalf("%d policies, want one", len(blocks))
	}
	if p, err := Parse([]byte(blocks[0][1])); err != nil || p.Len() != 3 || len(p.Warnings()) > 0 {
		t.Errorf("%v, %v", p, err)
	}
}
