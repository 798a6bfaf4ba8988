package audit

import (
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	internal "k8s.io/apiserver/pkg/apis/audit"
	apiserver "k8s.io/apiserver/pkg/audit"
	"k8s.io/apiserver/pkg/audit/policy"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// Policy is an audit policy, audit.k8s.io/v1, as kube-apiserver reads and applies
// it.
type Policy struct {
	evaluator apiserver.PolicyRuleEvaluator
	rules     int
	warnings  []string
}

// Parse reads a policy. What kube-apiserver overlooks with a warning, such as an
// unknown field, is a fault here. The error joins every fault, each with the path
// to it.
func Parse(content []byte) (*Policy, error) {
	strict := serializer.NewCodecFactory(apiserver.Scheme, serializer.EnableStrict).UniversalDecoder()
	if _, err := runtime.Decode(strict, content); err != nil {
		return nil, fmt.Errorf("read as audit.k8s.io: %w", err)
	}
	parsed, err := policy.LoadPolicyFromBytes(content)
	if err != nil {
		if all, ok := err.(utilerrors.Aggregate); ok { //nolint:errorlint // the loader returns it unwrapped
			err = errors.Join(all.Errors()...)
		}
		return nil, err
	}
	p := &Policy{rules: len(parsed.Rules)}
	for i, rule := range parsed.Rules {
		if rule.Level == internal.LevelRequest || rule.Level == internal.LevelRequestResponse {
			p.warnings = append(p.warnings, fmt.Sprintf(
				"rules[%d].level of the audit policy is %s, and counts as %s: bodies are not recorded here, but in the API server's own audit log", i, rule.Level, internal.LevelMetadata))
		}
	}
	p.evaluator = policy.NewPolicyRuleEvaluator(parsed)
	return p, nil
}

// Len returns the number of rules.
func (p *Policy) Len() int { return p.rules }

// Warnings says what the policy asks for and does not get.
func (p *Policy) Warnings() []string { return p.warnings }

// judge returns how much of a request is recorded, and at which of its stages not.
func (p *Policy) judge(a authorizer.Attributes) (internal.Level, []internal.Stage) {
	config := p.evaluator.EvaluatePolicyRule(a)
	if internal.LevelMetadata.Less(config.Level) {
		config.Level = internal.LevelMetadata
	}
	return config.Level, config.OmitStages
}
