package clients_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

var (
	tokenLife = flag.Duration("life", 15*time.Second, "how long a token lasts where clients go on across refreshes")
	rounds    = flag.Int("refreshes", 3, "how many tokens they outlive")
)

// credential is a person whose tokens last tokenLife. A file has one that lasts
// half of that or more, and so has what the plugin prints.
type credential struct {
	tokenFile, plugin string
	dir               string

	mu      sync.Mutex // guards what follows
	expires time.Time  // of the present token
	failed  error
}

// credential makes one and renews it until the test ends.
func (s *suite) credential(t *testing.T, name string, groups ...string) *credential {
	t.Helper()
	dir := t.TempDir()
	c := &credential{tokenFile: filepath.Join(dir, "token"), plugin: filepath.Join(dir, "plugin"), dir: dir}
	claims := stage.Person(name, groups...)
	if err := c.renew(s.issuer, claims); err != nil {
		t.Fatal(err)
	}
	program := fmt.Sprintf("#!/bin/sh\nexec /bin/cat %s/credential.json\n", dir)
	if err := os.WriteFile(c.plugin, []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var ended sync.WaitGroup
	ended.Go(func() {
		tick := time.NewTicker(*tokenLife / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if err := c.renew(s.issuer, claims); err != nil {
				c.mu.Lock()
				c.failed = err
				c.mu.Unlock()
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); ended.Wait() })
	return c
}

// renew puts a new token in the files.
func (c *credential) renew(issuer *authtest.Issuer, claims authtest.Claims) error {
	expires := time.Now().Add(*tokenLife).Truncate(time.Second)
	claims["exp"] = expires.Unix()
	token := issuer.Token(claims)
	printed, err := json.Marshal(map[string]any{
		"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
		"status": map[string]any{"token": token, "expirationTimestamp": expires.UTC().Format(time.RFC3339)},
	})
	if err != nil {
		return fmt.Errorf("renew a token: %w", err)
	}
	if err := pki.WriteFile(c.tokenFile, []byte(token)); err != nil {
		return err
	}
	if err := pki.WriteFile(filepath.Join(c.dir, "credential.json"), printed); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expires = expires
	return nil
}

// outlive waits until every token that there is now has expired.
func (c *credential) outlive(ctx context.Context) error {
	c.mu.Lock()
	expires := c.expires
	c.mu.Unlock()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait until a token expires: %w", ctx.Err())
	case <-time.After(time.Until(expires)):
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

// pluginConfig writes a kubeconfig that has the plugin, and returns its path.
func (c *credential) pluginConfig(t *testing.T, s *suite, r route) string {
	t.Helper()
	return s.kubeconfig(t, r, kubeconfig.User{Name: "renewed", Plugin: c.plugin})
}

// Promise: clients that renew their credential go on while one token after the
// other ends: nothing that they wait for is missed, nothing is listed again, and
// nobody loses what he leads.
func (s *suite) testRefreshes(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	do := func(c cell, name string, run func(r route, namespace string) func(context.Context) outcome) {
		a, b := s.namespaces(t, name)
		direct, through := run(s.direct, a), run(s.through, b)
		all.Go(func() {
			within := time.Duration(*rounds)**tokenLife + limit
			s.compareWithin(t, c, within, direct, through)
		})
	}
	do(cell{clientGo, clientGoVersion(), "informer, " + refreshes}, "informer", s.informer(t))
	do(cell{clientGo, clientGoVersion(), "leader election, " + refreshes}, "election", s.election(t))
	n := node(t)
	do(cell{n.client, n.version, refreshes}, "nodes", s.refreshedScript(t, n, "node-renewed"))
	if p, ok := python(t); ok {
		do(cell{p.client, p.version, refreshes}, "pythons", s.refreshedScript(t, p, "python-renewed"))
	}
	path, version := buildDiscovery(t)
	do(cell{prometheusClient, version, "nodes, pods, services, endpoints, " + refreshes}, "prometheus", s.discovery(t, path))
	all.Wait()
}

// refreshedScript has one process of a client ask once within each token.
func (s *suite) refreshedScript(t *testing.T, p script, name string) func(route, string) func(context.Context) outcome {
	return func(r route, namespace string) func(context.Context) outcome {
		c := s.credential(t, name, "clients")
		config := c.pluginConfig(t, s, r)
		return func(ctx context.Context) outcome {
			said, err := p.ask(ctx, c, config, namespace)
			return came(said, err)
		}
	}
}

// ask starts it, has it ask once for each token, and returns what it printed.
func (p script) ask(ctx context.Context, c *credential, kubeconfig, namespace string) (string, error) {
	var printed, failed proc.Lines
	input, ask := io.Pipe()
	process, err := p.start(ctx, proc.Config{Stdin: input, Stdout: &printed, Stderr: &failed, Grace: time.Second}, kubeconfig, namespace, refreshes)
	if err != nil {
		return "", err
	}
	defer process.Stop()
	defer ask.Close()
	for round := range *rounds + 1 {
		if round > 0 {
			if err := c.outlive(ctx); err != nil {
				return "", err
			}
		}
		if _, err := io.WriteString(ask, "again\n"); err != nil {
			return "", fmt.Errorf("ask: %w", err)
		}
		if err := process.Await(ctx, func(context.Context) error {
			if n := len(printed.All()); n <= round {
				return fmt.Errorf("%d answers", n)
			}
			return nil
		}); err != nil {
			return "", fmt.Errorf("answer %d: %w; it printed %q", round, err, failed.All())
		}
	}
	return strings.Join(printed.All(), "\n"), nil
}
