package oracle_test

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// livePlan is what the running servers are given, and asked.
type livePlan struct {
	groups []group
	config []byte // the AuthenticationConfiguration
	csv    []byte // the token file
	tokens []csvRow
	certs  certRows

	requests []requestRow
}

// Promise: the running kube-apiserver, and gatehouse in front of it with the
// same files, say of one credential the same: who it is, or that it is nobody.
func TestRunningAPIServer(t *testing.T) {
	w := sharedWorld(t)
	plan := w.plan(t)
	pair := startLive(t, w, plan)
	before := count.read(func(c *tally) int { return c.live })
	for _, g := range plan.groups {
		t.Run(g.Config, func(t *testing.T) { pair.judgeGroup(t, w, g) })
	}
	t.Run("forms", func(t *testing.T) { pair.judgeForms(t, w, plan.groups[0]) })
	t.Run("token file", func(t *testing.T) {
		for _, r := range plan.tokens {
			t.Run(r.is, func(t *testing.T) { pair.judgeCSV(t, r) })
		}
	})
	t.Run("certificates", func(t *testing.T) {
		for _, r := range plan.certs.rows {
			t.Run(r.is, func(t *testing.T) { pair.judgeCert(t, r) })
		}
	})
	t.Run("requests", func(t *testing.T) {
		for _, r := range plan.requests {
			t.Run(r.is, func(t *testing.T) { pair.judgeRequest(t, r) })
		}
	})
	if n := count.read(func(c *tally) int { return c.live }) - before; n < leastLive && !t.Failed() && wholeRun() {
		t.Errorf("%d rows were judged, at least %d should be", n, leastLive)
	}
}

// plan chooses what of the corpus the running servers are asked.
func (w *world) plan(t *testing.T) livePlan {
	t.Helper()
	issuers := w.startLiveIssuers(t)
	p := livePlan{groups: w.liveGroups(t, issuers)}
	p.groups = slices.DeleteFunc(p.groups, func(g group) bool { return !g.accepts() })
	p.groups = w.withDrawn(t, issuers, p.groups)
	var entries []any
	for _, g := range p.groups {
		entries = append(entries, g.entry(w))
	}
	p.config = configuration(t, "v1", entries...)
	p.csv, p.tokens = liveTokenFile(t)
	m := certMaker{t, time.Now().Truncate(time.Second)}
	p.certs = m.certificates()
	// Another file of CAs is another server; and Go must be able to sign.
	p.certs.rows = slices.DeleteFunc(p.certs.rows, func(r certRow) bool { return r.cas != nil || r.holder.key == nil })
	cas, requests := m.requestRows()
	p.certs.cas, p.requests = append(p.certs.cas, cas...), requests
	p.csv = append(p.csv, robotRow...)
	return p
}

// livePair are the two that are asked.
type livePair struct{ direct, through livePeer }

// startLive starts a cluster with the files of the plan, and gatehouse with the
// same ones and the rights that deploy/rbac.yaml and the how-to give it.
func startLive(t *testing.T, w *world, p livePlan) livePair {
	t.Helper()
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := pki.WriteFile(path, content); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config, tokens := write("authentication.yaml", p.config), write("tokens.csv", p.csv)
	s, err := stage.Start(t.Context(), stage.Config{Dir: t.TempDir(), Progress: t.Output(), Cluster: cluster.Config{
		APIServerArgs: []string{"--authentication-config=" + config, "--token-auth-file=" + tokens},
		ClientCAs:     p.certs.cas,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if err := s.Cluster.Apply(t.Context(), extraRights(extraKeys(p.groups))); err != nil {
		t.Fatal(err)
	}
	env := s.Env()
	for name := range env {
		if strings.HasPrefix(name, "GATEHOUSE_OIDC_") {
			delete(env, name)
		}
	}
	env["GATEHOUSE_AUTHENTICATION_CONFIG"], env["GATEHOUSE_TOKEN_AUTH_FILE"] = config, tokens
	env["GATEHOUSE_CLIENT_CA_FILE"] = s.Cluster.ClientCAFile()
	i, err := s.Gatehouse(t.Context(), gatehouse.Config{}, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		i.Stop()
		if t.Failed() {
			t.Logf("gatehouse printed:\n%s", strings.Join(i.Logs(), "\n"))
		}
	})
	return livePair{newPeer(t, s.Cluster.URL(), s.Cluster.CAFile()), newPeer(t, i.URL(), i.CAFile())}
}

// extraRights lets gatehouse send extras of these keys, as docs/how-to/
// authentication-configuration.md says; and lets those ask who they are whom a
// credential puts among the anonymous.
func extraRights(keys []string) []byte {
	var resources []string
	for _, key := range keys {
		resources = append(resources, `"userextras/`+key+`"`)
	}
	return []byte(`apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: gatehouse-extras}
rules:
- {apiGroups: [authentication.k8s.io], resources: [` + strings.Join(resources, ", ") + `], verbs: ["impersonate:user-info"]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: gatehouse-extras}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: gatehouse-extras}
subjects: [{kind: ServiceAccount, name: ` + stage.AccountName + `, namespace: ` + stage.AccountNamespace + `}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: oracle-anonymous}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: system:basic-user}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: Group, name: system:unauthenticated}
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: system:anonymous}
`)
}

func newPeer(t *testing.T, url, caFile string) livePeer {
	t.Helper()
	ca, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	p := livePeer{url: url, tls: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}
	p.client = p.newClient(nil)
	return p
}
