// Package stage sets up what the demo and the end-to-end tests play on: a real
// cluster with roles for a few people, an issuer, a file of static tokens, and
// gatehouse's own account.
package stage

import (
	"context"
	_ "embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// Who may do what, and who may act as whom.
//
//go:embed people.yaml
var people []byte

//go:embed sudo.yaml
var sudo []byte

// The account that the manifests in deploy/ make for gatehouse.
const (
	AccountNamespace = "gatehouse"
	AccountName      = "gatehouse"
)

// Config says how to set the stage. Dir is required.
type Config struct {
	// Dir takes every file; the caller removes it after Stop.
	Dir string
	// Progress is told what takes long. Default: nobody.
	Progress io.Writer
	// Build says how gatehouse is built.
	Build build.Options
	// Cluster says how the cluster is started. Its Binaries and Dir are set
	// here.
	Cluster cluster.Config
}

// Stage is a cluster that is set up for people and gatehouse.
type Stage struct {
	Cluster *cluster.Cluster
	Issuer  *authtest.Issuer

	dir        string
	binary     string
	kubeconfig string // gatehouse's own
	issuerCA   string
	root       string
	binaries   build.Binaries

	mu        sync.Mutex // guards instances
	instances int
}

// Start builds what is not built yet, starts the cluster and the issuer, and
// gives everybody their rights. It ends with Stop, or with ctx.
func Start(ctx context.Context, cfg Config) (*Stage, error) {
	if cfg.Progress == nil {
		cfg.Progress = io.Discard
	}
	s := &Stage{dir: cfg.Dir, binary: filepath.Join(cfg.Dir, "gatehouse")}
	source, err := build.ModuleDir(ctx)
	if err != nil {
		return nil, err
	}
	s.root = filepath.Dir(source)
	if err := s.build(ctx, cfg); err != nil {
		return nil, err
	}
	if err := s.startIssuer(); err != nil {
		return nil, err
	}
	fmt.Fprintln(cfg.Progress, "Starting etcd, kube-apiserver and kube-controller-manager.")
	if err := s.startCluster(ctx, cfg.Cluster); err != nil {
		s.Stop()
		return nil, err
	}
	return s, nil
}

// build makes the cluster's binaries first: that step tells its progress.
func (s *Stage) build(ctx context.Context, cfg Config) error {
	var err error
	if s.binaries, err = build.Cluster(ctx, cfg.Progress); err != nil {
		return err
	}
	fmt.Fprintln(cfg.Progress, "Building gatehouse.")
	return build.Gatehouse(ctx, s.binary, cfg.Build)
}

func (s *Stage) startIssuer() error {
	authority, err := pki.NewAuthority(filepath.Join(s.dir, "issuer"), "issuer-ca")
	if err != nil {
		return err
	}
	s.issuerCA = authority.CAFile
	s.Issuer, err = authtest.NewIssuer(authority.CA)
	return err
}

func (s *Stage) startCluster(ctx context.Context, cfg cluster.Config) error {
	dir := filepath.Join(s.dir, "cluster")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return fmt.Errorf("set the stage: %w", err)
	}
	cfg.Binaries, cfg.Dir = s.binaries, dir
	var err error
	if s.Cluster, err = cluster.Start(ctx, cfg); err != nil {
		return err
	}
	rights, err := os.ReadFile(s.Deploy("rbac-token-review.yaml")) // the other manifests are less
	if err != nil {
		return fmt.Errorf("read gatehouse's own rights: %w", err)
	}
	for _, manifest := range [][]byte{rights, people, sudo} {
		if err := s.Cluster.Apply(ctx, manifest); err != nil {
			return err
		}
	}
	s.kubeconfig, err = s.Cluster.ServiceAccountKubeconfig(ctx, AccountNamespace, AccountName)
	return err
}

// Stop ends the cluster and the issuer.
func (s *Stage) Stop() {
	if s.Cluster != nil {
		s.Cluster.Stop()
	}
	_ = s.Issuer.Close() // its listener ends either way
}

// Deploy returns the path of a file in the root module's folder deploy.
func (s *Stage) Deploy(name string) string { return filepath.Join(s.root, "deploy", name) }

// Binary is the built gatehouse.
func (s *Stage) Binary() string { return s.binary }

// Person returns the claims of an ID token for NAME@example.com in these
// groups. gatehouse puts the prefix oidc: before each group.
func Person(name string, groups ...string) authtest.Claims {
	return authtest.Claims{
		"sub": name, "email": name + "@example.com", "email_verified": true, "groups": groups,
	}
}

// Env is the least environment of a gatehouse on this stage: our issuer, and
// no static tokens. The caller may change the map.
func (s *Stage) Env() map[string]string {
	return map[string]string{
		"GATEHOUSE_KUBECONFIG":          s.kubeconfig,
		"GATEHOUSE_OIDC_ISSUER_URL":     s.Issuer.URL,
		"GATEHOUSE_OIDC_CLIENT_ID":      authtest.Audience,
		"GATEHOUSE_OIDC_CA_FILE":        s.issuerCA,
		"GATEHOUSE_OIDC_USERNAME_CLAIM": "email",
		"GATEHOUSE_OIDC_GROUPS_CLAIM":   "groups",
		"GATEHOUSE_OIDC_GROUPS_PREFIX":  "oidc:",
		"GATEHOUSE_SHUTDOWN_DELAY":      "0s", // there is no load balancer to wait for
	}
}

// Builder is the ServiceAccount of a workload, which may look at what is in its
// namespace, and BuilderUser is its user name.
const (
	BuilderNamespace = "dev"
	BuilderName      = "builder"
	BuilderUser      = "system:serviceaccount:dev:builder"
)

// BuilderToken asks the cluster for a token of that account, as the kubelet
// does for a pod's projected volume. Without audiences it is for the API server.
// boundTo is a Secret of the namespace with which it ends, or empty.
func (s *Stage) BuilderToken(ctx context.Context, boundTo string, audiences ...string) (string, error) {
	args := []string{"create", "token", BuilderName, "-n", BuilderNamespace, "--duration=10m"}
	for _, audience := range audiences {
		args = append(args, "--audience="+audience)
	}
	if boundTo != "" {
		args = append(args, "--bound-object-kind=Secret", "--bound-object-name="+boundTo)
	}
	token, err := s.Cluster.Admin().Must(ctx, "", args...)
	if err != nil {
		return "", fmt.Errorf("a token of the builder: %w", err)
	}
	return strings.TrimSpace(token), nil
}

// AnotherCluster starts a second, empty cluster in dir, which exists. It
// publishes the issuer of its ServiceAccount tokens. The caller stops it.
func (s *Stage) AnotherCluster(ctx context.Context, dir string) (*cluster.Cluster, error) {
	return cluster.Start(ctx, cluster.Config{Binaries: s.binaries, Dir: dir, PublicIssuer: true})
}

// NewDir makes a directory for one more instance of gatehouse.
func (s *Stage) NewDir() (string, error) {
	s.mu.Lock()
	s.instances++
	dir := filepath.Join(s.dir, fmt.Sprintf("gatehouse-%d", s.instances))
	s.mu.Unlock()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory for gatehouse: %w", err)
	}
	return dir, nil
}

// Gatehouse starts a gatehouse with this environment. Every other field of cfg
// may be set; Binary and Dir need not be.
func (s *Stage) Gatehouse(ctx context.Context, cfg gatehouse.Config, env map[string]string) (*gatehouse.Instance, error) {
	if cfg.Dir == "" {
		dir, err := s.NewDir()
		if err != nil {
			return nil, err
		}
		cfg.Dir = dir
	}
	if cfg.Binary == "" {
		cfg.Binary = s.binary
	}
	cfg.Env = env
	return gatehouse.Start(ctx, cfg)
}

// Kubectl returns a kubectl with a kubeconfig and a cold discovery cache.
func (s *Stage) Kubectl(kubeconfig string) (*kubectl.Kubectl, error) {
	return s.Cluster.Kubectl(kubeconfig)
}

// Tokens is a file of static tokens.
type Tokens struct{ path string }

// NewTokens writes a file of static tokens to dir, with these rows.
func NewTokens(dir string, rows ...string) (*Tokens, error) {
	t := &Tokens{path: filepath.Join(dir, "tokens.csv")}
	return t, t.Replace(rows...)
}

// Path is where the file is.
func (t *Tokens) Path() string { return t.path }

// Replace gives the file these rows and no others, in one step.
func (t *Tokens) Replace(rows ...string) error {
	return pki.WriteFile(t.path, []byte(strings.Join(rows, "\n")+"\n"))
}

// KubectlPath is the built kubectl.
func (s *Stage) KubectlPath() string { return s.binaries.Kubectl }
