// Package tokenreview answers: whom does the cluster say this ServiceAccount
// token names?
//
// It asks the API server by TokenReview (authentication.k8s.io/v1) and believes
// nothing else. Because each question costs the API server a signature check,
// and anybody can send a string that looks like a token, a question is asked
// only for a string of the right form, once for all who send the same one at
// the same time, at a bounded rate, and its answer is kept for a few seconds.
package tokenreview

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// Status is the API server's answer about one token: the status of a
// TokenReview (k8s.io/api v0.37, authentication/v1).
type Status struct {
	Authenticated bool
	User          auth.User
	// Audiences are those of the audiences asked for, or else of the API
	// server's own, that the token is valid for.
	Audiences []string
	// Error is the API server's reason. It may quote the token's claims.
	Error string
}

// Reviewer asks the API server about a token. An error means that there was no
// answer; it says nothing about the token, and never quotes it.
type Reviewer interface {
	Review(ctx context.Context, token string, audiences []string) (Status, error)
}

// Config is what an [Authenticator] is made of.
type Config struct {
	// Reviewer is asked. Required.
	Reviewer Reviewer
	// Known reports whether an issuer's tokens belong to another authenticator.
	// Such a token is never sent to the API server. Required.
	Known func(issuer string) bool
	// Self returns the user name of gatehouse's own account, whose tokens are
	// refused. While it returns "" nobody is accepted. Required.
	Self func() string
	// Issuers are the cluster's ServiceAccount issuers. Default: a token of any
	// issuer whose subject has the name of a ServiceAccount is reviewed.
	Issuers []string
	// Audiences, of which a token must be for one. Default: those of the API
	// server itself.
	Audiences []string

	// TTL is how long an accepted token is accepted without a review, if it
	// does not expire before. Default: 10 seconds.
	TTL time.Duration
	// RefusedTTL is the same for a refused token. Default: 2 seconds.
	RefusedTTL time.Duration
	// Timeout is how long a review may take. Default: 5 seconds.
	Timeout time.Duration
	// MaxAccepted and MaxRefused bound how many verdicts are kept. Default:
	// 4096 each.
	MaxAccepted, MaxRefused int
	// MaxInFlight bounds the reviews under way. Tokens that were never accepted
	// get half of it. Default: 64.
	MaxInFlight int
	// Rate bounds the reviews in a second of tokens that were never accepted,
	// and Burst how many may come at once. Default: 100 and 200.
	Rate, Burst int

	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Observe hears what became of each token that looks like a
	// ServiceAccount's; took is zero unless a review was made. Default: nobody
	// does.
	Observe func(o Outcome, took time.Duration)
}

// Outcome is what became of a token. The set is closed: it is a metric label.
type Outcome string

// The outcomes. A review has one of the last three, however many wait for it.
const (
	CachedAccepted Outcome = "cached_accepted"
	CachedRefused  Outcome = "cached_refused"
	Joined         Outcome = "joined" // a review that was under way
	Shed           Outcome = "shed"   // not reviewed, because a bound was reached
	Accepted       Outcome = "accepted"
	Refused        Outcome = "refused"
	Failed         Outcome = "failed" // no answer
)

// Outcomes returns every [Outcome], for metrics and documents.
func Outcomes() []Outcome {
	return []Outcome{CachedAccepted, CachedRefused, Joined, Shed, Accepted, Refused, Failed}
}

// Authenticator is an [auth.TokenAuthenticator] of ServiceAccount tokens.
type Authenticator struct {
	cfg    Config
	digest *digest.Digester

	mu       sync.RWMutex
	accepted cache[*auth.Identity] // stays after its time, as a mark of a token that was good
	refused  cache[*auth.Refusal]  // apart, so that forged tokens push out no good one
	flights  map[digest.Digest]*flight
	budget   budget
}

// New checks cfg. It asks nobody.
func New(cfg Config) (*Authenticator, error) {
	if cfg.Reviewer == nil || cfg.Known == nil || cfg.Self == nil {
		return nil, errors.New("token review: a reviewer, the known issuers and the name of our own account are needed")
	}
	if slices.ContainsFunc(cfg.Audiences, blank) || slices.ContainsFunc(cfg.Issuers, blank) {
		return nil, errors.New("token review: an audience or issuer is blank")
	}
	cfg.Audiences, cfg.Issuers = slices.Clone(cfg.Audiences), slices.Clone(cfg.Issuers)
	cfg.TTL = orDefault(cfg.TTL, 10*time.Second)
	cfg.RefusedTTL = orDefault(cfg.RefusedTTL, 2*time.Second)
	cfg.Timeout = orDefault(cfg.Timeout, 5*time.Second)
	cfg.MaxAccepted = orDefault(cfg.MaxAccepted, 4096)
	cfg.MaxRefused = orDefault(cfg.MaxRefused, 4096)
	cfg.MaxInFlight = orDefault(cfg.MaxInFlight, 64)
	cfg.Rate = orDefault(cfg.Rate, 100)
	cfg.Burst = orDefault(cfg.Burst, 200)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Observe == nil {
		cfg.Observe = func(Outcome, time.Duration) {}
	}
	return &Authenticator{
		cfg:      cfg,
		digest:   digest.New(cfg.Audiences...),
		accepted: newCache[*auth.Identity](cfg.MaxAccepted),
		refused:  newCache[*auth.Refusal](cfg.MaxRefused),
		flights:  map[digest.Digest]*flight{},
		budget:   newBudget(cfg, cfg.Now()),
	}, nil
}

func blank(s string) bool { return strings.TrimSpace(s) == "" }

func orDefault[T int | time.Duration](value, fallback T) T {
	if value <= 0 {
		return fallback
	}
	return value
}

// AuthenticateToken returns whom the API server says token names.
//
//   - auth.ErrNotMine: no JWT of the cluster's ServiceAccount issuers, or one of
//     an issuer that another authenticator knows. Nobody was asked.
//   - auth.InternalAuthFailed: the API server could not be asked, or gave no
//     answer that can be used. It is no verdict, and is not kept.
//   - any other refusal is about the token.
//
// The identity is shared between all who present the same token. It is what
// the API server said at most Config.TTL ago.
func (a *Authenticator) AuthenticateToken(ctx context.Context, token string) (*auth.Identity, error) {
	if strings.Count(token, ".") != 2 {
		return nil, auth.ErrNotMine
	}
	if len(token) > auth.MaxTokenBytes {
		return nil, refuse(auth.TokenTooLong, "the token is longer than the limit")
	}
	key := a.digest.Sum(token)
	a.mu.RLock()
	v, outcome := a.kept(key, a.cfg.Now())
	a.mu.RUnlock()
	if outcome != "" {
		a.cfg.Observe(outcome, 0)
		return a.unlessSelf(v)
	}
	claims, err := a.read(token)
	if err != nil {
		return nil, err
	}
	if a.cfg.Self() == "" {
		return nil, errSelfUnknown
	}
	f, outcome := a.join(ctx, key, token, claims)
	if outcome != "" {
		a.cfg.Observe(outcome, 0)
	}
	return a.unlessSelf(f.wait(ctx))
}

// verdict is an identity, or why there is none.
type verdict struct {
	id  *auth.Identity
	err error
}

// kept returns the verdict that is kept of a token, and no outcome if there is
// none that is still good. Its user holds a.mu.
func (a *Authenticator) kept(key digest.Digest, now time.Time) (verdict, Outcome) {
	if id, ok := a.accepted.get(key, now); ok {
		return verdict{id: id}, CachedAccepted
	}
	if refusal, ok := a.refused.get(key, now); ok {
		return verdict{err: refusal}, CachedRefused
	}
	return verdict{}, ""
}

// unlessSelf refuses gatehouse's own account. It is asked for each request,
// because the account can change while verdicts are kept.
func (a *Authenticator) unlessSelf(v verdict) (*auth.Identity, error) {
	if v.err != nil {
		return nil, v.err
	}
	switch a.cfg.Self() {
	case "":
		return nil, errSelfUnknown
	case v.id.Name:
		return nil, refuse(auth.ReservedName, "the token is of gatehouse's own account")
	}
	return v.id, nil
}

// Flush makes every token be reviewed again. A review under way is not kept,
// and nobody who comes after Flush shares it.
func (a *Authenticator) Flush() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted.expire()
	a.refused.clear()
	clear(a.flights)
}

// Forget makes token be reviewed again, as one that was never accepted. It is
// for a token that the API server refused when it was passed on.
func (a *Authenticator) Forget(token string) {
	if len(token) > auth.MaxTokenBytes {
		return
	}
	key := a.digest.Sum(token)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted.drop(key)
	delete(a.flights, key)
}

var errSelfUnknown = failed("the name of gatehouse's own account is not known yet")

func refuse(reason auth.Reason, detail string) *auth.Refusal {
	return auth.Refuse(auth.KindServiceAccount, reason, detail)
}

// failed is a fault of ours or of the API server's, never of the caller's.
func failed(detail string) *auth.Refusal { return refuse(auth.InternalAuthFailed, detail) }
