package revocation

import (
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

// Check is [List.Check] by the present list. It is one of the checks of
// [auth.Checked]. Wrap each kind of credential, not what [auth.Ranked] makes of
// them: of several credentials that returns the identity of one, so that a
// revoked one could stand beside a good one.
func (l *Live) Check(id *auth.Identity) error {
	current := l.current.Load()
	if current == nil {
		current = &List{}
	}
	return current.Check(id)
}
