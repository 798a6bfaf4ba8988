package oracle_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// now is the moment at which both sides judge: 2 000 000 000 seconds.
func now() time.Time { return time.Unix(2_000_000_000, 0) }

const (
	hiddenName = "https://issuer.example" // found by discoveryURL alone
	googleName = "https://accounts.google.com"
)

// world holds the issuers that all tests share. Each publishes the same keys.
type world struct {
	ca                          *authtest.CA
	main, other, hidden, google *authtest.Issuer
	keys                        map[string]*authtest.Key // by `kid`
	ctx                         context.Context
	stop                        context.CancelFunc
}

var theWorld = &lazyWorld{}

type lazyWorld struct {
	once sync.Once
	w    *world
	err  error
}

func (l *lazyWorld) close() {
	if l.w == nil {
		return
	}
	l.w.stop()
	for _, issuer := range []*authtest.Issuer{l.w.main, l.w.other, l.w.hidden, l.w.google} {
		issuer.Close()
	}
}

func sharedWorld(t testing.TB) *world {
	t.Helper()
	theWorld.once.Do(func() { theWorld.w, theWorld.err = newWorld() })
	if theWorld.err != nil {
		t.Fatal(theWorld.err)
	}
	return theWorld.w
}

func newWorld() (*world, error) {
	w := &world{keys: map[string]*authtest.Key{}}
	w.ctx, w.stop = context.WithCancel(context.Background())
	if err := w.makeKeys(); err != nil {
		return nil, err
	}
	var err error
	if w.ca, err = authtest.NewCA("oracle CA"); err != nil {
		return nil, err
	}
	for _, start := range []struct {
		to   **authtest.Issuer
		name string // what its discovery document calls it, if not by its URL
	}{{&w.main, ""}, {&w.other, ""}, {&w.hidden, hiddenName}, {&w.google, googleName}} {
		issuer, err := authtest.NewIssuer(w.ca)
		if err != nil {
			return nil, err
		}
		issuer.Publish(w.published()...)
		if start.name != "" {
			issuer.EditDiscovery(func(doc map[string]any) { doc["issuer"] = start.name })
		}
		*start.to = issuer
	}
	return w, nil
}

// makeKeys makes one key for each algorithm, named after it, all of RSA being
// one pair of numbers; a second one for RS256; and one that nobody publishes.
func (w *world) makeKeys() error {
	var errs []error
	add := func(id string, alg jose.SignatureAlgorithm) *authtest.Key {
		key, err := authtest.NewKey(id, alg)
		errs = append(errs, err)
		w.keys[id] = key
		return key
	}
	rsa := add("RS256", jose.RS256)
	for _, alg := range []jose.SignatureAlgorithm{jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512} {
		if rsa == nil {
			break
		}
		key := *rsa
		key.ID, key.Algorithm = string(alg), alg
		w.keys[key.ID] = &key
	}
	for _, alg := range []jose.SignatureAlgorithm{jose.ES256, jose.ES384, jose.ES512} {
		add(string(alg), alg)
	}
	add("RS256-second", jose.RS256)
	add("stranger", jose.RS256)
	return errors.Join(errs...)
}

func (w *world) published() []*authtest.Key {
	keys := maps.Clone(w.keys)
	delete(keys, "stranger")
	list := make([]*authtest.Key, 0, len(keys))
	for _, id := range []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "RS256-second"} {
		list = append(list, keys[id])
	}
	return list
}

// places replaces $NAME in the corpus: which ports the issuers have, nobody
// knows beforehand.
func (w *world) places() map[string]string {
	const wellKnown = "/.well-known/openid-configuration"
	return map[string]string{
		"ISSUER": w.main.URL, "OTHER": w.other.URL, "HIDDEN": hiddenName, "GOOGLE": googleName,
		"HIDDEN_DISCOVERY": w.hidden.URL + wellKnown, "GOOGLE_DISCOVERY": w.google.URL + wellKnown,
		"ISSUER_DISCOVERY": w.main.URL + wellKnown, "OTHER_DISCOVERY": w.other.URL + wellKnown,
		"CA": fmt.Sprintf("%q", w.ca.PEM()), // a YAML string
	}
}
