package main

import (
	"net/url"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// groupsScope asks for the claim of the same name.
const groupsScope = "groups"

// client is the one public client, a command line tool. It implements
// [op.Client].
type client struct{ id, redirectURI string }

func (c client) GetID() string                     { return c.id }
func (c client) RedirectURIs() []string            { return []string{c.redirectURI} }
func (client) PostLogoutRedirectURIs() []string    { return nil }
func (client) ApplicationType() op.ApplicationType { return op.ApplicationTypeNative }
func (client) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodNone }
func (client) ResponseTypes() []oidc.ResponseType  { return []oidc.ResponseType{oidc.ResponseTypeCode} }
func (client) AccessTokenType() op.AccessTokenType { return op.AccessTokenTypeBearer }
func (client) IDTokenLifetime() time.Duration      { return time.Hour }
func (client) ClockSkew() time.Duration            { return 0 }
func (client) DevMode() bool                       { return false }
func (client) IsScopeAllowed(scope string) bool    { return scope == groupsScope }
func (client) GrantTypes() []oidc.GrantType {
	return []oidc.GrantType{oidc.GrantTypeCode, oidc.GrantTypeDeviceCode}
}
func (client) LoginURL(request string) string {
	return loginPath + "?request=" + url.QueryEscape(request)
}

// IDTokenUserinfoClaimsAssertion has the claims of a scope in the ID token,
// where gatehouse reads them, beside those at the userinfo endpoint.
func (client) IDTokenUserinfoClaimsAssertion() bool { return true }

// RestrictAdditionalIdTokenScopes takes no scope away.
func (client) RestrictAdditionalIdTokenScopes() func([]string) []string { return all }

// RestrictAdditionalAccessTokenScopes takes no scope away.
func (client) RestrictAdditionalAccessTokenScopes() func([]string) []string { return all }

func all(scopes []string) []string { return scopes }
