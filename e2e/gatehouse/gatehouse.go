// Package gatehouse runs the built gatehouse binary as an operator would: as a
// process with an environment, files, and two ports on the loopback address.
package gatehouse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// Config says how to run gatehouse. Binary and Dir are required.
type Config struct {
	Binary string
	// Dir takes the certificates, kubeconfigs and files of this instance.
	Dir string
	// Env is the whole environment of the process, but for the addresses and
	// the certificate pair, which are set unless they are given here.
	Env map[string]string
	// Port, OpsPort and ExchangePort are taken if they are free, else any other.
	// Default: any free port.
	Port, OpsPort, ExchangePort int
	// Exchange has it exchange tokens too, at ExchangePort. Env may give another
	// URL for it.
	Exchange bool
	// StopTimeout is how long Stop waits before it kills. Default: 60 s.
	StopTimeout time.Duration
	// NotReady has Start return when the ops port answers, whatever it says.
	NotReady bool
}

// Instance is a running gatehouse.
type Instance struct {
	cfg       Config
	authority *pki.Authority
	process   *proc.Process
	output    *proc.Lines
	ops       *http.Client
	url       string
	opsURL    string
	exchange  string
}

// startTimeout limits how long gatehouse may take to become ready.
const startTimeout = 30 * time.Second

// portAttempts is how often Start draws ports anew when one was taken.
const portAttempts = 3

// Start starts gatehouse and returns when it is ready. It ends with Stop, with
// ctx, or with this process.
func Start(ctx context.Context, cfg Config) (*Instance, error) {
	authority, err := pki.NewAuthority(filepath.Join(cfg.Dir, "tls"), "gatehouse-ca")
	if err != nil {
		return nil, err
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = time.Minute
	}
	i := &Instance{cfg: cfg, authority: authority, ops: &http.Client{Timeout: 10 * time.Second}}
	if _, err := i.ReplaceCertificate(); err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		err := i.start(ctx)
		if err == nil {
			return i, nil
		}
		logs := strings.Join(i.Logs(), "\n")
		if i.process != nil {
			i.process.Stop()
		}
		if attempt == portAttempts || !strings.Contains(logs, "address already in use") {
			return nil, fmt.Errorf("start gatehouse: %w\nit printed:\n%s", err, logs)
		}
	}
}

func (i *Instance) start(ctx context.Context) error {
	ports, err := proc.PortsNear(i.cfg.Port, i.cfg.OpsPort, i.cfg.ExchangePort)
	if err != nil {
		return err
	}
	env := map[string]string{
		"GATEHOUSE_LISTEN_ADDRESS": proc.Loopback(ports[0]),
		"GATEHOUSE_OPS_ADDRESS":    proc.Loopback(ports[1]),
		"GATEHOUSE_TLS_CERT_FILE":  i.pair().CertFile,
		"GATEHOUSE_TLS_KEY_FILE":   i.pair().KeyFile,
	}
	i.exchange = ""
	if i.cfg.Exchange {
		i.exchange = "https://" + proc.Loopback(ports[2])
		maps.Copy(env, i.ExchangeEnv())
	}
	maps.Copy(env, i.cfg.Env)
	i.url, i.opsURL = "https://"+env["GATEHOUSE_LISTEN_ADDRESS"], "http://"+env["GATEHOUSE_OPS_ADDRESS"]
	i.output = &proc.Lines{}
	i.process, err = Run(ctx, i.cfg, env, i.output)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return i.process.Await(ctx, i.ready)
}

// Run starts the binary's serve command with exactly env and returns at once:
// for settings that it should refuse.
func Run(ctx context.Context, cfg Config, env map[string]string, output io.Writer) (*proc.Process, error) {
	pairs := make([]string, 0, len(env))
	for _, name := range slices.Sorted(maps.Keys(env)) {
		pairs = append(pairs, name+"="+env[name])
	}
	return proc.Start(ctx, proc.Config{
		Path: cfg.Binary, Args: []string{"serve"}, Env: pairs, Dir: cfg.Dir,
		Stdout: output, Stderr: output, Grace: cfg.StopTimeout,
	})
}

// ready fails until gatehouse says that it is ready or, with NotReady, until it
// says anything.
func (i *Instance) ready(ctx context.Context) error {
	code, body, err := i.Ops(ctx, "/readyz?verbose")
	if err != nil {
		return err
	}
	if code != http.StatusOK && !i.cfg.NotReady {
		return fmt.Errorf("not ready: %d: %s", code, body)
	}
	return nil
}

// Ops asks the ops port for a path and returns the status and the body.
func (i *Instance) Ops(ctx context.Context, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.opsURL+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("ask the ops port: %w", err)
	}
	resp, err := i.ops.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask the ops port: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", fmt.Errorf("ask the ops port for %s: %w", path, err)
	}
	return resp.StatusCode, string(body), nil
}

// Client returns an HTTP client that trusts gatehouse's certificate and shares
// no connection with another.
func (i *Instance) Client() *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: i.authority.Pool(), MinVersion: tls.VersionTLS12},
		DialContext:       (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ForceAttemptHTTP2: true,
	}
	return &http.Client{Transport: transport, Timeout: 30 * time.Second}
}

// ReplaceCertificate issues a new serving pair into the files that gatehouse
// reads, and returns the serial number of the new certificate.
func (i *Instance) ReplaceCertificate() (string, error) {
	pair, err := i.authority.Loopback("gatehouse")
	if err != nil {
		return "", err
	}
	loaded, err := tls.LoadX509KeyPair(pair.CertFile, pair.KeyFile)
	if err != nil {
		return "", fmt.Errorf("read the new certificate: %w", err)
	}
	return loaded.Leaf.SerialNumber.String(), nil
}

func (i *Instance) pair() pki.Pair {
	dir := filepath.Dir(i.authority.CAFile)
	return pki.Pair{CertFile: filepath.Join(dir, "gatehouse.crt"), KeyFile: filepath.Join(dir, "gatehouse.key")}
}

// Kubeconfig writes a kubeconfig for a person with a token, to be used with
// gatehouse, and returns its path.
func (i *Instance) Kubeconfig(name, token string) (string, error) {
	path := filepath.Join(i.cfg.Dir, name+".kubeconfig")
	if _, err := os.Stat(path); err == nil {
		return "", errors.New("a kubeconfig for " + name + " exists")
	}
	return path, i.File(kubeconfig.User{Name: name, Token: token}).Write(path)
}

// File is a kubeconfig for gatehouse with these users.
func (i *Instance) File(users ...kubeconfig.User) kubeconfig.File {
	return kubeconfig.File{Cluster: "gatehouse", Server: i.url, CAFile: i.authority.CAFile, Users: users}
}

// URL is where the proxy listens.
func (i *Instance) URL() string { return i.url }

// ExchangeURL is where tokens are exchanged, or empty.
func (i *Instance) ExchangeURL() string { return i.exchange }

// ExchangeEnv is what says so in the environment.
func (i *Instance) ExchangeEnv() map[string]string {
	return map[string]string{
		"GATEHOUSE_EXCHANGE_ADDRESS": strings.TrimPrefix(i.exchange, "https://"), "GATEHOUSE_EXCHANGE_URL": i.exchange,
	}
}

// OpsURL is where health and metrics are.
func (i *Instance) OpsURL() string { return i.opsURL }

// CAFile holds the authority that signed gatehouse's certificate.
func (i *Instance) CAFile() string { return i.authority.CAFile }

// Pid is the process id.
func (i *Instance) Pid() int { return i.process.Pid() }

// Logs returns what gatehouse printed so far, on either stream.
func (i *Instance) Logs() []string {
	if i.output == nil {
		return nil
	}
	return i.output.All()
}

// AwaitLog returns the first line that gatehouse printed, or will print, that
// contains every one of texts.
func (i *Instance) AwaitLog(ctx context.Context, texts ...string) (string, error) {
	line, err := i.output.Await(ctx, i.process.Done(), func(s string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(s, text) })
	})
	if err != nil {
		return "", fmt.Errorf("await %q in gatehouse's log: %w", texts, err)
	}
	return line, nil
}

// Terminate sends SIGTERM and returns at once.
func (i *Instance) Terminate() error { return i.process.Signal(syscall.SIGTERM) }

// Wait waits for gatehouse to end and returns its exit code.
func (i *Instance) Wait(ctx context.Context) (int, error) { return i.process.Wait(ctx) }

// Stop sends SIGTERM, waits, and returns the exit code: -1 if it had to be
// killed.
func (i *Instance) Stop() int { return i.process.Stop() }
