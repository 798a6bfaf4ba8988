package oidc

import (
	"context"
	"fmt"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Issuers gives each token to the issuer that it names.
type Issuers struct {
	byURL map[string]*Issuer
}

// NewIssuers returns an error if two issuers have one URL.
func NewIssuers(issuers ...*Issuer) (*Issuers, error) {
	s := &Issuers{byURL: make(map[string]*Issuer, len(issuers))}
	for _, issuer := range issuers {
		if _, taken := s.byURL[issuer.url]; taken {
			return nil, fmt.Errorf("the issuer %s is configured twice", issuer.url)
		}
		s.byURL[issuer.url] = issuer
	}
	return s, nil
}

// AuthenticateToken returns whom token names. A string that is no JWT, or that
// names an issuer not configured here, gives auth.ErrNotMine.
func (s *Issuers) AuthenticateToken(ctx context.Context, token string) (*auth.Identity, error) {
	t, err := parse(token)
	if err != nil {
		return nil, auth.ErrNotMine
	}
	issuer, known := s.of(t.issuer)
	if !known {
		return nil, auth.ErrNotMine
	}
	return issuer.verify(ctx, t)
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
