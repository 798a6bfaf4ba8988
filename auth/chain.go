package auth

import (
	"errors"
	"net/http"
)

// Any returns an [Authenticator] that asks each of as in turn; the first that
// knows the request's credential decides.
func Any(as ...Authenticator) Authenticator { return anyOf(as) }

type anyOf []Authenticator

func (as anyOf) Authenticate(r *http.Request) (*Identity, error) {
	for _, a := range as {
		if id, err := a.Authenticate(r); !errors.Is(err, ErrNotMine) {
			return id, err
		}
	}
	return nil, ErrNotMine
}

// Ranked returns an [Authenticator] that asks all of as. Of several that know
// who made the request, the first wins, as in kube-apiserver; but every
// credential that the request carries must be good, so that a bad one is never
// hidden by another.
func Ranked(as ...Authenticator) Authenticator { return ranked(as) }

type ranked []Authenticator

func (as ranked) Authenticate(r *http.Request) (*Identity, error) {
	var winner *Identity
	for _, a := range as {
		id, err := a.Authenticate(r)
		switch {
		case errors.Is(err, ErrNotMine):
		case err != nil:
			return nil, err
		case id == nil:
			return nil, errors.New("an authenticator returned neither identity nor error")
		case winner == nil:
			winner = id
		}
	}
	if winner == nil {
		return nil, ErrNotMine
	}
	return winner, nil
}

// Checked returns an [Authenticator] that asks next, and refuses whom one of
// checks gives an error for.
func Checked(next Authenticator, checks ...func(*Identity) error) Authenticator {
	return checked{next, checks}
}

type checked struct {
	next   Authenticator
	checks []func(*Identity) error
}

func (c checked) Authenticate(r *http.Request) (*Identity, error) {
	id, err := c.next.Authenticate(r)
	if err != nil || id == nil {
		return id, err
	}
	for _, check := range c.checks {
		if err := check(id); err != nil {
			return nil, err
		}
	}
	return id, nil
}
