package oracle_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	kubeoidc "k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

const (
	mostIssuers    = 64 // that one AuthenticationConfiguration may name
	tokensPerDrawn = 12
)

// withDrawn fills groups up with generated configurations and claims. What is
// expected of their tokens, the libraries say.
func (w *world) withDrawn(t *testing.T, s liveIssuers, groups []group) []group {
	t.Helper()
	for seed := *generateSeed; len(groups) < mostIssuers; seed++ {
		if g := w.drawn(t, s.issuer(fmt.Sprintf("seed%d", seed)), seed); g.accepts() {
			groups = append(groups, g)
		}
	}
	return groups
}

// drawn is what seed generates for an issuer; without tokens if neither side
// takes the configuration.
func (w *world) drawn(t *testing.T, issuer string, seed uint64) group {
	t.Helper()
	r := &generator{rand.New(rand.NewPCG(seed, 4))}
	g := group{Config: fmt.Sprintf("-oracle.seed=%d", seed), Version: "v1", JWT: r.jwt()}.at(issuer)
	content := g.content(t, w)
	config, faults, err := referenceLoad(content, nil)
	if err != nil || len(faults) > 0 {
		return g
	}
	parsed, err := authconfig.Parse(content, nil)
	if err != nil {
		t.Fatalf("%s: %v", g.Config, err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reference, err := newReference(ctx, config.JWT, kubeoidc.AllValidSigningAlgorithms(), generatedClient())
	if err != nil {
		t.Fatalf("%s: %v", g.Config, err)
	}
	ours, err := newGatehouse(ctx, parsed.Issuers, oidc.Algorithms())
	if err != nil {
		t.Fatalf("%s: %v", g.Config, err)
	}
	for i := range tokensPerDrawn {
		one := row{Is: fmt.Sprintf("token %d", i), Payload: string(r.payload(issuer)), Header: r.header()}
		token := w.token(t, issuer, one)
		g.Tokens = append(g.Tokens, one.expecting(askReference(ctx, reference, token), askGatehouse(ctx, ours, token)))
	}
	return g
}

// expecting is r with the answers of the two libraries.
func (r row) expecting(reference, ours answer) row {
	if !sameAnswer(reference, ours) {
		r.Differs = explanation(reference, ours)
	}
	if r.Refused = reference.user == nil; r.Refused {
		return r
	}
	r.User, r.UID, r.Extra = &reference.user.Name, reference.user.UID, reference.user.Extra
	r.Groups = append([]string{}, reference.user.Groups...)
	return r
}
