package oidc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Sources verifies the JWTs in which claim sources send the claims that a token
// refers to. kube-apiserver v1.37 judges such a JWT as it does the token: by the
// audiences and algorithms of the token's issuer, and by the keys of whichever
// issuer the JWT names. Here that issuer must be one of a list.
type Sources struct {
	audiences, algorithms, claims []string

	trusted func() []*Issuer
	others  map[string]*Issuer
}

// NewSources returns the sources of an issuer that cfg describes: the issuers
// that trusted returns, and those at urls. The latter are asked for their keys
// when a JWT needs them, and never by the clock, so that they need no Run and end
// with the Sources; their certificates are verified as the issuer's own.
func NewSources(cfg Config, urls []string, trusted func() []*Issuer) (*Sources, error) {
	s := &Sources{audiences: cfg.Audiences, algorithms: cfg.Algorithms, trusted: trusted, others: map[string]*Issuer{}}
	if cfg.Mapping != nil {
		s.claims = cfg.Mapping.GroupsClaims()
	}
	for _, raw := range urls {
		own := cfg
		own.URL, own.DiscoveryURL, own.Mapping, own.Resolver, own.OnFetch = raw, "", &keeper{}, nil, nil
		// Without a refresh by the clock, a key is as old as its use allows.
		own.MaxKeyAge = orDefault(cfg.RefreshInterval, 5*time.Minute)
		issuer, err := New(own)
		if err != nil {
			return nil, fmt.Errorf("claim source: %w", err)
		}
		s.others[raw] = issuer
	}
	return s, nil
}

// issuer returns the source with this name, or nil.
func (s *Sources) issuer(name string) *Issuer {
	if name == "accounts.google.com" {
		name = googleIssuer
	}
	for _, issuer := range s.trusted() {
		if issuer.url == name {
			return issuer
		}
	}
	return s.others[name]
}

// VerifyClaims returns the claims of a JWT of one of the sources, and when it
// expires.
func (s *Sources) VerifyClaims(ctx context.Context, token string) (map[string]any, time.Time, error) {
	t, err := parse(token)
	if err != nil {
		return nil, time.Time{}, err
	}
	issuer := s.issuer(t.issuer)
	if issuer == nil {
		return nil, time.Time{}, errors.New("the JWT names an issuer that is neither configured nor on the list of endpoints")
	}
	kept := &keeper{names: s.claims}
	// The issuer's keys and rules, for the audiences of the token's issuer.
	view := &Issuer{cfg: issuer.cfg, url: issuer.url, client: issuer.client, ring: issuer.ring}
	view.cfg.Audiences, view.cfg.Mapping, view.cfg.Resolver = s.audiences, kept, nil
	if len(s.algorithms) > 0 {
		view.cfg.Algorithms = slices.Clone(s.algorithms)
	}
	_, expires, err := view.verify(ctx, t)
	// Nobody else tells of keys that are fetched on demand.
	if cause := issuer.Status().Err; err != nil && cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return kept.claims, expires, err
}

// keeper is a mapping that keeps the claims and names nobody.
type keeper struct {
	names  []string
	claims map[string]any
}

func (k *keeper) User(_ context.Context, claims map[string]any) (auth.User, error) {
	k.claims = claims
	return auth.User{}, nil
}

func (k *keeper) Claims() []string { return k.names }

func (k *keeper) GroupsClaims() []string { return nil }
