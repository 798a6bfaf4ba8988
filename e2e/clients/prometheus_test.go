package clients_test

import (
	"context"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// roles are what Prometheus looks for, each with the label that names what it found.
func roles() map[string]string {
	return map[string]string{
		"node": "__meta_kubernetes_node_name", "pod": "__meta_kubernetes_pod_name",
		"service": "__meta_kubernetes_service_name", "endpoints": "__meta_kubernetes_endpoints_name",
		"endpointslice": "__meta_kubernetes_endpointslice_name",
	}
}

// buildDiscovery builds Prometheus' discovery, and says of which version it is.
func buildDiscovery(t *testing.T) (path, version string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "discovery")
	if err := build.Discovery(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range info.Deps {
		if module.Path == "github.com/prometheus/prometheus" {
			return path, module.Version
		}
	}
	t.Fatal("it is not made of Prometheus")
	return "", ""
}

// discovery has Prometheus find nodes, pods, services and endpoints, and those that
// appear after its token has changed.
func (s *suite) discovery(t *testing.T, binary string) func(route, string) func(context.Context) outcome {
	return func(r route, namespace string) func(context.Context) outcome {
		c := s.credential(t, "prometheus-"+r.name, "monitors")
		dir := t.TempDir()
		return func(ctx context.Context) outcome {
			said, err := s.discover(ctx, binary, dir, r, namespace, c)
			return came(said, err)
		}
	}
}

func (s *suite) discover(ctx context.Context, binary, dir string, r route, namespace string, c *credential) (string, error) {
	if err := s.Cluster.Apply(ctx, targets(namespace, 0)); err != nil {
		return "", err
	}
	path := filepath.Join(dir, "prometheus.yml")
	if err := os.WriteFile(path, prometheusConfig(r, namespace, c), 0o600); err != nil {
		return "", err
	}
	var printed, failed proc.Lines
	process, err := proc.Start(ctx, proc.Config{Path: binary, Args: []string{path}, Dir: dir, Stdout: &printed, Stderr: &failed})
	if err != nil {
		return "", err
	}
	defer process.Stop()
	for round := range *rounds + 1 {
		if round > 0 {
			if err := c.outlive(ctx); err != nil {
				return "", err
			}
			if err := s.Cluster.Apply(ctx, targets(namespace, round)); err != nil {
				return "", err
			}
		}
		want := strings.Join(wanted(round), "\n")
		if _, err := printed.Await(ctx, process.Done(), func(line string) bool { return foundIn(line) == want }); err != nil {
			return "", fmt.Errorf("round %d: %w; it printed %q\n%s", round, err, printed.All(), strings.Join(failed.All(), "\n"))
		}
	}
	return strings.Join(wanted(*rounds), "\n"), nil
}

// prometheusConfig has a job for each role.
func prometheusConfig(r route, namespace string, c *credential) []byte {
	var b strings.Builder
	b.WriteString("scrape_configs:\n")
	for role := range roles() {
		fmt.Fprintf(&b, `- job_name: %s
  kubernetes_sd_configs:
  - role: %s
    api_server: %s
    namespaces: {names: [%s]}
    authorization: {credentials_file: %s}
    tls_config: {ca_file: %s}
`, role, role, r.server, namespace, c.tokenFile, r.caFile)
	}
	return []byte(b.String())
}

// targets is what a round adds to the namespace.
func targets(namespace string, round int) []byte {
	return []byte(strings.NewReplacer("NAMESPACE", namespace, "NAME", fmt.Sprintf("round-%d", round)).Replace(`
apiVersion: v1
kind: Pod
metadata: {name: NAME, namespace: NAMESPACE}
spec:
  containers:
  - {name: main, image: "example.invalid/web:1", stdin: true, command: [sh, -c, read -r forever], ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: NAMESPACE}
spec: {clusterIP: None, ports: [{port: 80}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: NAME, namespace: NAMESPACE}
subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: NAME, namespace: NAMESPACE, labels: {kubernetes.io/service-name: NAME}}
addressType: IPv4
endpoints: [{addresses: [192.0.2.1]}]
ports: [{port: 80}]
`))
}

// wanted are the targets of all rounds until one.
func wanted(last int) []string {
	all := []string{"node node-1"}
	for role := range roles() {
		for round := range last + 1 {
			if role != "node" {
				all = append(all, fmt.Sprintf("%s round-%d", role, round))
			}
		}
	}
	slices.Sort(all)
	return all
}

// foundIn is what a line says that was found, as wanted is, or why it cannot be read.
func foundIn(line string) string {
	var jobs map[string][]map[string]string
	if err := json.Unmarshal([]byte(line), &jobs); err != nil {
		return err.Error()
	}
	var all []string
	for role, targets := range jobs {
		for _, labels := range targets {
			all = append(all, role+" "+labels[roles()[role]])
		}
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}
