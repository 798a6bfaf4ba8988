package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// account is what the provider says about a person.
type account struct {
	Email  string   `json:"email"`
	Groups []string `json:"groups"`
}

// storage remembers, for as long as the process runs, who signs in. It
// implements [op.Storage] and [op.DeviceAuthorizationStorage].
type storage struct {
	client client
	people map[string]account
	key    *ecdsa.PrivateKey

	mu       sync.Mutex // guards what follows
	requests map[string]*request
	codes    map[string]string // code to id of the request
	devices  map[string]*device
}

func newStorage(c client, people map[string]account) (*storage, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the signing key: %w", err)
	}
	return &storage{
		client: c, people: people, key: key,
		requests: map[string]*request{}, codes: map[string]string{}, devices: map[string]*device{},
	}, nil
}

// keyID and algorithm are those of the one key.
const (
	keyID     = "zitadel-1"
	algorithm = jose.ES256
)

// key is a signing key if it holds the private half, else the public one. It
// implements [op.SigningKey] and [op.Key].
type key struct{ material any }

func (key) ID() string                                  { return keyID }
func (key) Algorithm() jose.SignatureAlgorithm          { return algorithm }
func (key) SignatureAlgorithm() jose.SignatureAlgorithm { return algorithm }
func (key) Use() string                                 { return "sig" }
func (k key) Key() any                                  { return k.material }

// SigningKey returns the private key.
func (s *storage) SigningKey(context.Context) (op.SigningKey, error) { return key{s.key}, nil }

// KeySet returns the public key.
func (s *storage) KeySet(context.Context) ([]op.Key, error) {
	return []op.Key{key{s.key.Public()}}, nil
}

// SignatureAlgorithms is what discovery names.
func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return []jose.SignatureAlgorithm{algorithm}, nil
}

// GetClientByClientID knows the one client.
func (s *storage) GetClientByClientID(_ context.Context, id string) (op.Client, error) {
	if id != s.client.id {
		return nil, errors.New("there is no such client")
	}
	return s.client, nil
}

// SetUserinfoFromScopes fills in the claims of the scopes that were granted.
func (s *storage) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, _ string, scopes []string) error {
	person, ok := s.people[subject]
	if !ok {
		return errNobody
	}
	info.Subject = subject
	if slices.Contains(scopes, oidc.ScopeEmail) {
		info.Email, info.EmailVerified = person.Email, true
	}
	if slices.Contains(scopes, groupsScope) {
		info.AppendClaims(groupsScope, person.Groups)
	}
	return nil
}

// CreateAccessToken names an access token, which comes with every ID token and
// of which nothing is remembered: it opens nothing.
func (s *storage) CreateAccessToken(context.Context, op.TokenRequest) (string, time.Time, error) {
	return rand.Text(), time.Now().Add(time.Minute), nil
}

// Health says that the storage is well: it cannot be otherwise.
func (s *storage) Health(context.Context) error { return nil }

// errNotOffered answers for what no test needs: refresh, introspection,
// revocation, and clients with a secret or a key.
var errNotOffered = errors.New("this is not offered here")

// CreateAccessAndRefreshTokens is not offered.
func (s *storage) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (string, string, time.Time, error) {
	return "", "", time.Time{}, errNotOffered
}

// TokenRequestByRefreshToken is not offered.
func (s *storage) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, errNotOffered
}

// GetRefreshTokenInfo knows no refresh token.
func (s *storage) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", op.ErrInvalidRefreshToken
}

// RevokeToken is not offered.
func (s *storage) RevokeToken(context.Context, string, string, string) *oidc.Error {
	return oidc.ErrServerError().WithParent(errNotOffered)
}

// TerminateSession has nothing to end: there are no sessions.
func (s *storage) TerminateSession(context.Context, string, string) error { return nil }

// AuthorizeClientIDSecret knows no secret.
func (s *storage) AuthorizeClientIDSecret(context.Context, string, string) error {
	return errNotOffered
}

// SetUserinfoFromToken is not offered.
func (s *storage) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return errNotOffered
}

// SetIntrospectionFromToken is not offered.
func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNotOffered
}

// GetPrivateClaimsFromScopes is about access tokens that are JWTs.
func (s *storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, nil
}

// GetKeyByIDAndClientID knows no client's key.
func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotOffered
}

// ValidateJWTProfileScopes is not offered.
func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNotOffered
}
