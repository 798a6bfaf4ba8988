package proxies

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// Gatehouse starts the binary with one issuer. level is GATEHOUSE_LOG_LEVEL: at
// info gatehouse writes a line for each request, which no other proxy here does.
// Limits of one user are raised, as all load is of few.
func (w *World) Gatehouse(ctx context.Context, name, binary, level string) (*Proxy, error) {
	cfg, address, ops, err := w.gatehouse(name, binary, level)
	if err != nil {
		return nil, err
	}
	p, err := w.run(ctx, name, address, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.process.Await(ctx, func(ctx context.Context) error { return ready(ctx, ops) }); err != nil {
		p.Stop()
		return nil, fmt.Errorf("await that %s is ready: %w", name, err)
	}
	return p, nil
}

// gatehouse writes the files and says how to start.
func (w *World) gatehouse(name, binary, level string) (cfg proc.Config, address, ops string, err error) {
	dir, address, pair, err := w.place(name)
	if err != nil {
		return proc.Config{}, "", "", err
	}
	ports, err := proc.Ports(1)
	if err != nil {
		return proc.Config{}, "", "", err
	}
	ops = proc.Loopback(ports[0])
	tokenFile, config := filepath.Join(dir, "token"), filepath.Join(dir, "kubeconfig")
	if err := pki.WriteFile(tokenFile, []byte(w.Token)); err != nil {
		return proc.Config{}, "", "", err
	}
	file := kubeconfig.File{
		Cluster: "stub", Server: "https://" + w.Upstream, CAFile: w.Authority.CAFile,
		Users: []kubeconfig.User{{Name: "gatehouse", TokenFile: tokenFile}},
	}
	if err := file.Write(config); err != nil {
		return proc.Config{}, "", "", err
	}
	env := []string{
		"GATEHOUSE_LISTEN_ADDRESS=" + address, "GATEHOUSE_OPS_ADDRESS=" + ops,
		"GATEHOUSE_TLS_CERT_FILE=" + pair.CertFile, "GATEHOUSE_TLS_KEY_FILE=" + pair.KeyFile,
		"GATEHOUSE_KUBECONFIG=" + config,
		"GATEHOUSE_OIDC_ISSUER_URL=" + w.IssuerURL, "GATEHOUSE_OIDC_CLIENT_ID=" + w.ClientID,
		"GATEHOUSE_OIDC_CA_FILE=" + w.Authority.CAFile,
		"GATEHOUSE_OIDC_USERNAME_CLAIM=email", "GATEHOUSE_OIDC_USERNAME_PREFIX=" + userPrefix,
		"GATEHOUSE_OIDC_GROUPS_CLAIM=groups", "GATEHOUSE_OIDC_GROUPS_PREFIX=" + groupPrefix,
		"GATEHOUSE_MAX_STREAMS=40000", "GATEHOUSE_MAX_STREAMS_PER_USER=20000",
		"GATEHOUSE_IDLE_TIMEOUT=10m", "GATEHOUSE_SHUTDOWN_DELAY=0s", "GATEHOUSE_LOG_LEVEL=" + level,
		"GOMAXPROCS=" + strconv.Itoa(w.Workers),
	}
	return proc.Config{Path: binary, Args: []string{"serve"}, Env: env, Dir: dir}, address, ops, nil
}

// ready asks gatehouse's ops port.
func ready(ctx context.Context, ops string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := (&http.Client{Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %d", resp.StatusCode)
	}
	return nil
}
