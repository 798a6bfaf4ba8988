package main

import (
	"context"
	"log/slog"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// Promise: of two changed configurations that wait for their issuers, the
// earlier never takes effect, whatever becomes of its issuers: it may hold what
// the later has taken away.
func TestSupersededConfiguration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second, third := w.newIssuer(t), w.newIssuer(t), w.newIssuer(t)
	second.SetDown(true)
	third.SetDown(true)
	set := func(issuer *authtest.Issuer) *issuerSet {
		one, err := oidc.New(oidc.Config{URL: issuer.URL, Audiences: []string{authtest.Audience}, Roots: w.ca.Pool(), Mapping: subject{}})
		if err != nil {
			t.Fatal(err)
		}
		all, err := newIssuerSet([]*oidc.Issuer{one}, auth.Anonymous{})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	changes := make(chan struct{}, 8)
	s := &issuers{log: slog.New(slog.DiscardHandler), changed: func() { changes <- struct{}{} }}
	s.replace(set(first))
	s.start(t.Context())
	earlier, later := set(second), set(third)
	s.replace(earlier)
	if !s.knows(second.URL) {
		t.Error("the tokens of an issuer that waits for its keys are for anybody to judge")
	}
	s.replace(later)
	second.SetDown(false)
	third.SetDown(false)
	for range 4 { // the first, two that take away, and the later
		<-changes
	}
	if s.current.Load() != later || s.knows(second.URL) || !s.knows(third.URL) {
		t.Errorf("in effect: %v", s.list())
	}
	// Nor if its keys came at the last moment.
	go earlier.list[0].Run(t.Context())
	<-earlier.list[0].Ready()
	ended, end := context.WithCancel(t.Context())
	end()
	s.await(ended, end, earlier)
	if s.current.Load() != later {
		t.Error("the earlier configuration is in effect")
	}
}

// subject is a Mapping that takes `sub` for the user name.
type subject struct{}

func (subject) User(_ context.Context, claims map[string]any) (auth.User, error) {
	name, _ := claims["sub"].(string)
	return auth.User{Name: name}, nil
}

func (subject) Claims() []string { return nil }

func (subject) GroupsClaims() []string { return nil }
