package main

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// methods is how people sign in here, as RFC 8176 names it.
var methods = []string{"user"}

// request is a sign-in by authorization code. It implements [op.AuthRequest].
type request struct {
	asked    oidc.AuthRequest
	id       string
	subject  string // empty until somebody signed in
	signedIn time.Time
}

func (r *request) GetID() string                      { return r.id }
func (r *request) GetACR() string                     { return "" }
func (r *request) GetAMR() []string                   { return methods }
func (r *request) GetAudience() []string              { return []string{r.asked.ClientID} }
func (r *request) GetAuthTime() time.Time             { return r.signedIn }
func (r *request) GetClientID() string                { return r.asked.ClientID }
func (r *request) GetNonce() string                   { return r.asked.Nonce }
func (r *request) GetRedirectURI() string             { return r.asked.RedirectURI }
func (r *request) GetResponseType() oidc.ResponseType { return r.asked.ResponseType }
func (r *request) GetResponseMode() oidc.ResponseMode { return r.asked.ResponseMode }
func (r *request) GetScopes() []string                { return r.asked.Scopes }
func (r *request) GetState() string                   { return r.asked.State }
func (r *request) GetSubject() string                 { return r.subject }
func (r *request) Done() bool                         { return r.subject != "" }

// GetCodeChallenge returns nil without PKCE, which the library then demands.
func (r *request) GetCodeChallenge() *oidc.CodeChallenge {
	if r.asked.CodeChallenge == "" {
		return nil
	}
	return &oidc.CodeChallenge{Challenge: r.asked.CodeChallenge, Method: r.asked.CodeChallengeMethod}
}

var (
	errUnknown = errors.New("there is no such sign-in")
	errNobody  = errors.New("there is no such account")
)

// CreateAuthRequest begins a sign-in by code.
func (s *storage) CreateAuthRequest(_ context.Context, asked *oidc.AuthRequest, _ string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := &request{asked: *asked, id: rand.Text()}
	s.requests[r.id] = r
	return r, nil
}

// AuthRequestByID returns a sign-in that was begun.
func (s *storage) AuthRequestByID(_ context.Context, id string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.request(id)
}

// AuthRequestByCode returns the sign-in that a code stands for.
func (s *storage) AuthRequestByCode(_ context.Context, code string) (op.AuthRequest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.request(s.codes[code])
}

// SaveAuthCode notes which sign-in a code stands for.
func (s *storage) SaveAuthCode(_ context.Context, id, code string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.codes[code] = id
	return nil
}

// DeleteAuthRequest ends a sign-in: its code is worth nothing any more.
func (s *storage) DeleteAuthRequest(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.requests, id)
	return nil
}

// request returns a copy, so that a page and the protocol share nothing.
func (s *storage) request(id string) (*request, error) {
	r, ok := s.requests[id]
	if !ok {
		return nil, errUnknown
	}
	copied := *r
	return &copied, nil
}

func (s *storage) knowsRequest(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.request(id)
	return err == nil
}

func (s *storage) signIn(id, login string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.requests[id]
	if !ok {
		return errUnknown
	}
	if _, ok := s.people[login]; !ok {
		return errNobody
	}
	r.subject, r.signedIn = login, time.Now()
	return nil
}

// device is a sign-in by device code.
type device struct {
	userCode string
	state    op.DeviceAuthorizationState
}

// StoreDeviceAuthorization begins a sign-in by device code.
func (s *storage) StoreDeviceAuthorization(_ context.Context, clientID, deviceCode, userCode string, expires time.Time, scopes []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.device(userCode) != nil {
		return op.ErrDuplicateUserCode
	}
	s.devices[deviceCode] = &device{userCode, op.DeviceAuthorizationState{ClientID: clientID, Scopes: scopes, Expires: expires}}
	return nil
}

// GetDeviceAuthorizatonState returns how far a sign-in by device code is. The
// library spells the name so.
func (s *storage) GetDeviceAuthorizatonState(_ context.Context, clientID, deviceCode string) (*op.DeviceAuthorizationState, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.devices[deviceCode]
	if !ok || d.state.ClientID != clientID {
		return nil, errUnknown
	}
	if d.state.Done {
		delete(s.devices, deviceCode) // it gives one set of tokens
	}
	copied := d.state
	return &copied, nil
}

func (s *storage) device(userCode string) *device {
	for _, d := range s.devices {
		if d.userCode == userCode {
			return d
		}
	}
	return nil
}

func (s *storage) knowsDevice(userCode string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.device(userCode) != nil
}

func (s *storage) signInDevice(userCode, login string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.device(userCode)
	if d == nil {
		return errUnknown
	}
	if _, ok := s.people[login]; !ok {
		return errNobody
	}
	d.state.Subject, d.state.AMR, d.state.AuthTime, d.state.Done = login, methods, time.Now(), true
	return nil
}
