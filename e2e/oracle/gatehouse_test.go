package oracle_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// answer is a user, or why there is none.
type answer struct {
	user *auth.User
	err  error
}

func (a answer) String() string {
	if a.user == nil {
		return fmt.Sprintf("refused: %v", a.err)
	}
	return fmt.Sprintf("accepted: %+q", *a.user)
}

// reason is gatehouse's reason for a refusal.
func (a answer) reason() auth.Reason {
	if refusal, ok := errors.AsType[*auth.Refusal](a.err); ok {
		return refusal.Reason
	}
	return ""
}

// normal makes an empty list or map the same as none.
func normal(u auth.User) *auth.User {
	if len(u.Groups) == 0 {
		u.Groups = nil
	}
	if len(u.Extra) == 0 {
		u.Extra = nil
	}
	return &u
}

// newGatehouse returns gatehouse's issuers, with keys. They end with ctx.
func newGatehouse(ctx context.Context, described []authconfig.Issuer, algorithms []string) (*oidc.Issuers, error) {
	var all []*oidc.Issuer
	for _, d := range described {
		var roots *x509.CertPool
		if len(d.CertificateAuthority) > 0 {
			roots = x509.NewCertPool()
			roots.AppendCertsFromPEM(d.CertificateAuthority)
		}
		issuer, err := oidc.New(oidc.Config{
			URL: d.URL, DiscoveryURL: d.DiscoveryURL, Audiences: d.Audiences, Mapping: d.Mapping,
			Algorithms: algorithms, Roots: roots, Now: now,
		})
		if err != nil {
			return nil, err
		}
		all = append(all, issuer)
	}
	issuers, err := oidc.NewIssuers(all...)
	if err != nil {
		return nil, err
	}
	for _, issuer := range all {
		go issuer.Run(ctx)
	}
	for _, issuer := range all {
		select {
		case <-issuer.Ready():
		case <-time.After(30 * time.Second):
			return nil, fmt.Errorf("%s has no keys: %w", issuer.URL(), issuer.Status().Err)
		}
	}
	return issuers, nil
}

// askGatehouse returns gatehouse's answer, the policy of names included.
func askGatehouse(ctx context.Context, issuers auth.TokenAuthenticator, token string) answer {
	id, err := issuers.AuthenticateToken(ctx, token)
	if err != nil {
		return answer{err: err}
	}
	if err := (auth.NamePolicy{}).Check(id.Kind, &id.User); err != nil {
		return answer{err: err}
	}
	return answer{user: normal(id.User)}
}
