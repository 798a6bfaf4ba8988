package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/session"
	"github.com/kube-gatehouse/gatehouse/cmd/reload"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/exchange"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// exchangeSettings are those of the token exchange.
type exchangeSettings struct {
	Address     string        `env:"EXCHANGE_ADDRESS" doc:"Address of the token exchange (RFC 8693), such as :8444: TLS, with the serving certificate. Unset: no tokens are exchanged."`
	URL         string        `env:"EXCHANGE_URL" doc:"Origin of the token exchange as clients see it, such as https://gatehouse.example.com:8444. It is the issuer and the audience of session tokens. Together with EXCHANGE_ADDRESS."`
	PerMinute   int           `env:"EXCHANGE_RATE" envDefault:"60" doc:"Tokens that one user may exchange in a minute. More is 429."`
	KeyDir      string        `env:"SESSION_KEY_DIR" doc:"Directory with the keys of session tokens, one P-256 key in PEM in each file: signing.pem signs, and every *.pem is accepted. All replicas need the same. Reloaded when it changes. Unset: ServiceAccount tokens alone can be had."`
	MaxLifetime time.Duration `env:"SESSION_MAX_LIFETIME" envDefault:"1h" doc:"How long a session token lives at most. One that is older is not accepted either."`
	Lifetimes   []string      `env:"SESSION_LIFETIMES" doc:"Shorter lifetimes for sessions that began with a token of these issuers, as issuer=duration separated by commas, such as https://ci.example.com=10m."`
	Outlive     []string      `env:"SESSION_OUTLIVE" doc:"Issuers whose tokens a session may outlive, separated by commas. A session that is made of a session never outlives it."`
}

// lifetimes returns Lifetimes as a map, and what is wrong with them.
func (e exchangeSettings) lifetimes() (map[string]time.Duration, error) {
	all := make(map[string]time.Duration, len(e.Lifetimes))
	for _, pair := range e.Lifetimes {
		at := strings.LastIndexByte(pair, '=')
		if at <= 0 {
			return nil, fmt.Errorf("%q is not of the form issuer=duration", pair)
		}
		limit, err := time.ParseDuration(pair[at+1:])
		if err != nil || limit < time.Minute {
			return nil, fmt.Errorf("%q does not end with a duration of at least 1m", pair)
		}
		if _, twice := all[pair[:at]]; twice {
			return nil, fmt.Errorf("the issuer %q stands twice", pair[:at])
		}
		all[pair[:at]] = limit
	}
	return all, nil
}

// checkExchange judges the settings of the token exchange. None may be set that
// has no effect.
func (s *settings) checkExchange(f *faults) {
	e := s.Exchange
	for _, needing := range []struct {
		name  string
		set   bool
		needs string
		given bool
	}{
		{"EXCHANGE_ADDRESS", e.Address != "", "EXCHANGE_URL", e.URL != ""},
		{"EXCHANGE_URL", e.URL != "", "EXCHANGE_ADDRESS", e.Address != ""},
		{"SESSION_KEY_DIR", e.KeyDir != "", "EXCHANGE_ADDRESS", e.Address != ""},
		{"SESSION_LIFETIMES", len(e.Lifetimes) > 0, "SESSION_KEY_DIR", e.KeyDir != ""},
		{"SESSION_OUTLIVE", len(e.Outlive) > 0, "SESSION_KEY_DIR", e.KeyDir != ""},
	} {
		if needing.set && !needing.given {
			f.add(needing.name, "needs GATEHOUSE_%s", needing.needs)
		}
	}
	if e.URL != "" && !isOrigin(e.URL) {
		f.add("EXCHANGE_URL", "%q is not an origin like https://gatehouse.example.com:8444", e.URL)
	}
	if e.PerMinute < 1 && !f.has("EXCHANGE_RATE") {
		f.add("EXCHANGE_RATE", "%d is not at least 1", e.PerMinute)
	}
	if e.MaxLifetime < time.Minute && !f.has("SESSION_MAX_LIFETIME") {
		f.add("SESSION_MAX_LIFETIME", "%s is too short: at least 1m", e.MaxLifetime)
	}
	if _, err := e.lifetimes(); err != nil && !f.has("SESSION_LIFETIMES") {
		f.add("SESSION_LIFETIMES", "%w", err)
	}
	if e.Address != "" && (e.Address == s.ListenAddress || e.Address == s.OpsAddress) {
		if _, port, _ := net.SplitHostPort(e.Address); port != "0" {
			f.add("EXCHANGE_ADDRESS", "is the address of the proxy or of the ops port too")
		}
	}
	if e.URL != "" && e.URL == s.OIDC.IssuerURL {
		f.add("EXCHANGE_URL", "is GATEHOUSE_OIDC_ISSUER_URL too: session tokens are of no other issuer")
	}
}

// addSessions makes what signs and accepts session tokens, if there is to be any.
func (p *parts) addSessions(f *faults) {
	e := p.settings.Exchange
	lifetimes, err := e.lifetimes()
	if e.KeyDir == "" || e.URL == "" || e.MaxLifetime <= 0 || err != nil {
		return // reported with the settings
	}
	p.sessions, err = session.New(session.Config{
		Issuer: e.URL, MaxLifetime: e.MaxLifetime, Lifetimes: lifetimes, Outlive: e.Outlive, Stands: p.stands,
	})
	if err != nil {
		f.add("SESSION_KEY_DIR", "%w", err)
		return
	}
	files, err := sessionKeyFiles(e.KeyDir)
	if err != nil {
		f.add("SESSION_KEY_DIR", "%w", err)
		return
	}
	f.addAll("SESSION_KEY_DIR", p.watcher.Add(reload.Source{Name: "session_keys", Files: files, Load: p.loadSessionKeys}))
}

// sessionKeyFiles are the keys of a directory, and the directory itself, which stands
// for keys that are added.
func sessionKeyFiles(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	return append(files, dir), err
}

func (p *parts) loadSessionKeys() ([]string, error) {
	dir := p.settings.Exchange.KeyDir
	files, err := sessionKeyFiles(dir)
	if err != nil {
		return nil, err
	}
	keys, err := session.LoadKeys(dir)
	if err != nil {
		return files, err
	}
	p.sessions.SetKeys(keys)
	p.changed()
	p.log.Info("keys of session tokens loaded", "directory", dir, "keys", len(keys.Public().Keys))
	return files, nil
}

// stands returns an error if what a session rests on would not be accepted any
// more, whichever credential it was.
func (p *parts) stands(id *auth.Identity) error {
	switch id.Kind {
	case auth.KindOIDC:
		if !p.issuers.knows(id.Issuer) {
			return errors.New("the issuer that it began with is not configured any more")
		}
	case auth.KindTokenFile:
		if names := p.tokenUsers.Load(); names == nil || !(*names)[id.Name] {
			return errors.New("the token file has no row of its user any more")
		}
	case auth.KindServiceAccount:
		if p.accounts == nil {
			return errors.New("tokens of ServiceAccounts are not accepted any more")
		}
	case auth.KindSession:
	default:
		return fmt.Errorf("it began with a credential of the kind %q", id.Kind)
	}
	return nil
}

// checkRevoked returns a refusal if id, or what it rests on, is denied.
func (p *parts) checkRevoked(id *auth.Identity) error {
	if err := p.revoked.Check(id); err != nil || id == nil {
		return err
	}
	for _, behind := range id.Behind {
		if err := p.revoked.Check(behind); err != nil {
			return err
		}
	}
	return nil
}

// startExchange listens for the token exchange, and returns what serves it until
// its context ends: with the certificate, the limits and the patience of the
// proxy. Without an address that only waits.
func (p *parts) startExchange(ctx context.Context, door *proxy.Proxy) (run func(context.Context) error, err error) {
	if p.settings.Exchange.Address == "" {
		return func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}, nil
	}
	handler, err := p.newExchange(door)
	if err != nil {
		return nil, err
	}
	listener, err := p.listen(ctx, "EXCHANGE_ADDRESS", p.settings.Exchange.Address)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		defer listener.Close()
		p.log.Info("exchanging tokens", "address", listener.Addr().String(), "url", p.settings.Exchange.URL)
		return serve.Run(ctx, serve.Config{
			Listener: listener, Handler: handler, Certificate: p.certificate,
			Limits: p.settings.Limits.connections(), OnRejected: door.RejectedConnection,
			Delay: p.settings.ShutdownDelay, Timeout: p.settings.ShutdownTimeout,
			OnStop: func() {}, OnDrain: func() {}, Wait: func(context.Context) error { return nil }, Log: p.log,
		})
	}, nil
}

// formTime is how long a form may take to arrive, if no other body may take less:
// what waits for it is held in memory for somebody whom nobody knows yet.
const formTime = 10 * time.Second

func (p *parts) newExchange(door *proxy.Proxy) (http.Handler, error) {
	cfg := exchange.Config{
		URL: p.settings.Exchange.URL, Door: door, Sessions: p.sessions,
		Nameable:  p.nameable,
		PerMinute: p.settings.Exchange.PerMinute, BodyTime: min(p.settings.Limits.BodyTimeout, formTime),
		Audit: p.audit, Metrics: p.metrics, Log: p.log,
	}
	if p.sessions != nil {
		cfg.Actors = upstream.NewAccessReviewer(&p.upstream)
	}
	return exchange.New(cfg)
}

// nameable returns an error for a user whom a session may not name. A ServiceAccount
// is none even if its name is allowed: constrained impersonation takes its name alone,
// without what a session says of itself.
func (p *parts) nameable(id *auth.Identity) error {
	if impersonate.IsServiceAccount(id.Name) {
		return errors.New("a session names no ServiceAccount")
	}
	return p.names.Check(auth.KindSession, &id.User)
}
