package monitoring_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

// file returns the path of one of the root module's.
func file(t *testing.T, path string) string {
	t.Helper()
	source, err := build.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(filepath.Dir(source), path)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// program returns the path of one that Debian's package prometheus has.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: `make tools` installs it", err)
	}
	return path
}

// promtool runs the real one, and returns what it prints.
func promtool(ctx context.Context, t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := exec.CommandContext(ctx, program(t, "promtool"), args...).CombinedOutput()
	return string(out), err
}

// cases is the file of promtool's tests.
const cases = "testdata/alerts_test.yaml"

// rules are the names of the alerts.
func rules(t *testing.T) []string {
	t.Helper()
	var parsed struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	if err := yaml.Unmarshal(read(t, file(t, "deploy/alerts.yaml")), &parsed); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, group := range parsed.Groups {
		for _, rule := range group.Rules {
			names = append(names, rule.Alert)
		}
	}
	return names
}

// Promise: Prometheus takes the alerts, and each fires when it should, with all
// that it says, and is quiet before.
func TestAlerts(t *testing.T) {
	t.Parallel()
	if out, err := promtool(t.Context(), t, "check", "rules", file(t, "deploy/alerts.yaml")); err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if out, err := promtool(t.Context(), t, "test", "rules", cases); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Promise: each alert has a case in which it fires and one in which it is quiet.
func TestEveryAlertIsTested(t *testing.T) {
	t.Parallel()
	var parsed struct {
		Tests []struct {
			Cases []struct {
				Name     string `json:"alertname"`
				Expected []any  `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(read(t, cases), &parsed); err != nil {
		t.Fatal(err)
	}
	fires, quiet := map[string]bool{}, map[string]bool{}
	for _, test := range parsed.Tests {
		for _, one := range test.Cases {
			if len(one.Expected) > 0 {
				fires[one.Name] = true
			} else {
				quiet[one.Name] = true
			}
		}
	}
	names := rules(t)
	for _, name := range names {
		if !fires[name] || !quiet[name] {
			t.Errorf("%s: a case in which it fires: %t, and is quiet: %t", name, fires[name], quiet[name])
		}
	}
	if len(names) < 20 || len(fires) != len(names) {
		t.Errorf("%d alerts, of which %d are tested", len(names), len(fires))
	}
}

// An alert that never fires, or always does, fails its case.
func TestCasesCanFail(t *testing.T) {
	t.Parallel()
	expression := regexp.MustCompile(`(?m)^        expr: (?:\|-\n(?:          .*\n)+|.*\n)`)
	source, tests := string(read(t, file(t, "deploy/alerts.yaml"))), string(read(t, cases))
	for name, instead := range map[string]string{"never": "vector(1) > 2", "always": "vector(1)"} {
		dir := t.TempDir()
		for path, content := range map[string]string{
			"alerts.yaml": expression.ReplaceAllString(source, "        expr: "+instead+"\n"),
			"test.yaml":   regexp.MustCompile(`(?m)^rule_files: .*$`).ReplaceAllString(tests, "rule_files: [alerts.yaml]"),
		} {
			if err := os.WriteFile(filepath.Join(dir, path), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, err := promtool(t.Context(), t, "test", "rules", filepath.Join(dir, "test.yaml"))
		if err == nil {
			t.Errorf("alerts that fire %s pass: %s", name, out)
		}
		for _, alert := range rules(t) {
			if !strings.Contains(out, "alertname: "+alert+",") {
				t.Errorf("%s that fires %s passes its case", alert, name)
			}
		}
	}
}
