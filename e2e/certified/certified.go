// Package certified runs OpenID-certified providers written by others, as
// outside judges of how gatehouse reads ID tokens, and signs in to them as a
// browser would: oidc-provider, on Node.js, and zitadel/oidc, in Go.
package certified

import (
	"context"
	"crypto/x509"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/npm"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

//go:embed package.json package-lock.json .npmrc server.mjs
var source embed.FS

// ClientID is the audience of the ID tokens.
const ClientID = "gatehouse"

// redirectURI is never asked: the flow ends when it would be.
const redirectURI = "http://127.0.0.1/callback"

// startTimeout limits how long a provider may take to serve.
const startTimeout = 30 * time.Second

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
	// Algorithm is the one with which it signs ID tokens.
	Algorithm string

	process *proc.Process
	roots   *x509.CertPool
}

// program is how a provider is run. Every one takes the same environment, and
// says in the same way that it serves.
type program struct {
	name, algorithm string
	path, dir       string
	args            []string
}

// Start starts oidc-provider, which knows the accounts by their login name. Its
// certificate goes to dir. It ends with Stop, with ctx, or with this process.
// The first start on a machine installs its packages with npm, into the cache.
func Start(ctx context.Context, dir string, accounts map[string]Account, progress io.Writer) (*Provider, error) {
	installed, err := npm.Install(ctx, "certified", source, progress)
	if err != nil {
		return nil, err
	}
	return start(ctx, program{name: "oidc-provider", algorithm: "RS256",
		path: installed.Node, dir: installed.Dir, args: []string{"server.mjs"}}, dir, accounts)
}

// StartZitadel is Start with zitadel/oidc in the place of oidc-provider. It is
// built into dir, from the module zitadel.
func StartZitadel(ctx context.Context, dir string, accounts map[string]Account, progress io.Writer) (*Provider, error) {
	fmt.Fprintln(progress, "Building zitadel/oidc.")
	path := filepath.Join(dir, "zitadel")
	if err := build.Zitadel(ctx, path); err != nil {
		return nil, err
	}
	return start(ctx, program{name: "zitadel/oidc", algorithm: "ES256", path: path, dir: dir}, dir, accounts)
}

func start(ctx context.Context, what program, dir string, accounts map[string]Account) (*Provider, error) {
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
		return nil, fmt.Errorf("start %s: %w", what.name, err)
	}
	var stdout, stderr proc.Lines
	process, err := proc.Start(ctx, proc.Config{
		Path: what.path, Args: what.args, Dir: what.dir, Stdout: &stdout, Stderr: &stderr,
		Env: []string{
			"CERT_FILE=" + pair.CertFile, "KEY_FILE=" + pair.KeyFile,
			"CLIENT_ID=" + ClientID, "REDIRECT_URI=" + redirectURI, "ACCOUNTS=" + string(known),
		},
	})
	if err != nil {
		return nil, err
	}
	p := &Provider{CAFile: authority.CAFile, Algorithm: what.algorithm, process: process, roots: authority.Pool()}
	if p.URL, err = awaitIssuer(ctx, process, &stdout); err != nil {
		p.Stop()
		return nil, fmt.Errorf("start %s: %w\nit printed: %s", what.name, err, strings.Join(stderr.All(), "\n"))
	}
	return p, nil
}

// awaitIssuer reads the line with which a provider says that it serves.
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
