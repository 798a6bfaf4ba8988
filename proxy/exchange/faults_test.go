package exchange

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// faultTest is a request that gets an answer of answer.go.
type faultTest struct {
	name string
	want *fault
	// form has the parameters that are other than those of a good exchange.
	form []string
	// edit changes the request.
	edit func(r *http.Request)
	// given makes the parameters at the exchange itself, first.
	given func(t *testing.T, w *world) []string
	// world changes the exchange.
	world func(*Config)
}

// forbearing is a door that forgets its word about errors.
type forbearing struct{ Door }

func (forbearing) SignIn(*http.Request, string, string) (*auth.Identity, error) {
	return nil, errors.New("canary")
}

// panicking is a door in which something is broken.
type panicking struct{ Door }

func (panicking) SignIn(*http.Request, string, string) (*auth.Identity, error) { panic("canary") }

func header(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) { r.Header[name] = values }
}

func body(text string) func(*http.Request) {
	return func(r *http.Request) {
		r.Body, r.ContentLength, r.GetBody = io.NopCloser(strings.NewReader(text)), int64(len(text)), nil
	}
}

func faultTests() []faultTest {
	form := func(name string, want *fault, form ...string) faultTest {
		return faultTest{name: name, want: want, form: form}
	}
	edited := func(name string, want *fault, edit func(*http.Request)) faultTest {
		return faultTest{name: name, want: want, edit: edit}
	}
	ofAccount := func(name string, want *fault, account string, more ...string) faultTest {
		return form(name, want, append([]string{"resource", anAccount + account, "audience", "vault"}, more...)...)
	}
	actor := func(token string) []string {
		return []string{"actor_token", token, "actor_token_type", typeAccessToken}
	}
	good := values().Encode()
	tests := []faultTest{
		edited("notPost", notPost, func(r *http.Request) { r.Method = http.MethodPut }),
		edited("notForm", notForm, header("Content-Type", "application/json")),
		edited("notForm", notForm, header("Content-Type", "multipart/form-data; boundary=x")),
		edited("notForm", notForm, header("Content-Type")),
		edited("notForm", notForm, header("Content-Type", "application/x-www-form-urlencoded", "application/x-www-form-urlencoded")),
		edited("notForm", notForm, header("Content-Type", "application/x-www-form-urlencoded; charset")),
		edited("notForm", notForm, header("Content-Encoding", "gzip")),
		edited("notForm", notForm, body(good+"&scope=%zz")),
		edited("notForm", notForm, body(good+";scope=read-only")),
		edited("inQuery", inQuery, func(r *http.Request) { r.URL.RawQuery = "subject_token=query-canary&pretty=query-canary" }),
		edited("inQuery", inQuery, func(r *http.Request) { r.URL.RawQuery = "x" }),
		edited("tooLong", tooLong, body(good+"&x="+strings.Repeat("x", maxForm))),
		edited("tooLong", tooLong, func(r *http.Request) {
			body(good + "&x=" + strings.Repeat("x", maxForm))(r)
			r.ContentLength = -1 // it does not say so before
		}),
		{name: "slow", want: slow, world: func(c *Config) { c.BodyTime = 20 * time.Millisecond }, edit: func(r *http.Request) {
			body, _ := io.Pipe() // nobody writes to it
			r.Body, r.ContentLength, r.GetBody = body, -1, nil
		}},
		form("noGrantType", noGrantType, "grant_type", ""),
		form("otherGrantType", otherGrantType, "grant_type", "authorization_code"),
		form("noSubject", noSubject, "subject_token", ""),
		form("noSubject", noSubject, "subject_token_type", ""),
		form("halfActor", halfActor, "actor_token", "canary.agent.token"),
		form("halfActor", halfActor, "actor_token_type", typeJWT),
		form("badToken", badToken, "subject_token", "a canary"),
		form("badToken", badToken, "subject_token", "canary\r\nX: y"),
		form("badToken", badToken, "subject_token", strings.Repeat("canary", auth.MaxTokenBytes)[:auth.MaxTokenBytes+1]),
		form("badToken", badToken, "actor_token", "cañary", "actor_token_type", typeJWT),
		form("wrongType", wrongType, "subject_token_type", "urn:ietf:params:oauth:token-type:saml2"),
		form("wrongType", wrongType, "subject_token_type", "access_token"),
		form("wrongType", wrongType, "subject_token", "canary-ben", "subject_token_type", typeJWT),
		form("wrongType", wrongType, "subject_token", "canary.account.token", "subject_token_type", typeIDToken),
		{name: "wrongType", want: wrongType, given: func(t *testing.T, w *world) []string {
			return []string{"subject_token", w.given(t).Token, "subject_token_type", typeIDToken}
		}},
		form("otherTokenType", otherTokenType, "requested_token_type", typeIDToken),
		form("otherTokenType", otherTokenType, "requested_token_type", typePrefix+"refresh_token"),
		form("badLifetime", badLifetime, "expires_in", "0"),
		form("badLifetime", badLifetime, "expires_in", "-1"),
		form("badLifetime", badLifetime, "expires_in", "1e3"),
		form("badLifetime", badLifetime, "expires_in", "99999999999999999999"),
		form("badClientID", badClientID, "client_id", "a\nb"),
		form("badClientID", badClientID, "client_id", strings.Repeat("x", maxClientID+1)),
		edited("clientAuthentication", clientAuthentication, header("Authorization", "Basic Y2FuYXJ5OmNhbmFyeQ==")),
		edited("clientAuthentication", clientAuthentication, header("Authorization", "")),
		form("clientSecret", clientSecret, "client_secret", "canary"),
		form("clientSecret", clientSecret, "client_assertion", "canary"),
		form("clientSecret", clientSecret, "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),

		ofAccount("badAudience", badAudience, "job", "audience", "a\x00"),
		ofAccount("badAudience", badAudience, "job", "audience", strings.Repeat("x", maxAudience+1)),
		ofAccount("badAudience", badAudience, "job", slices.Concat(slices.Repeat([]string{"audience", "x"}, maxAudiences))...),
		form("otherResource", otherResource, "resource", "https://vault.example.com"),
		form("otherResource", otherResource, "resource", self+"/"),
		form("otherAudience", otherAudience, "audience", "vault"),
		form("otherAudience", otherAudience, "audience", self, "audience", "vault"),
		form("noAudience", noAudience, "resource", anAccount+"job"),
		form("noAudience", noAudience, "resource", anAccount+"job", "audience", ""),
		ofAccount("mayNotHave", mayNotHave, "forbidden"),
		ofAccount("noAccount", noAccount, "absent"),
		ofAccount("badTokenRequest", badTokenRequest, "bad"),
		ofAccount("badTokenRequest", badTokenRequest, "unprocessable"),
		ofAccount("accountScope", accountScope, "job", "scope", "read-only"),
		ofAccount("accountActor", accountActor, "job", actor("canary.agent.token")...),
		ofAccount("shortAccount", shortAccount, "job", "expires_in", "599"),

		{name: "noSessions", want: noSessions, world: func(c *Config) { c.Sessions = nil }},
		form("wrongKind", wrongKind, "subject_token", "canary-visitor"),
		form("wrongKind", wrongKind, append(actor("canary-visitor"), "client_id", "x")...),
		form("notNameable", notNameable, "subject_token", "canary.account.token"),
		form("tooLarge", tooLarge, "subject_token", "canary.many.token"),
		{name: "tooManySteps", want: tooManySteps, given: func(t *testing.T, w *world) []string {
			return actor(w.given(t, append(actor("canary.agent.token"), "subject_token", "canary.agent.token")...).Token)
		}},
		form("ending", ending, "subject_token", "canary.ending.token"),
		{name: "longScope", want: longScope, given: func(t *testing.T, w *world) []string {
			first := w.given(t, "scope", many("resources", 0, 20))
			return []string{"subject_token", first.Token, "scope", many("resources", 20, 40)}
		}},
		{name: "noActors", want: noActors, form: actor("canary.agent.token"), world: func(c *Config) { c.Actors = nil }},
		form("mayNotAct", mayNotAct, actor("canary.robot.token")...),

		{name: "busy", want: busy, given: func(_ *testing.T, w *world) []string {
			for i := range maxUnderWay { // each of another user
				_, _ = w.slots.enter(strconv.Itoa(i))
			}
			return nil
		}},
		{name: "crowded", want: crowded, given: func(_ *testing.T, w *world) []string {
			for range maxStrangers / 2 {
				_, _ = w.strangers.enter(netip.MustParseAddr("127.0.0.1"))
			}
			return nil
		}},
		{name: "tooOften", want: tooOften, world: func(c *Config) { c.PerMinute = 1 }, given: func(t *testing.T, w *world) []string {
			w.given(t)
			return nil
		}},
		form("cannotTell", cannotTell, actor("canary.lost.token")...),
		{name: "internal", want: internal, world: func(c *Config) { c.Door = forbearing{c.Door} }},
		{name: "internal", want: internal, world: func(c *Config) { c.Door = panicking{c.Door} }},
		ofAccount("notAcceptedThere", notAcceptedThere, "denied", "subject_token", "canary.account.token"),
	}
	for _, name := range []string{"", ":", "dev", "dev:", ":job", "dev:job:x", "Dev:job", "dev:job/", "dev:../x", "dev:a..b", "dev:.job", "dev:job%2ftoken", "de.v:job", "dev:jöb", "dev:" + strings.Repeat("x", 254)} {
		tests = append(tests, form("badAccount", badAccount, "resource", accountPrefix+name, "audience", "vault"))
	}
	// gatehouse's own credential is not the caller's fault: a 401 for that is a 502.
	for _, name := range []string{"fails", "busy", "broken", "huge", "cut", "no-token", "spaced", "endless", "other", "denied"} {
		tests = append(tests, ofAccount("unavailable", unavailable, name))
	}
	for _, name := range once {
		tests = append(tests, form("twice", twice, name, "a", name, "b"), form("twice", twice, name, "a", name, "a"))
	}
	return tests
}

// many are words of a scope, of 40 bytes each or so.
func many(name string, from, to int) string {
	var words []string
	for i := from; i < to; i++ {
		words = append(words, name+"="+strings.Repeat("x", 40)+strconv.Itoa(i))
	}
	return strings.Join(words, " ")
}

// Promise: whatever is wrong gets its own answer, over both protocols: the code and
// the error of RFC 6749 and RFC 8693, a sentence that says what to do, no cache,
// and nothing of what was sent. It stands in the log, on the record and in the
// metrics too, and no secret does.
func TestFaults(t *testing.T) {
	for i, test := range faultTests() {
		for _, protocol := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s %d over HTTP/%d", test.name, i, protocol), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, func(c *Config) {
					if test.world != nil {
						test.world(c)
					}
				})
				form := test.form
				if test.given != nil {
					form = append(test.given(t, w), form...)
				}
				r := w.post(t, values(form...).Encode())
				if test.edit != nil {
					test.edit(r)
				}
				got := w.do(t, w.client(t, protocol), r)
				if got.code != test.want.code || got.Error != test.want.name || got.Description != test.want.description || got.Token != "" {
					t.Fatalf("%d %s, want %+v", got.code, got.body, test.want)
				}
				w.expectFault(t, got)
			})
		}
	}
}

// expectFault checks what goes with every answer that gives no token.
func (w *world) expectFault(t *testing.T, got reply) {
	t.Helper()
	h := got.header
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("Pragma") != "no-cache" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Audit-Id") == "" {
		t.Errorf("the header is %v", h)
	}
	if (got.code == 429 || got.code == 503) != (h.Get("Retry-After") == "1") || (got.code == 401) != (h.Get("Www-Authenticate") != "") || (got.code == 405) != (h.Get("Allow") == "POST") {
		t.Errorf("%d has the header %v", got.code, h)
	}
	if !slices.Contains(Results(), got.Error) || strings.Contains(got.body, "canary") {
		t.Errorf("the body is %s", got.body)
	}
	lines, events, metrics := w.seen(t)
	line := lines[len(lines)-1]
	if line["status"] != float64(got.code) || line["result"] != got.Error || line["audit_id"] != h.Get("Audit-Id") || line["client"] != "127.0.0.1" {
		t.Errorf("the log says %v", line)
	}
	event := events[len(events)-1]
	if event.ResponseStatus == nil || event.ResponseStatus.Code != int32(got.code) || string(event.AuditID) != h.Get("Audit-Id") {
		t.Errorf("on the record is %+v", event)
	}
	if target, _ := line["target"].(string); metrics[target+" "+got.Error] != 1 {
		t.Errorf("the metrics are %v", metrics)
	}
}

// Promise: every answer that gives no token is given by a test.
func TestEveryFaultIsTested(t *testing.T) {
	tested := map[string]bool{"notServed": true, "notGet": true} // by TestPublished
	for _, test := range faultTests() {
		tested[test.name] = true
	}
	if want, got := faultsOfTheCode(t), slices.Sorted(maps.Keys(tested)); !slices.Equal(want, got) {
		t.Errorf("the code has\n%v, tested are\n%v", want, got)
	}
}

// Promise: the sentences keep to the characters of RFC 6749 section 5.2, whoever's
// words are in them.
func TestDescriptions(t *testing.T) {
	for _, test := range faultTests() {
		if d := test.want.description; d != described(d) || d == "" || !strings.HasSuffix(d, ".") {
			t.Errorf("%s: %q", test.name, d)
		}
	}
	if got := described("a\"b\\c\r\nd\x00é\u2028~ "); got != "a'b?c??d???~ " {
		t.Errorf("%q", got)
	}
}
