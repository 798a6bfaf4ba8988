package distributed_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// Promise: groups to which a token refers are fetched with its access token, put
// in, and used again for a bounded time and for the same reference alone.
func TestDistributedGroups(t *testing.T) {
	w := newWorld(t)
	token := w.token(w.source.URL+"/groups/7", nil)
	for range 3 {
		id, refusal := w.ask(token)
		if refusal != nil {
			t.Fatal(refusal)
		}
		if !slices.Equal(id.Groups, []string{"dev", "ops"}) {
			t.Errorf("groups %q", id.Groups)
		}
	}
	if n := w.asked.Load(); n != 1 || w.bearer.Load() != "Bearer "+accessToken {
		t.Errorf("asked %d times, with %q", n, w.bearer.Load())
	}
	w.send(w.issuer.Token(authtest.Claims{"groups": "ops"}))
	if id, _ := w.ask(w.token(w.source.URL+"/groups/8", nil)); id == nil || !slices.Equal(id.Groups, []string{"ops"}) {
		t.Errorf("another endpoint gives %+v", id)
	}
	w.send(w.issuer.Token(authtest.Claims{"groups": "ben's"}))
	ben := w.issuer.Token(authtest.Claims{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{
		"s": map[string]any{"endpoint": w.source.URL + "/groups/7", "access_token": "another-access-token"},
	}})
	if id, _ := w.ask(ben); id == nil || !slices.Equal(id.Groups, []string{"ben's"}) {
		t.Errorf("another access token gives %+v", id)
	}
	w.send(w.issuer.Token(authtest.Claims{"groups": "ops"}))
	w.clock.Advance(5*time.Minute + time.Second)
	if id, _ := w.ask(token); id == nil || !slices.Equal(id.Groups, []string{"ops"}) {
		t.Errorf("after five minutes: %+v", id)
	}
}

// Promise: the claims of a token are not changed, and what is resolved holds
// until the source's JWT expires, five minutes at most.
func TestResolve(t *testing.T) {
	w := newWorld(t)
	claims := func() map[string]any {
		return map[string]any{"sub": "a", "_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{"s": map[string]any{"endpoint": w.source.URL + "/groups"}}}
	}
	for _, tt := range []struct{ life, want time.Duration }{{2 * time.Minute, 2 * time.Minute}, {time.Hour, 5 * time.Minute}} {
		w.send(w.issuer.Token(authtest.Claims{"groups": nil, "exp": w.clock.Now().Add(tt.life).Unix()}))
		if _, _, err := w.resolver.Resolve(t.Context(), claims(), []string{"groups"}); err == nil {
			t.Error("a JWT without the claim is good")
		}
		w.clock.Advance(10 * time.Second)
		w.send(w.issuer.Token(authtest.Claims{"groups": []string{"x"}, "exp": w.clock.Now().Add(tt.life).Unix()}))
		given := claims()
		resolved, until, err := w.resolver.Resolve(t.Context(), given, []string{"groups"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(claims(), given); diff != "" {
			t.Errorf("the input was changed (-want +got):\n%s", diff)
		}
		want := claims()
		want["groups"] = []any{"x"}
		if diff := cmp.Diff(want, resolved); diff != "" {
			t.Errorf("resolved (-want +got):\n%s", diff)
		}
		if life := until.Sub(w.clock.Now()).Round(2 * time.Second); life != tt.want {
			t.Errorf("a JWT of %s holds for %s, want %s", tt.life, life, tt.want)
		}
		w.clock.Advance(6 * time.Minute)
	}
}

// Promise: nobody is asked where the mapping names no groups claim, as where an
// expression makes the groups, or where the token holds it.
func TestNobodyIsAskedInVain(t *testing.T) {
	w := newWorld(t)
	claims := map[string]any{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{"s": map[string]any{"endpoint": w.source.URL + "/groups"}}}
	resolved, until, err := w.resolver.Resolve(t.Context(), claims, nil)
	if err != nil || !until.IsZero() || cmp.Diff(claims, resolved) != "" {
		t.Errorf("resolved %v until %s, error %v", resolved, until, err)
	}
	if id, refusal := w.ask(w.token(w.source.URL+"/groups", authtest.Claims{"groups": []string{"own"}})); refusal != nil || !slices.Equal(id.Groups, []string{"own"}) {
		t.Errorf("groups of its own: %+v, %v", id, refusal)
	}
	// A token that would be refused anyway.
	_, _ = w.ask(w.token(w.source.URL+"/groups", authtest.Claims{"aud": "other"}))
	_, _ = w.ask(w.nobody.Key().Sign(w.issuer.Payload(authtest.Claims{"_claim_names": claims["_claim_names"], "_claim_sources": claims["_claim_sources"]})))
	if n := w.asked.Load(); n != 0 {
		t.Errorf("the source was asked %d times", n)
	}
}

// Promise: no URL that a token chose is asked unless it is on the list, in its
// plain spelling, and the answer says what is the matter.
func TestNobodyElseIsAsked(t *testing.T) {
	w := newWorld(t)
	var evil atomic.Int64
	other := newServer(t, w.ca, func(http.ResponseWriter, *http.Request) { evil.Add(1) })
	plain := newServer(t, w.ca, func(http.ResponseWriter, *http.Request) { evil.Add(1) })
	host := strings.TrimPrefix(w.source.URL, "https://")
	otherHost := strings.TrimPrefix(other.URL, "https://")
	_, port, _ := strings.Cut(host, ":")
	for _, endpoint := range append([]string{
		other.URL, other.URL + "/groups", plain.URL + "/groups", "http://" + host + "/groups",
		"https://localhost:" + port + "/groups", "https://" + host + ".evil.example/groups",
		"https://" + host + "@" + otherHost + "/groups", "https://" + otherHost + "#@" + host + "/groups",
		"https://" + otherHost + "\\@" + host + "/groups", "https://x@" + host + "/groups",
		w.source.URL, w.source.URL + "/", w.source.URL + "/groupsX", w.source.URL + "/other",
		w.source.URL + "/groups/../other", w.source.URL + "/groups/%2e%2e/other", w.source.URL + "/groups%2f..%2fother",
		w.source.URL + "/groups/..;/other", w.source.URL + "//groups", w.source.URL + "/groups?x=/other", w.source.URL + "/groups#x",
		w.source.URL + "/groups\r\nHost: evil", w.source.URL + "/groups\\..\\other",
	}, hostile...) {
		if endpoint == "" {
			continue // an aggregated claim
		}
		id, refusal := w.ask(w.token(endpoint, nil))
		if refusal == nil || refusal.Reason != auth.UnsupportedClaims {
			t.Errorf("%q: %+v, %v", endpoint, id, refusal)
		}
	}
	if w.asked.Load() != 0 || evil.Load() != 0 {
		t.Errorf("%d requests to the source, %d to others", w.asked.Load(), evil.Load())
	}
}

// Promise: the claim is taken from a JWT that is judged as an ID token is, by the
// keys of a configured issuer or of one on the list of endpoints; and never
// from another.
func TestWhoMaySign(t *testing.T) {
	w := newWorld(t)
	groups := authtest.Claims{"groups": []string{"dev"}}
	with := func(name string, value any) authtest.Claims {
		return authtest.Claims{"groups": []string{"dev"}, name: value}
	}
	if n := w.listed.KeyFetches.Load(); n != 0 {
		t.Errorf("the keys of the listed issuer were fetched %d times before anybody needed them", n)
	}
	for i, tt := range []struct {
		name, jwt string
		good      bool
	}{
		{"the token's issuer", w.issuer.Token(groups), true},
		{"another configured issuer", w.second.Token(groups), true},
		{"an issuer on the list", w.listed.Token(groups), true},
		{"several audiences", w.listed.Token(with("aud", []string{"x", authtest.Audience})), true},
		{"the claim is null", w.issuer.Key().Sign([]byte(strings.TrimSuffix(string(w.issuer.Payload(nil)), "}") + `,"groups":null}`)), true},

		{"an issuer nobody knows", w.nobody.Token(groups), false},
		{"another's key", w.nobody.Key().Sign(w.issuer.Payload(groups)), false},
		{"the listed issuer in its name", w.listed.Key().Sign(w.issuer.Payload(groups)), false},
		{"below the listed issuer", w.listed.Token(with("iss", w.listed.URL+"/tenant")), false},
		{"for the audience of whoever signed", w.second.Token(with("aud", secondAudience)), false},
		{"another audience", w.listed.Token(with("aud", "other")), false},
		{"expired", w.issuer.Token(with("exp", w.clock.Now().Add(-2*time.Second).Unix())), false},
		{"without an end", w.issuer.Token(with("exp", nil)), false},
		{"not yet valid", w.issuer.Token(with("nbf", w.clock.Now().Add(time.Hour).Unix())), false},
		{"without the claim", w.issuer.Token(nil), false},
		{"in another case", w.issuer.Token(with("Groups", []string{"admin"})), false},
		{"no JWT", "dev", false},
		{"JSON", `{"groups":["dev"]}`, false},
		{"nothing", "", false},
		{"unsigned", w.issuer.Key().SignHeader(map[string]any{"alg": "none"}, w.issuer.Payload(groups)), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.send(tt.jwt)
			id, refusal := w.ask(w.token(fmt.Sprintf("%s/groups/%d", w.source.URL, i), nil))
			switch {
			case tt.good && refusal != nil:
				t.Errorf("refused: %v", refusal)
			case !tt.good && (refusal == nil || refusal.Reason != auth.GroupsUnavailable):
				t.Errorf("%+v, %v; want %s", id, refusal, auth.GroupsUnavailable)
			}
		})
	}
	if n := w.nobody.KeyFetches.Load() + w.nobody.DiscoveryFetches.Load(); n != 0 {
		t.Errorf("the issuer that nobody knows was asked %d times", n)
	}
}

// Promise: the keys of an issuer on the list are fetched when they are needed, and
// are not used when they are old; nothing asks for them by the clock.
func TestSourceKeysEnd(t *testing.T) {
	w := newWorld(t)
	next := func(i int) *auth.Refusal {
		w.send(w.listed.Key().Sign(w.listed.Payload(authtest.Claims{"groups": "dev", "exp": w.clock.Now().Add(time.Hour).Unix(), "iat": nil})))
		_, refusal := w.ask(w.token(fmt.Sprintf("%s/groups/%d", w.source.URL, i), authtest.Claims{"exp": w.clock.Now().Add(time.Hour).Unix()}))
		return refusal
	}
	for i := range 5 {
		if refusal := next(i); refusal != nil {
			t.Fatal(refusal)
		}
	}
	if n := w.listed.KeyFetches.Load(); n != 1 {
		t.Errorf("the keys were fetched %d times", n)
	}
	w.clock.Advance(6 * time.Minute)
	key, err := authtest.NewKey("key-2", "RS256")
	if err != nil {
		t.Fatal(err)
	}
	old := w.listed.Key()
	w.listed.Publish(key)
	if refusal := next(5); refusal != nil {
		t.Errorf("with the new key: %v", refusal)
	}
	w.listed.Publish(old) // signs, while gatehouse knows the new one alone
	w.listed.SetDown(true)
	if refusal := next(6); refusal == nil {
		t.Error("a withdrawn key is good")
	}
	w.clock.Advance(6 * time.Minute)
	w.listed.SetDown(false)
	w.listed.Publish(key)
	w.listed.SetDown(true)
	if refusal := next(7); refusal == nil || refusal.Reason != auth.GroupsUnavailable {
		t.Errorf("with old keys, and the issuer down: %v", refusal)
	} else if !strings.Contains(refusal.Detail, "503") {
		t.Errorf("the operator is not told why: %v", refusal)
	}
}

// Promise: a source that fails refuses, for a reason that says so, and is not
// asked again for a while; nothing of a secret is in what is logged; and no
// redirect is followed.
func TestSourceFails(t *testing.T) {
	w := newWorld(t)
	var elsewhere atomic.Int64
	other := newServer(t, w.ca, func(rw http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		_, _ = io.WriteString(rw, w.issuer.Token(authtest.Claims{"groups": "admin"}))
	})
	status := func(code int) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Location", other.URL+"/groups")
			rw.WriteHeader(code)
			_, _ = io.WriteString(rw, w.issuer.Token(authtest.Claims{"groups": "admin"}))
		}
	}
	within := func(code int) http.HandlerFunc {
		return func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/groups/elsewhere" {
				elsewhere.Add(1)
			}
			http.Redirect(rw, r, "/groups/elsewhere", code)
		}
	}
	for i, tt := range []struct {
		name   string
		answer http.HandlerFunc
		reason auth.Reason
	}{
		{"500", status(500), auth.GroupsUnavailable},
		{"503", status(503), auth.GroupsUnavailable},
		{"404", status(404), auth.GroupsUnavailable},
		{"429", status(429), auth.GroupsUnavailable},
		{"401", status(401), auth.GroupsRefused},
		{"403", status(403), auth.GroupsRefused},
		{"301", status(301), auth.GroupsUnavailable},
		{"302", status(302), auth.GroupsUnavailable},
		{"307", status(307), auth.GroupsUnavailable},
		{"308", status(308), auth.GroupsUnavailable},
		{"redirect within the list", within(302), auth.GroupsUnavailable},
		{"1 MiB", func(rw http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(rw, w.issuer.Token(authtest.Claims{"groups": "dev", "x": strings.Repeat("x", 1<<20)}))
		}, auth.GroupsUnavailable},
		{"slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, auth.GroupsUnavailable},
		{"cut off", func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(rw, "ey")
		}, auth.GroupsUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.serve(tt.answer)
			before := w.asked.Load()
			token := w.token(fmt.Sprintf("%s/groups/%d", w.source.URL, i), nil)
			for range 3 {
				id, refusal := w.ask(token)
				if refusal == nil || refusal.Reason != tt.reason {
					t.Fatalf("%+v, %v; want %s", id, refusal, tt.reason)
				}
				for _, secret := range []string{accessToken, "eyJ", "admin"} {
					if strings.Contains(refusal.Error(), secret) {
						t.Errorf("%q is in %q", secret, refusal)
					}
				}
			}
			if n := w.asked.Load() - before; n != 1 {
				t.Errorf("asked %d times", n)
			}
			w.send(w.issuer.Token(authtest.Claims{"groups": "dev"}))
			w.clock.Advance(10 * time.Second)
			if _, refusal := w.ask(token); refusal != nil {
				t.Errorf("once the source has recovered: %v", refusal)
			}
		})
	}
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("a redirect was followed %d times", n)
	}
}

// Promise: an access token that is none opens nothing, and its header is not sent.
func TestBadAccessToken(t *testing.T) {
	w := newWorld(t)
	for _, bad := range []string{"a b", "a\r\nX-Evil: 1", "a,b", "é", strings.Repeat("x", auth.MaxTokenBytes+1)[:100] + "\x00"} {
		_, refusal := w.ask(w.issuer.Token(authtest.Claims{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{
			"s": map[string]any{"endpoint": w.source.URL + "/groups", "access_token": bad},
		}}))
		if refusal == nil || refusal.Reason != auth.UnsupportedClaims {
			t.Errorf("%q: %v", bad, refusal)
		}
	}
	if n := w.asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	_, refusal := w.ask(w.issuer.Token(authtest.Claims{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{"s": map[string]any{"endpoint": w.source.URL + "/groups"}}}))
	if refusal != nil || w.bearer.Load() != "" {
		t.Errorf("without an access token: %v, sent %q", refusal, w.bearer.Load())
	}
}
