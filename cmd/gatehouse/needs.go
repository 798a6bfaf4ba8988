package main

import (
	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// needs are the rights at the API server that the settings need: what `rbac`
// prints, `check --connect` asks about, and readiness looks after.
func (p *parts) needs() upstream.Needs {
	s := p.settings
	issuers, anonymous := p.issuers.present()
	needs := upstream.Needs{
		Impersonation: s.Impersonation,
		// A ServiceAccount's own token goes on to the API server: its caller is not
		// named by impersonation.
		TokenReviews: s.TokenReview,
		Users:        s.Impersonation || p.namesPeople(),
		// What a row or a certificate holds can change while we run.
		Groups: anonymous || s.TokenAuthFile != "" || s.ClientCAFile != "",
		UIDs:   s.TokenAuthFile != "" || s.ClientCAFile != "",
	}
	if len(issuers) > 0 || s.ClientCAFile != "" { // a token may have a `jti`, and every certificate has an id
		needs.ExtraKeys = append(needs.ExtraKeys, auth.CredentialIDKey)
	}
	for _, issuer := range issuers {
		groups, uid := issuer.Carries()
		needs.Groups, needs.UIDs = needs.Groups || groups, needs.UIDs || uid
		needs.ExtraKeys = append(needs.ExtraKeys, issuer.ExtraKeys()...)
	}
	if p.sessions != nil {
		needs.AccessReviews = true // whether somebody may act for somebody else
		needs.ExtraKeys = append(needs.ExtraKeys, auth.CredentialIDKey, impersonate.ScopeKey, impersonate.ActorKey)
	}
	return needs
}

// namesPeople reports whether some credential makes its caller be named by
// impersonation, which a ServiceAccount's token does not.
func (p *parts) namesPeople() bool {
	issuers, anonymous := p.issuers.present()
	return len(issuers) > 0 || anonymous || p.settings.TokenAuthFile != "" || p.settings.ClientCAFile != ""
}
