package impersonate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Mode is one of kube-apiserver's ways to allow impersonation (v1.37,
// pkg/endpoints/filters/impersonation/mode.go). Two more are for nodes; gatehouse
// takes no part in those, because its account may not act as a node.
type Mode string

// The modes. The first two are constrained impersonation, by verbs such as
// impersonate:user-info; the last is the classic verb impersonate.
const (
	ModeServiceAccount Mode = "serviceaccount"
	ModeUserInfo       Mode = "user-info"
	ModeLegacy         Mode = "legacy"
)

// modes are in the order in which they are tried.
var modes = [...]Mode{ModeServiceAccount, ModeUserInfo, ModeLegacy}

const (
	authenticationGroup = "authentication.k8s.io"
	mastersGroup        = "system:masters"
	nodePrefix          = "system:node:"
	// manyChecks is from how many groups, or keys or values of extra on
	// kube-apiserver first asks for the right to all of them.
	manyChecks = 4
)

// IsServiceAccount reports whether a user name is a ServiceAccount's.
func IsServiceAccount(name string) bool {
	_, _, ok := auth.SplitServiceAccount(name)
	return ok
}

// Impossible reports whether nobody can act as u through gatehouse, whatever the
// rules of the cluster: the API server refuses gatehouse's account the group
// system:masters and nodes.
func Impossible(u *auth.User) bool {
	return strings.HasPrefix(u.Name, nodePrefix) || slices.Contains(u.Groups, mastersGroup)
}

// applies reports whether m is for users like wanted.
func (m Mode) applies(wanted *auth.User) bool {
	switch m {
	case ModeServiceAccount:
		return IsServiceAccount(wanted.Name) && wanted.UID == "" && len(wanted.Groups) == 0 && len(wanted.Extra) == 0
	case ModeUserInfo:
		return !IsServiceAccount(wanted.Name) && !Impossible(wanted) && constrainable(wanted.Extra)
	default:
		return true
	}
}

// constrainable reports whether constrained impersonation takes the keys of
// extra. [auth.NamePolicy] has seen to it that they are in lower case, and that no
// value is empty.
func constrainable(extra map[string][]string) bool {
	for key := range extra {
		if len(validation.IsDomainPrefixedPath(nil, key)) > 0 {
			return false
		}
	}
	return true
}

// step is some reviews of which all must allow, or instead of them the one.
type step struct {
	instead *Attributes // nil if there is none
	each    []Attributes
}

// checks are the steps of m, in kube-apiserver's order.
func (m Mode) checks(wanted *auth.User, request Attributes) []step {
	var steps []step
	verb, coreGroup := "impersonate", ""
	if m != ModeLegacy {
		verb, coreGroup = "impersonate:"+string(m), authenticationGroup
		on := request
		on.Verb = "impersonate-on:" + string(m) + ":" + request.Verb
		steps = append(steps, step{each: []Attributes{on}})
	}
	of := func(group, resource, name string) Attributes {
		return Attributes{Verb: verb, Group: group, Version: "v1", Resource: resource, Name: name}
	}

	user := of(coreGroup, "users", wanted.Name)
	if namespace, name, ok := auth.SplitServiceAccount(wanted.Name); ok {
		user = of(coreGroup, "serviceaccounts", name)
		user.Namespace = namespace
	}
	steps = append(steps, step{each: []Attributes{user}})
	if wanted.UID != "" {
		steps = append(steps, step{each: []Attributes{of(authenticationGroup, "uids", wanted.UID)}})
	}

	var groups, extra step
	for _, group := range wanted.Groups {
		groups.each = append(groups.each, of(coreGroup, "groups", group))
	}
	for key, values := range wanted.Extra {
		for _, value := range values {
			one := of(authenticationGroup, "userextras", value)
			one.Subresource = key
			extra.each = append(extra.each, one)
		}
	}
	if m != ModeLegacy && len(groups.each) >= manyChecks {
		all := of(coreGroup, "groups", "*")
		groups.instead = &all
	}
	if m != ModeLegacy && len(extra.each) >= manyChecks {
		all := of(authenticationGroup, "userextras", "*")
		all.Subresource = "*"
		extra.instead = &all
	}
	return append(steps, groups, extra)
}
