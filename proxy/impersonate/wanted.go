package impersonate

import (
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// OriginalUserKey is the extra in which the API server's audit log finds who
// acted as another user.
const OriginalUserKey = auth.OwnExtraPrefix + "original-user"

// ScopeKey and ActorKey are the extras that say what a session token is narrowed
// to, a word a value, and who acts by it, the present one first.
const (
	ScopeKey = auth.OwnExtraPrefix + "scope"
	ActorKey = auth.OwnExtraPrefix + "actor"
)

// maxWanted is how many groups and values of extra one request may ask for: each
// may cost an access review.
const maxWanted = 256

// Why a request to act as somebody cannot be read. Each is the caller's fault.
var (
	errNoUser    = errors.New("groups, a uid or extra are asked for without a user")
	errAmbiguous = errors.New("one of the Impersonate headers is unknown, empty or there twice")
	errTooMany   = errors.New("more groups and values of extra are asked for than are asked about")
)

// Wanted returns whom a caller who has [Asked] wants to be, by the headers of
// kube-apiserver (v1.37, pkg/endpoints/filters/impersonation). Nothing is
// defaulted.
//
// It is stricter: a header that begins with Impersonate and has no meaning, one
// that must stand once and stands twice, and an empty value are errors, where
// kube-apiserver overlooks them and may serve the caller as himself; and so are
// more than 256 groups and values of extra.
func Wanted(in http.Header) (*auth.User, error) {
	user := &auth.User{}
	count := 0
	for name, values := range in {
		key, isExtra := strings.CutPrefix(name, extraPrefix)
		switch {
		case !asks(name):
		case len(values) == 0 || containsEmpty(values):
			return nil, errAmbiguous
		case name == userHeader && len(values) == 1:
			user.Name = values[0]
		case name == uidHeader && len(values) == 1:
			user.UID = values[0]
		case name == groupHeader:
			count += len(values)
			user.Groups = values
		case isExtra && key != "":
			count += len(values)
			if user.Extra == nil {
				user.Extra = map[string][]string{}
			}
			key = unescapeKey(key)
			user.Extra[key] = append(user.Extra[key], values...)
		default:
			return nil, errAmbiguous
		}
	}
	switch {
	case user.Name == "":
		return nil, errNoUser
	case count > maxWanted:
		return nil, errTooMany
	}
	return user, nil
}

// asks reports whether a header name, in any spelling, is of impersonation.
func asks(name string) bool {
	return len(name) >= len("impersonate") && strings.EqualFold(name[:len("impersonate")], "impersonate")
}

func containsEmpty(values []string) bool {
	for _, value := range values {
		if value == "" {
			return true
		}
	}
	return false
}

// unescapeKey undoes escapeKey as kube-apiserver does: in lower case, then
// without percent encoding; a malformed one stays as it is.
func unescapeKey(name string) string {
	lower := strings.ToLower(name)
	if key, err := url.PathUnescape(lower); err == nil {
		return key
	}
	return lower
}
