package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// client asks the API server as the admin.
type client struct {
	http *http.Client
	url  string
}

func newClient(url string, f *files) (*client, error) {
	ca, err := os.ReadFile(f.servingCA)
	if err != nil {
		return nil, fmt.Errorf("read the serving CA: %w", err)
	}
	pair, err := tls.LoadX509KeyPair(f.admin.CertFile, f.admin.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("read the admin's certificate: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	return &client{url: url, http: &http.Client{
		Timeout: 10 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}},
		},
	}}, nil
}

// get reads a path into v, or nowhere if v is nil. Any status but 200 is an error.
func (c *client) get(ctx context.Context, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("ask the API server: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return fmt.Errorf("ask the API server for %s: %w", path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the API server for %s: %s", path, resp.Status)
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("ask the API server for %s: %w", path, err)
	}
	return nil
}

// ready fails until the API server serves.
func (c *client) ready(ctx context.Context) error { return c.get(ctx, "/readyz", nil) }

// settled fails until the controllers have made the cluster usable.
func (c *client) settled(ctx context.Context) error {
	for _, name := range []string{"view", "edit", "admin"} {
		var role struct {
			Rules []struct{} `json:"rules"`
		}
		if err := c.get(ctx, "/apis/rbac.authorization.k8s.io/v1/clusterroles/"+name, &role); err != nil {
			return err
		}
		if len(role.Rules) == 0 {
			return errors.New("the ClusterRole " + name + " has no rules yet")
		}
	}
	return c.get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
}
