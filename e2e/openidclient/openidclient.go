// Package openidclient exchanges tokens with an OAuth client that others wrote and
// the OpenID Foundation certified: openid-client, on Node.js.
package openidclient

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/kube-gatehouse/gatehouse/e2e/npm"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

//go:embed package.json package-lock.json .npmrc exchange.mjs
var source embed.FS

// ClientID is what the client calls itself.
const ClientID = "an-agent"

// Result is what came of an exchange.
type Result struct {
	// Grants are the grant types that the server says it supports.
	Grants           []string `json:"grants"`
	AccessToken      string   `json:"access_token"`
	IssuedTokenType  string   `json:"issued_token_type"`
	TokenType        string   `json:"token_type"`
	ExpiresIn        int      `json:"expires_in"`
	Scope            string   `json:"scope"`
	Error            string   `json:"error"`
	ErrorDescription string   `json:"error_description"`
	// Claims are those of the token, verified with the server's keys.
	Claims map[string]any `json:"claims"`
}

// Client is the installed client.
type Client struct{ program npm.Program }

// Install installs the client. The first time on a machine that takes a moment.
func Install(ctx context.Context, progress io.Writer) (*Client, error) {
	program, err := npm.Install(ctx, "openidclient", source, progress)
	return &Client{program}, err
}

// Exchange exchanges a token at issuer, whose certificate caFile verifies. It
// verifies the new one if that is the server's own.
func (c *Client) Exchange(ctx context.Context, issuer, caFile string, own bool, params map[string]string) (*Result, error) {
	input, err := json.Marshal(params)
	if err != nil {
		return nil, fmt.Errorf("write parameters: %w", err)
	}
	env := []string{"ISSUER=" + issuer, "NODE_EXTRA_CA_CERTS=" + caFile, "NO_PROXY=127.0.0.1"}
	if own {
		env = append(env, "VERIFY=1")
	}
	var stdout, stderr strings.Builder
	p, err := proc.Start(ctx, proc.Config{
		Path: c.program.Node, Args: []string{"exchange.mjs"}, Dir: c.program.Dir, Env: env,
		Stdin: strings.NewReader(string(input)), Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil {
		return nil, err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return nil, fmt.Errorf("run openid-client: %w", err)
	}
	if code != 0 {
		return nil, fmt.Errorf("openid-client: exit code %d: %s", code, stderr.String())
	}
	var result Result
	if err := json.Unmarshal([]byte(stdout.String()), &result); err != nil {
		return nil, fmt.Errorf("openid-client printed %q: %w", stdout.String(), err)
	}
	return &result, nil
}
