// Package session answers: is this a session token of gatehouse's own, and on
// what does it rest?
//
// A session token is what the exchange gives for another credential
// (docs/decisions/0027-token-exchange.md). It names the user whom that credential
// named, may be narrowed by a scope, and says on which credentials it rests: it
// is worth nothing once one of them is denied.
package session

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

const (
	// clockSkew is how far the clocks of two replicas may be apart.
	clockSkew = time.Minute
	// maxActors and maxCredentials bound chains of exchanges.
	maxActors, maxCredentials = 4, 16
)

// Config is what [Sessions] are made of.
type Config struct {
	// Issuer is the URL of the exchange: `iss` and `aud` of session tokens.
	Issuer string
	// MaxLifetime is how long a session may live, whatever else is said. A token
	// that is older is not accepted either. It must be positive.
	MaxLifetime time.Duration
	// Lifetimes are shorter ones, by the issuer of the credential with which a
	// session began. Default: MaxLifetime.
	Lifetimes map[string]time.Duration
	// Outlive are the issuers whose tokens a session may outlive. Default: none.
	Outlive []string
	// Stands returns an error if a credential of this kind, issuer and user would
	// not be accepted any more, whichever it was. Default: all stand.
	Stands func(*auth.Identity) error
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Sessions makes session tokens, and says whom they name. It is an
// [auth.TokenAuthenticator]. Without keys it does neither.
type Sessions struct {
	cfg      Config
	digester *digest.Digester
	live     atomic.Pointer[version]
}

// version is what goes with one set of keys.
type version struct {
	keys  *Keys
	cache cache
}

// New returns Sessions that have no keys yet.
func New(cfg Config) (*Sessions, error) {
	if cfg.Issuer == "" || cfg.MaxLifetime <= 0 {
		return nil, errors.New("session: an issuer and a positive lifetime are needed")
	}
	if cfg.Stands == nil {
		cfg.Stands = func(*auth.Identity) error { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Sessions{cfg: cfg, digester: digest.New("session", cfg.Issuer)}, nil
}

// SetKeys makes keys the ones in use. Tokens of keys that are not among them are
// not accepted any more.
func (s *Sessions) SetKeys(keys *Keys) { s.live.Store(&version{keys: keys}) }

// Public returns the public keys.
func (s *Sessions) Public() jose.JSONWebKeySet {
	if v := s.live.Load(); v != nil {
		return v.keys.Public()
	}
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
}

// AuthenticateToken returns whom a session token names. Whether what it rests on
// is denied by a revocation is for the caller to check: see Behind of the
// identity. A token that does not claim to be of this issuer gives
// [auth.ErrNotMine].
func (s *Sessions) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	v := s.live.Load()
	if v == nil {
		return nil, auth.ErrNotMine
	}
	key := s.digester.Sum(token)
	id := v.cache.get(key)
	if id == nil {
		if !claimsToBe(token, s.cfg.Issuer) {
			return nil, auth.ErrNotMine
		}
		var refusal *auth.Refusal
		if id, refusal = s.judge(v.keys, token); refusal != nil {
			return nil, refusal
		}
		v.cache.put(key, id)
	}
	if refusal := s.timely(id); refusal != nil {
		return nil, refusal
	}
	for _, behind := range id.Behind {
		if err := s.cfg.Stands(behind); err != nil {
			return nil, refuse(auth.OriginGone, err.Error())
		}
	}
	return id, nil
}

// judge reads a token that is not known yet.
func (s *Sessions) judge(keys *Keys, token string) (*auth.Identity, *auth.Refusal) {
	c, refusal := keys.verify(token)
	if refusal != nil {
		return nil, refusal
	}
	if c.Issuer != s.cfg.Issuer || c.Audience != s.cfg.Issuer {
		return nil, refuse(auth.WrongAudience, "signed by us, for another exchange")
	}
	id, err := c.identity()
	if err != nil {
		return nil, refuse(auth.MalformedToken, err.Error())
	}
	// The limit may have been lowered since. Streams, and sessions that are made of
	// this one, go by the same end.
	id.Expires = earlier(id.Expires, id.Issued.Add(s.cfg.MaxLifetime))
	return id, nil
}

// timely judges what changes with time.
func (s *Sessions) timely(id *auth.Identity) *auth.Refusal {
	now := s.cfg.Now()
	switch {
	case !now.Before(id.Expires):
		refusal := refuse(auth.Expired, "the session has ended")
		refusal.At = id.Expires
		return refusal
	case id.Issued.After(now.Add(clockSkew)):
		refusal := refuse(auth.NotYetValid, "issued in the future")
		refusal.At = id.Issued
		return refusal
	}
	return nil
}

// Grant is what a session is asked for with.
type Grant struct {
	// Subject is whom the session is to be of. It was verified, and may be
	// anybody's but a ServiceAccount's or anonymous.
	Subject *auth.Identity
	// Actor acts for the subject. It was verified, and may. Default: nobody does.
	Actor *auth.Identity
	// Scope is what the session is to be narrowed to, besides what Subject and
	// Actor are narrowed to.
	Scope scope.Scope
	// Lifetime is how long it should live at most. Default: as long as it may.
	Lifetime time.Duration
	// ClientID is what the client calls itself.
	ClientID string
}

// Issued is a new session token.
type Issued struct {
	Token   string
	ID      string // its `jti`
	Expires time.Time
	Scope   scope.Scope
}

// Errors of [Sessions.Issue], each the asker's.
var (
	ErrNoKeys      = errors.New("there are no keys to sign session tokens with")
	ErrChain       = errors.New("the chain of tokens or actors is too long, or an actor is acted for")
	ErrEnding      = errors.New("what the session would rest on ends now")
	ErrScope       = errors.New("the scopes together are too long")
	ErrTooLarge    = errors.New("the session token would be too long to be sent")
	ErrUnsupported = errors.New("no session can be made of this kind of credential")
)

// Issue makes a session token. It never allows what the subject's credential, or
// the actor's, did not, and never outlives a session that it is made of.
func (s *Sessions) Issue(g Grant) (Issued, error) {
	v := s.live.Load()
	if v == nil {
		return Issued{}, ErrNoKeys
	}
	switch g.Subject.Kind {
	case auth.KindOIDC, auth.KindTokenFile, auth.KindSession, auth.KindServiceAccount:
	default:
		return Issued{}, ErrUnsupported
	}
	now := s.cfg.Now().Truncate(time.Second)
	end, err := s.end(g, now)
	if err != nil {
		return Issued{}, err
	}
	narrow, err := narrowest(g)
	if err != nil {
		return Issued{}, err
	}
	credentials, actors, err := chain(g)
	if err != nil {
		return Issued{}, err
	}
	c := &claims{
		Issuer: s.cfg.Issuer, Audience: s.cfg.Issuer, Subject: g.Subject.Name, ClientID: g.ClientID, ID: rand.Text(),
		IssuedAt: now.Unix(), Expiry: end.Unix(), AuthTime: credentials[0].IssuedAt, Scope: narrow.String(),
		Own: own{User: user{g.Subject.Name, g.Subject.UID, g.Subject.Groups, withoutID(g.Subject.Extra)}, Credentials: credentials},
	}
	if c.AuthTime == 0 {
		c.AuthTime = c.IssuedAt
	}
	for _, name := range slices.Backward(actors) {
		c.Act = &act{name, c.Act}
	}
	token, err := v.keys.sign(c)
	if err != nil {
		return Issued{}, fmt.Errorf("sign a session token: %w", err)
	}
	if len(token) > auth.MaxTokenBytes {
		return Issued{}, ErrTooLarge
	}
	return Issued{Token: token, ID: c.ID, Expires: end, Scope: narrow}, nil
}

// end returns when the session ends.
func (s *Sessions) end(g Grant, now time.Time) (time.Time, error) {
	origin := origin(g.Subject)
	end := now.Add(s.cfg.MaxLifetime)
	if limit, found := s.cfg.Lifetimes[origin.Issuer]; found {
		end = earlier(end, now.Add(limit))
	}
	if g.Lifetime > 0 {
		end = earlier(end, now.Add(g.Lifetime))
	}
	mayOutlive := g.Subject.Kind != auth.KindSession && origin.Issuer != "" && slices.Contains(s.cfg.Outlive, origin.Issuer)
	if !g.Subject.Expires.IsZero() && !mayOutlive {
		end = earlier(end, g.Subject.Expires)
	}
	if g.Actor != nil && !g.Actor.Expires.IsZero() {
		end = earlier(end, g.Actor.Expires)
	}
	end = end.Truncate(time.Second)
	if !end.After(now) {
		return time.Time{}, ErrEnding
	}
	return end, nil
}

// origin is the credential with which id began.
func origin(id *auth.Identity) *auth.Identity {
	if id.Kind == auth.KindSession && len(id.Behind) > 0 {
		return id.Behind[0]
	}
	return id
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func narrowest(g Grant) (scope.Scope, error) {
	narrow, err := g.Subject.Scope.And(g.Scope)
	if err == nil && g.Actor != nil {
		narrow, err = narrow.And(g.Actor.Scope)
	}
	if err != nil {
		return scope.Scope{}, ErrScope
	}
	return narrow, nil
}

// chain returns the credentials on which the session rests, and who acts in it.
func chain(g Grant) (credentials []credential, actors []string, err error) {
	add := func(id *auth.Identity) {
		for _, behind := range id.Behind {
			credentials = append(credentials, credentialOf(behind))
		}
		credentials = append(credentials, credentialOf(id))
	}
	add(g.Subject)
	actors = g.Subject.Actors
	if g.Actor != nil {
		if len(g.Actor.Actors) > 0 {
			return nil, nil, ErrChain
		}
		add(g.Actor)
		actors = append([]string{g.Actor.Name}, actors...)
	}
	if len(credentials) > maxCredentials || len(actors) > maxActors {
		return nil, nil, ErrChain
	}
	return credentials, actors, nil
}

// withoutID returns extra without the id of the credential that it came from: a
// session has its own.
func withoutID(extra map[string][]string) map[string][]string {
	if _, found := extra[auth.CredentialIDKey]; !found {
		return extra
	}
	without := maps.Clone(extra)
	delete(without, auth.CredentialIDKey)
	return without
}

func refuse(reason auth.Reason, detail string) *auth.Refusal {
	return auth.Refuse(auth.KindSession, reason, detail)
}
