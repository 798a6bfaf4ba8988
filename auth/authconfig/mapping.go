package authconfig

import (
	"context"
	"fmt"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"
	"k8s.io/apiserver/pkg/cel/lazy"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Mapping makes a user of the verified claims of a token.
type Mapping struct {
	mappings apiserver.ClaimMappings
	rules    []apiserver.ClaimValidationRule
	required []int // which of rules name a claim; the others are in cel
	cel      authenticationcel.CELMapper
}

func newMapping(compiler authenticationcel.Compiler, jwt apiserver.JWTAuthenticator) (Mapping, error) {
	cel, faults := validation.CompileAndValidateJWTAuthenticator(compiler, jwt, nil)
	if len(faults) > 0 {
		return Mapping{}, joined(faults)
	}
	m := Mapping{mappings: jwt.ClaimMappings, rules: jwt.ClaimValidationRules, cel: cel}
	for i, rule := range m.rules {
		if rule.Claim != "" {
			m.required = append(m.required, i)
		}
	}
	return m, nil
}

// Claims returns the names of the claims that m reads by name.
func (m Mapping) Claims() []string {
	var names []string
	for _, name := range []string{m.mappings.Username.Claim, m.mappings.Groups.Claim, m.mappings.UID.Claim} {
		if name != "" {
			names = append(names, name)
		}
	}
	for _, i := range m.required {
		names = append(names, m.rules[i].Claim)
	}
	return names
}

// GroupsClaims returns the name of the claim that m reads as groups. It is empty
// if there are none, or if an expression makes them: kube-apiserver then follows
// no reference to claims that stand elsewhere.
func (m Mapping) GroupsClaims() []string {
	if m.mappings.Groups.Claim == "" {
		return nil
	}
	return []string{m.mappings.Groups.Claim}
}

// GroupsByExpression reports whether an expression makes the groups.
func (m Mapping) GroupsByExpression() bool { return m.cel.Groups != nil }

// User returns whom claims name. Its steps and their order are those of
// kube-apiserver's JWT authenticator (v1.37): user name, groups, uid, extra,
// required claims, claim rules, user rules; the first that fails refuses. Where
// kube-apiserver accepts a blank user name or an empty group through a claim, it
// refuses. The error is a [*auth.Refusal].
func (m Mapping) User(ctx context.Context, claims map[string]any) (user auth.User, err error) {
	value := claimsValue(claims)
	if user.Name, err = m.username(ctx, claims, value); err != nil {
		return auth.User{}, err
	}
	if user.Groups, err = m.groups(ctx, claims, value); err != nil {
		return auth.User{}, err
	}
	if user.UID, err = m.uid(ctx, claims, value); err != nil {
		return auth.User{}, err
	}
	if user.Extra, err = m.extra(ctx, claims, value); err != nil {
		return auth.User{}, err
	}
	for _, i := range m.required {
		if err := m.checkRequired(i, claims); err != nil {
			return auth.User{}, err
		}
	}
	if err := m.checkRules(ctx, value, user); err != nil {
		return auth.User{}, err
	}
	return user, nil
}

func refuse(reason auth.Reason, format string, args ...any) error {
	return auth.Refuse(auth.KindOIDC, reason, fmt.Sprintf(format, args...))
}

func (m Mapping) username(ctx context.Context, claims map[string]any, value *lazy.MapValue) (string, error) {
	if m.cel.Username != nil {
		name, err := evalString(ctx, m.cel.Username, value)
		if err != nil || name == "" {
			return "", refuse(auth.BadUsernameClaim, "username.expression gives no string that is not empty: %v", err)
		}
		return name, nil
	}
	claim := m.mappings.Username.Claim
	name, ok := stringClaim(claims, claim)
	if !ok {
		return "", refuse(auth.BadUsernameClaim, "the claim `%s` is missing or not a string", claim)
	}
	if strings.TrimSpace(name) == "" {
		return "", refuse(auth.BadUsernameClaim, "the claim `%s` is blank", claim)
	}
	if claim == "email" {
		if verified, present := claims["email_verified"]; present && verified != true {
			return "", refuse(auth.UnverifiedEmail, "`email_verified` is not true")
		}
	}
	return prefix(m.mappings.Username.Prefix) + name, nil
}

// stringClaim returns a claim that must be a string. As for kube-apiserver, null
// is the empty one; a claim that is not there is none.
func stringClaim(claims map[string]any, name string) (value string, ok bool) {
	claim, present := claims[name]
	if present && claim == nil {
		return "", true
	}
	value, ok = claim.(string)
	return value, ok
}

func prefix(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func (m Mapping) groups(ctx context.Context, claims map[string]any, value *lazy.MapValue) ([]string, error) {
	if m.cel.Groups != nil {
		result, err := m.cel.Groups.EvalClaimMapping(ctx, value)
		if err != nil {
			return nil, refuse(auth.BadGroupsClaim, "groups.expression: %v", err)
		}
		groups, err := stringList(result.EvalResult)
		if err != nil {
			return nil, refuse(auth.BadGroupsClaim, "groups.expression: %v", err)
		}
		return groups, nil
	}
	claim := m.mappings.Groups.Claim
	if claim == "" {
		return nil, nil
	}
	member, present := claims[claim]
	if !present {
		if err := elsewhere(claims, claim); err != nil {
			return nil, err
		}
	}
	groups, ok := stringOrList(member)
	if !ok || slices.Contains(groups, "") {
		return nil, refuse(auth.BadGroupsClaim, "the claim `%s` is neither a string nor a list of strings that are not empty", claim)
	}
	for i := range groups {
		groups[i] = prefix(m.mappings.Groups.Prefix) + groups[i]
	}
	return groups, nil
}

// elsewhere refuses a token that only says where the groups are, or that there
// are some: nobody has found them, and without them a person would be somebody
// with fewer rights, or with more where a rule takes some away.
func elsewhere(claims map[string]any, claim string) error {
	value, named := claims["_claim_names"]
	names, _ := value.(map[string]any)
	_, sources := claims["_claim_sources"]
	switch {
	case names[claim] != nil || named && !sources:
		return refuse(auth.UnsupportedClaims, "the claim `%s` is distributed (`_claim_names`), and nothing is set up to resolve it", claim)
	case claim == "groups" && claims["hasgroups"] == true:
		return refuse(auth.UnsupportedClaims, "the token says that there are groups (`hasgroups`) and not which, and nothing is set up to resolve it")
	default:
		return nil
	}
}

// stringOrList returns a new list; nothing for null.
func stringOrList(value any) (list []string, ok bool) {
	switch value := value.(type) {
	case nil:
		return nil, true
	case string:
		return []string{value}, true
	case []any:
		for _, member := range value {
			text, ok := member.(string)
			if !ok {
				return nil, false
			}
			list = append(list, text)
		}
		return list, true
	default:
		return nil, false
	}
}

func (m Mapping) uid(ctx context.Context, claims map[string]any, value *lazy.MapValue) (string, error) {
	switch {
	case m.mappings.UID.Claim != "":
		uid, ok := stringClaim(claims, m.mappings.UID.Claim)
		if !ok {
			return "", refuse(auth.BadMapping, "the claim `%s` of the uid is missing or not a string", m.mappings.UID.Claim)
		}
		return uid, nil
	case m.cel.UID != nil:
		uid, err := evalString(ctx, m.cel.UID, value)
		if err != nil {
			return "", refuse(auth.BadMapping, "uid.expression: %v", err)
		}
		return uid, nil
	default:
		return "", nil
	}
}

func (m Mapping) extra(ctx context.Context, claims map[string]any, value *lazy.MapValue) (map[string][]string, error) {
	extra := map[string][]string{}
	if jti, ok := claims["jti"].(string); ok && jti != "" {
		extra[auth.CredentialIDKey] = []string{"JTI=" + jti}
	}
	if m.cel.Extra != nil {
		results, err := m.cel.Extra.EvalClaimMappings(ctx, value)
		if err != nil {
			return nil, refuse(auth.BadMapping, "extra: %v", err)
		}
		for _, result := range results {
			mapping, ok := result.ExpressionAccessor.(*authenticationcel.ExtraMappingExpression)
			if !ok {
				return nil, refuse(auth.BadMapping, "extra: an expression without a key")
			}
			key := mapping.Key
			values, err := stringList(result.EvalResult)
			if err != nil {
				return nil, refuse(auth.BadMapping, "extra %q: %v", key, err)
			}
			if len(values) > 0 {
				extra[key] = values
			}
		}
	}
	if len(extra) == 0 {
		return nil, nil
	}
	return extra, nil
}

// checkRequired judges rules[i], which names a claim.
func (m Mapping) checkRequired(i int, claims map[string]any) error {
	rule := m.rules[i]
	if got, ok := stringClaim(claims, rule.Claim); !ok || got != rule.RequiredValue {
		return refuse(auth.RequiredClaim, "%s: the claim `%s` must be the string %q", claimRule(i), rule.Claim, rule.RequiredValue)
	}
	return nil
}

// The lists of rules, as the configuration names them.
const (
	claimRules = "claimValidationRules"
	userRules  = "userValidationRules"
)

func claimRule(i int) string { return fmt.Sprintf("%s[%d]", claimRules, i) }

func userRule(i int) string { return fmt.Sprintf("%s[%d]", userRules, i) }

// claimRule returns the place in the configuration of the rule that is the n-th
// of those that are expressions.
func (m Mapping) claimRule(n int) string {
	for i, rule := range m.rules {
		if rule.Claim != "" {
			continue
		}
		if n == 0 {
			return claimRule(i)
		}
		n--
	}
	return claimRules
}

// checkRules evaluates the rules that are expressions.
func (m Mapping) checkRules(ctx context.Context, claims *lazy.MapValue, user auth.User) error {
	if m.cel.ClaimValidationRules != nil {
		results, err := m.cel.ClaimValidationRules.EvalClaimMappings(ctx, claims)
		if err := firstFailed(claimRules, m.claimRule, results, err); err != nil {
			return refuse(auth.ClaimRule, "%v", err)
		}
	}
	if m.cel.UserValidationRules != nil {
		results, err := m.cel.UserValidationRules.EvalUser(ctx, userValue(user))
		if err := firstFailed(userRules, userRule, results, err); err != nil {
			return refuse(auth.UserRule, "%v", err)
		}
	}
	return nil
}

func firstFailed(rules string, place func(int) string, results []authenticationcel.EvaluationResult, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", rules, err)
	}
	for i, result := range results {
		if err := notTrue(result); err != nil {
			return fmt.Errorf("%s: %w", place(i), err)
		}
	}
	return nil
}

// notTrue returns an error unless a rule is met.
func notTrue(result authenticationcel.EvaluationResult) error {
	if passed, ok := result.EvalResult.Value().(bool); ok && passed {
		return nil
	}
	return fmt.Errorf("`%s` is not true%s", result.ExpressionAccessor.GetExpression(), message(result.ExpressionAccessor))
}

// message returns what the configuration says of a rule that fails.
func message(rule authenticationcel.ExpressionAccessor) string {
	var text string
	switch rule := rule.(type) {
	case *authenticationcel.ClaimValidationCondition:
		text = rule.Message
	case *authenticationcel.UserValidationCondition:
		text = rule.Message
	}
	if text == "" {
		return ""
	}
	return ": " + text
}

func evalString(ctx context.Context, mapper authenticationcel.ClaimsMapper, value *lazy.MapValue) (string, error) {
	result, err := mapper.EvalClaimMapping(ctx, value)
	if err != nil {
		return "", err
	}
	if result.EvalResult.Type() != celgo.StringType {
		return "", fmt.Errorf("the expression gives a %s", result.EvalResult.Type().TypeName())
	}
	text, ok := result.EvalResult.Value().(string)
	if !ok {
		return "", fmt.Errorf("the expression gives no string")
	}
	return text, nil
}
