package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// ServiceAccountKubeconfig writes a kubeconfig for an existing ServiceAccount
// and returns its path. It names a token file, as a Pod's does, with a token of
// the TokenRequest API that RotateToken replaces.
func (c *Cluster) ServiceAccountKubeconfig(ctx context.Context, namespace, name string) (string, error) {
	if err := c.RotateToken(ctx, namespace, name); err != nil {
		return "", err
	}
	file := kubeconfig.File{Cluster: "real", Server: c.url, CAFile: c.files.servingCA}
	file.Users = []kubeconfig.User{{Name: name, TokenFile: c.tokenFile(namespace, name)}}
	path := filepath.Join(c.cfg.Dir, namespace+"-"+name+".kubeconfig")
	return path, file.Write(path)
}

// RotateToken replaces the token of ServiceAccountKubeconfig with a new one.
// The old one stays good until RevokeTokens: each is bound to its own Secret.
func (c *Cluster) RotateToken(ctx context.Context, namespace, name string) error {
	secret, err := c.admin.Must(ctx, boundSecret(namespace, name), "create", "-f", "-", "-o", "name")
	if err != nil {
		return fmt.Errorf("rotate the token of %s: %w", name, err)
	}
	bound := strings.TrimPrefix(strings.TrimSpace(secret), "secret/")
	token, err := c.admin.Must(ctx, "", "create", "token", name, "-n", namespace,
		"--duration=1h", "--bound-object-kind=Secret", "--bound-object-name="+bound)
	if err != nil {
		return fmt.Errorf("rotate the token of %s: %w", name, err)
	}
	if err := pki.WriteFile(c.tokenFile(namespace, name), []byte(strings.TrimSpace(token))); err != nil {
		return fmt.Errorf("rotate the token of %s: %w", name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tokens[namespace+"/"+name] = bound
	return nil
}

// boundSecret is an empty Secret that a token can be bound to.
func boundSecret(namespace, name string) string {
	return fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","metadata":{"generateName":"%s-token-","namespace":"%s"}}`,
		name, namespace)
}

// RevokeTokens makes the API server refuse every token of the account but the
// present one. The API server may remember a token it has just seen for 10 s.
func (c *Cluster) RevokeTokens(ctx context.Context, namespace, name string) error {
	c.mu.Lock()
	present := c.tokens[namespace+"/"+name]
	c.mu.Unlock()
	names, err := c.admin.Must(ctx, "", "get", "secrets", "-n", namespace, "-o", "name")
	if err != nil {
		return fmt.Errorf("revoke tokens of %s: %w", name, err)
	}
	for secret := range strings.FieldsSeq(names) {
		if !strings.HasPrefix(secret, "secret/"+name+"-token-") || secret == "secret/"+present {
			continue
		}
		if _, err := c.admin.Must(ctx, "", "delete", "-n", namespace, secret); err != nil {
			return fmt.Errorf("revoke tokens of %s: %w", name, err)
		}
	}
	return nil
}

// Token returns the account's present token.
func (c *Cluster) Token(namespace, name string) (string, error) {
	b, err := os.ReadFile(c.tokenFile(namespace, name))
	if err != nil {
		return "", fmt.Errorf("read the token of %s: %w", name, err)
	}
	return string(b), nil
}

func (c *Cluster) tokenFile(namespace, name string) string {
	return filepath.Join(c.cfg.Dir, namespace+"-"+name+".token")
}
