package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

func newServe(environ map[string]string) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: "Run the proxy until SIGTERM or an interrupt, then end in order: not ready, a delay, watches,\n" +
			"and what else is under way. A second signal ends at once.\n\nSettings (environment variables):\n\n" + settingsHelp(),
		Example: "  GATEHOUSE_TLS_CERT_FILE=tls.crt GATEHOUSE_TLS_KEY_FILE=tls.key \\\n" +
			"  GATEHOUSE_KUBECONFIG=gatehouse.kubeconfig \\\n" +
			"  GATEHOUSE_OIDC_ISSUER_URL=https://login.example.com GATEHOUSE_OIDC_CLIENT_ID=kubernetes \\\n" +
			"  gatehouse serve",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runServe(cmd.Context(), environ, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
}

// load reads the settings and all files. The error lists every fault.
func load(environ map[string]string, log *slog.Logger) (*parts, error) {
	var f faults
	s := parseSettings(environ, &f)
	p := assemble(s, log, &f)
	return p, f.err()
}

// newLog returns the log that the environment asks for, or the default if it
// asks for one that is unknown; load reports that.
func newLog(environ map[string]string, w io.Writer) *slog.Logger {
	var ignored faults
	s := parseSettings(environ, &ignored)
	level, err := s.logLevel()
	if err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if s.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// runServe is the command serve.
func runServe(ctx context.Context, environ map[string]string, stdout, stderr io.Writer) error {
	log := newLog(environ, stderr)
	p, err := load(environ, log)
	if err != nil {
		return err
	}
	h := &health{parts: p}
	if err := h.registerMetrics(); err != nil {
		return err
	}
	handler, err := h.newProxy()
	if err != nil {
		return err
	}
	listener, err := p.listen(ctx, "LISTEN_ADDRESS", p.settings.ListenAddress)
	if err != nil {
		return err
	}
	defer listener.Close()
	opsListener, err := listen(ctx, "OPS_ADDRESS", p.settings.OpsAddress)
	if err != nil {
		return err
	}

	exchange, err := p.startExchange(ctx, handler)
	if err != nil {
		return err
	}

	endAudit, err := p.startAudit(ctx, stdout)
	if err != nil {
		return err
	}
	defer endAudit()

	// Reloads, keys and probes go on while the last requests end.
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	h.startBackground(background, handler)
	ops := serve.OpsServer(serve.Ops(h.checks, p.metrics))
	defer ops.Close()
	go func() {
		if err := ops.Serve(opsListener); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the ops port failed", "error", err)
		}
	}()
	log.Info("serving", "version", currentBuild().Version, "address", listener.Addr().String(),
		"ops_address", opsListener.Addr().String(), "upstream", p.upstream.Target().URL.String())
	if err = h.serve(ctx, listener, handler, exchange); err == nil {
		log.Info("stopped")
	}
	return err
}

// startBackground starts what goes on until ctx ends.
func (h *health) startBackground(ctx context.Context, handler *proxy.Proxy) {
	p := h.parts
	recheck := handler.Recheck
	p.recheck.Store(&recheck)
	if p.settings.EndStreams {
		go handler.Run(ctx)
	}
	p.issuers.start(ctx)
	go p.watcher.Run(ctx)
	go h.watchUpstream(ctx)
	go h.watchRights(ctx)
	go tuneMemory(ctx)
}

// serve serves the proxy's port and the token exchange until ctx ends, or one of
// them fails: neither goes on without the other.
func (h *health) serve(ctx context.Context, listener net.Listener, handler *proxy.Proxy, exchange func(context.Context) error) error {
	p := h.parts
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	exchanged := make(chan error, 1)
	go func() {
		defer stop()
		exchanged <- exchange(ctx)
	}()
	err := serve.Run(ctx, serve.Config{
		Listener: listener, Handler: handler, Certificate: p.certificate, ClientCAs: p.clientCAs(),
		Limits: p.settings.Limits.connections(), OnRejected: handler.RejectedConnection,
		Delay: p.settings.ShutdownDelay, Timeout: p.settings.ShutdownTimeout,
		OnStop: func() {
			h.stopping.Store(true)
			p.log.Info("shutting down", "delay", p.settings.ShutdownDelay.String(), "timeout", p.settings.ShutdownTimeout.String())
		},
		OnDrain: handler.EndWatches, Wait: handler.Wait, Log: p.log,
	})
	stop()
	return errors.Join(err, <-exchanged)
}

func (h *health) newProxy() (*proxy.Proxy, error) {
	p := h.parts
	return proxy.New(proxy.Config{
		Target:         p.upstream.Target,
		Authenticator:  p.authenticator(),
		Names:          p.names,
		Permits:        p.permits(),
		OnRefusedToken: p.forget,
		Denied:         p.checkRevoked,
		Limits:         p.settings.Limits.requests(),
		Proxies:        p.settings.proxies,
		ID:             p.upstream.ID,
		Self:           p.ownName,
		MayName:        h.mayName,
		NotReady:       func() bool { return h.upstreamError() != nil },
		OnForbidden:    h.doubtRights,
		Audit:          p.audit,
		Metrics:        p.metrics,
		Log:            p.log,
	})
}

// listen returns a listener for clients, at the address that a variable names.
func (p *parts) listen(ctx context.Context, variable, address string) (net.Listener, error) {
	listener, err := listen(ctx, variable, address)
	if err == nil && p.settings.ProxyProtocol == "on" {
		listener = &serve.ProxyProtocol{Listener: listener, Trusts: p.settings.proxies.Trusts, Log: p.log}
	}
	return listener, err
}

func listen(ctx context.Context, variable, address string) (net.Listener, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("%s%s: %w", envPrefix, variable, err)
	}
	return listener, nil
}
