package auth

import "strings"

// Names of ServiceAccounts (k8s.io/apiserver v0.37,
// pkg/authentication/serviceaccount): the beginning of their user names, the
// group of all, and the beginning of the group of those in one namespace.
const (
	ServiceAccountPrefix        = "system:serviceaccount:"
	ServiceAccountsGroup        = "system:serviceaccounts"
	ServiceAccountsGroupsPrefix = "system:serviceaccounts:"
)

// SplitServiceAccount returns the namespace and the name of a ServiceAccount's
// user name, by the rules of kube-apiserver (SplitUsername, there): a DNS label
// and a DNS subdomain of RFC 1123.
func SplitServiceAccount(username string) (namespace, name string, ok bool) {
	rest, found := strings.CutPrefix(username, ServiceAccountPrefix)
	if !found {
		return "", "", false
	}
	namespace, name, found = strings.Cut(rest, ":")
	if !found || len(namespace) > 63 || len(name) > 253 || !isLabel(namespace) {
		return "", "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if !isLabel(label) {
			return "", "", false
		}
	}
	return namespace, name, true
}

func isLabel(s string) bool {
	if s == "" || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// ownReserved returns the reserved names that an identity may carry because they
// were not asked for by a credential: those of a ServiceAccount that the API
// server vouches for, its own alone, and those of who needs no credential.
func ownReserved(kind Kind, u *User) []string {
	switch kind {
	case KindServiceAccount:
		if namespace, _, ok := SplitServiceAccount(u.Name); ok {
			return []string{u.Name, ServiceAccountsGroup, ServiceAccountsGroupsPrefix + namespace}
		}
	case KindAnonymous:
		return []string{AnonymousUser, UnauthenticatedGroup}
	}
	return nil
}
