package faults_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

const (
	// rotations is how often keys are changed in order.
	rotations = 3
	// unannounced is how long tokens of a key that was not announced may be
	// refused, if it is the second within that time: docs/operations.md.
	unannounced = 10*time.Second + slack
	// slack is for a busy machine.
	slack = 5 * time.Second
)

// signer signs with the key that its issuer would use now.
type signer struct {
	issuer *authtest.Issuer
	key    atomic.Pointer[authtest.Key]
}

func (s *signer) token() string {
	return s.key.Load().Sign(s.issuer.Payload(stage.Person("alice", "developers")))
}

func newKey(t *testing.T, name string) *authtest.Key {
	t.Helper()
	key, err := authtest.NewKey(name, jose.RS256)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Promise: when an issuer changes its keys in order, with the new one published
// before it signs, no token is refused; a key that is withdrawn stops working. A
// key that signs without having been announced is fetched when it is first seen.
func (s *suite) testKeys(t *testing.T) {
	issuer, env := newIssuer(t)
	sign := &signer{issuer: issuer}
	sign.key.Store(issuer.Key())
	g := s.startGatehouse(t, gatehouse.Config{}, env)
	client, count := s.client(t, http2), &tally{}
	fresh := read("")
	fresh.token = sign.token
	eventually(t, limit, func() error { return fresh.once(t.Context(), client, g.URL()) })
	asking := keepAsking(t, client, g.URL(), 8, 50*time.Millisecond, count, fresh)
	for i := range rotations {
		old, next := sign.key.Load(), newKey(t, fmt.Sprintf("in-order-%d", i))
		before := mustMetrics(t, g)
		issuer.Publish(old, next)
		awaitMetric(t, g, before, 2, "gatehouse_jwks_fetches_total", `result="success"`) // one may have begun before
		withdrawn := read(sign.token())
		sign.key.Store(next)
		eventually(t, limit, count.more(50))
		issuer.Publish(next)
		eventually(t, limit, func() error { return refused(withdrawn.send(t.Context(), client, g.URL())) })
		eventually(t, limit, count.more(50))
	}
	asking.stop()
	count.judge(nobody)
	count.report(t, s.rows, row{fault: "an issuer's keys changed and withdrawn, in order", load: "reads with new ID tokens", why: "nothing"})
	s.testUnannounced(t)
}

// testUnannounced changes keys without a word, twice at once. Keys are fetched
// at the default interval, so only a token can cause a fetch.
func (s *suite) testUnannounced(t *testing.T) {
	issuer, env := newIssuer(t)
	sign := &signer{issuer: issuer}
	sign.key.Store(issuer.Key())
	env["GATEHOUSE_JWKS_REFRESH_INTERVAL"], env["GATEHOUSE_JWKS_MAX_AGE"] = "", ""
	g := s.startGatehouse(t, gatehouse.Config{}, env)
	client, count := s.client(t, http2), &tally{}
	fresh := read("")
	fresh.token = sign.token
	eventually(t, limit, func() error { return fresh.once(t.Context(), client, g.URL()) })
	var changed time.Time
	for _, name := range []string{"surprise", "another surprise"} {
		next := newKey(t, name)
		issuer.Publish(next)
		sign.key.Store(next)
		changed = time.Now()
		asking := keepAsking(t, client, g.URL(), 8, 100*time.Millisecond, count, fresh)
		eventually(t, limit, count.more(50))
		asking.stop()
		if name == "surprise" {
			count.judge(nobody)
		}
	}
	count.judge(func(f failure) bool {
		return f.began.Before(changed.Add(unannounced)) && strings.Contains(f.err.Error(), "401")
	})
	count.report(t, s.rows, row{
		fault: "an issuer's key changed twice within 10 s, unannounced", load: "reads with new ID tokens",
		why: "tokens of the second key, for 10 s: else forged tokens could have keys fetched all the time",
	})
}

// refused returns an error unless an answer is 401.
func refused(a *answer, err error) error {
	if err == nil && a.StatusCode != http.StatusUnauthorized {
		err = fmt.Errorf("%s: not refused", a.Status)
	}
	return err
}
