package oidc

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Explainer is a [Mapping] that says how it makes each field.
type Explainer interface {
	Explain(ctx context.Context, claims map[string]any) []auth.Mapped
}

// Explanation is what can be said of a token to the person who holds it. While
// Verified is false, whatever comes from the token is what somebody wrote.
type Explanation struct {
	Name      string  // `iss`
	Issuer    *Issuer // whose token it is; nil if none here has that name
	Algorithm string  // header `alg`
	KeyID     string  // header `kid`
	Type      string  // header `typ`
	Claims    Claims  // nil if they cannot be read
	// Form says what breaks the rules of a token's form; nil if nothing does.
	Form error

	Verified  bool
	Key       string // id of the key that verified it
	Signature error  // why it is not verified

	// Mapped says how the mapping makes each field. Only of a verified token.
	Mapped []auth.Mapped
	// Identity and Err are what AuthenticateToken returns.
	Identity *auth.Identity
	Err      error
}

// Owner returns the issuer that a token names, or nil. Nothing is verified.
func (s *Issuers) Owner(token string) *Issuer {
	t, err := parse(token)
	if err != nil {
		return nil
	}
	issuer, _ := s.of(t.issuer)
	return issuer
}

// Explain verifies a token as AuthenticateToken does, and says how it went.
func (s *Issuers) Explain(ctx context.Context, token string) *Explanation {
	t, err := parse(token)
	if err != nil {
		return &Explanation{Form: noJWT(token), Err: auth.ErrNotMine}
	}
	issuer, _ := s.of(t.issuer)
	e := &Explanation{
		Name: t.issuer, Issuer: issuer, Claims: t.claims, Form: t.fault,
		Algorithm: t.alg, KeyID: t.kid, Type: t.typ,
	}
	if e.Issuer == nil {
		e.Signature, e.Err = errors.New("no configured issuer has this name, so there is no key to verify it with"), auth.ErrNotMine
		return e
	}
	e.Identity, _, e.Err = e.Issuer.verify(ctx, t)
	e.Signature = e.Issuer.explainSignature(ctx, t, e)
	e.Verified = e.Signature == nil
	if mapping, ok := e.Issuer.cfg.Mapping.(Explainer); ok && e.Verified {
		e.Mapped = mapping.Explain(ctx, t.claims)
	}
	return e
}

// explainSignature checks the signature with the keys that verify left. It
// returns nil if it is good.
func (i *Issuer) explainSignature(ctx context.Context, t *unverified, e *Explanation) error {
	if t.fault != nil {
		return errors.New("not checked, as the token's form is broken")
	}
	if !slices.Contains(i.cfg.Algorithms, t.alg) {
		return fmt.Errorf("not checked, as %.40q is none of the accepted algorithms: %s", t.alg, strings.Join(i.cfg.Algorithms, ", "))
	}
	keys := &tokenKeys{ring: i.ring, token: t}
	if _, err := keys.VerifySignature(ctx, t.raw); err != nil {
		if keys.refusal != nil {
			return errors.New(keys.refusal.Detail)
		}
		return errors.New("it cannot be read as a signed JWT")
	}
	all, _ := i.ring.keys()
	for _, key := range keys.choose(all) {
		e.Key = key.KeyID // all that may have signed it have one id
	}
	return nil
}

// noJWT says what token is, as far as its form tells.
func noJWT(token string) error {
	switch parts := strings.Split(token, "."); {
	case len(parts) == 5:
		return errors.New("it has the five parts of an encrypted token (JWE), which is not accepted: have the issuer sign ID tokens, not encrypt them")
	case len(parts) != 3:
		return errors.New("it is no JWT, which has three parts joined by dots: an opaque access token, or a static one")
	case parts[2] == "":
		return errors.New("it is a JWT without a signature")
	default:
		claims, err := decodeObject(parts[1])
		if err != nil {
			return fmt.Errorf("it has three parts as a JWT, but the second is %w", err)
		}
		if _, present := claims["iss"]; present {
			return errors.New("it is a JWT whose `iss` is not a string")
		}
		return errors.New("it is a JWT without `iss`, so that nobody is known to have issued it")
	}
}

// Key is what is public of a key.
type Key struct {
	ID        string
	Algorithm string // by what it may sign; RSA if any of RS and PS
}

// Keys returns the keys that may be used now, and from where they are.
func (i *Issuer) Keys() (keys []Key, from string) {
	i.mu.Lock()
	from = i.keysURL
	i.mu.Unlock()
	all, _ := i.ring.keys()
	for _, key := range all {
		alg := key.Algorithm
		if public, ok := key.Key.(*ecdsa.PublicKey); ok && alg == "" {
			alg = map[int]string{256: "ES256", 384: "ES384", 521: "ES512"}[public.Curve.Params().BitSize]
		} else if alg == "" {
			alg = "RSA"
		}
		keys = append(keys, Key{ID: key.KeyID, Algorithm: alg})
	}
	return keys, from
}

// Usable reports whether a key of the issuer fits an algorithm that it is
// configured for. If none does, no token of its can be accepted.
func (i *Issuer) Usable() bool {
	all, _ := i.ring.keys()
	for _, key := range all {
		for _, alg := range i.cfg.Algorithms {
			if fits(&key, alg) {
				return true
			}
		}
	}
	return false
}

// Fetch asks the issuer for its keys once, as Run does again and again. It
// returns what that met.
func (i *Issuer) Fetch(ctx context.Context) error { return i.ring.update(ctx, true) }

// Algorithms returns the signing algorithms that are accepted of the issuer.
func (i *Issuer) Algorithms() []string { return slices.Clone(i.cfg.Algorithms) }

// ExtraKeys returns the keys of extra that the mapping makes, if it says so.
func (i *Issuer) ExtraKeys() []string {
	if mapping, ok := i.cfg.Mapping.(interface{ ExtraKeys() []string }); ok {
		return mapping.ExtraKeys()
	}
	return nil
}

// Carries reports whether the users that the mapping makes may have groups, and a
// uid. A mapping that does not say so may make both.
func (i *Issuer) Carries() (groups, uid bool) {
	if mapping, ok := i.cfg.Mapping.(interface{ Carries() (groups, uid bool) }); ok {
		return mapping.Carries()
	}
	return true, true
}
