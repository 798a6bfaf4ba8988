package e2e_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// testLoadBalancer: HAProxy, as the page configures it, shares people between two
// replicas and tells their addresses, and when one of them ends nothing fails.
func (w world) testLoadBalancer(t *testing.T) {
	token := bearer(w.Issuer.Token(stage.Person("alice", "developers")))
	settings := map[string]string{
		"GATEHOUSE_TRUSTED_PROXIES": "127.0.0.1", "GATEHOUSE_PROXY_PROTOCOL": "on",
		"GATEHOUSE_SHUTDOWN_DELAY": "3s", // in half of which the balancer notices
	}
	replicas := []gate{w.start(t, settings), w.start(t, settings)}
	front := w.balance(t, replicas...)
	client := caller(t, replicas...)
	var id string
	ask := func() error {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+front+someResourcePath, nil)
		if err != nil {
			return err
		}
		name, value, _ := strings.Cut(token, ": ")
		req.Header.Set(name, value)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, resp.Body) // whoever leaves early has ended it himself
		resp.Body.Close()
		id = resp.Header.Get("Audit-Id")
		return status(answer{Response: resp}, http.StatusOK)
	}
	eventually(t, reloadLimit, ask) // HAProxy asks the replicas first
	if got, want := w.auditEvent(t, id).SourceIPs, []string{"127.0.0.5", "127.0.0.1"}; !slices.Equal(got, want) {
		t.Errorf("the API server has %q as the addresses, want %q", got, want)
	}
	if err := replicas[0].Terminate(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = replicas[0].Wait(t.Context())
	}()
	for over := false; !over; {
		select {
		case <-ended:
			over = true // and one request more
		default:
		}
		if err := ask(); err != nil {
			t.Fatalf("while a replica ends, or after: %v", err)
		}
	}
}

// balance runs HAProxy before replicas with the configuration of the page, and
// returns its address.
func (w world) balance(t *testing.T, replicas ...gate) string {
	t.Helper()
	page, err := os.ReadFile("../docs/how-to/behind-a-load-balancer.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?ms)^```haproxy\n(.*?)^```$").FindSubmatch(page)
	ports, err := proc.Ports(1)
	if block == nil || err != nil {
		t.Fatalf("a configuration %q, and ports: %v", block, err)
	}
	front := proc.Loopback(ports[0])
	config := strings.Replace(string(block[1]), "bind :443", "bind "+front, 1)
	server := regexp.MustCompile(`(server \w) \S+ check port \d+`)
	config = server.ReplaceAllStringFunc(config, func(line string) string {
		g := replicas[0]
		replicas = replicas[1:]
		_, port, _ := strings.Cut(strings.TrimPrefix(g.OpsURL(), "http://"), ":")
		return server.ReplaceAllString(line, "$1 "+strings.TrimPrefix(g.URL(), "https://")+" check port "+port)
	})
	file := put(t, filepath.Join(t.TempDir(), "haproxy.cfg"), []byte(config))
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy" // where Debian has it, which is not in everybody's PATH
	}
	p, err := proc.Start(context.WithoutCancel(t.Context()), proc.Config{Path: path, Args: []string{"-db", "-f", file}, Stdout: t.Output(), Stderr: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Stop() })
	return front
}

// caller is a client of its own address, which trusts each of gates. Each request
// has a connection of its own: a balancer of TCP sees those.
func caller(t *testing.T, gates ...gate) *http.Client {
	t.Helper()
	roots := x509.NewCertPool()
	for _, g := range gates {
		ca, err := os.ReadFile(g.CAFile())
		if err != nil || !roots.AppendCertsFromPEM(ca) {
			t.Fatalf("the CA of %s: %v", g.URL(), err)
		}
	}
	from := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 5)}}
	return &http.Client{Transport: &http.Transport{
		DialContext: from.DialContext, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
	}}
}
