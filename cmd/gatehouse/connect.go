package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// Of findings about rights.
const (
	subjectRights = "rights"
	cannotBeTold  = "cannot be told: "
)

// maxAskedAtOnce bounds how many issuers are asked at a time.
const maxAskedAtOnce = 8

// askAll asks every issuer and the API server, at the same time, and yields
// their findings in order.
func (p *parts) askAll(ctx context.Context, progress *progress) iter.Seq[<-chan []finding] {
	turn := make(chan struct{}, maxAskedAtOnce)
	ask := func(what string, findings func() []finding) <-chan []finding {
		answer := make(chan []finding, 1)
		go func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			var found []finding
			progress.during("asking "+what, func() { found = findings() })
			answer <- found // nothing is written any more
		}()
		return answer
	}
	target := p.upstream.Target()
	answers := []<-chan []finding{ask("the API server "+target.URL.String(), func() []finding {
		return askUpstream(ctx, target, p.needs())
	})}
	for _, issuer := range p.issuers.list() {
		answers = append(answers, ask("the issuer "+issuer.URL(), func() []finding { return []finding{askIssuer(ctx, issuer)} }))
	}
	return slices.Values(append(answers[1:], answers[0]))
}

// askIssuer says what became of an issuer's discovery and keys.
func askIssuer(ctx context.Context, issuer *oidc.Issuer) finding {
	subject := "issuer"
	err := issuer.Fetch(ctx)
	keys, from := issuer.Keys()
	switch {
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil:
		return finding{stateFail, subject, issuer.URL() + ": no answer in time"}
	case err != nil:
		return finding{stateFail, subject, issuer.URL() + ": " + err.Error()}
	}
	text := fmt.Sprintf("%s: %s from %s", issuer.URL(), describeKeys(keys), from)
	if !issuer.Usable() {
		return finding{stateFail, subject, text + ": none fits the accepted algorithms, " + strings.Join(issuer.Algorithms(), ", ")}
	}
	return finding{stateOK, subject, text}
}

// describeKeys says how many keys there are, and by what they may sign.
func describeKeys(keys []oidc.Key) string {
	var algorithms []string
	for _, key := range keys {
		if !slices.Contains(algorithms, key.Algorithm) {
			algorithms = append(algorithms, key.Algorithm)
		}
	}
	slices.Sort(algorithms)
	if len(keys) == 1 {
		return "1 key (" + algorithms[0] + ")"
	}
	return fmt.Sprintf("%d keys (%s)", len(keys), strings.Join(algorithms, ", "))
}

// askUpstream says how the API server takes us.
func askUpstream(ctx context.Context, target *upstream.Target, needs upstream.Needs) []finding {
	const subject = "API server"
	version, err := target.Version(ctx)
	status, answered := errors.AsType[upstream.StatusError](err)
	if err != nil && !answered {
		return []finding{{stateFail, subject, target.URL.String() + ": " + unreached(err) + "; nothing else was asked of it"}}
	}
	findings := []finding{{stateOK, subject, target.URL.String() + " is reached, and its certificate is trusted"}}
	if status == 401 {
		return append(findings, finding{stateFail, "credential", err.Error() + ": renew the token or certificate; nothing else was asked"})
	}
	if err := target.Probe(ctx); err != nil {
		findings = append(findings, finding{stateFail, subject, err.Error()})
	} else {
		findings = append(findings, finding{stateOK, subject, "is ready"})
	}
	self, selfErr := target.WhoAmI(ctx)
	if selfErr != nil {
		findings = append(findings, finding{stateWarn, "credential", "is accepted, but whom it names cannot be asked: " + selfErr.Error()})
	} else {
		findings = append(findings, finding{stateOK, "credential", "is accepted, as " + self})
	}
	if err != nil {
		findings = append(findings, finding{stateWarn, "version", "cannot be asked: " + err.Error()})
	} else {
		findings = append(findings, finding{stateOK, "version", version.Git})
	}
	needs.LegacyAlone = version.LegacyAlone()
	rights, err := target.Rights(ctx, needs)
	if err != nil {
		return append(findings, finding{stateFail, subjectRights, cannotBeTold + err.Error()})
	}
	rights.Self = self
	return append(findings, judgeRights(rights, needs, version)...)
}

// unreached says why no answer came.
func unreached(err error) string {
	if _, untrusted := errors.AsType[*tls.CertificateVerificationError](err); untrusted {
		return "its certificate is not trusted: " + err.Error()
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return "cannot be reached: " + err.Error()
}

// judgeRights says which mode of impersonation our account has, and what it
// lacks of it or has beyond it.
func judgeRights(rights upstream.Rights, needs upstream.Needs, version upstream.Version) []finding {
	const subject = subjectRights
	var findings []finding
	add := func(state, format string, args ...any) {
		findings = append(findings, finding{state, subject, fmt.Sprintf(format, args...)})
	}
	can, gated := version.Constrained()
	switch {
	case rights.Mode == upstream.ModeNone && needs.Users:
		add(stateFail, "the account may not say for whom a request is, so that every such request will be refused: apply what `%s` prints", rights.Command())
		return append(findings, judgeExcess(rights)...)
	case rights.Mode == upstream.ModeConstrained && rights.Grant == upstream.ModeLegacy:
		add(stateFail, "the account has the rights of constrained impersonation, but %s does not know it: it came with 1.36; apply what `%s` prints",
			version.Git, rights.Command())
		return append(findings, judgeExcess(rights)...)
	case rights.Mode == upstream.ModeLegacy:
		add(stateOK, "legacy impersonation")
		if can && !gated {
			add(stateWarn, "the account may name anybody, system:masters too: %s knows constrained impersonation, so apply what `%s` prints in place of its role",
				version.Git, strings.Replace(rights.Command(), " --legacy", "", 1))
		}
	case rights.Mode == upstream.ModeNone && len(rights.Missing) == 0:
		add(stateOK, "every right that the settings need")
	case len(rights.Missing) == 0:
		add(stateOK, "constrained impersonation")
		if gated {
			add(stateWarn, "%s knows constrained impersonation with the feature gate ConstrainedImpersonation alone, which cannot be asked for", version.Git)
		}
	}
	for _, right := range rights.Missing {
		add(stateFail, "missing: %s; apply what `%s` prints", right, rights.Command())
	}
	for _, right := range rights.Narrow {
		add(stateWarn, "nobody can do this through gatehouse: %s; `%s` grants it, unless you narrowed the door", right, rights.Command())
	}
	return append(findings, judgeExcess(rights)...)
}

// judgeExcess warns of what a thief of our credential would have.
func judgeExcess(rights upstream.Rights) []finding {
	var findings []finding
	warn := func(text string) { findings = append(findings, finding{stateWarn, subjectRights, text}) }
	for _, right := range rights.Excess {
		if right.Verb == "*" { // it holds all others
			warn("far more than is needed: the account may do everything (" + right.String() + "), and so may whoever steals its credential")
			return findings
		}
		warn("more than is needed: the account may " + right.String() + ", and so may whoever steals its credential")
	}
	if rights.Fallback {
		warn("the account has the verb impersonate too, which the API server falls back to silently: take that role away")
	}
	return findings
}
