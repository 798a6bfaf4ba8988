package authconfig

import (
	"context"
	"errors"
	"fmt"

	authenticationcel "k8s.io/apiserver/pkg/authentication/cel"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Explain says how [Mapping.User] makes each field of claims and what each rule
// finds, in the same order and by the same functions. It does not end at the
// first fault; rules about the user are judged if there is one.
func (m Mapping) Explain(ctx context.Context, claims map[string]any) []auth.Mapped {
	value := claimsValue(claims)
	var user auth.User
	var faults [4]error
	user.Name, faults[0] = m.username(ctx, claims, value)
	user.Groups, faults[1] = m.groups(ctx, claims, value)
	user.UID, faults[2] = m.uid(ctx, claims, value)
	user.Extra, faults[3] = m.extra(ctx, claims, value)

	mappings := m.mappings
	list := []auth.Mapped{{
		Field: "username", Values: notBlank(user.Name), Err: faults[0],
		Rule: source("username", mappings.Username.Claim, mappings.Username.Expression, mappings.Username.Prefix),
	}, {
		Field: "groups", Values: user.Groups, Err: faults[1],
		Rule: source("groups", mappings.Groups.Claim, mappings.Groups.Expression, mappings.Groups.Prefix),
	}, {
		Field: "uid", Values: notBlank(user.UID), Err: faults[2],
		Rule: source("uid", mappings.UID.Claim, mappings.UID.Expression, nil),
	}}
	list = append(list, m.explainExtra(user.Extra, faults[3])...)
	for _, i := range m.required {
		list = append(list, auth.Mapped{
			Field: claimRule(i), Err: m.checkRequired(i, claims),
			Rule: fmt.Sprintf("the claim `%s` must be the string %q", m.rules[i].Claim, m.rules[i].RequiredValue),
		})
	}
	if m.cel.ClaimValidationRules != nil {
		results, err := m.cel.ClaimValidationRules.EvalClaimMappings(ctx, value)
		list = append(list, explainRules(claimRules, m.claimRule, results, err)...)
	}
	if m.cel.UserValidationRules != nil && errors.Join(faults[:]...) == nil {
		results, err := m.cel.UserValidationRules.EvalUser(ctx, userValue(user))
		list = append(list, explainRules(userRules, userRule, results, err)...)
	}
	return list
}

// ExtraKeys returns the keys of the extra that m makes besides the id of the
// credential: each needs a right of its own at the API server.
func (m Mapping) ExtraKeys() []string {
	var keys []string
	for _, extra := range m.mappings.Extra {
		keys = append(keys, extra.Key)
	}
	return keys
}

// Carries reports whether the users that m makes may have groups, and a uid:
// each needs a right of its own, too.
func (m Mapping) Carries() (groups, uid bool) {
	return m.mappings.Groups.Claim != "" || m.mappings.Groups.Expression != "",
		m.mappings.UID.Claim != "" || m.mappings.UID.Expression != ""
}

// notBlank returns a list of value, or none if it is empty.
func notBlank(value string) []string {
	if value == "" {
		return nil
	}
	return []string{value}
}

// source says of what a field is made, in the words of the configuration.
func source(field, claim, expression string, prefixed *string) string {
	switch {
	case expression != "":
		return field + ".expression `" + expression + "`"
	case claim == "":
		return ""
	case prefix(prefixed) != "":
		return fmt.Sprintf("%s.claim `%s` with prefix %q", field, claim, *prefixed)
	default:
		return field + ".claim `" + claim + "`"
	}
}

func (m Mapping) explainExtra(extra map[string][]string, err error) []auth.Mapped {
	var list []auth.Mapped
	if id := extra[auth.CredentialIDKey]; id != nil {
		list = append(list, auth.Mapped{Field: extraField(auth.CredentialIDKey), Rule: "claim `jti`, as kube-apiserver does", Values: id})
	}
	for _, mapping := range m.mappings.Extra {
		list = append(list, auth.Mapped{
			Field: extraField(mapping.Key), Values: extra[mapping.Key], Err: err,
			Rule: "valueExpression `" + mapping.ValueExpression + "`",
		})
	}
	return list
}

func extraField(key string) string { return fmt.Sprintf("extra[%q]", key) }

// explainRules says of each rule what it found. An error ends them all, so it
// has no place of its own.
func explainRules(rules string, place func(int) string, results []authenticationcel.EvaluationResult, err error) []auth.Mapped {
	if err != nil {
		return []auth.Mapped{{Field: rules, Err: err}}
	}
	var list []auth.Mapped
	for i, result := range results {
		list = append(list, auth.Mapped{
			Field: place(i), Rule: "`" + result.ExpressionAccessor.GetExpression() + "`", Err: notTrue(result),
		})
	}
	return list
}
