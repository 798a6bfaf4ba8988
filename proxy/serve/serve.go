// Package serve answers: how do we listen safely?
//
// It holds the two listeners: the proxy's own, with TLS, limits and an orderly
// end, and the plain one for probes and metrics.
package serve

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/h2server"
)

const (
	pingAfter   = 30 * time.Second // of silence on an HTTP/2 connection
	pingTimeout = 15 * time.Second
	cutTimeout  = time.Second // for requests that were cut off to notice
)

// Config is what a [Server] is made of.
type Config struct {
	Listener    net.Listener
	Handler     http.Handler
	Certificate *Certificate
	// Limits bound what clients can use. Default: DefaultLimits.
	Limits Limits
	// OnRejected is called for each connection that is closed because there are
	// too many. Default: nothing is.
	OnRejected func()
	// ClientCAs returns the authorities whose certificates clients are asked
	// for, at each handshake. Certificates are asked for, and not judged here: a
	// refusal is an HTTP answer. Default: none are asked for.
	ClientCAs func() *x509.CertPool
	// Delay is how long the server goes on once it is told to end, so that load
	// balancers see it is not ready first. In its second half clients are asked
	// to leave, each with an answer that it gets anyhow.
	Delay time.Duration
	// Timeout is how long requests under way then have to end.
	Timeout time.Duration
	// OnStop is called when the end begins.
	OnStop func()
	// OnDrain is called after Delay: what waits for events should end now.
	OnDrain func()
	// Wait returns when no request is under way, upgraded ones included.
	Wait func(ctx context.Context) error
	Log  *slog.Logger
}

// Run serves until ctx ends, then ends in order: not ready, Delay, watches, and
// every other request up to Timeout. It returns nil if all of them ended by
// themselves, and an error if some had to be cut off or serving failed.
func Run(ctx context.Context, cfg Config) error {
	limits := cfg.Limits.orDefault()
	base, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var leave atomic.Bool
	cfg.Handler = sendAway(cfg.Handler, &leave)
	server := newServer(base, cfg, limits)
	failed := make(chan error, 1)
	listener := limitConnections(cfg.Listener, limits.Connections, cfg.OnRejected)
	go func() { failed <- server.ServeTLS(listener, "", "") }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve on %s: %w", cfg.Listener.Addr(), err)
	case <-ctx.Done():
	}

	cfg.OnStop()
	for _, leaving := range []bool{false, true} {
		leave.Store(leaving)
		select {
		case err := <-failed:
			return fmt.Errorf("serve on %s: %w", cfg.Listener.Addr(), err)
		case <-time.After(cfg.Delay / 2):
		}
	}
	cfg.OnDrain()
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Timeout)
	defer cancel()
	err := server.Shutdown(grace)
	if err == nil {
		// Upgraded connections are no longer the server's to wait for.
		err = cfg.Wait(grace)
	}
	if err != nil {
		cut() // ends upgraded connections and forwarded requests
		err = errors.Join(fmt.Errorf("some requests had to be cut off after %s", cfg.Timeout), server.Close())
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), cutTimeout)
		defer cancel()
		_ = cfg.Wait(last) // each still writes its line to the log; there is an error to return already
		return err
	}
	return nil
}

// sendAway lets each answer end its connection once leave is set: over HTTP/1.1
// by closing it after the answer, over HTTP/2 by GOAWAY, which leaves alone what
// is under way. A connection that is closed while nothing is under way may be
// closed into the next request, and clients do not repeat one that writes.
func sendAway(handler http.Handler, leave *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if leave.Load() && r.Header["Upgrade"] == nil { // an upgrade takes the connection anyhow
			w.Header().Set("Connection", "close")
		}
		handler.ServeHTTP(w, r)
	})
}

// newServer returns a server whose requests end with base.
func newServer(base context.Context, cfg Config, limits Limits) *http.Server {
	http2 := h2server.New(h2server.Config{
		Handler: cfg.Handler, HeaderBytes: limits.HeaderBytes, HeaderTime: limits.HeaderTime, IdleTime: limits.IdleTime,
		Streams: limits.Streams, PingAfter: pingAfter, PingTimeout: pingTimeout, Log: cfg.Log,
	})
	server := &http.Server{
		Handler:     joinLarge(cfg.Handler),
		ConnContext: withJoined,
		// `OPTIONS *` is the handler's to refuse.
		DisableGeneralOptionsHandler: true,
		BaseContext:                  func(net.Listener) context.Context { return base },
		ReadHeaderTimeout:            limits.HeaderTime,
		IdleTimeout:                  limits.IdleTime,
		MaxHeaderBytes:               limits.HeaderBytes,
		ErrorLog:                     slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
		TLSConfig:                    tlsConfig(cfg),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			"h2": func(server *http.Server, conn *tls.Conn, _ http.Handler) {
				state := conn.ConnectionState()
				http2.Serve(context.WithValue(base, http.ServerContextKey, server), conn, &state)
			},
		},
	}
	server.RegisterOnShutdown(http2.GoAway)
	return server
}

func tlsConfig(cfg Config) *tls.Config {
	base := &tls.Config{
		GetCertificate: cfg.Certificate.get, MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"},
	}
	if cfg.ClientCAs == nil {
		return base
	}
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		config := base.Clone()
		config.GetConfigForClient = nil
		config.ClientAuth = tls.RequestClientCert
		config.ClientCAs = cfg.ClientCAs()
		return config, nil
	}
	return base
}
