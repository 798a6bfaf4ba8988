// Package exchange answers: how is one token exchanged for another?
//
// It is an OAuth 2.0 token endpoint for RFC 8693, on an origin of its own. What
// it takes is what gatehouse accepts anyway, judged by the same code; what it
// gives is a ServiceAccount's token, which the API server makes for the caller,
// or a session token that allows no more than the token it is made of
// (docs/decisions/0027-token-exchange.md).
package exchange

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
	"github.com/kube-gatehouse/gatehouse/auth/session"
	"github.com/kube-gatehouse/gatehouse/proxy/address"
	"github.com/kube-gatehouse/gatehouse/proxy/audit"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// The paths that are served.
const (
	TokenPath    = "/token"
	KeysPath     = "/jwks"
	MetadataPath = "/.well-known/oauth-authorization-server" // RFC 8414 section 3
)

// Door is the proxy, through which callers and their requests to the API server
// go as any others do.
type Door interface {
	http.Handler
	// SignIn returns whom a token of client names. Its error has a sentence for
	// the caller, and is a [*proxy.Refused].
	SignIn(r *http.Request, client, token string) (*auth.Identity, error)
	// Client returns the address that a request comes from.
	Client(r *http.Request) string
}

// Config is what a [Server] is made of. Door and URL are required.
type Config struct {
	// URL is the origin of the endpoint, as clients see it: its issuer.
	URL  string
	Door Door
	// Sessions makes session tokens. Default: none are made.
	Sessions *session.Sessions
	// Actors tells whether somebody may act for somebody else. Default: nobody
	// may.
	Actors impersonate.Reviewer
	// Nameable returns an error for a user whom a session may not name. Default:
	// it may name everybody.
	Nameable func(*auth.Identity) error
	// PerMinute is how many exchanges one user may make. Default: 60.
	PerMinute int
	// BodyTime is how long a request's body may take to arrive. Default: 10
	// seconds.
	BodyTime time.Duration
	// Audit records exchanges. Default: nobody does.
	Audit *audit.Trail
	// Metrics gets the metrics. Default: nobody does.
	Metrics prometheus.Registerer
	// Log gets one line for each exchange. Default: discarded.
	Log *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Server is the http.Handler of the endpoint.
type Server struct {
	cfg       Config
	metrics   *metrics
	rates     *rates
	strangers *places[netip.Addr]
	slots     *places[string]
	metadata  []byte
}

// New returns a Server. The error says what is missing in cfg, or that its
// metrics are registered already.
func New(cfg Config) (*Server, error) {
	if cfg.URL == "" || cfg.Door == nil {
		return nil, errors.New("exchange: a URL and a door are needed")
	}
	if cfg.Nameable == nil {
		cfg.Nameable = func(*auth.Identity) error { return nil }
	}
	if cfg.PerMinute == 0 {
		cfg.PerMinute = 60
	}
	if cfg.BodyTime == 0 {
		cfg.BodyTime = 10 * time.Second
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	m, err := newMetrics(cfg.Metrics)
	if err != nil {
		return nil, err
	}
	metadata, err := json.Marshal(map[string]any{
		"issuer": cfg.URL, "token_endpoint": cfg.URL + TokenPath, "jwks_uri": cfg.URL + KeysPath,
		"grant_types_supported": []string{GrantType}, "response_types_supported": []string{},
		"token_endpoint_auth_methods_supported": []string{"none"},
	})
	if err != nil {
		return nil, fmt.Errorf("write the metadata: %w", err)
	}
	return &Server{cfg: cfg, metrics: m, rates: newRates(cfg.PerMinute), strangers: newPlaces[netip.Addr](maxStrangers), slots: newPlaces[string](maxUnderWay), metadata: metadata}, nil
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	switch r.URL.Path {
	case TokenPath:
		s.token(w, r)
	case MetadataPath:
		s.publish(w, r, s.metadata)
	case KeysPath:
		keys := s.keys()
		s.publish(w, r, keys)
	default:
		writeError(w, notServed)
	}
}

// publish answers with what everybody may know.
func (s *Server) publish(w http.ResponseWriter, r *http.Request, body []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		writeError(w, notGet)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(body) // the caller may have gone
}

func (s *Server) keys() []byte {
	keys := []byte(`{"keys":[]}`)
	if s.cfg.Sessions != nil {
		if written, err := json.Marshal(s.cfg.Sessions.Public()); err == nil {
			keys = written
		}
	}
	return keys
}

// trade is one exchange, as far as the log, the audit and the metrics go.
type trade struct {
	id      string
	client  string
	start   time.Time
	subject *auth.Identity // nil if nobody was signed in
	actor   *auth.Identity
	target  string // the closed set of the metric
	account string // the ServiceAccount's, as namespace/name
	// requestID is the audit id of the request to the API server that made its token.
	requestID string
	issued    *issued
	fault     *fault
}

// issued is what was given.
type issued struct {
	token   string
	id      string // `jti` of a session token
	expires time.Time
	scope   scope.Scope
	typ     string
}

// token answers a request for a token.
func (s *Server) token(w http.ResponseWriter, r *http.Request) {
	x := &trade{id: uuid.NewString(), client: s.cfg.Door.Client(r), start: s.cfg.Now(), target: targetNone}
	w.Header().Set("Audit-Id", x.id)
	x.issued, x.fault = s.guarded(x, w, r)
	if x.fault == nil {
		writeToken(w, x.issued, s.cfg.Now())
	} else {
		writeError(w, x.fault)
	}
	s.record(x, r)
}

// guarded is exchange, of which a panic ends nothing but itself.
func (s *Server) guarded(x *trade, w http.ResponseWriter, r *http.Request) (made *issued, f *fault) {
	defer func() {
		if recover() != nil {
			// The value may hold anything, a token too; the stack names functions.
			s.cfg.Log.Error("panic while exchanging a token", "audit_id", x.id, "stack", string(debug.Stack()))
			made, f = nil, internal
		}
	}()
	return s.exchange(x, w, r)
}

// exchange is the straight line: form, who asks, how often, for what.
func (s *Server) exchange(x *trade, w http.ResponseWriter, r *http.Request) (*issued, *fault) {
	form, fault := s.admit(x, w, r)
	if fault != nil {
		return nil, fault
	}
	if !s.rates.allow(x.subject.Name, x.start) {
		return nil, tooOften
	}
	leave, ok := s.slots.enter(x.subject.Name) // strangers cannot take these places
	if !ok {
		return nil, busy
	}
	defer leave()
	if form.account != nil {
		return s.accountToken(x, r, form)
	}
	return s.session(x, r, form)
}

// admit is the part of strangers: what they want, and who they are.
func (s *Server) admit(x *trade, w http.ResponseWriter, r *http.Request) (*form, *fault) {
	leave, ok := s.strangers.enter(address.Network(x.client))
	if !ok {
		return nil, crowded
	}
	defer leave()
	form, fault := s.readForm(w, r)
	if fault != nil {
		return nil, fault
	}
	x.target = form.target()
	if x.subject, fault = s.signIn(x, r, form.subject); fault != nil {
		return nil, fault
	}
	return form, nil
}

// signIn returns whom one of the tokens names.
func (s *Server) signIn(x *trade, r *http.Request, t subject) (*auth.Identity, *fault) {
	id, err := s.cfg.Door.SignIn(r, x.client, t.token)
	if err != nil {
		return nil, refused(err)
	}
	if id.Kind == auth.KindAnonymous || id.Kind == auth.KindClientCert {
		return nil, wrongKind // nobody's token
	}
	if t.typ == typeIDToken && id.Kind != auth.KindOIDC {
		return nil, wrongType
	}
	return id, nil
}

// session makes a session token.
func (s *Server) session(x *trade, r *http.Request, form *form) (*issued, *fault) {
	if s.cfg.Sessions == nil {
		return nil, noSessions
	}
	grant := session.Grant{Subject: x.subject, Scope: form.scope, Lifetime: form.lifetime, ClientID: form.clientID}
	if form.actor != nil {
		var fault *fault
		if x.actor, fault = s.signIn(x, r, *form.actor); fault != nil {
			return nil, fault
		}
		if fault := s.mayAct(r.Context(), x.actor, x.subject); fault != nil {
			return nil, fault
		}
		grant.Actor = x.actor
	}
	if err := s.cfg.Nameable(x.subject); err != nil {
		return nil, notNameable
	}
	made, err := s.cfg.Sessions.Issue(grant)
	if err != nil {
		if f, known := sessionFaults[err]; known { //nolint:errorlint // the errors of Issue are these values
			return nil, f
		}
		s.cfg.Log.Error("a session token could not be made", "audit_id", x.id, "error", err)
		return nil, internal
	}
	return &issued{token: made.Token, id: made.ID, expires: made.Expires, scope: made.Scope, typ: form.wanted}, nil
}

// The right to act for somebody, as the cluster's rules give it.
const (
	actGroup    = "kube-gatehouse.github.io"
	actResource = "users"
	actVerb     = "act-for"
)

// mayAct asks the cluster whether actor may act for subject.
func (s *Server) mayAct(ctx context.Context, actor, subject *auth.Identity) *fault {
	if s.cfg.Actors == nil {
		return noActors
	}
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	allowed, err := s.cfg.Actors.Allowed(ctx, impersonate.Authenticated(&actor.User), impersonate.Attributes{
		Verb: actVerb, Group: actGroup, Version: "v1", Resource: actResource, Name: subject.Name,
	})
	switch {
	case err != nil:
		s.cfg.Log.Error("whether a caller may act for another user could not be asked", "error", err)
		return cannotTell
	case !allowed:
		return mayNotAct
	}
	return nil
}

// reviewTime is how long the API server may take to say who may act for whom.
const reviewTime = 10 * time.Second
