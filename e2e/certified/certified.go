// Package certified runs oidc-provider, an OpenID-certified provider written by
// others, as the outside judge of how gatehouse reads ID tokens, and signs in
// to it as a browser would.
package certified

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// ClientID is the audience of the ID tokens.
const ClientID = "gatehouse"

// redirectURI is never asked: the flow ends when it would be.
const redirectURI = "http://127.0.0.1/callback"

// startTimeout limits how long Node may take to serve.
const startTimeout = 30 * time.Second

//go:embed package.json package-lock.json .npmrc server.mjs
var source embed.FS

// Account is what the provider says about a person.
type Account struct {
	Email  string   `json:"email,omitempty"`
	Groups []string `json:"groups,omitempty"`
}

// Provider is a running provider.
type Provider struct {
	// URL is the issuer.
	URL string
	// CAFile holds the authority that signed its certificate.
	CAFile string

	process *proc.Process
	roots   *x509.CertPool
}

// Start starts a provider that knows the accounts by their login name. Its
// certificate goes to dir. It ends with Stop, with ctx, or with this process.
// The first start on a machine installs its packages with npm, into the cache.
func Start(ctx context.Context, dir string, accounts map[string]Account, progress io.Writer) (*Provider, error) {
	node, err := find("node")
	if err != nil {
		return nil, err
	}
	installed, err := install(ctx, progress)
	if err != nil {
		return nil, err
	}
	authority, err := pki.NewAuthority(filepath.Join(dir, "certified"), "certified-ca")
	if err != nil {
		return nil, err
	}
	pair, err := authority.Loopback("certified")
	if err != nil {
		return nil, err
	}
	known, err := json.Marshal(accounts)
	if err != nil {
		return nil, fmt.Errorf("start oidc-provider: %w", err)
	}
	var stdout, stderr proc.Lines
	process, err := proc.Start(ctx, proc.Config{
		Path: node, Args: []string{"server.mjs"}, Dir: installed, Stdout: &stdout, Stderr: &stderr,
		Env: []string{
			"CERT_FILE=" + pair.CertFile, "KEY_FILE=" + pair.KeyFile,
			"CLIENT_ID=" + ClientID, "REDIRECT_URI=" + redirectURI, "ACCOUNTS=" + string(known),
		},
	})
	if err != nil {
		return nil, err
	}
	p := &Provider{CAFile: authority.CAFile, process: process, roots: authority.Pool()}
	if p.URL, err = awaitIssuer(ctx, process, &stdout); err != nil {
		p.Stop()
		return nil, fmt.Errorf("start oidc-provider: %w\nit printed: %s", err, strings.Join(stderr.All(), "\n"))
	}
	return p, nil
}

// awaitIssuer reads the line with which server.mjs says that it serves.
func awaitIssuer(ctx context.Context, process *proc.Process, stdout *proc.Lines) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	var ready struct {
		Issuer string `json:"issuer"`
	}
	_, err := stdout.Await(ctx, process.Done(), func(line string) bool {
		return json.Unmarshal([]byte(line), &ready) == nil && ready.Issuer != ""
	})
	return ready.Issuer, err
}

// Stop ends the provider.
func (p *Provider) Stop() { p.process.Stop() }

// install returns a directory in the cache with the server and its packages.
func install(ctx context.Context, progress io.Writer) (string, error) {
	npm, err := find("npm")
	if err != nil {
		return "", err
	}
	cache, err := build.CacheDir()
	if err != nil {
		return "", err
	}
	key, err := sourceHash()
	if err != nil {
		return "", err
	}
	target := filepath.Join(cache, "certified-"+key)
	if _, err := os.Stat(target); err == nil {
		build.Touch(target)
		return target, nil
	}
	fmt.Fprintln(progress, "Installing oidc-provider with npm ci, once: the result is cached.")
	temporary, err := os.MkdirTemp(cache, "installing-")
	if err != nil {
		return "", fmt.Errorf("install oidc-provider: %w", err)
	}
	defer os.RemoveAll(temporary)
	if err := os.CopyFS(temporary, source); err != nil {
		return "", fmt.Errorf("install oidc-provider: %w", err)
	}
	cmd := exec.CommandContext(ctx, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts")
	cmd.Dir = temporary
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install oidc-provider: npm ci: %w\n%s", err, out)
	}
	err = os.Rename(temporary, target)
	if err != nil && !errors.Is(err, fs.ErrExist) { // another process may have been first
		return "", fmt.Errorf("install oidc-provider: %w", err)
	}
	return target, nil
}

// sourceHash names the installed version of the embedded files.
func sourceHash() (string, error) {
	h := sha256.New()
	err := fs.WalkDir(source, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := source.ReadFile(path)
		fmt.Fprintf(h, "%s %d\n%s", path, len(b), b)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("hash oidc-provider's files: %w", err)
	}
	return fmt.Sprintf("%x", h.Sum(nil)[:12]), nil
}

// find returns the path of node or npm, or says how to get it.
func find(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("oidc-provider needs Node 20 or later and npm (on Debian: apt-get install nodejs npm): %w", err)
	}
	return path, nil
}
