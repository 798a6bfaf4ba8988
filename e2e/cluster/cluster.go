// Package cluster runs a real Kubernetes control plane on the loopback
// address: etcd, kube-apiserver with RBAC, and the controllers that make roles
// and accounts work. Without a node, which one can ask for, pods stay pending.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/kubelet"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// Config says what to start. Binaries and Dir are required.
type Config struct {
	Binaries build.Binaries
	// Dir takes all files: keys, data and logs. It must exist; the caller
	// removes it after Stop.
	Dir string
	// APIServerArgs are added to kube-apiserver's flags. Default: none.
	APIServerArgs []string
	// ClientCAs, as PEM, are trusted for client certificates besides the
	// cluster's own authority. Default: none.
	ClientCAs []byte
	// PublicIssuer makes the cluster's URL the issuer of its ServiceAccount
	// tokens, and lets everybody read with which keys they are signed. Default:
	// the issuer is one that every cluster could have, and its keys are hidden.
	PublicIssuer bool
	// Node adds a node with a stand-in kubelet: pods are bound to it and run.
	Node bool
	// Images are those that the node knows. Default: none.
	Images map[string]kubelet.Image
	// ImagesOnly has the node run nothing but Images.
	ImagesOnly bool
	// StartTimeout limits Start and StartAPIServer. Default: 2 minutes.
	StartTimeout time.Duration
}

// Cluster is a running control plane. Its methods may be called by many
// goroutines, but for the ones that start and stop.
type Cluster struct {
	cfg   Config
	files *files
	admin *kubectl.Kubectl
	api   *client
	url   string

	port, etcdPort, peerPort int

	mu     sync.Mutex // guards what follows
	etcd   *proc.Process
	server *proc.Process
	manage *proc.Process
	node   *kubelet.Kubelet
	tokens map[string]string
}

// portAttempts is how often Start draws ports anew when one was taken
// between the draw and the start.
const portAttempts = 3

// Start starts the cluster and returns when the API server is ready, the role
// `view` has been filled in, and the namespace `default` has its account. The
// processes end with Stop, with ctx, or with this process.
func Start(ctx context.Context, cfg Config) (*Cluster, error) {
	if cfg.StartTimeout == 0 {
		cfg.StartTimeout = 2 * time.Minute
	}
	files, err := newFiles(cfg.Dir, cfg.ClientCAs)
	if err != nil {
		return nil, fmt.Errorf("start cluster: %w", err)
	}
	for attempt := 1; ; attempt++ {
		c := &Cluster{cfg: cfg, files: files, tokens: map[string]string{}}
		err := c.start(ctx)
		if err == nil {
			return c, nil
		}
		c.Stop()
		if attempt == portAttempts || !errors.Is(err, errPortTaken) {
			return nil, fmt.Errorf("start cluster: %w", err)
		}
		if err := os.RemoveAll(filepath.Join(cfg.Dir, "etcd")); err != nil {
			return nil, fmt.Errorf("start cluster again: %w", err)
		}
	}
}

func (c *Cluster) start(ctx context.Context) error {
	ports, err := proc.Ports(3)
	if err != nil {
		return err
	}
	c.port, c.etcdPort, c.peerPort = ports[0], ports[1], ports[2]
	c.url = "https://" + proc.Loopback(c.port)
	if err := c.files.writeKubeconfigs(c.url); err != nil {
		return err
	}
	if c.api, err = newClient(c.url, c.files); err != nil {
		return err
	}
	if c.admin, err = kubectl.New(c.cfg.Binaries.Kubectl, c.files.adminConfig, c.cfg.Dir); err != nil {
		return err
	}
	c.etcd, err = c.run(ctx, c.cfg.Binaries.Etcd, c.files.etcdArgs(c.etcdPort, c.peerPort))
	if err != nil {
		return err
	}
	if err := c.startAPIServer(ctx); err != nil {
		return err
	}
	c.manage, err = c.run(ctx, c.cfg.Binaries.ControllerManager, c.files.controllerManagerArgs())
	if err != nil {
		return err
	}
	if err := c.await(ctx, c.manage, c.api.settled); err != nil {
		return err
	}
	if c.cfg.PublicIssuer {
		if err := c.Apply(ctx, []byte(publicIssuer)); err != nil {
			return err
		}
	}
	if !c.cfg.Node {
		return nil
	}
	return c.startNode(ctx)
}

func (c *Cluster) startNode(ctx context.Context) (err error) {
	c.node, err = kubelet.Start(ctx, kubelet.Config{
		Name: NodeName, Dir: filepath.Join(c.cfg.Dir, "pods"),
		Kubeconfig: c.files.nodeConfig, SchedulerKubeconfig: c.files.schedulerConfig,
		Serving: c.files.node, ClientCAFile: c.files.nodeCA, Client: apiServerName,
		Images: c.cfg.Images, ImagesOnly: c.cfg.ImagesOnly,
	})
	return err
}

// run starts one of the processes with its output in NAME.log of the directory.
func (c *Cluster) run(ctx context.Context, binary string, args []string) (*proc.Process, error) {
	log, err := os.OpenFile(c.logFile(binary), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	return proc.Start(ctx, proc.Config{
		Path: binary, Args: args, Dir: c.cfg.Dir, Stdout: log, Stderr: log,
		Env:   []string{"HOME=" + c.cfg.Dir, "NO_PROXY=127.0.0.1,localhost"},
		Grace: 2 * time.Second, // kube-apiserver waits up to a minute for its watchers
	})
}

func (c *Cluster) logFile(binary string) string {
	return filepath.Join(c.cfg.Dir, filepath.Base(binary)+".log")
}

// startAPIServer starts kube-apiserver on the cluster's port and waits for it.
func (c *Cluster) startAPIServer(ctx context.Context) error {
	server, err := c.run(ctx, c.cfg.Binaries.APIServer, c.APIServerArgs())
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	return c.await(ctx, server, c.api.ready)
}

// APIServerArgs are the flags that kube-apiserver is started with.
func (c *Cluster) APIServerArgs() []string {
	return slices.Concat(c.files.apiServerArgs(c.port, c.etcdPort), issuerArgs(c.url, c.cfg.PublicIssuer), c.cfg.APIServerArgs)
}

// errPortTaken says that another program took a port in the meantime.
var errPortTaken = errors.New("a port was taken")

// await waits until ready, and explains a failure with the end of the log.
func (c *Cluster) await(ctx context.Context, p *proc.Process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StartTimeout)
	defer cancel()
	err := p.Await(ctx, ready)
	if err == nil {
		return nil
	}
	for _, binary := range []string{c.cfg.Binaries.Etcd, c.cfg.Binaries.APIServer, c.cfg.Binaries.ControllerManager} {
		b, _ := os.ReadFile(c.logFile(binary)) // a log that is not there says nothing
		if strings.Contains(string(b), "address already in use") {
			return fmt.Errorf("%w: %w", errPortTaken, err)
		}
		err = fmt.Errorf("%w\nend of %s:\n%s", err, c.logFile(binary), tail(string(b), 8))
	}
	return err
}

func tail(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Stop ends every process and waits for it. Stopping twice is harmless.
func (c *Cluster) Stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != nil {
		c.node.Stop()
	}
	for _, p := range []*proc.Process{c.manage, c.server, c.etcd} {
		if p != nil {
			p.Stop()
		}
	}
}

// StopAPIServer ends kube-apiserver alone: its port refuses connections.
func (c *Cluster) StopAPIServer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.server.Stop()
}

// KillAPIServer ends kube-apiserver as a crash does: nothing is ended in order.
func (c *Cluster) KillAPIServer() {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.server.Signal(syscall.SIGKILL) // fails only if it has ended
	<-c.server.Done()
}

// StartAPIServer starts it again with the same port and data, and returns when
// it is ready.
func (c *Cluster) StartAPIServer(ctx context.Context) error {
	if err := c.startAPIServer(ctx); err != nil {
		return fmt.Errorf("start the API server again: %w", err)
	}
	return nil
}

// URL is where the API server listens.
func (c *Cluster) URL() string { return c.url }

// CAFile holds the authority that signed the API server's certificate.
func (c *Cluster) CAFile() string { return c.files.servingCA }

// ClientCAFile is what the API server's --client-ca-file names.
func (c *Cluster) ClientCAFile() string { return c.files.clientCA }

// Dir is the directory of keys, data and logs.
func (c *Cluster) Dir() string { return c.cfg.Dir }

// AdminKubeconfig is the path of a kubeconfig of the group system:masters.
func (c *Cluster) AdminKubeconfig() string { return c.files.adminConfig }

// Admin is the real kubectl with AdminKubeconfig.
func (c *Cluster) Admin() *kubectl.Kubectl { return c.admin }

// Node is the stand-in kubelet of a cluster that has one, else nil.
func (c *Cluster) Node() *kubelet.Kubelet { return c.node }

// Kubectl returns a kubectl with a kubeconfig and a cold discovery cache.
func (c *Cluster) Kubectl(kubeconfig string) (*kubectl.Kubectl, error) {
	return kubectl.New(c.cfg.Binaries.Kubectl, kubeconfig, c.cfg.Dir)
}

// Apply applies a manifest as the admin.
func (c *Cluster) Apply(ctx context.Context, manifest []byte) error {
	_, err := c.admin.Must(ctx, string(manifest), "apply", "--server-side", "-f", "-")
	return err
}
