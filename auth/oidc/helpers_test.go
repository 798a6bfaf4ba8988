package oidc_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// world is an issuer that runs, and gatehouse's view of it.
type world struct {
	t       testing.TB
	ca      *authtest.CA
	real    *authtest.Issuer
	view    *oidc.Issuer
	issuers *oidc.Issuers
	clock   *authtest.Clock
	fetched chan bool // result of each fetch
	hits    *atomic.Int64
	misses  *atomic.Int64
}

// newWorld starts an issuer and waits until its keys are known. change edits
// the configuration first.
func newWorld(t testing.TB, change func(*oidc.Config, *authtest.Issuer)) *world {
	t.Helper()
	w := startWorld(t, change)
	select {
	case <-w.view.Ready():
	case <-time.After(10 * time.Second):
		t.Fatalf("the issuer does not become ready: %+v", w.view.Status())
	}
	return w
}

// startWorld does not wait.
func startWorld(t testing.TB, change func(*oidc.Config, *authtest.Issuer)) *world {
	t.Helper()
	ca, err := authtest.NewCA("test CA")
	if err != nil {
		t.Fatal(err)
	}
	real, err := authtest.NewIssuer(ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { real.Close() })
	w := &world{t: t, ca: ca, real: real, clock: authtest.NewClock(), fetched: make(chan bool, 1000), hits: new(atomic.Int64), misses: new(atomic.Int64)}
	cfg := oidc.Config{
		URL: real.URL, Audiences: []string{authtest.Audience}, Roots: ca.Pool(), Now: w.clock.Now,
		OnFetch: func(ok bool) { w.fetched <- ok },
		OnLookup: func(hit bool) {
			if hit {
				w.hits.Add(1)
			} else {
				w.misses.Add(1)
			}
		},
	}
	if change != nil {
		change(&cfg, real)
	}
	if cfg.Mapping == nil {
		cfg.Mapping = subject{}
	}
	if w.view, err = oidc.New(cfg); err != nil {
		t.Fatal(err)
	}
	if w.issuers, err = oidc.NewIssuers(w.view); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.view.Run(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return w
}

// ask returns whom a token names, or why it is refused.
func (w *world) ask(token string) (*auth.Identity, auth.Reason) {
	w.t.Helper()
	id, err := w.issuers.AuthenticateToken(w.t.Context(), token)
	if err == nil {
		return id, ""
	}
	if errors.Is(err, auth.ErrNotMine) {
		return nil, "not mine"
	}
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok {
		w.t.Fatalf("error %v is no refusal", err)
	}
	return nil, refusal.Reason
}

// want fails the test if token is not judged so; reason "" means accepted.
func (w *world) want(token string, reason auth.Reason) {
	w.t.Helper()
	if _, got := w.ask(token); got != reason {
		w.t.Errorf("refused with %q, want %q", got, reason)
	}
}

// nextFetch waits for a fetch that is under way or to come.
func (w *world) nextFetch() bool {
	w.t.Helper()
	select {
	case ok := <-w.fetched:
		return ok
	case <-time.After(10 * time.Second):
		w.t.Fatal("no fetch")
		return false
	}
}

func newKey(t testing.TB, id string) *authtest.Key {
	t.Helper()
	return newKeyOf(t, id, "RS256")
}

// subject is a mapping that takes the user from `sub` and the groups from
// `groups`.
type subject struct{}

func (subject) Claims() []string { return []string{"sub", "groups", "login"} }

func (subject) GroupsClaims() []string { return []string{"groups"} }

func (subject) User(_ context.Context, claims map[string]any) (auth.User, error) {
	name, ok := claims["sub"].(string)
	if !ok {
		return auth.User{}, auth.Refuse(auth.KindOIDC, auth.BadUsernameClaim, "")
	}
	return auth.User{Name: name}, nil
}
