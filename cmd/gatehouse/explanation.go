package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

// explanation is what `explain -o json` prints; docs/how-to/explain-a-refusal.md
// describes it. Fields are added, never renamed.
type explanation struct {
	Accepted    bool                  `json:"accepted"`
	Refusal     *explainedRefusal     `json:"refusal,omitempty"`
	Credential  auth.Kind             `json:"credential"`
	User        *explainedUser        `json:"user,omitempty"`    // whom the API server is told to serve
	Expires     *time.Time            `json:"expires,omitempty"` // when the credential ends
	Issuer      *explainedIssuer      `json:"issuer,omitempty"`
	Token       *explainedToken       `json:"token,omitempty"`
	Certificate *explainedCertificate `json:"certificate,omitempty"`
	Steps       []explainedStep       `json:"steps,omitempty"`
	Mapping     []explainedField      `json:"mapping,omitempty"`
	Notes       []string              `json:"notes,omitempty"`

	now     time.Time
	refusal *auth.Refusal
}

type explainedRefusal struct {
	Reason  auth.Reason `json:"reason"`  // as in metrics and the log
	Code    int         `json:"code"`    // HTTP status of the answer
	Message string      `json:"message"` // what the caller is told
	Detail  string      `json:"detail"`  // what the log says
}

type explainedUser struct {
	Username string              `json:"username"`
	UID      string              `json:"uid,omitempty"`
	Groups   []string            `json:"groups,omitempty"`
	Extra    map[string][]string `json:"extra,omitempty"`
}

type explainedIssuer struct {
	URL        string `json:"url"`
	Configured string `json:"configured"` // where in the settings
	Keys       int    `json:"keys"`
	KeysURL    string `json:"keysURL,omitempty"`
	Fault      string `json:"fault,omitempty"` // what fetching the keys met
}

// explainedToken is what a JWT says of itself: believe it if Verified.
type explainedToken struct {
	Verified  bool           `json:"verified"`
	Fault     string         `json:"fault,omitempty"` // why it is not verified
	Algorithm string         `json:"alg,omitempty"`
	KeyID     string         `json:"kid,omitempty"`
	Type      string         `json:"typ,omitempty"`
	Issuer    string         `json:"iss,omitempty"`
	Claims    map[string]any `json:"claims,omitempty"`
	key       string
	by        string // who verified it, if not the issuer's keys did
}

type explainedStep struct {
	Name   string `json:"name"`
	Result string `json:"result"` // passed, refused, not_reached
}

type explainedField struct {
	Field  string   `json:"field"`
	Rule   string   `json:"rule,omitempty"`
	Values []string `json:"values,omitempty"`
	Fault  string   `json:"fault,omitempty"`
}

// setVerdict takes over what the server's own code decided.
func (e *explanation) setVerdict(identity *auth.Identity, err error) {
	if err != nil {
		refusal, ok := errors.AsType[*auth.Refusal](err)
		if !ok {
			refusal = auth.Refuse(auth.KindUnknown, auth.InternalAuthFailed, err.Error())
		}
		code, sentence := proxy.Sentence(refusal, e.now)
		e.refusal = refusal
		e.Refusal = &explainedRefusal{Reason: refusal.Reason, Code: code, Message: sentence, Detail: refusal.Detail}
		e.Credential = refusal.Kind
		return
	}
	e.Accepted, e.Credential = true, identity.Kind
	e.User = &explainedUser{Username: identity.Name, UID: identity.UID, Groups: identity.Groups, Extra: identity.Extra}
	if !identity.Expires.IsZero() {
		e.Expires = new(identity.Expires.UTC())
	}
	if identity.Kind != auth.KindAnonymous && !slices.Contains(identity.Groups, auth.AuthenticatedGroup) {
		e.note("The API server adds the group %s itself.", auth.AuthenticatedGroup)
	}
}

func (e *explanation) note(format string, args ...any) {
	e.Notes = append(e.Notes, fmt.Sprintf(format, args...))
}

func (e *explanation) addField(field, rule string, err error, values ...string) {
	f := explainedField{Field: field, Rule: rule, Values: values}
	if err != nil {
		f.Fault = err.Error()
		if refusal, ok := errors.AsType[*auth.Refusal](err); ok {
			f.Fault = refusal.Detail
		}
	}
	e.Mapping = append(e.Mapping, f)
}

// addUser adds the fields of an identity that one source made as a whole.
func (e *explanation) addUser(user *auth.User, name, groups, uid, extra string) {
	e.addField("username", name, nil, user.Name)
	if len(user.Groups) > 0 {
		e.addField("groups", groups, nil, user.Groups...)
	}
	if user.UID != "" {
		e.addField("uid", uid, nil, user.UID)
	}
	for _, key := range sortedKeys(user.Extra) {
		e.addField(fmt.Sprintf("extra[%q]", key), extra, nil, user.Extra[key]...)
	}
}

// describe adds what the issuers say of a token, and how far it got through
// steps.
func (e *explanation) describe(x *oidc.Explanation, steps []string) {
	if x.Claims == nil && x.Name == "" {
		if e.Credential == auth.KindUnknown && e.refusal.Reason == auth.UnknownToken {
			e.note("The token was looked for as a JWT, but %s.", x.Form)
		}
		return
	}
	e.Token = &explainedToken{
		Verified: x.Verified, Algorithm: x.Algorithm, KeyID: x.KeyID, Type: x.Type, Issuer: x.Name, Claims: x.Claims, key: x.Key,
	}
	if x.Signature != nil {
		e.Token.Fault = x.Signature.Error()
	}
	for _, m := range x.Mapped {
		if m.Rule != "" || m.Err != nil {
			e.addField(m.Field, m.Rule, m.Err, m.Values...)
		} else if m.Field == "groups" {
			e.note("No groups are taken from the token, as the settings name no claim for them.")
		}
	}
	if x.Issuer != nil && (e.refusal == nil || e.refusal.Kind == auth.KindOIDC) {
		e.Steps = stepsTo(steps, e.refusal, x.Form != nil, x.Verified)
	}
}

// steps are those of a token of a trusted issuer, in their order. A token that
// would be refused for its claims is never told so before its signature is
// verified.
func (p *parts) steps() []string {
	steps := []string{"form", "algorithm", "signature", "claims", "mapping", "rules", "names"}
	if p.settings.RevocationFile != "" {
		steps = append(steps, "revocation")
	}
	return steps
}

// stepOf says in which step a reason refuses.
var stepOf = map[auth.Reason]string{
	auth.UnsupportedAlgorithm: "algorithm",
	auth.UnknownKey:           "signature", auth.BadSignature: "signature", auth.IssuerUnavailable: "signature",
	auth.Expired: "claims", auth.NotYetValid: "claims", auth.WrongAudience: "claims", auth.WrongParty: "claims", auth.WrongTokenType: "claims",
	auth.BadUsernameClaim: "mapping", auth.UnverifiedEmail: "mapping", auth.BadGroupsClaim: "mapping",
	auth.UnsupportedClaims: "mapping", auth.BadMapping: "mapping",
	auth.RequiredClaim: "rules", auth.ClaimRule: "rules", auth.UserRule: "rules",
	auth.BadName: "names", auth.ReservedName: "names", auth.IdentityTooLarge: "names",
	auth.Revoked: "revocation",
}

// stepsTo says how far a token got. It is nothing for a reason that belongs to
// no step.
func stepsTo(steps []string, refusal *auth.Refusal, badForm, verified bool) []explainedStep {
	last := ""
	if refusal != nil {
		last = stepOf[refusal.Reason]
		switch {
		case refusal.Reason != auth.MalformedToken:
		case badForm:
			last = "form"
		case verified:
			last = "claims"
		default:
			last = "signature"
		}
		if last == "" {
			return nil
		}
	}
	var list []explainedStep
	result := "passed"
	for _, name := range steps {
		if name == last {
			list = append(list, explainedStep{name, "refused"})
			result = "not_reached"
			continue
		}
		list = append(list, explainedStep{name, result})
	}
	return list
}

// placeOf says where in the settings an issuer is configured.
func (p *parts) placeOf(issuer *oidc.Issuer) string {
	if p.settings.OIDC.configured() {
		return "GATEHOUSE_OIDC_ISSUER_URL"
	}
	i := slices.Index(p.issuers.list(), issuer)
	return fmt.Sprintf("jwt[%d] of %s", i, p.settings.AuthenticationConfig)
}

// nearby returns a configured issuer that name may have been meant to be, or "".
func (p *parts) nearby(name string) string {
	plain := func(url string) string { return strings.TrimRight(strings.ToLower(url), "/") }
	for _, issuer := range p.issuers.list() {
		if plain(issuer.URL()) == plain(name) {
			return issuer.URL()
		}
	}
	return ""
}
