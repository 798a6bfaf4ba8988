package main

import (
	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// authenticator says who made a request: by certificate, then by token, as
// kube-apiserver's order is, and nobody's business only where anonymous is
// allowed. Each credential of a request is checked by itself.
func (p *parts) authenticator() auth.Authenticator {
	checked := func(a auth.Authenticator) auth.Authenticator { return auth.Checked(a, p.checkNames, p.checkRevoked) }
	bearer, anonymous := checked(auth.Bearer(p.tokenAuthenticators()...)), checked(&p.issuers)
	if p.settings.ClientCAFile == "" {
		return auth.Any(bearer, anonymous)
	}
	certificates := clientcert.New(clientcert.Config{Live: &p.clientCerts, Stale: clientcert.StalePolicy(p.settings.ClientCRLStale)})
	return auth.Any(auth.Ranked(checked(certificates), bearer), anonymous)
}

// tokenAuthenticators are those that are asked whom a bearer token names, in
// their order. The API server is asked last, of tokens that are nobody else's.
func (p *parts) tokenAuthenticators() []auth.TokenAuthenticator {
	all := []auth.TokenAuthenticator{&p.tokens, &p.issuers}
	if p.sessions != nil {
		all = append(all, p.sessions)
	}
	if p.accounts != nil {
		all = append(all, p.accounts)
	}
	return all
}

// permits decides who may act as whom, by the cluster's own rules; nil if nobody
// may.
func (p *parts) permits() *impersonate.Permits {
	if !p.settings.Impersonation {
		return nil
	}
	return impersonate.NewPermits(upstream.NewAccessReviewer(&p.upstream))
}

func (p *parts) checkNames(id *auth.Identity) error { return p.names.Check(id.Kind, &id.User) }
