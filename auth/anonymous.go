package auth

import (
	"net/http"
	"slices"
)

// Names of who has no credential, in Kubernetes.
const (
	AnonymousUser        = "system:anonymous"
	UnauthenticatedGroup = "system:unauthenticated"
)

// Anonymous names who needs no credential, as the section `anonymous` of
// kube-apiserver's AuthenticationConfiguration does. Its zero value names
// nobody. It must be asked last, of requests that carry no credential at all.
type Anonymous struct {
	Enabled bool
	// Paths are the exact paths that may be asked for. Default: all.
	Paths []string
}

// Authenticate returns the anonymous user, or ErrNotMine.
func (a Anonymous) Authenticate(r *http.Request) (*Identity, error) {
	if !a.Enabled || len(a.Paths) > 0 && !slices.Contains(a.Paths, r.URL.Path) {
		return nil, ErrNotMine
	}
	return &Identity{Kind: KindAnonymous, User: User{Name: AnonymousUser, Groups: []string{UnauthenticatedGroup}}}, nil
}
