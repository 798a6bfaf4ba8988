package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// partner is a second issuer, whose people are mapped by expressions.
type partner struct {
	*authtest.Issuer
	caFile string
}

func newPartner(dir string) (*partner, error) {
	authority, err := pki.NewAuthority(filepath.Join(dir, "partner"), "partner-ca")
	if err != nil {
		return nil, err
	}
	issuer, err := authtest.NewIssuer(authority.CA)
	if err != nil {
		return nil, err
	}
	return &partner{issuer, authority.CAFile}, nil
}

// worker returns the claims of a partner's token.
func worker(name, tenant string) authtest.Claims {
	return authtest.Claims{"sub": name, "tenant": tenant, "roles": []string{"viewers"}}
}

// configuration is kube-apiserver's own file with both issuers.
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
`

// writeConfiguration turns the environment of one issuer into one that names a
// file with both.
func writeConfiguration(dir string, s *stage.Stage, p *partner, env map[string]string) error {
	var pems []any
	for _, file := range []string{env["GATEHOUSE_OIDC_CA_FILE"], p.caFile} {
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
	content := fmt.Appendf(nil, configuration, s.Issuer.URL, authtest.Audience, pems[0], p.URL, authtest.Audience, pems[1])
	return pki.WriteFile(env["GATEHOUSE_AUTHENTICATION_CONFIG"], content)
}
