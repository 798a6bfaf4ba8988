package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
)

// testSessionKeys: two replicas share a directory of keys. While the key that signs is
// replaced, in the three steps of the how-to, each takes what the other signed; what a
// key signed ends when it is taken away, and a gatehouse with another URL never takes it.
func (w world) testSessionKeys(t *testing.T) {
	x := w.exchange(t, "exchange-keys")
	pages := t.TempDir() // where the commands of the page are run
	x.keyStep(t, pages, "-out signing.pem")
	kubeconfig := x.env["GATEHOUSE_KUBECONFIG"]
	replicas := []gate{x.gate, x.replica(t, w, kubeconfig, map[string]string{"GATEHOUSE_EXCHANGE_URL": x.ExchangeURL()})}
	stranger := x.replica(t, w, kubeconfig, nil)
	alice := w.signedIn("alice", "developers", "keys-alice")
	var all []string
	signed := func(by string) {
		t.Helper()
		for _, g := range replicas {
			token := g.must(t, gatehouse.Wish{Subject: alice}).AccessToken
			if kid := jwtClaims(t, token, &struct{}{}); kid != by {
				t.Errorf("signed by %s, want %s", kid, by)
			}
			all = append(all, token)
		}
		for _, token := range all {
			for _, g := range replicas {
				if a := g.get(t, "/api", token); a.StatusCode != http.StatusOK {
					t.Errorf("a replica answered %s %s", a.Status, a.body)
				}
			}
		}
	}
	old := awaitKeys(t, replicas, 1, awaitKeys(t, []gate{stranger}, 1)...)[0] // which has read no other
	signed(old)
	if a := stranger.get(t, "/api", all[0]); a.StatusCode != http.StatusUnauthorized {
		t.Errorf("another gatehouse answered %s", a.Status)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*streamLimit)
	defer cancel()
	watch := replicas[1].openWatch(ctx, t, all[0])

	x.keyStep(t, pages, "-out next.pem")
	next := awaitKeys(t, replicas, 2, old)[1]
	signed(old)

	x.keyStep(t, pages, "mv next.pem signing.pem")
	awaitKeys(t, replicas, 2, next, old)
	signed(next)

	before := len(all)
	x.keyStep(t, pages, "  --from-file=signing.pem | kubectl apply")
	awaitKeys(t, replicas, 1, next)
	awaitCleanEnd(t, watch)
	for i, token := range all {
		if a := replicas[0].get(t, "/api", token); (a.StatusCode == http.StatusUnauthorized) != (i < before-2) {
			t.Errorf("token %d of %d: %s", i, len(all), a.Status)
		}
	}
}

// awaitKeys waits until every replica publishes n keys, the first of which are these,
// and returns their ids.
func awaitKeys(t *testing.T, replicas []gate, n int, first ...string) (ids []string) {
	t.Helper()
	eventually(t, reloadLimit, func() error {
		for _, g := range replicas {
			resp, err := g.client.Get(g.ExchangeURL() + "/jwks")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			var set jose.JSONWebKeySet
			if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
				return err
			}
			ids = nil
			for _, key := range set.Keys {
				if !key.IsPublic() {
					return errors.New("a private key is published")
				}
				ids = append(ids, key.KeyID)
			}
			if len(ids) != n || !slices.Equal(ids[:len(first)], first) {
				return fmt.Errorf("the keys are %q, want %d, %q first", ids, n, first)
			}
		}
		return nil
	})
	return ids
}
