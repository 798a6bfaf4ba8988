package main

import (
	"regexp"
	"slices"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/tokenreview"
	"github.com/kube-gatehouse/gatehouse/proxy/exchange"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// labelSet is what a label may say.
type labelSet struct {
	values []string
	form   *regexp.Regexp // of the values, where they are not listed
	shown  string         // stands for the values in the document, if it is not empty
	note   string
	all    bool // every value is there from the start, or seen in the test
}

func (s labelSet) holds(value string) bool {
	return slices.Contains(s.values, value) || s.form != nil && s.form.MatchString(value)
}

func (s labelSet) String() string {
	shown := s.shown
	if shown == "" {
		var quoted []string
		for _, value := range s.values {
			if value == "" {
				quoted = append(quoted, "empty")
			} else {
				quoted = append(quoted, "`"+value+"`")
			}
		}
		shown = strings.Join(quoted, ", ")
	}
	if s.note != "" {
		shown += ". " + s.note
	}
	return shown
}

func texts[T ~string](values []T) []string {
	var all []string
	for _, value := range values {
		all = append(all, string(value))
	}
	return all
}

// labelSets are the labels of each metric with the values that each may have.
func labelSets() map[string]map[string]labelSet {
	one := func(values ...string) labelSet { return labelSet{values: values, all: true} }
	verb := one("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "connect", "other")
	verb.note = "`connect` is an upgrade, such as exec"
	answered := verb
	answered.all = false // no other verb need be answered
	code := labelSet{values: []string{"other"}, form: regexp.MustCompile(`^[1-5]\d\d$`), shown: "`100` to `599`, or `other`",
		note: "`499`: the caller left before the answer. `101`: an upgraded connection"}
	issuer := labelSet{form: regexp.MustCompile(`^sha256:[0-9a-f]{64}$`), shown: "`sha256:` and the SHA-256 of the issuer's URL, for each configured issuer"}
	succeeded := one("success", "failure")
	source := one("serving_certificate", "upstream", "upstream_token", "token_auth_file", "oidc_ca_file", "authentication_config", "client_ca", "revocation_file", "entra", "audit_policy", "session_keys")
	source.note = "See [reloads](operations.md#reloads)"
	reasons := texts(auth.Reasons())
	build := currentBuild()
	kinds := labelSet{values: texts(auth.Kinds()),
		note: "`none`: the request carried none. `unknown`: nobody recognised it. `anonymous`: none, on a path that needs none"}
	return map[string]map[string]labelSet{
		"gatehouse_requests_total":     {"verb": verb, "code": code, "answered_by": one("upstream", "gatehouse")},
		"gatehouse_requests_in_flight": {"kind": one("request", "watch", "connect")},
		"gatehouse_authentication_attempts_total": {"kind": kinds,
			"result": {values: append([]string{"accepted"}, reasons...), note: "All but the first are refusals: [the sentences](errors.md#about-the-credential)"}},
		"gatehouse_upstream_response_header_duration_seconds": {"verb": answered},
		"gatehouse_upstream_errors_total":                     {"reason": one("unreachable", "own_credential", "own_rights", "certificate", "timeout", "broken")},
		"gatehouse_streams_ended_total": {"reason": {values: append([]string{"shutdown", "identity_changed"}, reasons...),
			note: "`shutdown`: a watch. `identity_changed`: the credential makes another user now. The others: why the credential is refused now"}},
		"gatehouse_token_exchanges_total": {
			"target": labelSet{values: []string{"session", "service_account", "none"}, all: true, note: "`none`: the request could not be read"},
			"result": labelSet{values: exchange.Results(), note: "`issued`: a token was given. The others are the values of `error`"},
		},
		"gatehouse_impersonations_total": {"mode": {values: []string{"", "serviceaccount", "user-info", "legacy"}, note: "Empty if it was not allowed"},
			"decision": one("allowed", "denied", "failed")},
		"gatehouse_rejected_total":                          {"limit": one("header_lines", "user_requests", "user_streams", "all_requests", "all_streams", "failed_authentications", "slow_body", "connections").told("See [limits](operations.md#limits)")},
		"gatehouse_audit_events_total":                      {"outcome": one("written", "dropped", "failed").told("`dropped`: the buffer was full. `failed`: it could not be written")},
		"gatehouse_token_reviews_total":                     {"outcome": one(texts(tokenreview.Outcomes())...)},
		"gatehouse_rights_rule_missing":                     {"rule": one(upstream.RuleNames()...).told("`extra`: any other key. `requests`: what may be asked in people's names")},
		"gatehouse_issuer_ready":                            {"issuer_hash": issuer},
		"gatehouse_issuer_keys":                             {"issuer_hash": issuer},
		"gatehouse_issuer_keys_fetched_timestamp_seconds":   {"issuer_hash": issuer},
		"gatehouse_jwks_fetches_total":                      {"issuer_hash": issuer, "result": succeeded},
		"gatehouse_token_cache_lookups_total":               {"result": one("hit", "miss")},
		"gatehouse_group_lookups_total":                     {"resolver": one("distributed", "entra"), "result": succeeded},
		"gatehouse_reloads_total":                           {"source": source, "result": succeeded},
		"gatehouse_reload_last_successful":                  {"source": source},
		"gatehouse_reload_last_success_timestamp_seconds":   {"source": source},
		"gatehouse_own_credential_expiry_timestamp_seconds": {"kind": one("token", "certificate")},
		"gatehouse_build_info": {"version": {values: []string{build.Version}, shown: "one"},
			"commit": {values: []string{build.Commit}, shown: "one"}, "go_version": {values: []string{build.Go}, shown: "one"}},
	}
}

func (s labelSet) told(note string) labelSet {
	s.note = note
	return s
}
