package chart_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

// migration is a case of cmd/gatehouse/testdata/migrate: what is read, and how.
type migration struct {
	name, stdin string
	args        []string // without -o values
}

// migrations are all cases that are not refused.
func migrations(t *testing.T, c chart) []migration {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(filepath.Dir(c.deploy), "cmd", "gatehouse", "testdata", "migrate", "*.txt"))
	if err != nil {
		t.Fatal(err)
	}
	var all []migration
	sections := regexp.MustCompile(`(?ms)\A-- command --\ngatehouse (migrate[^\n]*)\n(?:-- stdin --\n(.*?))?(?:^-- (?:stdout|stderr) --$|\z)`)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := sections.FindStringSubmatch(string(b))
		if found == nil {
			t.Fatalf("%s is no case", path)
		}
		m := migration{name: strings.TrimSuffix(filepath.Base(path), ".txt"), stdin: found[2]}
		m.args = strings.Fields(strings.Replace(found[1], " -o values", "", 1))
		if !strings.HasPrefix(m.name, "refused-") {
			all = append(all, m)
		}
	}
	if len(all) < 40 {
		t.Fatalf("there are only %d cases", len(all))
	}
	return all
}

// Promise: from whatever `gatehouse migrate` reads, -o values makes the chart start
// gatehouse with the environment that it prints otherwise: each variable, with its
// value or with a file of the same content, and no other but defaults.
func TestMigratedValues(t *testing.T) {
	c := open(t)
	binary := filepath.Join(t.TempDir(), "gatehouse")
	if err := build.Gatehouse(t.Context(), binary, build.Options{}); err != nil {
		t.Fatal(err)
	}
	gatehouse, err := kubectl.New(binary, os.DevNull, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defaults := documentedDefaults(t, c)
	for _, m := range migrations(t, c) {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			print := func(output string) string {
				out, err := gatehouse.Must(t.Context(), m.stdin, slices.Concat([]string{m.args[0], "-o", output}, m.args[1:])...)
				if err != nil {
					t.Fatal(err)
				}
				return out
			}
			var v values
			if err := yaml.UnmarshalStrict([]byte(print("values")), (*map[string]any)(&v)); err != nil {
				t.Fatal(err)
			}
			rendered := rendering{t, c.mustRender(t, v)}
			want := map[string]string{}
			for line := range strings.Lines(print("env")) {
				name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				want[name] = value
			}
			config := ""
			if want["GATEHOUSE_AUTHENTICATION_CONFIG"] == "/etc/gatehouse/authentication.yaml" {
				config = print("authentication-config")
			}
			rendered.compare(want, defaults, config)
		})
	}
}

// documentedDefaults are the defaults of every setting.
func documentedDefaults(t *testing.T, c chart) map[string]string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(filepath.Dir(c.deploy), "docs", "settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	defaults := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(GATEHOUSE_[A-Z_]+)` \\| (?:`([^`]*)`)? ").FindAllStringSubmatch(string(b), -1) {
		defaults[row[1]] = row[2]
	}
	return defaults
}

// rendering is what the chart makes of values.
type rendering struct {
	t   *testing.T
	all objects
}

// compare holds the environment of the Deployment against want.
func (r rendering) compare(want, defaults map[string]string, config string) {
	r.t.Helper()
	got := map[string]string{}
	env, _ := r.all.find(deployment).at(r.t, pod+".containers[0].env").([]any)
	for _, one := range env {
		variable := one.(map[string]any)
		got[variable["name"].(string)] = variable["value"].(string)
	}
	for name, value := range want {
		isFile := strings.HasSuffix(name, "_FILE") || name == "GATEHOUSE_AUTHENTICATION_CONFIG" || name == "GATEHOUSE_KUBECONFIG"
		switch {
		case isFile && got[name] == "":
			r.t.Errorf("%s=%s is not set", name, value)
		case isFile:
			content := r.file(got[name])
			if name == "GATEHOUSE_AUTHENTICATION_CONFIG" && config != "" {
				if diff := cmp.Diff(config, content); diff != "" {
					r.t.Errorf("%s (-want +got):\n%s", name, diff)
				}
			}
		case name == "GATEHOUSE_OIDC_REQUIRED_CLAIMS": // in another order
			if diff := cmp.Diff(sortedList(value), sortedList(got[name])); diff != "" {
				r.t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		case got[name] != value:
			r.t.Errorf("%s is %q, want %q", name, got[name], value)
		}
		delete(got, name)
	}
	for name, value := range got {
		if value != defaults[name] && name != "GATEHOUSE_TLS_CERT_FILE" && name != "GATEHOUSE_TLS_KEY_FILE" {
			r.t.Errorf("%s=%s is set, and no default", name, value)
		}
	}
}

func sortedList(s string) []string { return slices.Sorted(slices.Values(strings.Split(s, ","))) }

// file returns the content of a file that the container finds, or "" if it comes
// from an object that the chart does not make.
func (r rendering) file(path string) string {
	r.t.Helper()
	o := r.all.find(deployment)
	dir, base := filepath.Split(path)
	mounts, _ := o.at(r.t, pod+".containers[0].volumeMounts").([]any)
	volumes, _ := o.at(r.t, pod+".volumes").([]any)
	for _, mount := range mounts {
		if mount := mount.(map[string]any); mount["mountPath"] == filepath.Clean(dir) {
			for _, volume := range volumes {
				if volume := volume.(map[string]any); volume["name"] == mount["name"] {
					return r.key(path, base, volume)
				}
			}
		}
	}
	r.t.Errorf("nothing is mounted at %s", path)
	return ""
}

// key returns the content of a file in a volume.
func (r rendering) key(path, base string, volume map[string]any) string {
	r.t.Helper()
	for kind, field := range map[string]string{"Secret": "secretName", "ConfigMap": "name"} {
		source, ok := volume[strings.ToLower(kind[:1])+kind[1:]].(map[string]any)
		if !ok {
			continue
		}
		key := base
		if items, ok := source["items"].([]any); ok {
			item := items[0].(map[string]any)
			if item["path"] != base {
				r.t.Errorf("%s: the volume has %s", path, item["path"])
			}
			key = item["key"].(string)
		}
		made := r.all.find(kind + "/" + source[field].(string))
		if made == nil {
			return ""
		}
		content, ok := made["data"].(map[string]any)[key].(string)
		if !ok {
			r.t.Errorf("%s: the chart's %s has no key %s", path, kind, key)
		}
		return content
	}
	r.t.Errorf("%s: it is in no Secret and no ConfigMap", path)
	return ""
}

// testMigrated: the values that come of a release of another proxy are installed.
func (w *world) testMigrated(ctx context.Context, t *testing.T) {
	w.restricted(ctx, t, "migrated")
	gatehouse, err := kubectl.New(filepath.Join(w.files, "gatehouse"), os.DevNull, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range migrations(t, w.chart) {
		if !strings.HasPrefix(m.name, "values-") {
			continue
		}
		printed, err := gatehouse.Must(ctx, m.stdin, slices.Concat([]string{m.args[0], "-o", "values"}, m.args[1:])...)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(w.files, m.name+".yaml")
		if err := os.WriteFile(file, []byte(printed), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := w.helmHere.Run(ctx, "install", "moved", w.dir, "--namespace", "migrated", "--values", file)
		if err != nil || !out.OK() || strings.Contains(out.Stderr, "arning") {
			t.Fatalf("%s: helm install: %v\n%s", m.name, err, out.Stderr)
		}
		replicas := 2
		if at := regexp.MustCompile(`(?m)^replicaCount: (\d)$`).FindStringSubmatch(printed); at != nil {
			replicas = int(at[1][0] - '0')
		}
		w.awaitPods(ctx, t, "migrated", "moved-gatehouse", replicas)
		w.helmMust(ctx, t, "uninstall", "moved", "--namespace", "migrated")
	}
}
