// Package distributed answers: what does a claim say that a token only refers
// to, if it may be asked where the token says?
//
// Distributed claims (OpenID Connect Core 1.0 section 5.6.2) are resolved as
// kube-apiserver v1.37 does: the endpoint in the token is asked with the access
// token beside it, and answers with a JWT that holds the claim. But the token
// chooses whom we ask, so only endpoints on a list are asked, and no redirect is
// followed; the issuer of the JWT must be a trusted one; and size, time, the
// number of questions and the age of answers are bounded.
package distributed

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// Verifier judges the JWTs that claim sources send.
type Verifier interface {
	// VerifyClaims returns the claims of a JWT that may be trusted, and when it
	// expires.
	VerifyClaims(ctx context.Context, jwt string) (claims map[string]any, expires time.Time, err error)
}

// Config describes a [Resolver].
type Config struct {
	// Endpoints may be asked, and no others.
	Endpoints Endpoints
	// Verifier judges what they send.
	Verifier Verifier
	// Roots verify their certificates. Default: the system's.
	Roots *x509.CertPool
	// Lookup bounds the questions and the age of answers. Default: that of
	// [lookup.Config].
	Lookup lookup.Config
}

// Resolver resolves distributed claims, for the tokens of one issuer.
type Resolver struct {
	cfg     Config
	client  *http.Client
	answers *lookup.Cache[any]
}

// New returns a Resolver. It asks nobody.
func New(cfg Config) *Resolver {
	return &Resolver{cfg: cfg, client: lookup.NewClient(cfg.Roots), answers: lookup.NewCache[any](cfg.Lookup)}
}

// Resolve returns claims with those of names put in that stand elsewhere, and
// until when that holds; zero if nothing was put in.
func (r *Resolver) Resolve(ctx context.Context, claims map[string]any, names []string) (map[string]any, time.Time, error) {
	resolved, until := claims, time.Time{}
	for _, name := range names {
		from, err := find(claims, name)
		if err != nil {
			return nil, time.Time{}, auth.Refuse(auth.KindOIDC, auth.UnsupportedClaims, err.Error())
		}
		if from == nil {
			continue
		}
		answer, err := r.lookUp(ctx, *from, name)
		if err != nil {
			return nil, time.Time{}, err
		}
		if until.IsZero() {
			resolved = maps.Clone(claims)
		}
		if until.IsZero() || answer.Until.Before(until) {
			until = answer.Until
		}
		resolved[name] = answer.Value
	}
	return resolved, until, nil
}

// lookUp returns the claim name from a source. Its error is a [*auth.Refusal].
func (r *Resolver) lookUp(ctx context.Context, from source, name string) (lookup.Answer[any], error) {
	var none lookup.Answer[any]
	if err := r.cfg.Endpoints.Allow(from.endpoint); err != nil {
		return none, auth.Refuse(auth.KindOIDC, auth.UnsupportedClaims, err.Error())
	}
	if from.accessToken != "" && !auth.IsBearerToken(from.accessToken) {
		return none, auth.Refuse(auth.KindOIDC, auth.UnsupportedClaims, "`access_token` of a claim source is no bearer token")
	}
	key := lookup.KeyOf(from.endpoint, from.accessToken, name)
	answer, err := r.answers.Get(ctx, key, func(ctx context.Context) (lookup.Answer[any], error) {
		return r.ask(ctx, from, name)
	})
	if err != nil {
		return none, lookup.Refusal(err)
	}
	return answer, nil
}

// ask asks a source that is on the list.
func (r *Resolver) ask(ctx context.Context, from source, name string) (none lookup.Answer[any], err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.endpoint, nil)
	if err != nil {
		return none, lookup.Cause(err)
	}
	if from.accessToken != "" {
		req.Header.Set("Authorization", "Bearer "+from.accessToken)
	}
	resp, body, err := lookup.Send(r.client, req)
	if err != nil {
		return none, err
	}
	switch code := resp.StatusCode; {
	case code == http.StatusUnauthorized, code == http.StatusForbidden:
		return none, auth.Refuse(auth.KindOIDC, auth.GroupsRefused, fmt.Sprintf("the claim source %s answers %d to the token's access token", req.URL.Host, code))
	case code < http.StatusOK || code > http.StatusIMUsed:
		return none, fmt.Errorf("the claim source %s answers %d", req.URL.Host, code)
	}
	claims, expires, err := r.cfg.Verifier.VerifyClaims(ctx, strings.TrimSpace(string(body)))
	if err != nil {
		return none, fmt.Errorf("the JWT of the claim source %s: %w", req.URL.Host, err)
	}
	value, present := claims[name]
	if !present {
		return none, fmt.Errorf("the JWT of the claim source %s lacks the claim `%s`", req.URL.Host, name)
	}
	return lookup.Answer[any]{Value: value, Size: len(body), Until: expires}, nil
}
