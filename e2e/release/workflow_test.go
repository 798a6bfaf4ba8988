package release_test

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

// Promise: the release workflow makes what it releases by the targets that are
// tested here, with variables that the Makefile knows; every action that it runs is
// one commit, with its version beside it; and it says that it was never run.
func TestWorkflow(t *testing.T) {
	module, err := build.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(module)
	content := string(read(t, filepath.Join(root, ".github", "workflows", "release.yml")))
	makefile := string(read(t, filepath.Join(root, "Makefile")))
	var workflow struct {
		Jobs map[string]struct {
			Steps []struct{ Uses, Run string }
		}
	}
	if err := yaml.Unmarshal([]byte(content), &workflow); err != nil {
		t.Fatal(err)
	}
	var actions, targets []string
	for _, step := range workflow.Jobs["release"].Steps {
		if step.Uses != "" {
			actions = append(actions, step.Uses)
		}
		call := regexp.MustCompile(`(?m)^make (.*)$`).FindStringSubmatch(step.Run)
		if call == nil {
			continue
		}
		for word := range strings.FieldsSeq(call[1]) {
			name, _, isVariable := strings.Cut(word, "=")
			if !isVariable {
				targets = append(targets, name)
			}
			if isVariable && !regexp.MustCompile(`(?m)^`+name+` +\?= `).MatchString(makefile) {
				t.Errorf("the Makefile has no variable %s", name)
			}
		}
	}
	if !slices.Equal(targets, []string{"dist", "image"}) {
		t.Errorf("it makes %v", targets)
	}
	for _, action := range actions {
		pinned := regexp.MustCompile(`uses: ` + regexp.QuoteMeta(action) + ` # v\d+\.\d+\.\d+\n`)
		if !regexp.MustCompile(`^[\w-]+/[\w-]+@[0-9a-f]{40}$`).MatchString(action) || !pinned.MatchString(content) {
			t.Errorf("%s may change under its name, or does not say which version it is", action)
		}
	}
	if len(actions) < 5 || !strings.Contains(content, "\n# NOT RUN YET.") {
		t.Errorf("%d actions; it must say that it was not run", len(actions))
	}
}
