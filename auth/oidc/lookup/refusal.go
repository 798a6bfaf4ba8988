package lookup

import (
	"github.com/kube-gatehouse/gatehouse/auth"
)

// Refusal returns err if it says what a server said of the caller, which is a
// [*auth.Refusal] of its own. Every other error means that nobody could say
// anything, be it for a reason of the server's or of ours: GroupsUnavailable.
func Refusal(err error) *auth.Refusal {
	if refusal, ok := err.(*auth.Refusal); ok { //nolint:errorlint // what wraps one, such as the verdict on a source's JWT, is not said of the caller
		return refusal
	}
	return auth.Refuse(auth.KindOIDC, auth.GroupsUnavailable, err.Error())
}
