package oidc

import (
	"context"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// tokenKeys is the go-oidc KeySet of one token.
type tokenKeys struct {
	ring     *keyRing
	token    *unverified
	mayAsk   bool // whether a token that no key verifies may cause a fetch
	verified bool
	refusal  *auth.Refusal
}

// VerifySignature returns the payload if one of the issuer's keys signed the
// token. It does not look at go-oidc's idea of the token, which is without
// payload and signature. go-oidc hides the kind of an error, so refusal keeps it.
func (k *tokenKeys) VerifySignature(ctx context.Context, _ string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(k.token.raw, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(k.token.alg)})
	if err != nil {
		return nil, err
	}
	all, snapshot := k.ring.keys()
	payload := k.try(jws, all)
	// The key may be new, or another one under the same id.
	if payload == nil && k.mayAsk && k.ring.demand(ctx, snapshot) {
		all, _ = k.ring.keys()
		payload = k.try(jws, all)
	}
	switch {
	case payload != nil:
		k.verified = true
		return payload, nil
	case all == nil:
		return nil, k.refuse(auth.IssuerUnavailable, "the issuer's keys are not known")
	case len(k.choose(all)) == 0:
		return nil, k.refuse(auth.UnknownKey, "the issuer publishes no key that fits the token's `kid` and `alg`")
	default:
		return nil, k.refuse(auth.BadSignature, "the signature does not fit the issuer's key")
	}
}

// try returns the payload if one of keys signed it, else nil.
func (k *tokenKeys) try(jws *jose.JSONWebSignature, keys []jose.JSONWebKey) []byte {
	for _, key := range k.choose(keys) {
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload
		}
	}
	return nil
}

// choose returns the keys that may have signed the token. Without a `kid` there
// must be one alone, so that no token is tried against every key.
func (k *tokenKeys) choose(keys []jose.JSONWebKey) []jose.JSONWebKey {
	var fitting []jose.JSONWebKey
	for _, key := range keys {
		if (k.token.kid == "" || key.KeyID == k.token.kid) && fits(&key, k.token.alg) {
			fitting = append(fitting, key)
		}
	}
	if k.token.kid == "" && len(fitting) > 1 {
		return nil
	}
	return fitting
}

func (k *tokenKeys) refuse(reason auth.Reason, detail string) error {
	k.refusal = refuse(reason, detail)
	return k.refusal
}
