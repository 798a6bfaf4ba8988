package oidc_test

import (
	"context"
	"crypto/elliptic"
	"encoding/base64"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// wantHit fails the test if token is not accepted from the cache.
func (w *world) wantHit(token string) {
	w.t.Helper()
	hits := w.hits.Load()
	w.want(token, "")
	if w.hits.Load() != hits+1 {
		w.t.Error("the token was verified again")
	}
}

// wantMiss fails the test if token is not judged so, anew.
func (w *world) wantMiss(token string, reason auth.Reason) {
	w.t.Helper()
	misses := w.misses.Load()
	w.want(token, reason)
	if w.misses.Load() != misses+1 {
		w.t.Error("the token was not verified again")
	}
}

// lasting is a token that outlives what a test does to the clock.
func (w *world) lasting(claims authtest.Claims) string {
	all := authtest.Claims{"exp": w.clock.Now().Add(48 * time.Hour).Unix()}
	for name, value := range claims {
		all[name] = value
	}
	return w.real.Token(all)
}

// Promise: what was verified is known from then on, and the identity is the one
// that was verified.
func TestVerifiedTokenIsKept(t *testing.T) {
	w := newWorld(t, nil)
	a, b := w.lasting(nil), w.lasting(authtest.Claims{"sub": "subject-2"})
	w.wantMiss(a, "")
	w.wantMiss(b, "")
	for range 3 {
		w.wantHit(a)
		w.wantHit(b)
	}
	first, _ := w.ask(a)
	second, _ := w.ask(b)
	if first.Name != "subject-1" || second.Name != "subject-2" || w.issuers.Cached() != 2 {
		t.Errorf("%v and %v, %d kept", first, second, w.issuers.Cached())
	}
}

// Promise: never past `exp`: at each moment the cache gives the verdict that
// verifying the token would.
func TestCacheEndsWithTheToken(t *testing.T) {
	w := newWorld(t, nil)
	end := w.clock.Now().Add(time.Minute).Truncate(time.Second)
	token := w.real.Token(authtest.Claims{"exp": end.Unix()})
	w.wantMiss(token, "")
	for _, tt := range []struct {
		at     time.Time
		reason auth.Reason
	}{
		{end.Add(-time.Second), ""},
		{end.Add(-time.Nanosecond), ""},
		{end, ""},
		{end.Add(time.Nanosecond), auth.Expired},
		{end.Add(time.Hour), auth.Expired},
	} {
		w.clock.Advance(tt.at.Sub(w.clock.Now()))
		w.want(token, tt.reason)
		anew := *w
		var err error
		if anew.issuers, err = oidc.NewIssuers(w.view); err != nil {
			t.Fatal(err)
		}
		anew.wantMiss(token, tt.reason)
	}
	if got := w.hits.Load(); got != 3 {
		t.Errorf("%d hits, want 3", got)
	}
}

// Promise: use does not lengthen what a verdict is worth, and a refusal is never
// kept.
func TestRefusalIsNotKept(t *testing.T) {
	w := newWorld(t, nil)
	early := w.lasting(authtest.Claims{"nbf": w.clock.Now().Add(2 * time.Minute).Unix()})
	for token, reason := range map[string]auth.Reason{
		early: auth.NotYetValid,
		w.lasting(authtest.Claims{"aud": "other"}):                                   auth.WrongAudience,
		w.lasting(authtest.Claims{"sub": nil}):                                       auth.BadUsernameClaim,
		w.lasting(authtest.Claims{"exp": 1000}):                                      auth.Expired,
		newKey(t, "key-1").Sign(w.real.Payload(nil)):                                 auth.BadSignature,
		newKey(t, "key-2").Sign(w.real.Payload(nil)):                                 auth.UnknownKey,
		w.lasting(authtest.Claims{"iss": "https://x"}):                               "not mine",
		strings.Repeat("x", 100) + ".y.z":                                            "not mine",
		w.real.Key().SignHeader(map[string]any{"alg": "HS256"}, w.real.Payload(nil)): auth.UnsupportedAlgorithm,
		w.lasting(authtest.Claims{"Sub": "mallory", "sub": "bob"}):                   auth.MalformedToken,
	} {
		for range 2 {
			w.want(token, reason)
		}
	}
	if w.issuers.Cached() != 0 || w.hits.Load() != 0 {
		t.Errorf("%d kept, %d hits", w.issuers.Cached(), w.hits.Load())
	}
	w.clock.Advance(2 * time.Minute)
	w.wantMiss(early, "")
	w.wantHit(early)
}

// Promise: a token is known by its last byte too. While the good one is kept,
// the same header and payload with any other signature are judged for
// themselves.
func TestAnotherSignatureIsNotKnown(t *testing.T) {
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.ES256} {
		w := newWorld(t, func(c *oidc.Config, real *authtest.Issuer) {
			c.Algorithms = []string{string(alg)}
			real.Publish(newKeyOf(t, "key-1", alg))
		})
		good := w.lasting(nil)
		w.wantMiss(good, "")
		cut := strings.LastIndex(good, ".") + 1
		for _, tt := range w.otherSignatures(good[cut:], alg) {
			t.Run(string(alg)+"/"+tt.name, func(t *testing.T) {
				w := *w
				w.t = t
				hits := w.hits.Load()
				w.want(good[:cut]+tt.signature, tt.reason)
				if w.hits.Load() != hits {
					t.Error("it was taken for the token that is kept")
				}
				w.wantHit(good)
			})
		}
		if w.issuers.Cached() != 1 {
			t.Errorf("%d kept, want the good token alone", w.issuers.Cached())
		}
	}
}

type otherSignature struct {
	name, signature string
	reason          auth.Reason
}

// otherSignatures are all sorts of signatures besides the right one.
func (w *world) otherSignatures(right string, alg jose.SignatureAlgorithm) []otherSignature {
	raw, err := base64.RawURLEncoding.DecodeString(right)
	if err != nil {
		w.t.Fatal(err)
	}
	flipped := slices.Clone(raw)
	flipped[len(raw)-1] ^= 1
	encode := base64.RawURLEncoding.EncodeToString
	return []otherSignature{
		{"of another token", strings.Split(w.lasting(authtest.Claims{"sub": "x"}), ".")[2], auth.BadSignature},
		{"of another key", strings.Split(newKeyOf(w.t, "key-1", alg).Sign(w.real.Payload(nil)), ".")[2], auth.BadSignature},
		{"one bit", encode(flipped), auth.BadSignature},
		{"zero", encode(make([]byte, len(raw))), auth.BadSignature},
		{"one byte", "AA", auth.BadSignature},
		{"none", "", "not mine"},
		{"cut off", right[:len(right)-2], auth.BadSignature},
		{"slack bits", slacken(right), auth.MalformedToken},
		{"garbage after it", right + "AAAA", auth.BadSignature},
		{"a character after it", right + "A", auth.BadSignature},
		{"a character before it", "A" + right, auth.BadSignature},
		{"padding", right + "==", auth.MalformedToken},
		{"white space", right + " ", auth.MalformedToken},
		{"newline", right + "\n", auth.MalformedToken},
		{"another part", right + ".x", "not mine"},
	}
}

// slacken sets one of the last bits, which stand for nothing.
func slacken(encoded string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(encoded) - 1
	return encoded[:last] + string(alphabet[strings.IndexByte(alphabet, encoded[last])|1])
}

// Promise: of an ECDSA signature (r, s), which anybody can make (r, -s) of, each
// form is verified for itself.
func TestECDSATwinIsVerifiedForItself(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, real *authtest.Issuer) {
		c.Algorithms = []string{"ES256"}
		real.Publish(newKeyOf(t, "key-1", jose.ES256))
	})
	good := w.lasting(nil)
	w.wantMiss(good, "")
	cut := strings.LastIndex(good, ".") + 1
	raw, err := base64.RawURLEncoding.DecodeString(good[cut:])
	if err != nil {
		t.Fatal(err)
	}
	s := new(big.Int).SetBytes(raw[32:])
	s.Sub(elliptic.P256().Params().N, s).FillBytes(raw[32:])
	twin := good[:cut] + base64.RawURLEncoding.EncodeToString(raw)
	w.wantMiss(twin, "") // a signature as good as the other: RFC 7518 asks for no form
	w.wantHit(twin)
	w.real.Publish(newKeyOf(t, "key-1", jose.ES256))
	w.clock.Advance(pastThePause)
	w.want(w.lasting(nil), "") // has the keys fetched
	w.want(good, auth.BadSignature)
	w.want(twin, auth.BadSignature)
}

// Promise: a key that is withdrawn or replaced drops what it verified, at once;
// an equal key set, in whatever order, drops nothing.
func TestCacheFollowsTheKeys(t *testing.T) {
	first, second := newKey(t, "key-1"), newKey(t, "key-2")
	renamed := *first
	renamed.ID = "key-3"
	for _, tt := range []struct {
		name   string
		before []*authtest.Key
		after  []*authtest.Key
		hit    bool
		reason auth.Reason
	}{
		{"same", []*authtest.Key{first}, []*authtest.Key{first}, true, ""},
		{"other order", []*authtest.Key{first, second}, []*authtest.Key{second, first}, true, ""},
		{"another beside it", []*authtest.Key{first}, []*authtest.Key{first, second}, false, ""},
		{"the other withdrawn", []*authtest.Key{first, second}, []*authtest.Key{first}, false, ""},
		{"one more often", []*authtest.Key{first, first, second}, []*authtest.Key{first, second, second}, false, ""},
		{"withdrawn", []*authtest.Key{first, second}, []*authtest.Key{second}, false, auth.UnknownKey},
		{"all withdrawn", []*authtest.Key{first}, nil, false, auth.UnknownKey},
		{"exchanged", []*authtest.Key{first}, []*authtest.Key{second}, false, auth.UnknownKey},
		{"replaced under the same id", []*authtest.Key{first}, []*authtest.Key{newKey(t, "key-1")}, false, auth.BadSignature},
		{"renamed", []*authtest.Key{first}, []*authtest.Key{&renamed}, false, auth.UnknownKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, func(_ *oidc.Config, real *authtest.Issuer) { real.Publish(tt.before...) })
			token := w.lasting(nil)
			w.wantMiss(token, "")
			w.wantHit(token)
			fetches := w.real.KeyFetches.Load()
			w.real.Publish(tt.after...)
			w.clock.Advance(pastThePause)
			w.ask(newKey(t, "unknown").Sign(w.real.Payload(nil)))
			if w.real.KeyFetches.Load() != fetches+1 {
				t.Fatal("the keys were not fetched again")
			}
			if tt.hit {
				w.wantHit(token)
				return
			}
			w.wantMiss(token, tt.reason)
			if tt.reason != "" { // and what was dropped does not come back with the key
				w.real.Publish(tt.before...)
				w.clock.Advance(pastThePause)
				w.wantMiss(token, "")
			}
		})
	}
}

// Promise: a token is not accepted from the cache by keys that are too old to
// verify it.
func TestCacheLapsesWithTheKeys(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.MaxKeyAge = time.Hour })
	token := w.lasting(nil)
	w.wantMiss(token, "")
	w.clock.Advance(59 * time.Minute)
	w.wantHit(token)
	for range 2 { // also if what was seen last was a token that had the keys fetched
		w.real.SetDown(true)
		w.clock.Advance(61 * time.Minute)
		w.wantMiss(token, auth.IssuerUnavailable)
		w.real.SetDown(false)
		w.clock.Advance(pastThePause)
		w.wantMiss(token, "")
	}
	w.wantHit(token)
}

// Promise: a changed configuration begins with nothing: neither an issuer that
// is gone nor a rule that is new can be got round by a token that is known.
func TestCacheEndsWithTheConfiguration(t *testing.T) {
	a, b := newWorld(t, nil), newWorld(t, nil)
	var err error
	if a.issuers, err = oidc.NewIssuers(a.view, b.view); err != nil {
		t.Fatal(err)
	}
	token := a.lasting(nil)
	a.wantMiss(token, "")
	a.wantHit(token)
	if a.issuers, err = oidc.NewIssuers(b.view); err != nil {
		t.Fatal(err)
	}
	a.want(token, "not mine")
	if a.issuers, err = oidc.NewIssuers(a.view); err != nil {
		t.Fatal(err)
	}
	a.wantMiss(token, "")
}

// spacious is a mapping whose lists have room for more.
type spacious struct{ subject }

func (spacious) User(context.Context, map[string]any) (auth.User, error) {
	return auth.User{
		Name:   "ana",
		Groups: append(make([]string, 0, 8), "a", "b"),
		Extra:  map[string][]string{"example.org/key": append(make([]string, 0, 8), "x")},
	}, nil
}

// Promise: who appends to what he was given changes nobody else's.
func TestIdentityIsShared(t *testing.T) {
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.Mapping = spacious{} })
	token := w.lasting(authtest.Claims{"jti": "1"})
	w.want(token, "")
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			id, reason := w.ask(token)
			if reason != "" {
				t.Errorf("refused with %q", reason)
				return
			}
			// The race detector sees a write into a shared array.
			_ = append(id.Groups, "admins")
			_ = append(id.IDs, "JTI=2")
			_ = append(id.Extra["example.org/key"], "y")
		})
	}
	group.Wait()
	id, _ := w.ask(token)
	for _, list := range [][]string{id.Groups, id.IDs, id.Extra["example.org/key"]} {
		if len(list) == 0 || cap(list) != len(list) {
			t.Errorf("%q has room for %d", list, cap(list))
		}
	}
}

// Promise: all holds while keys change under many requests: no token of a
// withdrawn key is accepted after the fetch that withdrew it.
func TestCacheWhileKeysChange(t *testing.T) {
	w := newWorld(t, nil)
	keys := []*authtest.Key{w.real.Key(), newKey(t, "key-2")}
	var tokens [2]string
	for i, key := range keys {
		tokens[i] = key.Sign(w.real.Payload(authtest.Claims{"exp": w.clock.Now().Add(48 * time.Hour).Unix()}))
	}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, reason := w.ask(tokens[i%2]); reason != "" && reason != auth.UnknownKey {
						t.Errorf("refused with %q", reason)
						return
					}
				}
			}
		})
	}
	for round := range 50 {
		now, gone := round%2, (round+1)%2
		w.real.Publish(keys[now])
		// The first token that no key verifies has the keys fetched.
		for deadline := time.Now().Add(10 * time.Second); ; {
			w.clock.Advance(pastThePause)
			if _, reason := w.ask(tokens[now]); reason == "" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the new key does not come into use")
			}
		}
		w.want(tokens[gone], auth.UnknownKey)
	}
	close(stop)
	group.Wait()
}
