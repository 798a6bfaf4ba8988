// Package nexthop is a service that is not Kubernetes, and that workloads call with
// tokens of their ServiceAccounts: it asks the cluster for its keys, as anybody who
// verifies such tokens does, and accepts those that were made for it.
package nexthop

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// Service is a running service.
type Service struct {
	// URL is where it listens.
	URL string

	server   *http.Server
	client   *http.Client
	verifier *oidc.IDTokenVerifier
}

// Start starts a service for which tokens of this audience are meant. kubeconfig is
// of a ServiceAccount, with which it reads the cluster's keys. Its certificate goes
// to dir.
func Start(ctx context.Context, dir, kubeconfig, audience string) (*Service, error) {
	s := &Service{}
	var err error
	if s.verifier, err = newVerifier(ctx, kubeconfig, audience); err != nil {
		return nil, fmt.Errorf("learn the cluster's keys: %w", err)
	}
	authority, err := pki.NewAuthority(filepath.Join(dir, "nexthop"), "nexthop-ca")
	if err != nil {
		return nil, err
	}
	pair, err := authority.Loopback("nexthop")
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the next hop: %w", err)
	}
	s.URL = "https://" + listener.Addr().String()
	s.client = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: authority.Pool(), MinVersion: tls.VersionTLS12}}}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	go func() {
		if err := s.server.ServeTLS(listener, pair.CertFile, pair.KeyFile); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("nexthop: %v", err))
		}
	}()
	return s, nil
}

// newVerifier reads the issuer and its algorithms from the cluster's discovery
// document. The keys are fetched when they are needed, from beside it: the document
// names the address by which pods reach the API server.
func newVerifier(ctx context.Context, kubeconfig, audience string) (*oidc.IDTokenVerifier, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, config.Host+"/.well-known/openid-configuration", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server answered %s", resp.Status)
	}
	var document struct {
		Issuer     string   `json:"issuer"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&document); err != nil {
		return nil, err
	}
	keys := oidc.NewRemoteKeySet(oidc.ClientContext(context.WithoutCancel(ctx), client), config.Host+"/openid/v1/jwks")
	return oidc.NewVerifier(document.Issuer, keys, &oidc.Config{ClientID: audience, SupportedSigningAlgs: document.Algorithms}), nil
}

// serve greets whoever has a token for this service.
func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	token, found := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !found {
		http.Error(w, "no bearer token", http.StatusUnauthorized)
		return
	}
	verified, err := s.verifier.Verify(r.Context(), token)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	fmt.Fprintf(w, "welcome, %s", verified.Subject)
}

// Call calls the service with a token, and returns the status and what it said.
func (s *Service) Call(ctx context.Context, token string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return 0, "", fmt.Errorf("call the next hop: %w", err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("call the next hop: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(body)), err
}

// Close ends the service and its connections.
func (s *Service) Close() error {
	s.client.CloseIdleConnections()
	return s.server.Close()
}
