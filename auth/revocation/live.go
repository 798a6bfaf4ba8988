package revocation

import (
	"net/http"
	"sync/atomic"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Live holds the list that counts at present. It can be replaced while requests
// are running: each check is by one complete list. Its zero value denies nobody.
type Live struct {
	current atomic.Pointer[List]
}

// Swap makes next the list that counts from now on. Without a list it changes
// nothing: what [Parse] returns beside an error revives nobody.
func (l *Live) Swap(next *List) {
	if next != nil {
		l.current.Store(next)
	}
}

// Check is [List.Check] by the present list.
func (l *Live) Check(id *auth.Identity) error {
	current := l.current.Load()
	if current == nil {
		current = &List{}
	}
	return current.Check(id)
}

// Authenticator returns an [auth.Authenticator] that lets pass whom next knows
// and live does not deny. Errors of next are returned as they are. Ask it again
// with the same request, after a [Live.Swap], to learn whether a stream may go
// on.
//
// Wrap each kind of credential, not what [auth.Ranked] makes of them: of several
// credentials it returns the identity of one, so that a revoked credential
// could stand beside a good one.
func Authenticator(live *Live, next auth.Authenticator) auth.Authenticator {
	return authenticator{live: live, next: next}
}

type authenticator struct {
	live *Live
	next auth.Authenticator
}

func (a authenticator) Authenticate(r *http.Request) (*auth.Identity, error) {
	id, err := a.next.Authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := a.live.Check(id); err != nil {
		return nil, err
	}
	return id, nil
}
