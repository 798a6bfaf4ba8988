// Package upstream answers: where is the API server, and how do we reach it as
// ourselves?
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// Bounds on a connection to the API server. A connection on which nothing
// arrives for pingAfter is asked for a sign of life. One that gives none gets no
// more requests after suspectAfter, if there is another, and is given up after
// pingTimeout, so that a watch does not hang on a peer that has gone.
const (
	dialTimeout  = 5 * time.Second
	tlsTimeout   = 10 * time.Second
	idleTimeout  = 90 * time.Second
	pingAfter    = 3 * time.Second
	suspectAfter = 2 * time.Second
	pingTimeout  = 10 * time.Second
	maxHeader    = 1 << 20 // bytes of an answer's header
)

// Target is one complete version of the API server: its address, the
// connections to it, and gatehouse's own credential. Only the bearer token of
// a Target changes.
type Target struct {
	URL *url.URL
	// Requests speaks HTTP/2 where the API server does. Upgrades speaks
	// HTTP/1.1, because SPDY cannot pass through HTTP/2.
	Requests, Upgrades http.RoundTripper
	// Callers is for requests that carry a caller's own token: its connections
	// have nothing of gatehouse's credential, not the client certificate either.
	Callers Connections

	// TokenFile holds the bearer token; empty if the token does not come from a
	// file.
	TokenFile string
	// Files are the files, besides TokenFile, of which the Target was made.
	Files []string
	// CertificateEnds is when gatehouse's own client certificate ends; zero if it
	// has none.
	CertificateEnds time.Time

	bearer atomic.Pointer[string]
	close  func()
}

// Connections are the two ways to send requests, as Target.Requests and
// Target.Upgrades are.
type Connections struct{ Requests, Upgrades http.RoundTripper }

// HasPath reports whether the API server's URL has a path of its own, as behind
// a gateway that serves several.
func (t *Target) HasPath() bool { return strings.Trim(t.URL.Path, "/") != "" }

// Authorization returns the value of the Authorization header, or "" where the
// credential is a client certificate.
func (t *Target) Authorization() string {
	if bearer := t.bearer.Load(); bearer != nil {
		return *bearer
	}
	return ""
}

// ReloadToken reads TokenFile again, if there is one. On an error the last
// token stays.
func (t *Target) ReloadToken() error {
	if t.TokenFile == "" {
		return nil
	}
	content, err := os.ReadFile(t.TokenFile)
	if err != nil {
		return fmt.Errorf("read our own token: %w", err)
	}
	token := strings.TrimSpace(string(content))
	if token == "" {
		return fmt.Errorf("read our own token: %s is empty", t.TokenFile)
	}
	t.setToken(token)
	return nil
}

func (t *Target) setToken(token string) {
	value := "Bearer " + token
	t.bearer.Store(&value)
}

// Close closes the connections that are idle. Requests under way go on.
func (t *Target) Close() { t.close() }

// ServiceAccountDir is where Kubernetes mounts a pod's service account.
const ServiceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// InCluster makes a Target of the service account in dir, for the API server at
// host and port, which Kubernetes gives a pod as KUBERNETES_SERVICE_HOST and
// KUBERNETES_SERVICE_PORT.
func InCluster(dir, host, port string) (*Target, error) {
	if host == "" || port == "" {
		return nil, errors.New("no kubeconfig is set, and this is no pod of a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set")
	}
	target, err := build(&rest.Config{
		Host:            "https://" + net.JoinHostPort(host, port),
		BearerTokenFile: filepath.Join(dir, "token"),
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "ca.crt")},
	}, nil)
	if err != nil {
		return nil, fmt.Errorf("no kubeconfig is set, and in-cluster: %w", err)
	}
	return target, nil
}

// Load makes a Target of a kubeconfig's current context.
func Load(kubeconfig string) (*Target, error) {
	file, err := clientcmd.LoadFromFile(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	if err := clientcmd.ResolveLocalPaths(file); err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	cfg, err := clientcmd.NewDefaultClientConfig(*file, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	target, err := build(cfg, []string{kubeconfig})
	if err != nil {
		return nil, fmt.Errorf("kubeconfig %s: %w", kubeconfig, err)
	}
	return target, nil
}

func build(cfg *rest.Config, files []string) (*Target, error) {
	server, err := check(cfg)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := rest.TLSConfigFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("TLS to the API server: %w", err)
	}
	if tlsConfig == nil {
		tlsConfig = &tls.Config{}
	}
	tlsConfig.MinVersion = tls.VersionTLS12

	bare := tlsConfig.Clone()
	bare.Certificates, bare.GetClientCertificate = nil, nil
	ours, closeOurs := connections(cfg, server, tlsConfig)
	callers, closeCallers := connections(cfg, server, bare)
	t := &Target{
		URL: server, Requests: ours.Requests, Upgrades: ours.Upgrades, Callers: callers,
		TokenFile: cfg.BearerTokenFile,
		close:     func() { closeOurs(); closeCallers() },

		CertificateEnds: certificateEnds(tlsConfig),
	}
	for _, file := range append(files, cfg.CAFile, cfg.CertFile, cfg.KeyFile) {
		if file != "" {
			t.Files = append(t.Files, file)
		}
	}
	if cfg.BearerToken != "" {
		t.setToken(cfg.BearerToken)
	}
	return t, t.ReloadToken()
}

// check returns the address in cfg, or every reason why gatehouse will not use
// it.
func check(cfg *rest.Config) (*url.URL, error) {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }

	server, err := url.Parse(cfg.Host)
	if err == nil && server.Scheme == "" {
		server, err = url.Parse("https://" + cfg.Host)
	}
	switch {
	case err != nil || server.Host == "":
		fault("server is not a URL")
	case server.Scheme != "https":
		fault("server %s must be https: gatehouse's own credential goes there", server.Redacted())
	case server.User != nil || server.RawQuery != "" || server.Fragment != "":
		fault("server must be a plain https URL")
	}
	if cfg.Insecure {
		fault("insecure-skip-tls-verify is not accepted: put the API server's CA into certificate-authority-data")
	}
	// client-go reads the user of an https server alone.
	missing := err == nil && server.Scheme == "https" && server.Host != "" && cfg.BearerToken == "" && cfg.BearerTokenFile == "" &&
		len(cfg.CertData) == 0 && cfg.CertFile == ""
	if cfg.ExecProvider != nil || cfg.AuthProvider != nil {
		missing = false
		fault("exec and auth-provider credentials are not accepted: use a service account's token (tokenFile) or a client certificate")
	}
	if cfg.Username != "" || cfg.Password != "" {
		missing = false
		fault("username and password are not accepted: use a service account's token (tokenFile) or a client certificate")
	}
	if missing {
		fault("the user has no credential: give a tokenFile, a token or a client certificate")
	}
	if cfg.Impersonate.UserName != "" || len(cfg.Impersonate.Groups) > 0 || cfg.Impersonate.UID != "" || len(cfg.Impersonate.Extra) > 0 {
		fault("`as` fields are not accepted: they would take the place of the caller's identity")
	}
	return server, errors.Join(faults...)
}

// connections returns those to server with one TLS configuration, and what closes
// the idle ones. Through a proxy, requests go as upgrades do, for the proxy alone
// knows the addresses.
func connections(cfg *rest.Config, server *url.URL, tlsConfig *tls.Config) (c Connections, closeIdle func()) {
	plain := transport(cfg, tlsConfig)
	if cfg.Proxy != nil {
		requests := transport(cfg, tlsConfig)
		requests.Protocols.SetHTTP2(true)
		requests.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
		return Connections{Requests: requests, Upgrades: plain}, func() {
			requests.CloseIdleConnections()
			plain.CloseIdleConnections()
		}
	}
	port := server.Port()
	if port == "" {
		port = "443"
	}
	requests := &pool{
		dialer: newDialer(server.Hostname(), port, tlsConfig), plain: plain, life: connLife,
		pings: h2.Config{PingAfter: pingAfter, SuspectAfter: suspectAfter, PingTimeout: pingTimeout, MaxHeaderBytes: maxHeader},
	}
	return Connections{Requests: requests, Upgrades: plain}, func() {
		requests.close()
		plain.CloseIdleConnections()
	}
}

// transport returns one for HTTP/1.1.
func transport(cfg *rest.Config, tlsConfig *tls.Config) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Transport{
		Protocols: protocols,
		// Without proxy-url in the kubeconfig there is none: the environment of
		// the process must not decide where the credential goes.
		Proxy:                  cfg.Proxy,
		DialContext:            tcpDialer().DialContext,
		TLSClientConfig:        tlsConfig.Clone(),
		TLSHandshakeTimeout:    tlsTimeout,
		IdleConnTimeout:        idleTimeout,
		MaxIdleConnsPerHost:    64,
		MaxResponseHeaderBytes: maxHeader,
		// What the API server compressed goes to the caller as it is.
		DisableCompression: true,
	}
}

// Live is the Target in use, which a reload replaces.
type Live struct {
	// ID is by what this gatehouse knows its own requests if they come back to
	// it. Default: by nothing.
	ID string

	current atomic.Pointer[Target]
}

// Target returns the version in use.
func (l *Live) Target() *Target { return l.current.Load() }

// Swap puts next in the place of the present version, and closes the idle
// connections of the old one.
func (l *Live) Swap(next *Target) {
	if old := l.current.Swap(next); old != nil {
		old.Close()
	}
}

// Probe asks the API server's /readyz with gatehouse's own credential. A nil
// error means that it is reached, ready, and accepts the credential.
func (t *Target) Probe(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, t.URL.JoinPath("readyz").String(), nil)
	if err != nil {
		return err
	}
	if authorization := t.Authorization(); authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := t.Requests.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("does not accept gatehouse's own credential (401)")
	case resp.StatusCode == http.StatusForbidden, resp.StatusCode < 300:
		return nil // 403: who we are is accepted, which is what is asked here
	default:
		return fmt.Errorf("is not ready: /readyz answers %d", resp.StatusCode)
	}
}
