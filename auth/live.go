package auth

import (
	"context"
	"sync/atomic"
)

// Live is a [TokenAuthenticator] whose content can be replaced while requests
// are running: each request is answered by one complete version. Its zero
// value knows no token.
type Live struct {
	current atomic.Pointer[TokenAuthenticator]
}

// Swap makes next the version that answers from now on.
func (l *Live) Swap(next TokenAuthenticator) { l.current.Store(&next) }

// AuthenticateToken asks the present version.
func (l *Live) AuthenticateToken(ctx context.Context, token string) (*Identity, error) {
	current := l.current.Load()
	if current == nil {
		return nil, ErrNotMine
	}
	return (*current).AuthenticateToken(ctx, token)
}
