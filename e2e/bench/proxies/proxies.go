// Package proxies answers: how are the proxies run that are measured side by
// side? Each takes TLS with HTTP/2 and HTTP/1.1, checks TLS of one upstream, and
// presents a credential of its own there. What else each does, and does not, is
// said at its function.
package proxies

import (
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/bench/usage"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// World is what all proxies have before and behind them.
type World struct {
	Dir       string // takes a folder for each proxy
	Authority *pki.Authority
	// Upstream is the host:port of the upstream, whose certificate Authority
	// signed; Token is the credential that it takes from proxies.
	Upstream, Token string
	// IssuerURL, ClientID and PublicKeyFile are of the tokens that callers have:
	// RS256, with the claims email and groups.
	IssuerURL, ClientID, PublicKeyFile string
	// Workers is how many threads or processes each proxy has.
	Workers int
}

// What the claims are made to, in every proxy that reads them.
const (
	userPrefix  = "oidc:"
	groupPrefix = "oidc:"
)

// Proxy is one that runs.
type Proxy struct {
	Name string
	// Address is host:port.
	Address string
	process *proc.Process
	output  *proc.Lines
}

// PIDs are its processes.
func (p *Proxy) PIDs() ([]int, error) {
	children, err := usage.Children(p.process.Pid())
	return append(children, p.process.Pid()), err
}

// Stop ends it.
func (p *Proxy) Stop() { p.process.Stop() }

// readyTimeout limits how long a proxy may take to accept connections.
const readyTimeout = 30 * time.Second

// run starts a program and waits until address takes a TLS connection.
func (w *World) run(ctx context.Context, name, address string, cfg proc.Config) (*Proxy, error) {
	output := &proc.Lines{}
	cfg.Stdout, cfg.Stderr, cfg.Grace = output, output, 2*time.Second
	process, err := proc.Start(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p := &Proxy{Name: name, Address: address, process: process, output: output}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: w.Authority.Pool(), MinVersion: tls.VersionTLS12}}
	err = process.Await(ctx, func(ctx context.Context) error {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
	if err != nil {
		process.Stop()
		return nil, fmt.Errorf("start %s: %w\nit printed:\n%s", name, err, strings.Join(output.All(), "\n"))
	}
	return p, nil
}

// place makes a folder for a proxy, with a serving pair, and finds it two ports: its
// own, and one for what it tells of itself.
func (w *World) place(name string) (dir, address, ops string, pair pki.Pair, err error) {
	if dir, err = os.MkdirTemp(w.Dir, name+"-"); err != nil {
		return "", "", "", pki.Pair{}, fmt.Errorf("make a folder for %s: %w", name, err)
	}
	authority := *w.Authority
	if pair, err = authority.Loopback(filepath.Base(dir)); err != nil {
		return "", "", "", pki.Pair{}, err
	}
	ports, err := proc.Ports(2)
	if err != nil {
		return "", "", "", pki.Pair{}, err
	}
	return dir, proc.Loopback(ports[0]), proc.Loopback(ports[1]), pair, nil
}

// find looks a program up in PATH and where Debian puts daemons.
func find(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", program))
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w: `make tools` installs it", program, err)
	}
	return path, nil
}

// Version returns the first line that a program prints of its own version.
func Version(ctx context.Context, program string, args ...string) (string, error) {
	path, err := find(program)
	if err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", program, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}
