package proxies

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/usage"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// Gatehouse says how to start gatehouse. All fields but Issuers are required.
type Gatehouse struct {
	Name, Binary string
	// LogLevel is GATEHOUSE_LOG_LEVEL: at info gatehouse writes a line for each
	// request, which no other proxy here does.
	LogLevel string
	// Issuers are the URLs of those to trust. Default: that of the World.
	Issuers []string
}

// Gatehouse starts gatehouse. Limits of one user are raised, as all load is of
// few.
func (w *World) Gatehouse(ctx context.Context, g Gatehouse) (*Proxy, error) {
	cfg, address, ops, err := w.gatehouse(g)
	if err != nil {
		return nil, err
	}
	p, err := w.run(ctx, g.Name, address, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := p.process.Await(ctx, func(ctx context.Context) error { return ready(ctx, ops) }); err != nil {
		p.Stop()
		return nil, fmt.Errorf("await that %s is ready: %w", g.Name, err)
	}
	return p, nil
}

// ReadyAfter starts gatehouse, and ends it when it says that it is ready. It
// returns how long that took from the start of the process, and its CPU time.
func (w *World) ReadyAfter(ctx context.Context, g Gatehouse) (took, cpu time.Duration, err error) {
	cfg, _, ops, err := w.gatehouse(g)
	if err != nil {
		return 0, 0, err
	}
	var output proc.Lines
	cfg.Stdout, cfg.Stderr, cfg.Grace = &output, &output, 2*time.Second
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	began := time.Now()
	process, err := proc.Start(ctx, cfg)
	if err != nil {
		return 0, 0, err
	}
	defer process.Stop()
	for err = ready(ctx, ops); err != nil; err = ready(ctx, ops) {
		select {
		case <-ctx.Done():
			return 0, 0, fmt.Errorf("await that gatehouse is ready: %w; it printed %q", err, output.All())
		case <-process.Done():
			return 0, 0, fmt.Errorf("gatehouse ended; it printed %q", output.All())
		case <-time.After(time.Millisecond):
		}
	}
	took = time.Since(began)
	cpu, err = usage.CPU(process.Pid())
	return took, cpu, err
}

// gatehouse writes the files and says how to start.
func (w *World) gatehouse(g Gatehouse) (cfg proc.Config, address, ops string, err error) {
	dir, address, ops, pair, err := w.place(g.Name)
	if err != nil {
		return proc.Config{}, "", "", err
	}
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
		"GATEHOUSE_MAX_STREAMS=40000", "GATEHOUSE_MAX_STREAMS_PER_USER=20000",
		"GATEHOUSE_IDLE_TIMEOUT=10m", "GATEHOUSE_SHUTDOWN_DELAY=0s", "GATEHOUSE_LOG_LEVEL=" + g.LogLevel,
		"GOMAXPROCS=" + strconv.Itoa(w.Workers),
	}
	issuers, err := w.issuers(dir, g.Issuers)
	if err != nil {
		return proc.Config{}, "", "", err
	}
	env = append(env, issuers...)
	return proc.Config{Path: g.Binary, Args: []string{"serve"}, Env: env, Dir: dir}, address, ops, nil
}

// issuers are the settings for the issuers: of one in variables, of several in an
// AuthenticationConfiguration, which is written into dir.
func (w *World) issuers(dir string, urls []string) ([]string, error) {
	if len(urls) == 0 {
		return []string{
			"GATEHOUSE_OIDC_ISSUER_URL=" + w.IssuerURL, "GATEHOUSE_OIDC_CLIENT_ID=" + w.ClientID,
			"GATEHOUSE_OIDC_CA_FILE=" + w.Authority.CAFile,
			"GATEHOUSE_OIDC_USERNAME_CLAIM=email", "GATEHOUSE_OIDC_USERNAME_PREFIX=" + userPrefix,
			"GATEHOUSE_OIDC_GROUPS_CLAIM=groups", "GATEHOUSE_OIDC_GROUPS_PREFIX=" + groupPrefix,
		}, nil
	}
	var jwt []map[string]any
	for i, url := range urls {
		prefix := fmt.Sprintf("issuer-%d:", i)
		jwt = append(jwt, map[string]any{
			"issuer": map[string]any{"url": url, "audiences": []string{w.ClientID}, "certificateAuthority": string(w.Authority.PEM())},
			"claimMappings": map[string]any{
				"username": map[string]string{"claim": "email", "prefix": prefix},
				"groups":   map[string]string{"claim": "groups", "prefix": prefix},
			},
		})
	}
	b, err := yaml.Marshal(map[string]any{"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": jwt})
	if err != nil {
		return nil, fmt.Errorf("write the configuration of issuers: %w", err)
	}
	path := filepath.Join(dir, "authentication.yaml")
	return []string{"GATEHOUSE_AUTHENTICATION_CONFIG=" + path}, pki.WriteFile(path, b)
}

// ready asks gatehouse's ops port.
func ready(ctx context.Context, ops string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ops+"/readyz", nil)
	if err != nil {
		return err
	}
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("/readyz answers %d", resp.StatusCode)
	}
	return nil
}
