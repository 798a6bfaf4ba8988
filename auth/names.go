package auth

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxIdentityBytes is the most that a user's name, uid, groups and extra may
// add up to. kube-apiserver v1.37 takes 1 MiB of headers; this leaves room for
// the request's own and for the encoding of extra keys.
const MaxIdentityBytes = 256 << 10

// AuthenticatedGroup is the group that the API server itself adds to everybody
// who is not anonymous.
const AuthenticatedGroup = "system:authenticated"

// reservedPrefixes begin the names and groups to which Kubernetes and kubeadm
// give rights of their own accord.
var reservedPrefixes = [...]string{"system:", "kubeadm:"}

// NamePolicy says which identities may be forwarded. The zero value refuses
// every reserved name.
type NamePolicy struct {
	// AllowedReserved lists the reserved names and groups, in full, that a
	// credential may carry. Default: none.
	AllowedReserved []string
}

// Check returns a [*Refusal] if u cannot be forwarded as it is:
//
//   - BadName: an empty name, an empty group, a name that is not UTF-8, holds a
//     control character, or begins or ends with white space. HTTP/1.1 trims
//     such white space and HTTP/2 does not, so the API server would see
//     another user than the one that was checked.
//   - ReservedName: a user or group that begins with "system:" or "kubeadm:"
//     and is not allowed by name. The group system:authenticated passes: the
//     API server adds it anyway. So do the names of a ServiceAccount and of
//     anonymous, in identities of these kinds. Or an extra key below
//     OwnExtraPrefix.
//   - IdentityTooLarge: more than MaxIdentityBytes.
//
// Nothing is repaired.
func (p NamePolicy) Check(kind Kind, u *User) error {
	if err := p.CheckWire(kind, u); err != nil {
		return err
	}
	own := ownReserved(kind, u)
	if p.reserved(u.Name) && !slices.Contains(own, u.Name) {
		return Refuse(kind, ReservedName, fmt.Sprintf("the user name %q is reserved", u.Name))
	}
	for _, group := range u.Groups {
		if group != AuthenticatedGroup && p.reserved(group) && !slices.Contains(own, group) {
			return Refuse(kind, ReservedName, fmt.Sprintf("the group %q is reserved", group))
		}
	}
	if key := OwnExtra(u); key != "" {
		return Refuse(kind, ReservedName, fmt.Sprintf("the extra key %q is reserved", key))
	}
	return nil
}

// OwnExtra returns a key of u's extra that only gatehouse may set, or "".
func OwnExtra(u *User) string {
	for key := range u.Extra {
		if strings.HasPrefix(key, OwnExtraPrefix) {
			return key
		}
	}
	return ""
}

// CheckWire returns a [*Refusal], BadName or IdentityTooLarge, if u would not
// arrive at the API server as it is. Which names are reserved plays no part.
func (NamePolicy) CheckWire(kind Kind, u *User) error {
	if fault := wireFault(u); fault != "" {
		return Refuse(kind, BadName, fault)
	}
	if size := identitySize(u); size > MaxIdentityBytes {
		return Refuse(kind, IdentityTooLarge, fmt.Sprintf("the identity has %d bytes, the limit is %d", size, MaxIdentityBytes))
	}
	return nil
}

func (p NamePolicy) reserved(name string) bool {
	for _, prefix := range reservedPrefixes {
		if strings.HasPrefix(name, prefix) {
			return !slices.Contains(p.AllowedReserved, name)
		}
	}
	return false
}

// wireFault says what in u would not arrive at the API server as it is, or "".
func wireFault(u *User) string {
	if fault := valueFault(u.Name); fault != "" {
		return "the user name " + fault
	}
	if u.UID != "" {
		if fault := valueFault(u.UID); fault != "" {
			return "the uid " + fault
		}
	}
	for i, group := range u.Groups {
		if fault := valueFault(group); fault != "" {
			// Not quoted: in a broken file it may be part of a token.
			return fmt.Sprintf("group %d of %d %s", i+1, len(u.Groups), fault)
		}
	}
	for key, values := range u.Extra {
		if fault := extraKeyFault(key); fault != "" {
			return fmt.Sprintf("the extra key %q %s", key, fault)
		}
		for _, value := range values {
			if fault := valueFault(value); fault != "" {
				return fmt.Sprintf("a value of extra %q %s", key, fault)
			}
		}
	}
	return ""
}

func valueFault(s string) string {
	if s == "" {
		return "is empty"
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f:
			return "holds a control character"
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if ascii {
		if s[0] == ' ' || s[len(s)-1] == ' ' {
			return "begins or ends with white space"
		}
		return ""
	}
	return unicodeFault(s)
}

func unicodeFault(s string) string {
	if !utf8.ValidString(s) {
		return "is not valid UTF-8"
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "holds a control character"
	}
	if strings.ContainsRune(s, utf8.RuneError) {
		return "holds U+FFFD, which stands for text that was lost"
	}
	if strings.TrimSpace(s) != s {
		return "begins or ends with white space"
	}
	return ""
}

// extraKeyFault holds the rule of constrained impersonation (Kubernetes 1.36):
// a domain-prefixed key in lower case. kube-apiserver lowers keys, so that two
// that differ in case alone would become one.
func extraKeyFault(key string) string {
	if fault := valueFault(key); fault != "" {
		return fault
	}
	if strings.ToLower(key) != key {
		return "is not in lower case"
	}
	if domain, name, found := strings.Cut(key, "/"); !found || domain == "" || name == "" {
		return "has no domain prefix"
	}
	return ""
}

func identitySize(u *User) int {
	size := len(u.Name) + len(u.UID)
	for _, group := range u.Groups {
		size += len(group)
	}
	for key, values := range u.Extra {
		for _, value := range values {
			size += len(key) + len(value)
		}
	}
	return size
}
