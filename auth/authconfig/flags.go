package authconfig

import (
	"maps"
	"slices"

	"k8s.io/apiserver/pkg/apis/apiserver"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
)

// Flags are kube-apiserver's --oidc-* flags.
type Flags struct {
	IssuerURL      string
	ClientID       string
	UsernameClaim  string // default: sub
	UsernamePrefix string // empty: IssuerURL + "#", or none for the claim email; "-": none
	GroupsClaim    string // empty: no groups
	GroupsPrefix   string
	RequiredClaims map[string]string // each must be a string of exactly this value
}

// Issuer returns the issuer that f describes, made as kube-apiserver makes an
// entry of the file of its flags (v1.37, pkg/kubeapiserver/options).
func (f Flags) Issuer() (Issuer, error) {
	if f.UsernameClaim == "" {
		f.UsernameClaim = "sub"
	}
	switch {
	case f.UsernamePrefix == "-":
		f.UsernamePrefix = ""
	case f.UsernamePrefix == "" && f.UsernameClaim != "email":
		f.UsernamePrefix = f.IssuerURL + "#"
	}
	jwt := apiserver.JWTAuthenticator{
		Issuer: apiserver.Issuer{URL: f.IssuerURL, Audiences: []string{f.ClientID}},
		ClaimMappings: apiserver.ClaimMappings{
			Username: apiserver.PrefixedClaimOrExpression{Claim: f.UsernameClaim, Prefix: &f.UsernamePrefix},
		},
	}
	if f.GroupsClaim != "" {
		jwt.ClaimMappings.Groups = apiserver.PrefixedClaimOrExpression{Claim: f.GroupsClaim, Prefix: &f.GroupsPrefix}
	}
	for _, claim := range slices.Sorted(maps.Keys(f.RequiredClaims)) {
		jwt.ClaimValidationRules = append(jwt.ClaimValidationRules, apiserver.ClaimValidationRule{Claim: claim, RequiredValue: f.RequiredClaims[claim]})
	}
	mapping, err := newMapping(authenticationcel.NewDefaultCompiler(), jwt)
	return Issuer{URL: f.IssuerURL, Audiences: slices.Clone(jwt.Issuer.Audiences), Mapping: mapping}, err
}
