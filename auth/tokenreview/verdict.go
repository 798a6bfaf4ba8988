package tokenreview

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// otherAudience is in the error that kube-apiserver gives for a token whose
// signature it has verified, and which is for another audience (v1.37,
// pkg/serviceaccount/jwt.go). Elsewhere it does not occur.
const otherAudience = "is invalid for the target audiences"

// judge makes an identity of the API server's answer, or a refusal. It holds
// the rules of kube-apiserver's own webhook authenticator (k8s.io/apiserver
// v0.37, plugin/pkg/authenticator/token/webhook), and is stricter where an
// answer contradicts itself or the token.
//
// A refusal of auth.InternalAuthFailed is about the answer, not the token.
func (a *Authenticator) judge(s Status, c claims) (*auth.Identity, *auth.Refusal) {
	switch {
	case !s.Authenticated && strings.Contains(s.Error, otherAudience):
		return nil, refuse(auth.WrongAudience, a.audienceDetail())
	case !s.Authenticated:
		return nil, refuse(auth.UnknownToken, "the API server does not accept the token")
	case s.Error != "":
		return nil, failed("the API server accepts the token and names an error beside")
	case s.User.Name == "":
		return nil, failed("the API server accepts the token and names no user")
	}
	if refusal := a.checkAudiences(s.Audiences); refusal != nil {
		return nil, refusal
	}
	if refusal := checkUser(&s.User, c); refusal != nil {
		return nil, refusal
	}
	if c.expired(a.cfg.Now()) {
		refusal := refuse(auth.Expired, "`exp` has passed")
		refusal.At = c.expires
		return nil, refusal
	}
	return &auth.Identity{User: s.User, Kind: auth.KindServiceAccount, Issuer: c.issuer, Expires: c.expires,
		Credential: auth.Credential{IDs: credentialIDs(s.User.Extra, c), Subject: c.subject, Issued: c.issued}}, nil
}

// credentialIDs returns by what the token can be revoked. API servers before
// Kubernetes 1.30 do not name its id.
func credentialIDs(extra map[string][]string, c claims) []string {
	ids := slices.Clone(extra[auth.CredentialIDKey])
	if id := "JTI=" + c.id; c.id != "" && !slices.Contains(ids, id) {
		ids = append(ids, id)
	}
	return ids
}

// checkAudiences refuses a token that is not for one of the audiences asked
// for. Where none was asked for, the API server has compared the token with
// its own, and what it accepted is for them.
func (a *Authenticator) checkAudiences(got []string) *auth.Refusal {
	asked := a.cfg.Audiences
	switch {
	case len(asked) == 0:
		return nil
	case len(got) == 0:
		// An API server that does not know of audiences leaves the list out.
		return failed("the API server does not say which of the audiences the token is for")
	case !slices.ContainsFunc(got, func(audience string) bool { return slices.Contains(asked, audience) }):
		return refuse(auth.WrongAudience, a.audienceDetail())
	}
	return nil
}

func (a *Authenticator) audienceDetail() string {
	if len(a.cfg.Audiences) == 0 {
		return "the token is not for the API server"
	}
	return fmt.Sprintf("the token is not for %s", strings.Join(a.cfg.Audiences, " or "))
}

// checkUser refuses a user who is not the ServiceAccount that the token names,
// and a reserved group that is not that account's own.
func checkUser(u *auth.User, c claims) *auth.Refusal {
	namespace, _, ok := auth.SplitServiceAccount(u.Name)
	if !ok {
		return refuse(auth.UnknownToken, "the API server gives the token to a user who is no ServiceAccount")
	}
	if u.Name != c.subject {
		return refuse(auth.UnknownToken, "the API server gives the token to another ServiceAccount than its `sub` names")
	}
	for _, group := range u.Groups {
		switch {
		case group == auth.ServiceAccountsGroup, group == auth.ServiceAccountsGroupsPrefix+namespace, group == auth.AuthenticatedGroup:
		case strings.HasPrefix(group, "system:"), strings.HasPrefix(group, "kubeadm:"):
			return refuse(auth.ReservedName, fmt.Sprintf("the API server gives the ServiceAccount the group %.100q, which none has", group))
		}
	}
	return nil
}

// freshUntil returns how long an accepted token needs no other review, from
// the moment when its review began.
func (a *Authenticator) freshUntil(began time.Time, id *auth.Identity) time.Time {
	until := began.Add(a.cfg.TTL)
	if !id.Expires.IsZero() && id.Expires.Before(until) {
		return id.Expires
	}
	return until
}
