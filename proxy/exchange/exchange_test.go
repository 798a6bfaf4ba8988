package exchange

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/proxy/audit"
)

// claims returns what a session token says.
func claims(t *testing.T, token string) map[string]any {
	t.Helper()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// Promise: an exchange gives what RFC 8693 section 2.2.1 says, and the log, the
// record and the metrics say to whom, by which credential, and what was given.
func TestSessionToken(t *testing.T) {
	agent := []string{"actor_token", "canary.agent.token", "actor_token_type", typeIDToken}
	for name, test := range map[string]struct {
		form       []string
		typ, scope string
		most       int
		user       string
		actor      string
	}{
		"as little as may be":       {nil, typeAccessToken, "", 600, "alice", ""},
		"empty ones":                {[]string{"resource", "", "audience", "", "scope", " ", "actor_token", ""}, typeAccessToken, "", 600, "alice", ""},
		"everything":                {[]string{"requested_token_type", typeJWT, "audience", self, "resource", self, "scope", "read-only  no-secrets read-only", "expires_in", "60", "client_id", "ci runner", "unheard-of", "x"}, typeJWT, "no-secrets read-only", 60, "alice", ""},
		"a token of a file":         {[]string{"subject_token", "canary-ben", "expires_in", "4294967295"}, typeAccessToken, "", 3600, "ben", ""},
		"by somebody":               {agent, typeAccessToken, "", 600, "alice", "agent"},
		"an ID token":               {[]string{"subject_token_type", typeIDToken}, typeAccessToken, "", 600, "alice", ""},
		"a JWT that it looks like":  {[]string{"subject_token_type", typeJWT}, typeAccessToken, "", 600, "alice", ""},
		"in percent encoding":       {[]string{"subject_token", "canary.alice.token"}, typeAccessToken, "", 600, "alice", ""},
		"a name in another case":    {[]string{"Scope", "read-only"}, typeAccessToken, "", 600, "alice", ""},
		"the session's own address": {[]string{"audience", self, "audience", self}, typeAccessToken, "", 600, "alice", ""},
	} {
		for _, protocol := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s over HTTP/%d", name, protocol), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				form := values(test.form...).Encode()
				if strings.HasPrefix(name, "in percent") {
					form = strings.ReplaceAll(form, "canary", "%63%61%6e%61%72%79")
				}
				got := w.do(t, w.client(t, protocol), w.post(t, form))
				if got.code != http.StatusOK || got.Type != test.typ || got.Use != "Bearer" || got.Scope != test.scope || got.Expires > test.most || got.Expires < test.most-30 {
					t.Fatalf("%+v", got)
				}
				if h := got.header; h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("Pragma") != "no-cache" || h.Get("Set-Cookie") != "" {
					t.Errorf("the header is %v", h)
				}
				says := claims(t, got.Token)
				if says["iss"] != self || says["aud"] != self || says["sub"] != test.user {
					t.Errorf("the token says %v", says)
				}
				id, err := w.sessions.AuthenticateToken(t.Context(), got.Token)
				if err != nil || id.Name != test.user || id.Scope.String() != test.scope || strings.Join(id.Actors, ",") != test.actor {
					t.Fatalf("%+v, %v", id, err)
				}
				w.expectIssued(t, got, says, test.actor)
			})
		}
	}
}

func (w *world) expectIssued(t *testing.T, got reply, says map[string]any, actor string) {
	t.Helper()
	lines, events, metrics := w.seen(t)
	line, event := lines[0], events[len(events)-1]
	for name, want := range map[string]any{
		"audit_id": got.header.Get("Audit-Id"), "client": "127.0.0.1", "target": "session", "status": 200.0, "result": "issued", "user": says["sub"], "jti": says["jti"],
	} {
		if line[name] != want {
			t.Errorf("the log says %s=%v, want %v", name, line[name], want)
		}
	}
	if logged, _ := line["actor"].(string); logged != actor {
		t.Errorf("the log says %v", line)
	}
	if logged, _ := line["scope"].(string); logged != got.Scope {
		t.Errorf("the log says %v", line)
	}
	if event.User.Username != says["sub"] || event.RequestURI != TokenPath || event.Verb != "post" || event.ResponseStatus.Code != 200 ||
		event.Annotations[audit.Exchanged] != "session" || event.Annotations[audit.IssuedID] != fmt.Sprintf("JTI=%v", says["jti"]) ||
		event.Annotations[audit.Scope] != got.Scope || event.Annotations[audit.Actor] != actor {
		t.Errorf("on the record is %+v", event)
	}
	if metrics["session issued"] != 1 {
		t.Errorf("the metrics are %v", metrics)
	}
}

// Promise: what everybody may know is where RFC 8414 wants it, and verifies what is
// given; no other path is served, and no private key is shown.
func TestPublished(t *testing.T) {
	w := newWorld(t)
	client := w.client(t, 2)
	get := func(method, path string) (int, http.Header, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, w.front.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(body)
	}
	const metadata = `{"grant_types_supported":["` + GrantType + `"],"issuer":"` + self + `","jwks_uri":"` + self + `/jwks","response_types_supported":[],"token_endpoint":"` + self + `/token","token_endpoint_auth_methods_supported":["none"]}`
	if code, h, body := get(http.MethodGet, MetadataPath); code != 200 || body != metadata || h.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", code, h, body)
	}
	_, _, body := get(http.MethodGet, KeysPath)
	if strings.Contains(body, `"d"`) {
		t.Errorf("a private key is published: %s", body)
	}
	var keys jose.JSONWebKeySet
	if err := json.Unmarshal([]byte(body), &keys); err != nil || len(keys.Keys) != 1 || !keys.Keys[0].IsPublic() {
		t.Fatalf("%s: %v", body, err)
	}
	signed, err := jose.ParseSignedCompact(w.given(t).Token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := signed.Verify(keys.Keys[0]); err != nil || signed.Signatures[0].Header.KeyID != keys.Keys[0].KeyID {
		t.Errorf("what is published does not verify what is given: %v", err)
	}
	for _, path := range []string{MetadataPath, KeysPath} {
		if code, _, body := get(http.MethodHead, path); code != 200 || body != "" {
			t.Errorf("HEAD %s: %d %s", path, code, body)
		}
		if code, h, body := get(http.MethodPost, path); code != 405 || h.Get("Allow") != "GET, HEAD" || strings.Contains(body, "keys") {
			t.Errorf("POST %s: %d %s", path, code, body)
		}
	}
	for _, path := range []string{"/", "/token/", "//token", "/Token", "/api", "/version", "/.well-known/openid-configuration", "/token%2f", "/x/../token", "/metrics"} {
		if code, _, body := get(http.MethodGet, path); code != 404 || !strings.Contains(body, "nothing is served at this path") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	without := newWorld(t, func(c *Config) { c.Sessions = nil })
	r, err := without.client(t, 1).Get(without.front.URL + KeysPath)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"keys":[]}` {
		t.Errorf("without sessions: %s, %v", body, err)
	}
}

// Promise: what the proxy says of a token that it would not accept, the exchange
// says too, and the caller is told whether there is use in trying again.
func TestRefusedTokens(t *testing.T) {
	for token, want := range map[string]struct {
		code       int
		name, says string
	}{
		"canary.expired.token":   {400, "invalid_request", "ended"},
		"canary.nobodys.token":   {400, "invalid_request", "."},
		"canary-nobody":          {400, "invalid_request", "."},
		"canary.undecided.token": {503, "temporarily_unavailable", "."},
	} {
		w := newWorld(t)
		for _, form := range [][]string{
			{"subject_token", token}, {"actor_token", token, "actor_token_type", typeAccessToken},
			{"subject_token", token, "resource", anAccount + "job", "audience", "vault"},
		} {
			if got := w.exchanged(t, form...); got.code != want.code || got.Error != want.name || got.Description == "" {
				t.Errorf("%s: %+v", form, got)
			}
		}
		w.expectFault(t, w.last)
		if asked := w.requests(); len(asked) > 0 {
			t.Errorf("the API server got %v", asked)
		}
	}
}

// Promise: a word of a scope that is not known is named to the caller, who wrote
// it, in characters that an answer may have; the log and the record do not hold it:
// it may be a token in the wrong place.
func TestUnknownScopeIsNotLogged(t *testing.T) {
	for _, scope := range []string{"a-canary", "read-only canary\"\\\r\nx", "namespaces=CANARY-canary", "canary" + strings.Repeat("é", 100), "read-only " + strings.Repeat("canary ", 300)} {
		w := newWorld(t)
		got := w.exchanged(t, "scope", scope)
		if got.code != 400 || got.Error != "invalid_scope" || !strings.HasPrefix(got.Description, "Your scope cannot be read: ") || got.Description != described(got.Description) || len(got.Description) > 300 {
			t.Errorf("%q: %+v", scope, got)
		}
		lines, _, _ := w.seen(t)
		if lines[0]["result"] != "invalid_scope" || lines[0]["detail"] == "" {
			t.Errorf("the log says %v", lines[0])
		}
	}
}

// Promise: exchanges of one identity at one time do not change it, whatever each
// asks for.
func TestIdentitiesAreNotChanged(t *testing.T) {
	w := newWorld(t)
	session := w.given(t, "scope", "read-only", "actor_token", "canary.agent.token", "actor_token_type", typeAccessToken).Token
	before, err := w.sessions.AuthenticateToken(t.Context(), session)
	if err != nil {
		t.Fatal(err)
	}
	was := fmt.Sprintf("%+v %v", *before, *before.Behind[0])
	client := w.client(t, 2)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range 8 {
				form := []string{"subject_token", session, "scope", fmt.Sprintf("namespaces=a%d", i)}
				if i%2 == 0 {
					form = append(form, "actor_token", "canary.agent.token", "actor_token_type", typeAccessToken)
				}
				got := w.do(t, client, w.post(t, values(form...).Encode()))
				want := []string{fmt.Sprintf("namespaces=a%d", i), "read-only"}
				if got.code != 200 || !slices.Equal(strings.Fields(got.Scope), want) {
					t.Errorf("%+v, want %v", got, want)
				}
			}
		})
	}
	all.Wait()
	if is := fmt.Sprintf("%+v %v", *before, *before.Behind[0]); is != was {
		t.Errorf("was %s\nis  %s", was, is)
	}
}

// Promise: of more users than are remembered, any may be forgotten, and none is
// shut out; one who is remembered is held to the rate.
func TestRates(t *testing.T) {
	now := time.Now()
	r := newRates(2)
	for i := range 3 * maxRated {
		if !r.allow(fmt.Sprint(i), now) || len(r.users) > maxRated {
			t.Fatalf("user %d is shut out, or %d are remembered", i, len(r.users))
		}
	}
	r = newRates(2)
	for i, ask := range []struct {
		user  string
		after time.Duration
		want  bool
	}{{"a", 0, true}, {"a", 0, true}, {"a", 0, false}, {"b", 0, true}, {"a", 31 * time.Second, true}, {"a", 31 * time.Second, false}} {
		if got := r.allow(ask.user, now.Add(ask.after)); got != ask.want {
			t.Errorf("%d: %t, want %t", i, got, ask.want)
		}
	}
}
