package main

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// handOver is how long the issuers of a changed configuration may take to fetch
// their keys before they take the place of the present ones without the slowest.
const handOver = time.Minute

// issuers are the trusted issuers, which a reload replaces as a whole.
type issuers struct {
	log     *slog.Logger
	changed func()    // called when another set is in use
	tokens  auth.Live // of the set in use
	current atomic.Pointer[issuerSet]
	next    atomic.Pointer[issuerSet] // which waits to take its place; nil if none does

	mu          sync.Mutex
	running     context.Context    // nil until start
	stop        context.CancelFunc // ends the issuers of the set in use
	stopPending context.CancelFunc // ends those that wait to take its place; nil if none do
}

// issuerSet is one version.
type issuerSet struct {
	list      []*oidc.Issuer
	router    *oidc.Issuers
	anonymous auth.Anonymous
}

func newIssuerSet(list []*oidc.Issuer, anonymous auth.Anonymous) (*issuerSet, error) {
	router, err := oidc.NewIssuers(list...)
	if err != nil {
		return nil, err
	}
	return &issuerSet{list: list, router: router, anonymous: anonymous}, nil
}

// remaining returns what of set stays in next: the issuers that next has too, and
// the anonymous paths if they are the same.
func (set *issuerSet) remaining(next *issuerSet) (*issuerSet, error) {
	var kept []*oidc.Issuer
	for _, issuer := range set.list {
		if slices.ContainsFunc(next.list, func(i *oidc.Issuer) bool { return i.URL() == issuer.URL() }) {
			kept = append(kept, issuer)
		}
	}
	var anonymous auth.Anonymous
	if next.anonymous.Enabled == set.anonymous.Enabled && slices.Equal(next.anonymous.Paths, set.anonymous.Paths) {
		anonymous = set.anonymous
	}
	return newIssuerSet(kept, anonymous)
}

// list returns the issuers in use.
func (s *issuers) list() []*oidc.Issuer {
	if set := s.current.Load(); set != nil {
		return set.list
	}
	return nil
}

// present returns the issuers in use, and whether anybody needs no credential.
func (s *issuers) present() (list []*oidc.Issuer, anonymous bool) {
	if set := s.current.Load(); set != nil {
		return set.list, set.anonymous.Enabled
	}
	return nil, false
}

// router returns the set in use as what tells tokens apart, or nil.
func (s *issuers) router() *oidc.Issuers {
	if set := s.current.Load(); set != nil {
		return set.router
	}
	return nil
}

// knows reports whether tokens that name an issuer belong to the set in use, or to
// the one that will take its place: they are nobody else's to judge meanwhile.
func (s *issuers) knows(issuer string) bool {
	for _, set := range []*issuerSet{s.current.Load(), s.next.Load()} {
		if set != nil && set.router.Knows(issuer) {
			return true
		}
	}
	return false
}

// cached returns how many verified tokens the set in use knows.
func (s *issuers) cached() int {
	if set := s.current.Load(); set != nil {
		return set.router.Cached()
	}
	return 0
}

// AuthenticateToken asks the set in use.
func (s *issuers) AuthenticateToken(ctx context.Context, token string) (*auth.Identity, error) {
	return s.tokens.AuthenticateToken(ctx, token)
}

// Authenticate names who needs no credential, by the set in use.
func (s *issuers) Authenticate(r *http.Request) (*auth.Identity, error) {
	if set := s.current.Load(); set != nil {
		return set.anonymous.Authenticate(r)
	}
	return nil, auth.ErrNotMine
}

// start begins to fetch the keys of the set in use, until ctx ends.
func (s *issuers) start(ctx context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = ctx
	ctx, s.stop = context.WithCancel(ctx)
	for _, issuer := range s.list() {
		go issuer.Run(ctx)
	}
}

// replace puts next into effect. Before start that is at once. Afterwards what
// next takes away ends at once, and what remains of the present set answers until
// every issuer of next has keys, or until handOver has passed and at least one
// has: a configuration that verifies nobody locks nobody out.
func (s *issuers) replace(next *issuerSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		s.use(next)
		return
	}
	s.next.Store(next)
	if interim, err := s.current.Load().remaining(next); err == nil {
		s.use(interim)
	}
	if s.stopPending != nil {
		s.stopPending() // it may hold what next has not
	}
	ctx, stop := context.WithCancel(s.running)
	s.stopPending = stop
	for _, issuer := range next.list {
		go issuer.Run(ctx)
	}
	go s.await(ctx, stop, next)
}

// await puts next into effect when its time has come, unless ctx has ended: then
// a later set has taken its place already.
func (s *issuers) await(ctx context.Context, stop context.CancelFunc, next *issuerSet) {
	ready := awaitKeys(ctx, next.list)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !ready || ctx.Err() != nil {
		return
	}
	s.stop()
	s.stop, s.stopPending = stop, nil
	s.use(next)
	s.next.Store(nil)
	s.log.Info("the changed issuers are in effect", "issuers", len(next.list))
}

func (s *issuers) use(set *issuerSet) {
	s.current.Store(set)
	s.tokens.Swap(set.router)
	s.changed()
}

// awaitKeys reports whether the time has come to use list.
func awaitKeys(ctx context.Context, list []*oidc.Issuer) bool {
	limit := time.After(handOver)
	for _, issuer := range list {
		select {
		case <-issuer.Ready():
		case <-limit:
			return awaitOne(ctx, list)
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// awaitOne waits until one of list has keys.
func awaitOne(ctx context.Context, list []*oidc.Issuer) bool {
	ctx, found := context.WithCancel(ctx)
	defer found()
	first := make(chan struct{}, len(list))
	for _, issuer := range list {
		go func() {
			select {
			case <-issuer.Ready():
				first <- struct{}{}
			case <-ctx.Done():
			}
		}()
	}
	select {
	case <-first:
		return true
	case <-ctx.Done():
		return false
	}
}
