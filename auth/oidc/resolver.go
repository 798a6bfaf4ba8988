package oidc

import (
	"context"
	"time"
)

// Resolver finds the claims that a token does not hold, but refers to
// (OpenID Connect Core 1.0 section 5.6.2). It is asked after the token was
// verified, and before it is mapped.
type Resolver interface {
	// Resolve returns claims with those of names put in that are missing there
	// and referred to, and until when that holds; zero if as long as the token.
	// Without such a reference it returns claims as they are. It never changes
	// them. Its error is a [*auth.Refusal]: what cannot be found is never left
	// out.
	Resolve(ctx context.Context, claims map[string]any, names []string) (resolved map[string]any, until time.Time, err error)
}

// resolve returns the claims to map, and until when what they give may be used.
func (i *Issuer) resolve(ctx context.Context, claims Claims, expires time.Time) (map[string]any, time.Time, error) {
	if i.cfg.Resolver == nil {
		return claims, expires, nil
	}
	resolved, until, err := i.cfg.Resolver.Resolve(ctx, claims, i.cfg.Mapping.GroupsClaims())
	if until.IsZero() || until.After(expires) {
		until = expires
	}
	return resolved, until, err
}
