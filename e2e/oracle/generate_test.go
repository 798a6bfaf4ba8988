package oracle_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	kubeoidc "k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

var (
	generateFor  = flag.Duration("oracle.for", 5*time.Second, "how long each generator runs")
	generateSeed = flag.Uint64("oracle.seed", 1, "the first seed; the next draw has the next one")
)

// tokensPerConfig are judged by each configuration that is generated.
const tokensPerConfig = 40

// Promise: configurations and claims that nobody thought of give the same too.
func TestGenerated(t *testing.T) {
	w := sharedWorld(t)
	forSeeds(t, func(seed uint64) { w.judgeGenerated(t, seed) })
}

// forSeeds judges one seed after the other, until the time is up or one failed,
// beside the other generators.
func forSeeds(t *testing.T, judge func(seed uint64)) {
	t.Helper()
	t.Parallel()
	seed := *generateSeed
	for end := time.Now().Add(*generateFor); time.Now().Before(end) && !t.Failed(); seed++ {
		judge(seed)
	}
	t.Logf("seeds %d to %d", *generateSeed, seed-1)
}

// Promise: as TestGenerated, for seeds that the fuzzer chooses.
func FuzzGenerated(f *testing.F) {
	for seed := range uint64(3) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) { sharedWorld(t).judgeGenerated(t, seed) })
}

// generatedClient reaches the issuers for all generated configurations.
var generatedClient = sync.OnceValue(func() *http.Client {
	return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: theWorld.w.ca.Pool()}, ForceAttemptHTTP2: true,
	}}
})

// judgeGenerated makes a configuration of seed, and tokens for it.
func (w *world) judgeGenerated(t *testing.T, seed uint64) {
	t.Helper()
	g := &generator{rand: rand.New(rand.NewPCG(seed, 0))}
	entry := group{Version: pick(g, versions), JWT: g.jwt()}
	g.spoil(entry.JWT)
	content := entry.content(t, w)
	config, faults, err := referenceLoad(content, nil)
	want := configAnswer(faults, err)
	parsed, ourErr := authconfig.Parse(content, nil)
	if got := configAnswer(fieldFaults(ourErr), ourErr); fmt.Sprint(got) != fmt.Sprint(want) && !stricterConfig(want, got) {
		t.Errorf("-oracle.seed=%d\n%s\nkube-apiserver %q\ngatehouse      %q", seed, content, want, got)
	}
	if len(want) > 0 || ourErr != nil {
		return
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	reference, err := newReference(ctx, config.JWT, kubeoidc.AllValidSigningAlgorithms(), generatedClient())
	if err != nil {
		t.Fatalf("-oracle.seed=%d: %v", seed, err)
	}
	ours, err := newGatehouse(ctx, parsed.Issuers, oidc.Algorithms())
	if err != nil {
		t.Fatalf("-oracle.seed=%d: %v", seed, err)
	}
	for range tokensPerConfig {
		payload := g.payload(w.main.URL)
		token := w.keys["ES256"].SignHeader(g.header(), payload)
		w.judgeDrawn(t, seed, content, payload, askReference(ctx, reference, token), askGatehouse(ctx, ours, token))
	}
}

func (w *world) judgeDrawn(t *testing.T, seed uint64, content, payload []byte, want, got answer) {
	t.Helper()
	id := ""
	if !sameAnswer(want, got) {
		if id = explanation(want, got); id == "" {
			t.Errorf("-oracle.seed=%d\n%s\n%s\nkube-apiserver %s\ngatehouse      %s", seed, content, payload, want, got)
		}
	}
	count.drew(want, id)
}

// payload makes claims: those of a good token, and others in their place.
func (g *generator) payload(issuer string) []byte {
	claims := map[string]any{
		"iss": issuer, "aud": audience, "sub": "alice", "iat": now().Unix() - 60, "exp": now().Unix() + 3600,
	}
	for _, name := range claimNames {
		if g.chance(19, 20) {
			claims[name] = g.value(name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(registeredValues)) {
		if g.chance(1, 40) {
			claims[name] = pick(g, registeredValues[name])
		}
	}
	if g.chance(1, 30) {
		delete(claims, pick(g, []string{"aud", "sub", "iat", "exp"}))
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	return payload
}

func (g *generator) header() map[string]any {
	header := map[string]any{"alg": "ES256", "kid": "ES256"}
	if g.chance(1, 25) {
		header[pick(g, []string{"typ", "cty", "kid", "x"})] = pick(g, []any{"JWT", "at+jwt", "", "RS256"})
	}
	return header
}
