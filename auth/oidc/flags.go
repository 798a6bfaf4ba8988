package oidc

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// CredentialIDKey is the extra in which the API server, too, keeps the id of
// the credential (KEP-4633): JTI=<jti> for a token.
const CredentialIDKey = "authentication.kubernetes.io/credential-id"

// Flags are the mapping rules of kube-apiserver's --oidc-* flags (v1.37,
// pkg/kubeapiserver/options).
type Flags struct {
	IssuerURL      string
	UsernameClaim  string // default: sub
	UsernamePrefix string // empty: IssuerURL + "#", or none for the claim email; "-": none
	GroupsClaim    string // empty: no groups
	GroupsPrefix   string
	RequiredClaims map[string]string // each must be a string of exactly this value
}

// Mapping returns the mapping that f describes. Where kube-apiserver accepts an
// empty user name or group, it refuses.
func (f Flags) Mapping() Mapping {
	if f.UsernameClaim == "" {
		f.UsernameClaim = "sub"
	}
	switch {
	case f.UsernamePrefix == "-":
		f.UsernamePrefix = ""
	case f.UsernamePrefix == "" && f.UsernameClaim != "email":
		f.UsernamePrefix = f.IssuerURL + "#"
	}
	return f.user
}

func (f Flags) user(claims Claims) (auth.User, error) {
	if err := foldedNames(claims, f.claimNames()); err != nil {
		return auth.User{}, refuse(auth.MalformedToken, "payload: "+err.Error())
	}
	name, err := f.username(claims)
	if err != nil {
		return auth.User{}, err
	}
	groups, err := f.groups(claims)
	if err != nil {
		return auth.User{}, err
	}
	for claim, want := range f.RequiredClaims {
		if got, ok := claims[claim].(string); !ok || got != want {
			return auth.User{}, refuse(auth.RequiredClaim, fmt.Sprintf("the claim `%s` must be the string %q", claim, want))
		}
	}
	user := auth.User{Name: name, Groups: groups}
	if jti, ok := claims["jti"].(string); ok && jti != "" {
		user.Extra = map[string][]string{CredentialIDKey: {"JTI=" + jti}}
	}
	return user, nil
}

// claimNames returns the claims that decide something in this mapping.
func (f Flags) claimNames() []string {
	names := []string{f.UsernameClaim}
	if f.GroupsClaim != "" {
		names = append(names, f.GroupsClaim)
	}
	for claim := range f.RequiredClaims {
		names = append(names, claim)
	}
	return names
}

func (f Flags) username(claims Claims) (string, error) {
	name, ok := claims[f.UsernameClaim].(string)
	if !ok {
		return "", refuse(auth.BadUsernameClaim, fmt.Sprintf("the claim `%s` is missing or not a string", f.UsernameClaim))
	}
	if strings.TrimSpace(name) == "" {
		return "", refuse(auth.BadUsernameClaim, fmt.Sprintf("the claim `%s` is blank", f.UsernameClaim))
	}
	if f.UsernameClaim == "email" {
		if verified, present := claims["email_verified"]; present && verified != true {
			return "", refuse(auth.UnverifiedEmail, "`email_verified` is not true")
		}
	}
	return f.UsernamePrefix + name, nil
}

func (f Flags) groups(claims Claims) ([]string, error) {
	if f.GroupsClaim == "" {
		return nil, nil
	}
	value, present := claims[f.GroupsClaim]
	if !present {
		if names, ok := claims["_claim_names"].(map[string]any); ok && names[f.GroupsClaim] != nil {
			return nil, refuse(auth.UnsupportedClaims, fmt.Sprintf("the claim `%s` is distributed (`_claim_names`), which is not supported", f.GroupsClaim))
		}
	}
	var groups []string
	switch value := value.(type) {
	case nil:
	case string:
		groups = []string{value}
	case []any:
		for _, member := range value {
			group, ok := member.(string)
			if !ok {
				return nil, f.badGroups()
			}
			groups = append(groups, group)
		}
	default:
		return nil, f.badGroups()
	}
	if slices.Contains(groups, "") {
		return nil, f.badGroups()
	}
	for i := range groups {
		groups[i] = f.GroupsPrefix + groups[i]
	}
	return groups, nil
}

func (f Flags) badGroups() error {
	return refuse(auth.BadGroupsClaim, fmt.Sprintf("the claim `%s` is neither a string nor a list of strings that are not empty", f.GroupsClaim))
}
