package oidc

import (
	"context"
	"fmt"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// Issuers gives each token to the issuer that it names, and keeps what was
// verified: while the issuer's keys stay the same, until the token ends. With
// another configuration comes another Issuers, which begins with nothing.
type Issuers struct {
	byURL    map[string]*Issuer
	digester *digest.Digester
	cache    *cache
}

// NewIssuers returns an error if two issuers have one URL.
func NewIssuers(issuers ...*Issuer) (*Issuers, error) {
	s := &Issuers{byURL: make(map[string]*Issuer, len(issuers)), digester: digest.New(), cache: newCache()}
	for _, issuer := range issuers {
		if _, taken := s.byURL[issuer.url]; taken {
			return nil, fmt.Errorf("the issuer %s is configured twice", issuer.url)
		}
		s.byURL[issuer.url] = issuer
	}
	return s, nil
}

// AuthenticateToken returns whom token names. A string that is no JWT, or that
// names an issuer not configured here, gives auth.ErrNotMine. The identity is
// shared between all who present the same token.
func (s *Issuers) AuthenticateToken(ctx context.Context, token string) (*auth.Identity, error) {
	if strings.Count(token, ".") != 2 {
		return nil, auth.ErrNotMine
	}
	key := s.digester.Sum(token)
	if v := s.cache.get(key); v != nil {
		v.issuer.cfg.OnLookup(true)
		return v.id, nil
	}
	t, err := parse(token)
	if err != nil {
		return nil, auth.ErrNotMine
	}
	issuer, known := s.of(t.issuer)
	if !known {
		return nil, auth.ErrNotMine
	}
	issuer.cfg.OnLookup(false)
	return s.verify(ctx, key, issuer, t)
}

// Knows reports whether tokens whose `iss` is name belong to an issuer of s.
func (s *Issuers) Knows(name string) bool {
	_, known := s.of(name)
	return known
}

// of returns the issuer of tokens whose `iss` is name.
func (s *Issuers) of(name string) (*Issuer, bool) {
	if name == "accounts.google.com" {
		name = googleIssuer // Google leaves the scheme out, and kube-apiserver accepts it
	}
	issuer, known := s.byURL[name]
	return issuer, known
}

// verify asks issuer, and keeps what it accepts.
func (s *Issuers) verify(ctx context.Context, key digest.Digest, issuer *Issuer, t *unverified) (*auth.Identity, error) {
	// Read before: if the keys change meanwhile, what is kept never holds.
	generation := issuer.ring.generation()
	id, until, err := issuer.verify(ctx, t)
	if err != nil || generation == 0 {
		return id, err
	}
	s.cache.put(&verified{id: seal(id), until: until, issuer: issuer, generation: generation, key: key})
	return id, nil
}

// Cached returns how many verified tokens are kept. Some may have ended.
func (s *Issuers) Cached() int { return s.cache.len() }
