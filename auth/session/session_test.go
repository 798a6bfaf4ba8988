package session_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
	"github.com/kube-gatehouse/gatehouse/auth/session"
)

func refusalOf(t testing.TB, w *world, token string) auth.Reason {
	t.Helper()
	id, err := w.AuthenticateToken(t.Context(), token)
	refusal, ok := errors.AsType[*auth.Refusal](err)
	if !ok {
		t.Fatalf("%v, %v", id, err)
	}
	return refusal.Reason
}

// Promise: a session names the user that its subject's credential named, has an
// id of its own, and says on what it rests.
func TestSession(t *testing.T) {
	w := newWorld(t)
	issued := w.issue(t, session.Grant{
		Subject: w.alice(), Actor: w.agent(), Scope: parse(t, "read-only"), Lifetime: 5 * time.Minute, ClientID: "tool",
	})
	now := w.clock.Now().Truncate(time.Second)
	want := &auth.Identity{
		Kind: auth.KindSession, Issuer: exchange, Expires: now.Add(5 * time.Minute), Actors: []string{"ci:agent"}, Scope: parse(t, "read-only"),
		User: auth.User{Name: "oidc:alice", UID: "7", Groups: []string{"oidc:dev"}, Extra: map[string][]string{
			"example.com/team": {"a"}, auth.CredentialIDKey: {"JTI=" + issued.ID},
		}},
		Credential: auth.Credential{IDs: []string{"JTI=" + issued.ID}, Subject: "oidc:alice", Issued: now},
		Behind: []*auth.Identity{
			{Kind: auth.KindOIDC, Issuer: "https://login.example.com", User: auth.User{Name: "oidc:alice"},
				Credential: auth.Credential{IDs: []string{"JTI=first"}, Subject: "42", Issued: now.Add(-time.Minute)}},
			{Kind: auth.KindOIDC, Issuer: "https://ci.example.com", User: auth.User{Name: "ci:agent"},
				Credential: auth.Credential{IDs: []string{"JTI=agent"}, Subject: "bot", Issued: now}},
		},
	}
	for range 2 { // the second is of the cache
		if diff := cmp.Diff(want, w.who(t, issued.Token), cmpopts.EquateApproxTime(0), cmp.AllowUnexported(scope.Scope{}), cmp.Comparer(scope.Scope.Equal)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
	claims := claimsOf(t, issued.Token)
	delete(claims, "kube-gatehouse.github.io")
	if diff := cmp.Diff(map[string]any{
		"iss": exchange, "aud": exchange, "sub": "oidc:alice", "client_id": "tool", "jti": issued.ID, "scope": "read-only",
		"iat": float64(now.Unix()), "exp": float64(now.Add(5 * time.Minute).Unix()), "auth_time": float64(now.Add(-time.Minute).Unix()),
		"act": map[string]any{"sub": "ci:agent"},
	}, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
}

// Promise: a session lives no longer than what it was made of, than its issuer's
// limit, than the limit of all, and than was asked for.
func TestLifetime(t *testing.T) {
	const login = "https://login.example.com"
	for name, test := range map[string]struct {
		config func(*session.Config)
		grant  func(*world, *session.Grant)
		want   time.Duration
	}{
		"the subject's": {nil, nil, 10 * time.Minute},
		"asked for":     {nil, func(_ *world, g *session.Grant) { g.Lifetime = time.Minute }, time.Minute},
		"too much asked for": {nil, func(_ *world, g *session.Grant) {
			g.Lifetime = 1000 * time.Hour
		}, 10 * time.Minute},
		"the issuer's": {func(c *session.Config) { c.Lifetimes = map[string]time.Duration{login: 2 * time.Minute} }, nil, 2 * time.Minute},
		"another issuer's": {func(c *session.Config) {
			c.Lifetimes = map[string]time.Duration{"https://other.example.com": 2 * time.Minute}
		}, nil, 10 * time.Minute},
		"outliving":        {func(c *session.Config) { c.Outlive = []string{login} }, nil, time.Hour},
		"outliving, other": {func(c *session.Config) { c.Outlive = []string{"", "https://other.example.com"} }, nil, 10 * time.Minute},
		"no end of its own": {nil, func(_ *world, g *session.Grant) {
			g.Subject.Kind, g.Subject.Issuer, g.Subject.Expires = auth.KindTokenFile, "", time.Time{}
		}, time.Hour},
		"the actor's": {func(c *session.Config) { c.Outlive = []string{login, "https://ci.example.com"} }, func(w *world, g *session.Grant) { g.Actor = w.agent() }, 20 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			var edits []func(*session.Config)
			if test.config != nil {
				edits = append(edits, test.config)
			}
			w := newWorld(t, edits...)
			g := session.Grant{Subject: w.alice()}
			if test.grant != nil {
				test.grant(w, &g)
			}
			issued := w.issue(t, g)
			if got := issued.Expires.Sub(w.clock.Now().Truncate(time.Second)); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
			w.clock.Advance(test.want - time.Second)
			w.who(t, issued.Token)
			w.clock.Advance(2 * time.Second)
			if reason := refusalOf(t, w, issued.Token); reason != auth.Expired {
				t.Errorf("after its end: %s", reason)
			}
		})
	}
}

// Promise: what is gained by no exchange: a session that is made of a session
// ends with it, even where the issuer's tokens may be outlived, and has its
// scope.
func TestReexchange(t *testing.T) {
	w := newWorld(t, func(c *session.Config) { c.Outlive = []string{exchange, "https://login.example.com"} })
	first := w.issue(t, session.Grant{Subject: w.alice(), Scope: parse(t, "read-only"), Lifetime: time.Minute})
	w.clock.Advance(30 * time.Second)
	second := w.issue(t, session.Grant{Subject: w.who(t, first.Token), Scope: parse(t, "no-secrets"), Lifetime: time.Hour})
	if !second.Expires.Equal(first.Expires) {
		t.Errorf("the second ends at %v, the first at %v", second.Expires, first.Expires)
	}
	id := w.who(t, second.Token)
	if id.Scope.String() != "no-secrets read-only" || id.Name != "oidc:alice" {
		t.Errorf("%+v", id)
	}
	var ids []string
	for _, behind := range id.Behind {
		ids = append(ids, behind.IDs...)
	}
	if want := []string{"JTI=first", "JTI=" + first.ID}; !slices.Equal(ids, want) {
		t.Errorf("it rests on %q, want %q", ids, want)
	}
}

// Promise: no chain of exchanges allows what one of the tokens in it did not, or
// lives longer, whoever acts.
func TestChainsOnlyNarrow(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	words := []string{"read-only", "no-secrets", "no-exec", "no-impersonation", "namespaces=dev", "namespaces=dev,test", "groups=core", "verbs=get,list,delete", "resources=pods,secrets"}
	one := func() scope.Scope {
		if random.IntN(3) == 0 {
			return scope.Scope{}
		}
		return parse(t, words[random.IntN(len(words))])
	}
	var universe []scope.Request
	for _, verb := range scope.Verbs() {
		for _, resource := range []string{"pods", "secrets", "nodes"} {
			for _, namespace := range []string{"", "dev", "test", "prod"} {
				universe = append(universe, scope.Request{OfResource: true, Verb: verb, Resource: resource, Namespace: namespace})
			}
		}
	}
	w := newWorld(t, func(c *session.Config) { c.Outlive = []string{"https://login.example.com", exchange} })
	for range 100 {
		subject := w.alice()
		var end time.Time
		var all []scope.Scope
		actors := 0
		for step := range 6 {
			g := session.Grant{Subject: subject, Scope: one(), Lifetime: time.Duration(1+random.IntN(3600)) * time.Second}
			if random.IntN(4) == 0 {
				g.Actor = w.agent()
				if random.IntN(2) == 0 {
					narrowed := one()
					g.Actor = w.who(t, w.issue(t, session.Grant{Subject: w.agent(), Scope: narrowed}).Token)
					all = append(all, narrowed)
				}
				actors++
			}
			all = append(all, g.Scope)
			issued, err := w.Issue(g)
			if errors.Is(err, session.ErrChain) && actors > 4 {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if step > 0 && issued.Expires.After(end) {
				t.Fatalf("step %d ends at %v, the one before at %v", step, issued.Expires, end)
			}
			end = issued.Expires
			subject = w.who(t, issued.Token)
			for _, r := range universe {
				if subject.Scope.Denies(r) == nil {
					for _, s := range all {
						if d := s.Denies(r); d != nil {
							t.Fatalf("%q allows %+v, which %q denies", subject.Scope, r, s)
						}
					}
				}
			}
			if subject.Name != "oidc:alice" || len(subject.Actors) != actors {
				t.Fatalf("%+v after %d actors", subject, actors)
			}
		}
	}
}

// Promise: chains end somewhere, and nobody acts who is acted for.
func TestChainFaults(t *testing.T) {
	w := newWorld(t)
	acted := w.who(t, w.issue(t, session.Grant{Subject: w.alice(), Actor: w.agent()}).Token)
	if _, err := w.Issue(session.Grant{Subject: w.alice(), Actor: acted}); !errors.Is(err, session.ErrChain) {
		t.Errorf("an actor who is acted for: %v", err)
	}
	var err error
	subject := w.alice()
	for i := range 20 {
		var issued session.Issued
		if issued, err = w.Issue(session.Grant{Subject: subject}); err != nil {
			if i < 10 {
				t.Errorf("ends after %d: %v", i, err)
			}
			break
		}
		subject = w.who(t, issued.Token)
	}
	if !errors.Is(err, session.ErrChain) {
		t.Errorf("a chain without an end: %v", err)
	}
	ended := w.alice()
	ended.Expires = w.clock.Now()
	if _, err := w.Issue(session.Grant{Subject: ended}); !errors.Is(err, session.ErrEnding) {
		t.Errorf("a subject that has ended: %v", err)
	}
	large := w.alice()
	for i := range 2000 {
		large.Groups = append(large.Groups, fmt.Sprintf("a-group-with-a-long-name-%d", i))
	}
	if _, err := w.Issue(session.Grant{Subject: large}); !errors.Is(err, session.ErrTooLarge) {
		t.Errorf("too many groups: %v", err)
	}
	for _, kind := range []auth.Kind{auth.KindAnonymous, auth.KindClientCert, auth.KindNone, auth.KindUnknown} {
		other := w.alice()
		other.Kind = kind
		if _, err := w.Issue(session.Grant{Subject: other}); !errors.Is(err, session.ErrUnsupported) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

// Promise: nobody but gatehouse makes its session tokens, and no token of its own
// for something else is one.
func TestForgeries(t *testing.T) {
	w := newWorld(t)
	good := w.issue(t, session.Grant{Subject: w.alice(), Scope: parse(t, "read-only")})
	kid := w.Public().Keys[0].KeyID
	header := map[string]any{"typ": "at+jwt"}
	with := func(edit func(map[string]any)) map[string]any {
		claims := claimsOf(t, good.Token)
		edit(claims)
		return claims
	}
	same := with(func(map[string]any) {})
	if w.who(t, forge(t, w.key, jose.ES256, kid, header, same)) == nil {
		t.Fatal("the test's own way to sign is wrong")
	}
	own := func(edit func(map[string]any)) map[string]any {
		return with(func(c map[string]any) { edit(c["kube-gatehouse.github.io"].(map[string]any)) })
	}
	parts := strings.Split(good.Token, ".")
	unlimited := forge(t, newKey(t), jose.ES256, kid, header, with(func(c map[string]any) { delete(c, "scope") }))
	for name, test := range map[string]struct {
		token string
		want  auth.Reason
	}{
		"another key":                  {forge(t, newKey(t), jose.ES256, kid, header, same), auth.BadSignature},
		"another key id":               {forge(t, w.key, jose.ES256, "x", header, same), auth.UnknownKey},
		"no key id":                    {forge(t, w.key, jose.ES256, "", header, same), auth.UnknownKey},
		"the secret is the public key": {forge(t, []byte(kid+strings.Repeat("x", 40)), jose.HS256, kid, header, same), auth.MalformedToken},
		"an ID token's type":           {forge(t, w.key, jose.ES256, kid, map[string]any{"typ": "JWT"}, same), auth.MalformedToken},
		"no type":                      {forge(t, w.key, jose.ES256, kid, nil, same), auth.MalformedToken},
		"more in the header":           {forge(t, w.key, jose.ES256, kid, map[string]any{"typ": "at+jwt", "jku": "https://evil.example.com"}, same), auth.MalformedToken},
		"another payload":              {parts[0] + "." + strings.Split(unlimited, ".")[1] + "." + parts[2], auth.BadSignature},
		"no signature":                 {parts[0] + "." + parts[1] + ".", auth.BadSignature},
		"another audience":             {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { c["aud"] = "https://vault.example.com" })), auth.WrongAudience},
		"a claim of a later version":   {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { c["cnf"] = "x" })), auth.MalformedToken},
		"a word of a later version":    {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { c["scope"] = "no-nodes" })), auth.MalformedToken},
		"no id":                        {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { delete(c, "jti") })), auth.MalformedToken},
		"another subject":              {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { c["sub"] = "root" })), auth.MalformedToken},
		"no credentials":               {forge(t, w.key, jose.ES256, kid, header, own(func(o map[string]any) { delete(o, "credentials") })), auth.MalformedToken},
		"no user":                      {forge(t, w.key, jose.ES256, kid, header, own(func(o map[string]any) { delete(o, "user") })), auth.MalformedToken},
		"of tomorrow":                  {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { c["iat"] = w.clock.Now().Add(time.Hour).Unix() })), auth.NotYetValid},
		"for a year": {forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) {
			c["exp"] = w.clock.Now().Add(9000 * time.Hour).Unix()
			c["iat"] = w.clock.Now().Add(-2 * time.Hour).Unix()
		})), auth.Expired},
		"claims to be, and is nothing":    {"e30." + parts[1] + ".e30", auth.MalformedToken},
		"two issuers, of which one is it": {forge(t, w.key, jose.ES256, kid, header, []byte(`{"iss":"x","iss":"`+exchange+`"}`)), auth.WrongAudience},
		"its issuer in another case":      {forge(t, newKey(t), jose.ES256, kid, header, []byte(`{"ISS":"`+exchange+`"}`)), auth.BadSignature},
		"signed by us, and not an object": {forge(t, w.key, jose.ES256, kid, header, []byte(`{"iss":"`+exchange+`","exp":"soon"}`)), auth.MalformedToken},
	} {
		t.Run(name, func(t *testing.T) {
			if got := refusalOf(t, w, test.token); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
	for name, token := range map[string]string{
		"another issuer":  forge(t, w.key, jose.ES256, kid, header, with(func(c map[string]any) { c["iss"] = "https://other.example.com" })),
		"no token at all": "a-static-token", "two parts": "a.b", "four parts": good.Token + ".x", "nothing": "",
	} {
		if _, err := w.AuthenticateToken(t.Context(), token); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Promise: what a session rests on must be accepted still, whatever the cache
// knows.
func TestOriginGone(t *testing.T) {
	w := newWorld(t)
	token := w.issue(t, session.Grant{Subject: w.alice(), Actor: w.agent()}).Token
	for _, issuer := range []string{"https://login.example.com", "https://ci.example.com"} {
		w.who(t, token)
		w.gone[issuer] = true
		if reason := refusalOf(t, w, token); reason != auth.OriginGone {
			t.Errorf("without %s: %s", issuer, reason)
		}
		w.gone[issuer] = false
	}
	w.who(t, token)
}

// Promise: keys are rotated without a token refused that should be good, and a
// key that is taken away ends what it signed.
func TestRotation(t *testing.T) {
	w := newWorld(t)
	old := w.issue(t, session.Grant{Subject: w.alice()}).Token
	next := newKey(t)
	writeKey(t, filepath.Join(w.dir, "next.pem"), next)
	w.load(t)
	between := w.issue(t, session.Grant{Subject: w.alice()}).Token
	if len(w.Public().Keys) != 2 {
		t.Errorf("%d keys are published", len(w.Public().Keys))
	}
	writeKey(t, filepath.Join(w.dir, session.SigningFile), next) // it stands in two files for a moment
	writeKey(t, filepath.Join(w.dir, "old.pem"), w.key)
	w.load(t)
	fresh := w.issue(t, session.Grant{Subject: w.alice()}).Token
	for name, token := range map[string]string{"old": old, "between": between, "fresh": fresh} {
		if id := w.who(t, token); id.Name != "oidc:alice" {
			t.Errorf("%s: %+v", name, id)
		}
	}
	writeKey(t, filepath.Join(w.dir, "old.pem"), next)
	w.load(t)
	if reason := refusalOf(t, w, old); reason != auth.UnknownKey {
		t.Errorf("of a key that was taken away: %s", reason)
	}
	w.who(t, fresh)
}

func FuzzAuthenticateToken(f *testing.F) {
	w := newWorld(f)
	good := w.issue(f, session.Grant{Subject: w.alice(), Actor: w.agent(), Scope: parse(f, "read-only")}).Token
	f.Add(good)
	f.Add("a.b.c")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		id, err := w.AuthenticateToken(t.Context(), token)
		if err == nil && (id.Name != "oidc:alice" || id.Scope.String() != "read-only" || len(id.Behind) != 2) {
			t.Fatalf("%q names %+v", token, id)
		}
	})
}

func BenchmarkAuthenticateToken(b *testing.B) {
	w := newWorld(b)
	token := w.issue(b, session.Grant{Subject: w.alice()}).Token
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.AuthenticateToken(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}

// Promise: when the longest lifetime is lowered, a session ends by that for its
// streams too, and no session made of it lives longer.
func TestLoweredLifetime(t *testing.T) {
	w := newWorld(t, func(c *session.Config) { c.MaxLifetime = 10 * time.Hour })
	alice := w.alice()
	alice.Expires = time.Time{}
	token := w.issue(t, session.Grant{Subject: alice}).Token
	lower, err := session.New(session.Config{Issuer: exchange, MaxLifetime: time.Hour, Now: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := session.LoadKeys(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	lower.SetKeys(keys)
	w.clock.Advance(50 * time.Minute)
	id, err := lower.AuthenticateToken(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	if end := w.clock.Now().Add(10 * time.Minute); id.Expires.After(end) {
		t.Errorf("ends %s, want %s at most", id.Expires, end)
	}
	again, err := lower.Issue(session.Grant{Subject: id})
	if err != nil {
		t.Fatal(err)
	}
	if again.Expires.After(id.Expires) || again.Expires.Sub(w.clock.Now()) > 10*time.Minute {
		t.Errorf("a session of it ends %s, in %s", again.Expires, again.Expires.Sub(w.clock.Now()))
	}
}
