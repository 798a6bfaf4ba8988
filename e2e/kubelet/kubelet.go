// Package kubelet is a stand-in for a node: it registers one, runs the pods that
// are bound to it, and lets the API server into them with the kubelet's own
// streaming library. A container is a plain process of this machine in a folder
// of its own, so nothing is kept apart from the machine: it is for commands that
// a test chose. What images, volumes, networks and probes are it does not know, but
// for images that it is given.
package kubelet

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// Config says which node to be. Every field but Images and
// ImagesOnly is required.
type Config struct {
	// Name is the node's.
	Name string
	// Dir takes a folder for each container. It is created.
	Dir string
	// Kubeconfig is the node's own, and SchedulerKubeconfig that of whoever may
	// bind pods to nodes.
	Kubeconfig, SchedulerKubeconfig string
	// Serving is the certificate that the API server is shown.
	Serving pki.Pair
	// ClientCAFile signs the API server's certificate, which names Client.
	ClientCAFile, Client string
	// Images are those that are known, by their names in pods. A container of
	// another is its command, or nothing.
	Images map[string]Image
	// ImagesOnly has containers of other images wait, as for an image that cannot
	// be pulled, whatever their command: for a node that takes pods of people, who
	// must not reach this machine by them.
	ImagesOnly bool
}

// Kubelet is a running node.
type Kubelet struct {
	cfg     Config
	api     *kubernetes.Clientset
	server  *http.Server
	ctx     context.Context // ends with Stop
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows, and what is in the pods
	pods     map[types.UID]*pod
	sessions map[*byte]string
}

// Start registers the node and returns. Pods run soon after. It ends with Stop,
// or with ctx.
func Start(ctx context.Context, cfg Config) (*Kubelet, error) {
	k := &Kubelet{cfg: cfg, pods: map[types.UID]*pod{}, sessions: map[*byte]string{}}
	k.ctx, k.cancel = context.WithCancel(ctx)
	if err := k.start(); err != nil {
		k.Stop()
		return nil, fmt.Errorf("start the kubelet of %s: %w", cfg.Name, err)
	}
	return k, nil
}

func (k *Kubelet) start() (err error) {
	if k.api, err = client(k.cfg.Kubeconfig); err != nil {
		return err
	}
	scheduler, err := client(k.cfg.SchedulerKubeconfig)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(k.cfg.Dir, 0o700); err != nil {
		return err
	}
	port, err := k.serve()
	if err != nil {
		return err
	}
	if err := k.register(k.ctx, port); err != nil {
		return err
	}
	k.running.Go(k.renew)
	k.running.Go(func() { k.watch(k.api, "spec.nodeName="+k.cfg.Name, k.sync, k.forget) })
	k.running.Go(func() { k.watch(scheduler, "spec.nodeName=", k.bind(scheduler), nil) })
	return nil
}

// Stop ends every container and every stream, and waits for that. The Node stays
// in the cluster. Stopping twice is harmless.
func (k *Kubelet) Stop() {
	k.cancel()
	if k.server != nil {
		_ = k.server.Close()
	}
	k.running.Wait()
}

// serve listens on any port and returns which.
func (k *Kubelet) serve() (int, error) {
	pair, err := tls.LoadX509KeyPair(k.cfg.Serving.CertFile, k.cfg.Serving.KeyFile)
	if err != nil {
		return 0, err
	}
	authority, err := os.ReadFile(k.cfg.ClientCAFile)
	if err != nil {
		return 0, err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(authority) {
		return 0, errors.New("no certificate in " + k.cfg.ClientCAFile)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	k.server = &http.Server{
		Handler:           k.onlyAPIServer(k.handler()),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{
			Certificates: []tls.Certificate{pair}, ClientCAs: clients,
			ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
		},
	}
	k.running.Go(func() { _ = k.server.ServeTLS(listener, "", "") }) // ends by Stop
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func client(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 100, 200 // a test waits for pods
	return kubernetes.NewForConfig(config)
}
