package rawbytes

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Build compiles the command into dir and returns the binary's path. root is
// the product's module. With race the binary reports its own data races.
func Build(ctx context.Context, root, dir string, race bool) (string, error) {
	bin := filepath.Join(dir, "gatehouse")
	args := []string{"build", "-o", bin}
	if race {
		args = append(args, "-race")
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./cmd/gatehouse")...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build gatehouse: %w\n%s", err, out)
	}
	return bin, nil
}

// Settings is what one gatehouse process is given.
type Settings struct {
	Binary   string
	Dir      string // exists, empty, for the files
	PKI      *PKI
	Upstream string // host:port of the fake
	Token    string // the proxy's own credential; empty: the client certificate of PKI
	CSV      string
	Env      []string // more variables, "NAME=value"
}

// Process is one running gatehouse.
type Process struct {
	Addr, Ops string
	cmd       *exec.Cmd
	log       logBuffer
	exited    chan struct{}
	state     error // set before exited is closed
}

// ErrExited is wrapped by the error of a process that ended instead of
// becoming ready.
var ErrExited = errors.New("gatehouse ended")

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Log is everything the process has written so far.
func (p *Process) Log() string { return p.LogFrom(0) }

// LogFrom is what the process has written after the first n bytes.
func (p *Process) LogFrom(n int) string {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	return string(p.log.b.Bytes()[min(n, p.log.b.Len()):])
}

// attempts is how often ports are drawn anew when one was taken meanwhile.
const attempts = 3

// Start runs the process and returns when it is ready. On an error the process
// has ended; it is returned too when it ran, for its log.
func Start(s Settings) (*Process, error) {
	for attempt := 1; ; attempt++ {
		p, err := start(s)
		if err == nil || p == nil || attempt == attempts || !strings.Contains(p.Log(), "address already in use") {
			return p, err
		}
	}
}

func start(s Settings) (*Process, error) {
	env, addr, ops, err := s.write()
	if err != nil {
		return nil, err
	}
	p := &Process{Addr: addr, Ops: ops, exited: make(chan struct{})}
	p.cmd = exec.Command(s.Binary, "serve")
	p.cmd.Env, p.cmd.Dir = env, s.Dir
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start gatehouse: %w", err)
	}
	go func() {
		p.state = p.cmd.Wait()
		close(p.exited)
	}()
	if err := p.ready(20 * time.Second); err != nil {
		p.Stop()
		return p, err
	}
	return p, nil
}

func (s Settings) write() (env []string, addr, ops string, err error) {
	if addr, err = freeAddr(); err != nil {
		return nil, "", "", err
	}
	if ops, err = freeAddr(); err != nil {
		return nil, "", "", err
	}
	kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: fake
clusters:
- name: fake
  cluster: {server: "https://%s", certificate-authority-data: %s}
users:
- name: proxy
  user: %s
contexts:
- name: fake
  context: {cluster: fake, user: proxy}
`, s.Upstream, base64.StdEncoding.EncodeToString(s.PKI.CAPEM), s.user())
	file := func(name string) string { return filepath.Join(s.Dir, name) }
	for name, content := range map[string]string{
		"tls.crt": string(s.PKI.CertPEM), "tls.key": string(s.PKI.KeyPEM), "kubeconfig": kubeconfig, "tokens.csv": s.CSV,
	} {
		if err := os.WriteFile(file(name), []byte(content), 0o600); err != nil {
			return nil, "", "", err
		}
	}
	return append([]string{
		"HOME=" + s.Dir, "PATH=" + os.Getenv("PATH"), "TMPDIR=" + s.Dir,
		"GATEHOUSE_LISTEN_ADDRESS=" + addr, "GATEHOUSE_OPS_ADDRESS=" + ops,
		"GATEHOUSE_TLS_CERT_FILE=" + file("tls.crt"), "GATEHOUSE_TLS_KEY_FILE=" + file("tls.key"),
		"GATEHOUSE_KUBECONFIG=" + file("kubeconfig"), "GATEHOUSE_TOKEN_AUTH_FILE=" + file("tokens.csv"),
		"GATEHOUSE_LOG_LEVEL=debug", "GATEHOUSE_SHUTDOWN_DELAY=0s", "GATEHOUSE_SHUTDOWN_TIMEOUT=2s",
	}, s.Env...), addr, ops, nil
}

// user is the proxy's own credential in a kubeconfig.
func (s Settings) user() string {
	if s.Token != "" {
		return fmt.Sprintf("{token: %q}", s.Token)
	}
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("{client-certificate-data: %s, client-key-data: %s}", encode(s.PKI.ClientPEM), encode(s.PKI.KeyPEM))
}

func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func (p *Process) ready(within time.Duration) error {
	late := time.After(within)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		if _, last = p.ops("/readyz"); last == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("%w: %v\n%s", ErrExited, p.state, p.Log())
		case <-late:
			return fmt.Errorf("not ready: %w\n%s", last, p.Log())
		case <-tick.C:
		}
	}
}

var opsClient = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (p *Process) ops(path string) (string, error) {
	resp, err := opsClient.Get("http://" + p.Ops + path)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, 8<<20))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, resp.Status, b)
	}
	return string(b), err
}

// Metrics is the text of the metrics page.
func (p *Process) Metrics() (string, error) { return p.ops("/metrics") }

// OpenFiles counts the process's file descriptors.
func (p *Process) OpenFiles() (int, error) {
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(d), err
}

// Stop asks the process to end, and makes it end when it does not.
func (p *Process) Stop() {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
		p.cmd.Process.Kill()
		<-p.exited
	}
}
