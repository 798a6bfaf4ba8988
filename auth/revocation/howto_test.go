package revocation_test

import (
	"os"
	"strings"
	"testing"
)

// Promise: the files that the how-to shows are good.
func TestHowTo(t *testing.T) {
	page, err := os.ReadFile("../../docs/how-to/revoke-access.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := strings.Split(string(page), "```yaml\n")[1:]
	if len(shown) < 6 {
		t.Errorf("only %d files", len(shown))
	}
	for _, rest := range shown {
		file, _, _ := strings.Cut(rest, "```\n")
		parse(t, file)
	}
}
