package clients_test

import (
	"context"
	_ "embed"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

// The rights of clients, and what they meet.
//
//go:embed testdata/rights.yaml
var rights []byte

// limit is how long one operation of one client may take on a busy machine.
const limit = time.Minute

// route is one of the two ways to the cluster. Both trust the same issuer, so that
// one token is good for both, and names the same person.
type route struct {
	name, server, caFile string
}

// suite is a cluster with a node whose API server takes ID tokens itself, and a
// gatehouse in front of it.
type suite struct {
	*stage.Stage
	issuer          *authtest.Issuer
	gate            *gatehouse.Instance
	direct, through route
	found           *results
}

// Promise: whatever a client can do at the API server, it can do through gatehouse,
// with the same outcome: what it prints, and how it ends.
func TestClients(t *testing.T) {
	s := start(t)
	t.Run("side by side", func(t *testing.T) {
		t.Run("refreshes", s.testRefreshes)
		t.Run("kubectl", s.testKubectls)
		t.Run("helm", s.testHelm)
		t.Run("terraform", s.testTerraform)
		t.Run("python", s.testPython)
		t.Run("node", s.testNode)
	})
	if !t.Failed() { // a page is not made of half of what there is
		t.Run("table", s.testTable)
	}
}

func start(t *testing.T) *suite {
	t.Helper()
	issuer, authority := stagetest.Issuer(t)
	st, err := stage.Start(t.Context(), stage.Config{
		Dir: t.TempDir(), Progress: t.Output(), Build: build.Options{Race: stagetest.CanRace(t)},
		Cluster: cluster.Config{Node: true, APIServerArgs: []string{
			"--oidc-issuer-url=" + issuer.URL, "--oidc-client-id=" + authtest.Audience, "--oidc-ca-file=" + authority.CAFile,
			"--oidc-username-claim=email", "--oidc-groups-claim=groups", "--oidc-groups-prefix=oidc:",
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(st.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := st.Cluster.Apply(ctx, rights); err != nil {
		t.Fatal(err)
	}
	env := st.Env()
	env["GATEHOUSE_OIDC_ISSUER_URL"], env["GATEHOUSE_OIDC_CA_FILE"] = issuer.URL, authority.CAFile
	gate, err := st.Gatehouse(context.WithoutCancel(t.Context()), gatehouse.Config{}, env)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.StopAtEnd(t, gate, nil)
	s := &suite{Stage: st, issuer: issuer, gate: gate, found: &results{}}
	s.direct = route{"direct", st.Cluster.URL(), st.Cluster.CAFile()}
	s.through = route{"through", gate.URL(), gate.CAFile()}
	s.awaitOIDC(ctx, t)
	_, err = st.Cluster.Admin().Must(ctx, "", "wait", "-n", "dev", "--for=condition=Ready", "pod/shell", "--timeout=40s")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// awaitOIDC waits until the API server itself has fetched the issuer's keys.
func (s *suite) awaitOIDC(ctx context.Context, t *testing.T) {
	t.Helper()
	k, err := s.Kubectl(s.kubeconfig(t, s.direct, s.client(t, "first", "")))
	if err != nil {
		t.Fatal(err)
	}
	for {
		r, err := k.Run(ctx, "auth", "whoami")
		if err != nil {
			t.Fatal(err)
		}
		if r.OK() {
			return
		}
	}
}

// client is a person with a token for both routes, and a namespace.
func (s *suite) client(t *testing.T, name, namespace string) kubeconfig.User {
	t.Helper()
	return kubeconfig.User{Name: name, Namespace: namespace, Token: s.issuer.Token(stage.Person(name, "clients"))}
}

// kubeconfig writes one for a user on a route and returns its path.
func (s *suite) kubeconfig(t *testing.T, r route, u kubeconfig.User) string {
	t.Helper()
	path := t.TempDir() + "/kubeconfig"
	file := kubeconfig.File{Cluster: "cluster", Server: r.server, CAFile: r.caFile, Users: []kubeconfig.User{u}}
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// pair is one client for each route, run as kubectl is, of the same person.
func (s *suite) pair(t *testing.T, name, binary string) (direct, through *kubectl.Kubectl) {
	t.Helper()
	namespaceA, namespaceB := s.namespaces(t, name)
	return s.one(t, s.direct, name, namespaceA, binary), s.one(t, s.through, name, namespaceB, binary)
}

func (s *suite) one(t *testing.T, r route, name, namespace, binary string) *kubectl.Kubectl {
	t.Helper()
	path := s.kubeconfig(t, r, s.client(t, name, namespace))
	k, err := s.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	return k.WithBinary(binary).WithEnv("KUBE_CONFIG_PATH="+path, "KUBE_NAMESPACE="+namespace) // for Terraform
}

// namespaces makes one for each route, whose names are equally long, for tables
// that clients print, and returns them. They last as long as the cluster.
func (s *suite) namespaces(t *testing.T, name string) (direct, through string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	direct, through = name+"-side-a", name+"-side-b"
	var manifest strings.Builder
	for _, namespace := range []string{direct, through} {
		manifest.WriteString("---\n{apiVersion: v1, kind: Namespace, metadata: {name: " + namespace + "}}\n")
	}
	if err := s.Cluster.Apply(ctx, []byte(manifest.String())); err != nil {
		t.Fatal(err)
	}
	return direct, through
}
