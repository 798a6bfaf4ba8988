package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// issuer is one more issuer, with the authority that signed its certificate.
type issuer struct {
	*authtest.Issuer
	caFile string
}

func newIssuer(dir, name string) (*issuer, error) {
	authority, err := pki.NewAuthority(filepath.Join(dir, name), name+"-ca")
	if err != nil {
		return nil, err
	}
	i, err := authtest.NewIssuer(authority.CA)
	if err != nil {
		return nil, err
	}
	return &issuer{i, authority.CAFile}, nil
}

// worker returns the claims of a partner's token.
func worker(name, tenant string) authtest.Claims {
	return authtest.Claims{"sub": name, "tenant": tenant, "roles": []string{"viewers"}}
}

// configuration is kube-apiserver's own file with the issuers: the stage's, the
// partner's, whose people are mapped by expressions, and that of CI.
const configuration = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: %q, audiences: [%q], certificateAuthority: %q}
  claimMappings:
    username: {claim: email, prefix: ""}
    groups: {claim: groups, prefix: "oidc:"}
- issuer: {url: %q, audiences: [%q], certificateAuthority: %q}
  claimMappings:
    username: {expression: '"partner:" + claims.sub'}
    groups: {expression: 'dyn(claims.roles).map(r, "partner:" + r)'}
  claimValidationRules:
  - {expression: 'claims.tenant == "blue"', message: only the tenant blue works here}
- issuer: {url: %q, audiences: [%q], certificateAuthority: %q}
  claimMappings:
    username: {claim: sub, prefix: "ci:"}
`

// writeConfiguration turns the environment of one issuer into one that names a
// file with all.
func writeConfiguration(dir string, s *stage.Stage, partner, ci *issuer, env map[string]string) error {
	var pems []any
	for _, file := range []string{env["GATEHOUSE_OIDC_CA_FILE"], partner.caFile, ci.caFile} {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("write the configuration: %w", err)
		}
		pems = append(pems, pem)
	}
	for name := range env {
		if strings.HasPrefix(name, "GATEHOUSE_OIDC_") {
			delete(env, name)
		}
	}
	env["GATEHOUSE_AUTHENTICATION_CONFIG"] = filepath.Join(dir, "authentication.yaml")
	content := fmt.Appendf(nil, configuration, s.Issuer.URL, authtest.Audience, pems[0],
		partner.URL, authtest.Audience, pems[1], ci.URL, authtest.Audience, pems[2])
	return pki.WriteFile(env["GATEHOUSE_AUTHENTICATION_CONFIG"], content)
}

// explain asks gatehouse itself, as its operator would, why ivan is refused, and
// shows the rule.
func explain(ctx context.Context, t *set) (string, error) {
	var out strings.Builder
	p, err := proc.Start(ctx, proc.Config{
		Path: t.Binary(), Args: []string{"explain"}, Env: environment(t.env),
		Stdin: strings.NewReader(t.secrets[ivan]), Stdout: &out, Stderr: &out,
	})
	if err != nil {
		return "", err
	}
	code, err := p.Wait(ctx)
	if err != nil {
		return "", err
	}
	verdict, why := lineWith(out.String(), "Verdict"), lineWith(out.String(), "Why")
	if code != 1 || !strings.Contains(verdict, "claim_rule") || !strings.Contains(why, "only the tenant blue works here") || t.revealsToken(out.String()) {
		return "", fmt.Errorf("exit code %d: %s", code, out.String())
	}
	return verdict + "; " + why, nil
}

func environment(env map[string]string) []string {
	var pairs []string
	for name, value := range env {
		pairs = append(pairs, name+"="+value)
	}
	return pairs
}
