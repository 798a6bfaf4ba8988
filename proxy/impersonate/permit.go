package impersonate

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Attributes are what an access review asks about: a verb on a resource, or on a
// path that is none.
type Attributes struct {
	Verb, Group, Version, Resource, Subresource, Namespace, Name string
	FieldSelector, LabelSelector                                 string // as in the query
	Path                                                         string // of a request that is about no resource
}

// Reviewer asks the cluster whether a user may do something. An error means that
// there was no answer.
type Reviewer interface {
	Allowed(ctx context.Context, user *auth.User, a Attributes) (bool, error)
}

// ErrDenied says that the cluster's rules do not let the caller act as the user
// asked for.
var ErrDenied = errors.New("the caller may not act as this user")

const (
	// parallelReviews is how many reviews of one request are under way at a time.
	parallelReviews = 8
	// reviewTime is how long all of them may take.
	reviewTime = 10 * time.Second
	// maxRemembered is of how many callers the last mode is remembered, as in
	// kube-apiserver.
	maxRemembered = 10_000
)

// Permits decides whether callers may act as others, by the checks that
// kube-apiserver makes of whoever impersonates.
type Permits struct {
	reviewer Reviewer

	mu   sync.Mutex
	last map[string]Mode // by caller's name: the mode that let him through
}

// NewPermits returns Permits that ask reviewer, and believe what it allowed for
// ten seconds.
func NewPermits(reviewer Reviewer) *Permits {
	return &Permits{reviewer: newMemory(reviewer, time.Now), last: map[string]Mode{}}
}

// Check returns the mode in which caller may act as wanted to make request. The
// modes are tried in kube-apiserver's order, the one that let this caller through
// last before them. The error is ErrDenied, or that of a review without an answer
// if no mode allows it.
func (p *Permits) Check(ctx context.Context, caller, wanted *auth.User, request Attributes) (Mode, error) {
	ctx, cancel := context.WithTimeout(ctx, reviewTime)
	defer cancel()
	failure := ErrDenied
	for _, mode := range p.order(caller.Name) {
		err := p.allow(ctx, mode, caller, wanted, request)
		if err == nil {
			p.remember(caller.Name, mode)
			return mode, nil
		}
		if !errors.Is(err, ErrDenied) {
			failure = err
		}
	}
	return "", failure
}

func (p *Permits) order(caller string) []Mode {
	p.mu.Lock()
	defer p.mu.Unlock()
	order := slices.Clone(modes[:])
	if last, known := p.last[caller]; known {
		order = append([]Mode{last}, slices.DeleteFunc(order, func(m Mode) bool { return m == last })...)
	}
	return order
}

func (p *Permits) remember(caller string, mode Mode) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.last) >= maxRemembered {
		clear(p.last)
	}
	p.last[caller] = mode
}

// allow makes the checks of one mode.
func (p *Permits) allow(ctx context.Context, mode Mode, caller, wanted *auth.User, request Attributes) error {
	if !mode.applies(wanted) {
		return ErrDenied
	}
	requester := Authenticated(caller)
	for _, step := range mode.checks(wanted, request) {
		if step.instead != nil {
			allowed, err := p.reviewer.Allowed(ctx, requester, *step.instead)
			if err == nil && allowed {
				continue
			}
		}
		if err := p.all(ctx, requester, step.each); err != nil {
			return err
		}
	}
	return nil
}

// all makes several reviews at a time, and ends with the first that does not
// allow.
func (p *Permits) all(ctx context.Context, requester *auth.User, each []Attributes) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, parallelReviews)
	var group sync.WaitGroup
	for _, one := range each {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			switch allowed, err := p.reviewer.Allowed(ctx, requester, one); {
			case err != nil:
				cancel(err)
			case !allowed:
				cancel(ErrDenied)
			}
		})
	}
	group.Wait()
	return context.Cause(ctx)
}

// Authenticated returns the caller as the API server sees him: in the group of
// everybody who is not anonymous.
func Authenticated(caller *auth.User) *auth.User {
	if caller.Name == auth.AnonymousUser || slices.Contains(caller.Groups, auth.AuthenticatedGroup) ||
		slices.Contains(caller.Groups, auth.UnauthenticatedGroup) {
		return caller
	}
	with := *caller
	with.Groups = append(slices.Clone(caller.Groups), auth.AuthenticatedGroup)
	return &with
}
