package chart_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Promise: what the documents have people do with helm is what the chart takes: the
// values as written, and each command, with the rendering in place of the change.
func TestDocumentedCommands(t *testing.T) {
	c := open(t)
	root := filepath.Dir(c.deploy)
	dir := t.TempDir() // as the top of a clone, with people's own files
	if err := os.Symlink(c.deploy, filepath.Join(dir, "deploy")); err != nil {
		t.Fatal(err)
	}
	ran := 0
	block := regexp.MustCompile("(?ms)^ *```(?:yaml)?\n(.*?)^ *```$")
	command := regexp.MustCompile(`(?m)^ *helm (?:install|upgrade) ((?:.*\\\n)*.*)$`)
	for _, document := range []string{"docs/how-to/run-in-a-cluster.md", "docs/how-to/run-the-token-exchange.md", "docs/how-to/migrate-from-kube-oidc-proxy.md", "README.md"} {
		b, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range block.FindAllStringSubmatch(string(b), -1) {
			if strings.HasPrefix(match[1], "# values.yaml\n") {
				if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(match[1]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for _, found := range command.FindAllStringSubmatch(match[1], -1) {
				args := strings.Fields(strings.ReplaceAll(found[1], "\\\n", " "))
				for i, arg := range args {
					if strings.HasPrefix(arg, "deploy/") || arg == "values.yaml" {
						args[i] = filepath.Join(dir, arg)
					}
				}
				ran++
				stream, err := c.helm.Must(t.Context(), "", append([]string{"template", "--kube-version", "1.37"}, args...)...)
				if err != nil {
					t.Errorf("%s: %v", document, err)
					continue
				}
				all, err := parse(stream)
				if err != nil {
					t.Fatal(err)
				}
				if image := all.find(deployment).at(t, pod+".containers[0].image"); image != "registry.example.com/gatehouse:v0" {
					t.Errorf("%s: helm %v: the image is %v", document, args, image)
				}
			}
		}
	}
	if ran < 5 {
		t.Errorf("only %d commands were found", ran)
	}
}
