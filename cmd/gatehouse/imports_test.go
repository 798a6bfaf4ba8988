package main

import (
	"errors"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kube-gatehouse/gatehouse/"

// importFault says why a package of this module, named without the module's
// path, may not import another one, or "".
func importFault(from, imported string) string {
	own, isOwn := strings.CutPrefix(imported, module)
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case own == "auth/authtest" && isOwn && from != "cmd/exchange/exchangetest":
		return "auth/authtest is for tests alone"
	case own == "cmd/exchange/exchangetest" && isOwn:
		return "cmd/exchange/exchangetest is for tests alone"
	case isOwn && !mayUse(from, own):
		return "the direction is cmd → proxy, auth/*; proxy → auth, auth/scope; auth/* → auth, auth/digest, auth/scope"
	case (from == "auth" || from == "auth/scope") && !isOwn && strings.Contains(first, "."):
		return "auth and auth/scope import the standard library alone"
	case strings.HasPrefix(imported, "k8s.io/client-go") && from != "proxy/upstream" && !below(from, "cmd"):
		return "client-go is for proxy/upstream and cmd"
	case strings.HasPrefix(imported, "k8s.io/apiserver") && from != "proxy" && from != "proxy/audit" && from != "auth/authconfig":
		return "k8s.io/apiserver is for proxy (what a request is to Kubernetes), proxy/audit (its policy and events) and auth/authconfig (its configuration)"
	}
	return ""
}

// mayUse holds the direction between packages of this module.
func mayUse(from, imported string) bool {
	switch {
	case below(from, "cmd"):
		return true
	case from == "auth/scope":
		return false
	case imported == "auth/scope":
		return below(from, "proxy") || below(from, "auth")
	case from == "proxy/exchange" && imported == "auth/session":
		return true // what it gives
	case below(from, "proxy"):
		return below(imported, "proxy") || imported == "auth"
	case strings.HasPrefix(from, "auth/oidc/"):
		// What resolves claims shares how others are asked. That auth/oidc knows
		// nothing of it, and it nothing of auth/oidc, keeps the two apart.
		return imported == "auth" || imported == "auth/oidc/lookup"
	case strings.HasPrefix(from, "auth/"):
		return imported == "auth" || imported == "auth/digest"
	default:
		return false
	}
}

func below(pkg, dir string) bool { return pkg == dir || strings.HasPrefix(pkg, dir+"/") }

// Imports point one way. Every source file counts, whatever its build tags;
// test files do not.
func TestImportDirection(t *testing.T) {
	const root = "../.."
	checked := map[string]bool{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skipDirectory(root, file)
		}
		if path.Ext(file) != ".go" || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		checked[pkg] = true
		return checkFile(t, pkg, file)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, pkg := range []string{"auth", "auth/oidc", "auth/oidc/entra", "proxy", "proxy/upstream", "cmd/gatehouse"} {
		if !checked[pkg] {
			t.Errorf("%s was not looked at", pkg)
		}
	}
}

// skipDirectory leaves out other modules and what the go command leaves out.
func skipDirectory(root, dir string) error {
	if dir == root {
		return nil
	}
	name := filepath.Base(dir)
	if name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return filepath.SkipDir
	}
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	switch {
	case err == nil:
		return filepath.SkipDir
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

func checkFile(t *testing.T, pkg, file string) error {
	t.Helper()
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if fault := importFault(pkg, imported); fault != "" {
			t.Errorf("%s: %s imports %s: %s", files.Position(spec.Pos()), pkg, imported, fault)
		}
	}
	return nil
}

// The rules themselves: what they allow, and what they refuse.
func TestImportRules(t *testing.T) {
	for _, test := range []struct {
		from, imported string
		allowed        bool
	}{
		{"cmd/gatehouse", module + "proxy/serve", true},
		{"cmd/gatehouse", module + "auth/oidc", true},
		{"cmd/gatehouse", module + "cmd/reload", true},
		{"cmd/gatehouse", module + "cmd/exchange", true},
		{"cmd/gatehouse", module + "cmd/exchange/exchangetest", false},
		{"cmd/exchange", module + "auth", true},
		{"cmd/exchange", module + "auth/authtest", false},
		{"cmd/exchange/exchangetest", module + "auth/authtest", true},
		{"cmd/gatehouse", "k8s.io/client-go/rest", true},
		{"cmd/gatehouse", module + "auth/authtest", false},
		{"cmd/gatehouse", "k8s.io/apiserver/pkg/endpoints/request", false},
		{"proxy", module + "auth", true},
		{"proxy", module + "proxy/impersonate", true},
		{"proxy", "k8s.io/apiserver/pkg/endpoints/request", true},
		{"proxy/exchange", module + "auth/session", true},
		{"proxy/exchange", module + "auth/oidc", false},
		{"proxy", module + "auth/session", false},
		{"proxy", module + "auth/oidc", false},
		{"proxy", module + "auth/digest", false},
		{"proxy", module + "cmd/reload", false},
		{"proxy", module + "cmd/exchange", false},
		{"proxy", "k8s.io/client-go/rest", false},
		{"proxy/upstream", "k8s.io/client-go/rest", true},
		{"proxy/serve", "k8s.io/apiserver/pkg/server", false},
		{"proxy/audit", "k8s.io/apiserver/pkg/audit/policy", true},
		{"proxy/audit", "k8s.io/client-go/rest", false},
		{"auth", "net/http", true},
		{"auth", "github.com/go-jose/go-jose/v4", false},
		{"auth", module + "auth/oidc", false},
		{"auth", module + "auth/digest", false},
		{"auth", module + "auth/scope", true},
		{"auth/session", module + "auth/scope", true},
		{"auth/scope", module + "auth", false},
		{"auth/scope", "github.com/go-jose/go-jose/v4", false},
		{"proxy", module + "auth/scope", true},
		{"auth/oidc", module + "auth", true},
		{"auth/oidc", module + "auth/digest", true},
		{"auth/oidc", "github.com/go-jose/go-jose/v4", true},
		{"auth/oidc", module + "auth/tokenfile", false},
		{"auth/oidc", module + "proxy", false},
		{"auth/oidc", module + "cmd/reload", false},
		{"auth/oidc", "k8s.io/client-go/rest", false},
		{"auth/oidc/entra", module + "auth", true},
		{"auth/oidc/entra", module + "auth/oidc/lookup", true},
		{"auth/oidc/entra", module + "auth/oidc", false},
		{"auth/oidc/entra", module + "auth/oidc/distributed", false},
		{"auth/oidc", module + "auth/oidc/lookup", false},
		{"auth/tokenfile", module + "auth/oidc/lookup", false},
		{"authority", module + "auth", false},
	} {
		if fault := importFault(test.from, test.imported); (fault == "") != test.allowed {
			t.Errorf("%s → %s: %q, want allowed: %t", test.from, test.imported, fault, test.allowed)
		}
	}
}
