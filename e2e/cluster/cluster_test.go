package cluster_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
)

// TestCluster holds what every end-to-end test builds upon: a real API server
// with RBAC and filled-in roles, that can be stopped and started with its data.
func TestCluster(t *testing.T) {
	binaries, err := build.Cluster(t.Context(), t.Output()) // may take minutes
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	started := time.Now()
	c, err := cluster.Start(ctx, cluster.Config{Binaries: binaries, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Stop()
	t.Logf("started in %s", time.Since(started).Round(time.Millisecond))

	version, err := c.Admin().Must(ctx, "", "version")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(version, "Server Version: "+build.KubernetesVersion) {
		t.Errorf("version: got %q, want the server to be %s", version, build.KubernetesVersion)
	}
	t.Run("account", func(t *testing.T) { testAccount(ctx, t, c) })
	t.Run("restart", func(t *testing.T) { testRestart(ctx, t, c) })
}

// testAccount: a ServiceAccount's kubeconfig has its rights, and the audit log
// names it.
func testAccount(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	if err := c.Apply(ctx, []byte(viewer)); err != nil {
		t.Fatal(err)
	}
	path, err := c.ServiceAccountKubeconfig(ctx, "default", "reader")
	if err != nil {
		t.Fatal(err)
	}
	k, err := c.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Must(ctx, "", "get", "pods"); err != nil {
		t.Error(err)
	}
	denied, err := k.Run(ctx, "get", "secrets")
	if err != nil {
		t.Fatal(err)
	}
	if denied.Code != 1 || !strings.Contains(denied.Stderr, "system:serviceaccount:default:reader") {
		t.Errorf("secrets: got %+v, want a denial that names the account", denied)
	}
	events, err := c.AuditEvents()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range events {
		if e.User.Username == "system:serviceaccount:default:reader" && e.ObjectRef != nil && e.ObjectRef.Resource == "secrets" {
			return
		}
	}
	t.Errorf("none of %d audit events is the account's", len(events))
}

// testRestart: the API server comes back at the same place with its data.
func testRestart(ctx context.Context, t *testing.T, c *cluster.Cluster) {
	c.StopAPIServer()
	down, err := c.Admin().Run(ctx, "get", "namespaces")
	if err != nil {
		t.Fatal(err)
	}
	if down.OK() {
		t.Error("the API server answers although it was stopped")
	}
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Admin().Must(ctx, "", "get", "serviceaccount", "reader"); err != nil {
		t.Error(err)
	}
}

const viewer = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: default}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: view}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
`
