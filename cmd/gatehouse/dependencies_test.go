package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// purposes says what each module that go.mod requires directly is for.
func purposes() map[string]string {
	return map[string]string{
		"github.com/caarlos0/env/v11":         "reads the settings from the environment into one struct",
		"github.com/coreos/go-oidc/v3":        "drives the verification of an ID token, by its algorithm. Discovery, keys and claims are [our own](decisions/0002-issuer-keys.md)",
		"github.com/go-jose/go-jose/v4":       "reads JWTs, their headers and issuers' key sets, and checks signatures",
		"github.com/google/cel-go":            "the values that expressions of an AuthenticationConfiguration take and give; kube-apiserver's library compiles and runs them",
		"github.com/google/go-cmp":            "what differs, in tests",
		"github.com/google/uuid":              "the audit ids of requests",
		"github.com/prometheus/client_golang": "metrics, and `/metrics`",
		"github.com/spf13/cobra":              "commands, their help and completion",
		"github.com/spf13/pflag":              "flags of the commands; `migrate` reads those of others with it",
		"go.yaml.in/yaml/v3":                  "reads the revocation file, and what `migrate` is given, with the line of each fault",
		"golang.org/x/net":                    "frames and header compression of HTTP/2, for our own [client](decisions/0021-http2-to-the-api-server.md) and [server](decisions/0025-http2-server.md); the rules of header fields",
		"golang.org/x/oauth2":                 "the access token for Microsoft Graph, by client credentials",
		"golang.org/x/term":                   "asks for a token at a terminal without showing it",
		"golang.org/x/time":                   "how many exchanges a user may make in a minute",
		"k8s.io/api":                          "the type of a user in audit events. kube-apiserver's library brings the rest",
		"k8s.io/apimachinery":                 "`Status`, and how Kubernetes reads and names objects",
		"k8s.io/apiserver":                    "kube-apiserver's own reading of the AuthenticationConfiguration with its CEL, of the audit policy, and of what a request is about",
		"k8s.io/client-go":                    "reads the kubeconfig, or what the kubelet mounts; no typed clients",
		"sigs.k8s.io/yaml":                    "writes what `migrate` makes, as Kubernetes writes YAML",
		"k8s.io/klog/v2":                      "brings the log lines of Kubernetes' libraries into gatehouse's log",
	}
}

// listed is what the go command tells of a package.
type listed struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Path string }
	Imports    []string
}

// module returns what a package's weight is counted for.
func (l listed) module() string {
	if l.Module == nil {
		return standardLibrary
	}
	return l.Module.Path
}

// mostModules is how many may be linked.
const mostModules = 55

const (
	standardLibrary = "the standard library and the runtime"
	ourselves       = "github.com/kube-gatehouse/gatehouse"
)

// goOutput runs the go command for the shipped platform, and returns what it
// prints.
func goOutput(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = moduleRoot
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %s: %v: %s", strings.Join(args, " "), err, stderr.String())
	}
	return out
}

// linkedPackages returns what is linked into the binary.
func linkedPackages(t *testing.T) []listed {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(goOutput(t, "list", "-deps", "-json=ImportPath,Standard,Module,Imports", "./cmd/gatehouse")))
	var all []listed
	for {
		var one listed
		if err := decoder.Decode(&one); err == io.EOF {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
}

// directModules returns what go.mod requires without "// indirect".
func directModules(t *testing.T) []string {
	t.Helper()
	var file struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(goOutput(t, "mod", "edit", "-json"), &file); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, one := range file.Require {
		if !one.Indirect {
			direct = append(direct, one.Path)
		}
	}
	return direct
}

// weighed builds the binary as `make build` does, with its symbols, and returns
// the bytes of machine code of each module.
func weighed(t *testing.T, packages []listed) map[string]int {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "gatehouse")
	args := []string{"build", "-trimpath", "-o", binary}
	for _, match := range regexp.MustCompile(`-gcflags "[^"]+"`).FindAllString(read(t, moduleRoot+"/Makefile"), -1) {
		args = append(args, "-gcflags="+strings.Trim(strings.TrimPrefix(match, "-gcflags "), `"`))
	}
	goOutput(t, append(args, "./cmd/gatehouse")...)
	modules := map[string]string{"main": ourselves}
	for _, one := range packages {
		modules[one.ImportPath] = one.module()
	}
	weights := map[string]int{}
	lines := bufio.NewScanner(bytes.NewReader(goOutput(t, "tool", "nm", "-size", binary)))
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[2] != "T" && fields[2] != "t" {
			continue
		}
		size, err := strconv.Atoi(fields[1])
		if err != nil {
			t.Fatal(err)
		}
		weights[moduleOf(fields[3], modules)] += size
	}
	return weights
}

// moduleOf returns the module that a symbol is of, by the package before its name.
func moduleOf(symbol string, modules map[string]string) string {
	symbol = strings.TrimPrefix(strings.TrimPrefix(symbol, "type:."), "eq.")
	slash := strings.LastIndex(symbol[:strings.IndexAny(symbol+"[(", "[(")], "/") + 1
	name, _, _ := strings.Cut(symbol[slash:], ".")
	if module, ok := modules[strings.ReplaceAll(symbol[:slash]+name, "%2e", ".")]; ok {
		return module
	}
	return standardLibrary // whose assembly and runtime have names of other forms
}

// usedBy returns which packages of our own import a module.
func usedBy(packages []listed) map[string][]string {
	modules := map[string]string{}
	for _, one := range packages {
		modules[one.ImportPath] = one.module()
	}
	used := map[string][]string{}
	for _, one := range packages {
		if one.module() != ourselves {
			continue
		}
		for _, imported := range one.Imports {
			own := "`" + strings.TrimPrefix(one.ImportPath, module) + "`"
			if m := modules[imported]; !slices.Contains(used[m], own) {
				used[m] = append(used[m], own)
			}
		}
	}
	return used
}

// dependenciesPage writes docs/dependencies.md. A weight is its text.
func dependenciesPage(packages []listed, direct []string, weight func(module string) string) string {
	var b strings.Builder
	linked := linkedModules(packages)
	fmt.Fprintf(&b, `# Dependencies

What gatehouse is made of: %d modules are linked into the binary, of which go.mod requires %d directly. This page is
written by %s; a test holds it to go.mod and to what is linked, and lets no more than %d be. A new
module needs a reason here, and a page in docs/decisions.

**Weight** is the machine code of a module's own functions, by the sizes of its symbols (%s of
the binary that %s makes, with its symbols left in; linux/amd64, when this page was last
written). What a module brings stands below under its own name. The stripped binary has about 2.2 bytes for
each byte of code: the constants, types and tables of functions that grow with it. %s prints its size, which may
not exceed 25,000,000 bytes.

## Direct

| module | weight | used by | for |
|---|---|---|---|
`, len(linked), len(direct)-countUnlinked(direct, linked), "`make docs`", mostModules, "`go tool nm -size`", "`make build`", "`make size`")
	used := usedBy(packages)
	for _, m := range direct {
		slices.Sort(used[m])
		by, heavy := strings.Join(used[m], ", "), weight(m)
		if !linked[m] {
			by, heavy = "tests alone", "not linked"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", m, heavy, by, purposes()[m])
	}
	b.WriteString("\n## The rest\n\n| module | weight |\n|---|---|\n")
	for _, m := range slices.Sorted(maps.Keys(linked)) {
		if !slices.Contains(direct, m) {
			fmt.Fprintf(&b, "| `%s` | %s |\n", m, weight(m))
		}
	}
	fmt.Fprintf(&b, "| gatehouse itself | %s |\n| %s | %s |\n", weight(ourselves), standardLibrary, weight(standardLibrary))
	return b.String()
}

// linkedModules returns the modules of others that packages are of.
func linkedModules(packages []listed) map[string]bool {
	linked := map[string]bool{}
	for _, one := range packages {
		if m := one.module(); m != standardLibrary && m != ourselves {
			linked[m] = true
		}
	}
	return linked
}

func countUnlinked(direct []string, linked map[string]bool) int {
	n := 0
	for _, m := range direct {
		if !linked[m] {
			n++
		}
	}
	return n
}

// Promise: docs/dependencies.md says what each direct module is for and who uses
// it, and names every module that is linked, and no other.
func TestDependencies(t *testing.T) {
	t.Parallel()
	const page = moduleRoot + "/docs/dependencies.md"
	packages, direct := linkedPackages(t), directModules(t)
	if n := len(linkedModules(packages)); n > mostModules {
		t.Errorf("%d modules are linked, of %d", n, mostModules)
	}
	for _, m := range direct {
		if purposes()[m] == "" {
			t.Errorf("go.mod requires %s: say in purposes what it is for", m)
		}
	}
	for m := range purposes() {
		if !slices.Contains(direct, m) {
			t.Errorf("go.mod does not require %s any more", m)
		}
	}
	if *update {
		weights := weighed(t, packages)
		text := dependenciesPage(packages, direct, func(module string) string { return fmt.Sprintf("%.0f kB", float64(weights[module])/1000) })
		if err := os.WriteFile(page, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// Weights differ with each change and each compiler: they are taken from the
	// page, and everything else must be as it is.
	current := read(t, page)
	want := dependenciesPage(packages, direct, func(module string) string {
		row := regexp.MustCompile("(?m)^\\| `?" + regexp.QuoteMeta(strings.ReplaceAll(module, ourselves, "gatehouse itself")) + "`? \\| ([0-9]+ kB) \\|")
		if match := row.FindStringSubmatch(current); match != nil {
			return match[1]
		}
		return "unknown"
	})
	if diff := cmp.Diff(want, current); diff != "" || strings.Contains(want, "unknown") {
		t.Errorf("docs/dependencies.md is not current: run `make docs` (-want +got):\n%s", diff)
	}
}
