// Package oidc answers: is this JWT from a trusted issuer, and whom does it
// name?
//
// A token is verified by go-oidc and go-jose with keys that this package
// fetches itself ([Issuer.Run]), because forged tokens must not be able to make
// it ask the issuer again and again, a withdrawn key must stop working, and an
// issuer that is down must not lock out the people whose tokens are good.
//
// Whatever the token says is told apart in two halves: before its signature is
// verified, every fault gives the caller the same answer; afterwards the
// refusal says what is wrong.
package oidc

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	gooidc "github.com/coreos/go-oidc/v3/oidc"
	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Algorithms are the signing algorithms that may be configured, those of
// kube-apiserver's --oidc-signing-algs.
func Algorithms() []string {
	return []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}
}

// Mapping makes a user of verified claims.
type Mapping interface {
	// User returns whom claims name, in lists and maps that nobody else has. Its
	// error is a [*auth.Refusal].
	User(ctx context.Context, claims map[string]any) (auth.User, error)
	// Claims returns the names of the claims that it reads by name.
	Claims() []string
	// GroupsClaims returns those of them that it reads as groups. As in
	// kube-apiserver, they alone may stand elsewhere; what expressions read may
	// not.
	GroupsClaims() []string
}

// Config describes one issuer.
type Config struct {
	URL       string   // the exact `iss` of its tokens; https
	Audiences []string // a token must be for one of them
	Mapping   Mapping
	// DiscoveryURL is where the discovery document is. Default: the well-known
	// place below URL.
	DiscoveryURL string
	// Resolver finds groups to which tokens only refer. Default: nobody does,
	// so that Mapping sees the tokens as they are.
	Resolver Resolver
	// Algorithms that may sign. Default: RS256.
	Algorithms []string
	// AuthorizedParties are the clients, besides Audiences, that `azp` may
	// name; "*" stands for any. Default: none.
	AuthorizedParties []string
	// TokenTypes are the values of the `typ` header that an ID token may have,
	// besides none at all. Default: JWT.
	TokenTypes []string
	// KeyOrigins are origins (https://host) besides the issuer's own from which
	// its discovery document may name keys. Default: none.
	KeyOrigins []string
	// Roots verify the issuer's certificate. Default: the system's.
	Roots *x509.CertPool
	// RefreshInterval is how often keys are fetched again. Default: 5 minutes.
	RefreshInterval time.Duration
	// MaxKeyAge is how long keys are used after the last good fetch. Default:
	// 24 hours.
	MaxKeyAge time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// OnFetch hears of each attempt to fetch the keys. Default: nobody does.
	OnFetch func(ok bool)
	// OnLookup hears of each token that names this issuer: whether it was known
	// from before, or had to be verified. Default: nobody does.
	OnLookup func(hit bool)
	// OnKeys hears that the issuer publishes other keys than before. Default:
	// nobody does.
	OnKeys func()
	// Log gets failed fetches. Default: discarded.
	Log *slog.Logger
}

// Leeways of kube-apiserver: none for `exp`, a minute for `nbf`. `iat`, which
// kube-apiserver does not look at, is treated as `nbf` is.
const notBeforeLeeway = time.Minute

// Issuer verifies the tokens of one issuer. It needs Run to have keys.
type Issuer struct {
	cfg    Config
	url    string
	client *http.Client
	ring   *keyRing

	mu           sync.Mutex
	keysURL      string
	discoveryErr error // what the last discovery met
}

// New checks cfg and returns an issuer without keys. It asks nobody.
func New(cfg Config) (*Issuer, error) {
	if err := checkURL(cfg.URL); err != nil {
		return nil, err
	}
	if len(cfg.Audiences) == 0 || slices.Contains(cfg.Audiences, "") || cfg.Mapping == nil {
		return nil, fmt.Errorf("issuer %s: an audience and a mapping are needed", cfg.URL)
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{"RS256"}
	}
	for _, alg := range cfg.Algorithms {
		if !slices.Contains(Algorithms(), alg) {
			return nil, fmt.Errorf("issuer %s: unknown signing algorithm %q, known are %s", cfg.URL, alg, strings.Join(Algorithms(), ", "))
		}
	}
	if cfg.TokenTypes == nil {
		cfg.TokenTypes = []string{"JWT"}
	}
	cfg.RefreshInterval = orDefault(cfg.RefreshInterval, 5*time.Minute)
	cfg.MaxKeyAge = orDefault(cfg.MaxKeyAge, 24*time.Hour)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.OnFetch == nil {
		cfg.OnFetch = func(bool) {}
	}
	if cfg.OnLookup == nil {
		cfg.OnLookup = func(bool) {}
	}
	if cfg.OnKeys == nil {
		cfg.OnKeys = func() {}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	i := &Issuer{cfg: cfg, url: cfg.URL, client: newClient(cfg.Roots)}
	i.ring = &keyRing{
		fetch: i.fetch, refresh: cfg.RefreshInterval, maxAge: cfg.MaxKeyAge,
		ready: make(chan struct{}), now: cfg.Now, onFetch: cfg.OnFetch, onKeys: cfg.OnKeys, log: cfg.Log.With("issuer", cfg.URL),
	}
	return i, nil
}

func orDefault(d, fallback time.Duration) time.Duration {
	if d <= 0 {
		return fallback
	}
	return d
}

// checkURL holds kube-apiserver's rules for an issuer URL (v1.37,
// pkg/apis/apiserver/validation).
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return fmt.Errorf("issuer URL %q cannot be read", raw)
	case u.Scheme != "https":
		return fmt.Errorf("issuer URL %q must begin with https://", raw)
	case u.Host == "":
		return fmt.Errorf("issuer URL %q has no host", raw)
	case u.User != nil:
		return errors.New("issuer URL must not hold a user name or password")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(raw, "#"):
		return fmt.Errorf("issuer URL %q must have no query and no fragment", raw)
	}
	return nil
}

// Run discovers the issuer and keeps its keys fresh until ctx ends.
func (i *Issuer) Run(ctx context.Context) {
	i.ring.run(ctx)
	i.client.CloseIdleConnections()
}

// URL returns the issuer's URL.
func (i *Issuer) URL() string { return i.url }

// Ready is closed once the issuer's keys have been fetched for the first time.
func (i *Issuer) Ready() <-chan struct{} { return i.ring.ready }

// Status is what is known of an issuer's keys.
type Status struct {
	Ready   bool      // there are keys that may be used
	Keys    int       // how many
	Fetched time.Time // when they were last fetched; zero if never
	Err     error     // what the last fetch met; nil if it went well
}

// Status returns the present state.
func (i *Issuer) Status() Status {
	fetched, count, err := i.ring.status()
	return Status{Ready: count > 0, Keys: count, Fetched: fetched, Err: err}
}

// fetch returns the issuer's keys, nil if they could not be read. Where
// discovery fails, the keys are read from where they were: a withdrawn key stops
// working all the same. The error may stand beside keys.
func (i *Issuer) fetch(ctx context.Context, rediscover bool) ([]jose.JSONWebKey, error) {
	i.mu.Lock()
	from, discoveryErr := i.keysURL, i.discoveryErr
	i.mu.Unlock()
	if rediscover || from == "" {
		var found string
		if found, discoveryErr = i.discover(ctx); discoveryErr == nil {
			from = found
		}
		i.mu.Lock()
		i.keysURL, i.discoveryErr = from, discoveryErr
		i.mu.Unlock()
	}
	if from == "" {
		return nil, discoveryErr
	}
	keys, err := i.fetchKeys(ctx, from)
	return keys, errors.Join(discoveryErr, err)
}

// verify returns whom t names, and until when that may be believed without
// another look.
func (i *Issuer) verify(ctx context.Context, t *unverified) (id *auth.Identity, until time.Time, err error) {
	expires, err := i.checkToken(ctx, t)
	if err != nil {
		return nil, time.Time{}, err
	}
	claims, until, err := i.resolve(ctx, t.claims, expires)
	if err != nil {
		return nil, time.Time{}, err
	}
	user, err := i.cfg.Mapping.User(ctx, claims)
	if err != nil {
		return nil, time.Time{}, err
	}
	id = &auth.Identity{User: user, Kind: auth.KindOIDC, Issuer: i.url, Expires: expires, Credential: t.claims.credential()}
	return id, until, nil
}

// checkToken judges everything but whom t names. It returns when t expires.
func (i *Issuer) checkToken(ctx context.Context, t *unverified) (time.Time, error) {
	if t.fault != nil {
		return time.Time{}, refuse(auth.MalformedToken, t.fault.Error())
	}
	if !slices.Contains(i.cfg.Algorithms, t.alg) {
		return time.Time{}, refuse(auth.UnsupportedAlgorithm, "the token is signed by an algorithm that this issuer is not configured for")
	}
	expires, claimsErr := i.checkClaims(t)
	// A token that would be refused anyway gives no reason to ask the issuer.
	keys := &tokenKeys{ring: i.ring, token: t, mayAsk: claimsErr == nil}
	verifier := gooidc.NewVerifier(i.url, keys, &gooidc.Config{
		SupportedSigningAlgs: []string{t.alg},
		SkipClientIDCheck:    true, // checkClaims checks audiences, times and
		SkipExpiryCheck:      true, // parties, to say which of them it was
	})
	// go-oidc reads the algorithm in the header of what it is given, and the claims
	// that keys return, who read and verify the whole token. Given it too, go-oidc
	// would decode it once more, which takes half as long as a signature.
	header := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"` + t.alg + `"}`))
	if _, err := verifier.Verify(ctx, header+".."); err != nil {
		switch {
		case keys.refusal != nil:
			return time.Time{}, keys.refusal
		case !keys.verified:
			return time.Time{}, refuse(auth.MalformedToken, "the token cannot be read as a signed JWT")
		default:
			return time.Time{}, refuse(auth.MalformedToken, "the verified claims cannot be read as an ID token's")
		}
	}
	if claimsErr != nil {
		return time.Time{}, claimsErr
	}
	if err := foldedNames(t.claims, i.cfg.Mapping.Claims()); err != nil {
		return time.Time{}, refuse(auth.MalformedToken, "payload: "+err.Error())
	}
	return expires, nil
}

// checkClaims judges everything but the signature and the mapping. It returns
// when the token expires.
func (i *Issuer) checkClaims(t *unverified) (time.Time, error) {
	now := i.cfg.Now()
	audience, err := t.claims.audience()
	if err != nil {
		return time.Time{}, refuse(auth.MalformedToken, err.Error())
	}
	if !slices.ContainsFunc(audience, func(a string) bool { return slices.Contains(i.cfg.Audiences, a) }) {
		return time.Time{}, refuse(auth.WrongAudience, fmt.Sprintf("the token is not for %s", strings.Join(i.cfg.Audiences, " or ")))
	}
	expires, err := i.checkDates(t.claims, now)
	if err != nil {
		return time.Time{}, err
	}
	if err := i.checkType(t); err != nil {
		return time.Time{}, err
	}
	return expires, i.checkParty(t.claims)
}

func (i *Issuer) checkDates(claims Claims, now time.Time) (time.Time, error) {
	expires, err := claims.date("exp")
	if err == nil && expires.IsZero() {
		err = errors.New("`exp` is missing")
	}
	notBefore, nbfErr := claims.date("nbf")
	issued, iatErr := claims.date("iat")
	if err := errors.Join(err, nbfErr, iatErr); err != nil {
		return time.Time{}, refuse(auth.MalformedToken, err.Error())
	}
	if expires.Before(now) {
		return time.Time{}, refuseAt(auth.Expired, expires, "`exp` has passed")
	}
	if latest := now.Add(notBeforeLeeway); notBefore.After(latest) {
		return time.Time{}, refuseAt(auth.NotYetValid, notBefore, "`nbf` lies in the future")
	} else if issued.After(latest) {
		return time.Time{}, refuseAt(auth.NotYetValid, issued, "`iat` lies in the future")
	}
	return expires, nil
}

// checkType refuses tokens that are no ID tokens (RFC 8725 section 3.11): by
// the `typ` header, security events and logout tokens by `events` (RFC 8417),
// and tokens bound to a key, which a bearer has not shown, by `cnf` (RFC 7800).
func (i *Issuer) checkType(t *unverified) error {
	typ := t.typ
	if prefix, rest, found := strings.Cut(typ, "/"); found && strings.EqualFold(prefix, "application") {
		typ = rest // RFC 7515 section 4.1.9
	}
	if typ != "" && !slices.ContainsFunc(i.cfg.TokenTypes, func(t string) bool { return strings.EqualFold(t, typ) }) {
		return refuse(auth.WrongTokenType, "the `typ` header names another kind of token")
	}
	for _, name := range []string{"events", "cnf"} {
		if _, present := t.claims[name]; present {
			return refuse(auth.WrongTokenType, fmt.Sprintf("a token with `%s` is no ID token", name))
		}
	}
	return nil
}

// checkParty holds OpenID Connect Core 1.0 section 3.1.3.7, step 5.
func (i *Issuer) checkParty(claims Claims) error {
	value, present := claims["azp"]
	if !present {
		return nil
	}
	party, ok := value.(string)
	if !ok {
		return refuse(auth.MalformedToken, "`azp` is not a string")
	}
	if slices.Contains(i.cfg.Audiences, party) || slices.Contains(i.cfg.AuthorizedParties, party) ||
		slices.Contains(i.cfg.AuthorizedParties, "*") {
		return nil
	}
	return refuse(auth.WrongParty, "`azp` names a client that is neither an audience nor in GATEHOUSE_AUTHORIZED_PARTIES")
}

func refuse(reason auth.Reason, detail string) *auth.Refusal {
	return auth.Refuse(auth.KindOIDC, reason, detail)
}

func refuseAt(reason auth.Reason, at time.Time, detail string) *auth.Refusal {
	refusal := refuse(reason, detail)
	refusal.At = at
	return refusal
}
