package oidc_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

const pastThePause = 11 * time.Second // between fetches on demand

// Promise: a new key works at its first token, without waiting for a refresh.
func TestNewKeyWorksAtOnce(t *testing.T) {
	w := newWorld(t, nil)
	w.want(w.real.Token(nil), "")
	w.real.Publish(newKey(t, "key-2"))
	w.want(w.real.Token(nil), "")
}

// Promise: a key that takes the place of another under the same id, or without
// any, works at its first token too.
func TestReplacedKeyWorksAtOnce(t *testing.T) {
	for _, id := range []string{"key-1", ""} {
		w := newWorld(t, func(_ *oidc.Config, real *authtest.Issuer) { real.Publish(newKey(t, id)) })
		w.want(w.real.Token(nil), "")
		w.real.Publish(newKey(t, id))
		w.want(w.real.Token(nil), "")
	}
}

// Promise: that the keys are others is heard when they are, and at no fetch that
// a forged token causes.
func TestOtherKeysAreHeard(t *testing.T) {
	others := make(chan struct{}, 100)
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.OnKeys = func() { others <- struct{}{} } })
	w.nextFetch()
	<-others // the first
	for range 3 {
		w.refetch()
		w.nextFetch()
	}
	if len(others) != 0 {
		t.Errorf("heard %d times of the same keys", len(others))
	}
	w.real.Publish(newKey(t, "key-2"))
	w.refetch()
	select {
	case <-others:
	case <-time.After(10 * time.Second):
		t.Error("another key was not heard of")
	}
}

// Promise: an issuer that serves its keys as one media type alone, as
// kube-apiserver does for ServiceAccount tokens, is understood.
func TestOneMediaType(t *testing.T) {
	w := newWorld(t, func(_ *oidc.Config, real *authtest.Issuer) {
		real.ServeKeySet(func(rw http.ResponseWriter, r *http.Request) {
			const only = "application/jwk-set+json"
			if accept := r.Header.Get("Accept"); accept != "" && accept != only && accept != "*/*" {
				rw.WriteHeader(http.StatusNotAcceptable)
				return
			}
			rw.Header().Set("Content-Type", only)
			_ = json.NewEncoder(rw).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{real.Key().JWK()}})
		})
	})
	w.want(w.real.Token(nil), "")
}

// Promise: a withdrawn key stops working within the refresh interval.
func TestWithdrawnKeyStopsWorking(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.RefreshInterval = 50 * time.Millisecond })
	old := w.real.Token(nil)
	w.want(old, "")
	w.real.Publish(newKey(t, "key-2"))
	// The second fetch from now began after the change.
	for len(w.fetched) > 0 {
		<-w.fetched
	}
	w.nextFetch()
	w.nextFetch()
	w.want(old, auth.UnknownKey)
}

// refetch makes the issuer's keys be asked for, as an unknown key id does.
func (w *world) refetch() {
	w.t.Helper()
	w.clock.Advance(pastThePause)
	w.ask(newKey(w.t, "unknown").Sign(w.real.Payload(nil)))
}

// Promise: an issuer that withdraws all its keys is obeyed, unlike one that
// cannot be read.
func TestAllKeysWithdrawn(t *testing.T) {
	for name, set := range map[string]string{
		"empty":       `{"keys":[]}`,
		"other kinds": `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			token := w.real.Token(authtest.Claims{"exp": w.clock.Now().Add(time.Hour).Unix()})
			w.want(token, "")
			w.real.ServeKeySet(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, set) })
			w.refetch()
			w.want(token, auth.UnknownKey)
			if status := w.view.Status(); status.Ready || status.Err == nil {
				t.Errorf("status %+v", status)
			}
			w.real.ServeKeySet(nil)
			w.clock.Advance(pastThePause)
			w.want(token, "")
		})
	}
}

// Promise: a key is withdrawn even while the discovery document is broken.
func TestWithdrawnWhileDiscoveryFails(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.RefreshInterval = 50 * time.Millisecond })
	old := w.real.Token(nil)
	next := newKey(t, "key-2")
	w.real.Publish(next)
	w.real.EditDiscovery(func(doc map[string]any) { doc["issuer"] = "https://elsewhere.example" })
	for failures := 0; failures < 2; { // the second began after both changes
		if !w.nextFetch() {
			failures++
		}
	}
	w.want(old, auth.UnknownKey)
	w.want(w.real.Token(nil), "")
	if w.view.Status().Err == nil {
		t.Error("the status does not show the broken document")
	}
}

// Promise: a slow issuer does not hold the requests of strangers for long.
func TestSlowIssuerHoldsNobody(t *testing.T) {
	w := newWorld(t, nil)
	release := make(chan struct{})
	w.real.ServeKeySet(func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	began := time.Now()
	w.refetch()
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("held for %s", took)
	}
}

// Promise: a storm of forged tokens costs the issuer nothing, or, where a key
// id is new, one fetch in ten seconds, and valid users are not harmed.
func TestStormOfForgedTokens(t *testing.T) {
	w := newWorld(t, nil)
	stranger, known := newKey(t, "forged"), newKey(t, "key-1")
	for _, tt := range []struct {
		name    string
		token   func(i int) string
		fetches int64
	}{
		{"expired", func(int) string { return stranger.Sign(w.real.Payload(authtest.Claims{"exp": 1000})) }, 0},
		{"other audience", func(int) string { return stranger.Sign(w.real.Payload(authtest.Claims{"aud": "x"})) }, 0},
		{"other issuer", func(int) string { return stranger.Sign(w.real.Payload(authtest.Claims{"iss": "https://x"})) }, 0},
		{"known key id", func(int) string { return known.Sign(w.real.Payload(nil)) }, 1},
		{"new key id each time", func(i int) string {
			return stranger.SignHeader(map[string]any{"alg": "RS256", "kid": fmt.Sprint(i)}, w.real.Payload(nil))
		}, 0}, // within the same pause
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := *w
			w.t = t
			keys, discoveries := w.real.KeyFetches.Load(), w.real.DiscoveryFetches.Load()
			for i := range 100 {
				if _, reason := w.ask(tt.token(i)); reason == "" {
					t.Fatal("a forged token was accepted")
				}
			}
			if got := w.real.KeyFetches.Load() - keys; got != tt.fetches {
				t.Errorf("%d fetches of keys, want %d", got, tt.fetches)
			}
			if got := w.real.DiscoveryFetches.Load() - discoveries; got != 0 {
				t.Errorf("%d fetches of the discovery document, want none", got)
			}
			w.want(w.real.Token(nil), "")
		})
	}
	// The storm does not keep a new key out for longer than the pause.
	w.real.Publish(newKey(t, "key-2"))
	w.clock.Advance(pastThePause)
	w.want(w.real.Token(nil), "")
}

// Promise: tokens that need a fetch at the same time share one.
func TestFetchesAreJoined(t *testing.T) {
	w := newWorld(t, nil)
	w.real.Publish(newKey(t, "key-2"))
	token := w.real.Token(nil)
	before := w.real.KeyFetches.Load()
	var group sync.WaitGroup
	for range 50 {
		group.Go(func() { w.want(token, "") })
	}
	group.Wait()
	if got := w.real.KeyFetches.Load() - before; got != 1 {
		t.Errorf("%d fetches, want 1", got)
	}
}

// Promise: while the issuer is down its tokens go on working, for as long as
// was configured and no longer.
func TestIssuerDown(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.MaxKeyAge = time.Hour })
	token := w.real.Token(authtest.Claims{"exp": w.clock.Now().Add(5 * time.Hour).Unix()})
	w.real.SetDown(true)
	w.clock.Advance(59 * time.Minute)
	w.want(token, "")
	w.clock.Advance(2 * time.Minute)
	w.want(token, auth.IssuerUnavailable)
	if w.view.Status().Ready {
		t.Error("ready with keys that are too old")
	}
	w.real.SetDown(false)
	w.clock.Advance(pastThePause)
	w.want(token, "")
}

// Promise: the start does not wait for the issuer, and finds it when it comes.
func TestIssuerDownAtStart(t *testing.T) {
	w := startWorld(t, func(_ *oidc.Config, real *authtest.Issuer) { real.SetDown(true) })
	if w.nextFetch() {
		t.Fatal("an issuer that is down was fetched from")
	}
	w.want(w.real.Token(nil), auth.IssuerUnavailable)
	if status := w.view.Status(); status.Ready || status.Err == nil {
		t.Errorf("status %+v", status)
	}
	w.real.SetDown(false)
	<-w.view.Ready()
	w.want(w.real.Token(nil), "")
}

// Promise: a token without key id is accepted only where there is no choice.
func TestNoKeyID(t *testing.T) {
	w := newWorld(t, nil)
	first := w.real.Key()
	token := first.SignHeader(map[string]any{"alg": "RS256"}, w.real.Payload(authtest.Claims{"exp": w.clock.Now().Add(time.Hour).Unix()}))
	w.want(token, "")
	w.real.Publish(first, newKey(t, "key-2"))
	w.clock.Advance(pastThePause)
	w.refetch()
	w.want(token, auth.UnknownKey)
	// A key of another kind is no choice.
	w.real.Publish(first, newKeyOf(t, "key-3", jose.ES256))
	w.clock.Advance(pastThePause)
	w.want(token, "")
}

// Promise: a configuration that kube-apiserver would refuse is refused.
func TestConfig(t *testing.T) {
	for _, url := range []string{
		"", "http://issuer.example", "issuer.example", "https://", "https://u:p@issuer.example",
		"https://issuer.example?q", "https://issuer.example?", "https://issuer.example#f", "https://issuer.example#",
	} {
		if _, err := oidc.New(oidc.Config{URL: url, Audiences: []string{"a"}, Mapping: subject{}}); err == nil {
			t.Errorf("issuer URL %q was accepted", url)
		}
	}
	for name, change := range map[string]func(*oidc.Config){
		"no audience": func(c *oidc.Config) { c.Audiences = nil },
		"no mapping":  func(c *oidc.Config) { c.Mapping = nil },
		"none":        func(c *oidc.Config) { c.Algorithms = []string{"none"} },
		"HS256":       func(c *oidc.Config) { c.Algorithms = []string{"RS256", "HS256"} },
	} {
		cfg := oidc.Config{URL: "https://issuer.example", Audiences: []string{"a"}, Mapping: subject{}}
		change(&cfg)
		if _, err := oidc.New(cfg); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
}

// Promise: what the operator adds to the accepted parties and types, and no
// more, is accepted.
func TestPartiesAndTypes(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) {
		c.AuthorizedParties = []string{"cli"}
		c.TokenTypes = []string{"JWT", "at+jwt"}
	})
	w.want(w.real.Token(authtest.Claims{"azp": "cli"}), "")
	w.want(w.real.Token(authtest.Claims{"azp": "other"}), auth.WrongParty)
	typed := func(typ string) string {
		return w.real.Key().SignHeader(map[string]any{"alg": "RS256", "kid": "key-1", "typ": typ}, w.real.Payload(nil))
	}
	w.want(typed("at+jwt"), "")
	w.want(typed("logout+jwt"), auth.WrongTokenType)

	w = newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.AuthorizedParties = []string{"*"} })
	w.want(w.real.Token(authtest.Claims{"azp": "anything"}), "")
}
