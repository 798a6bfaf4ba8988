package exchange_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/cmd/exchange"
	"github.com/kube-gatehouse/gatehouse/cmd/exchange/exchangetest"
)

// The tokens of alice and of her agent, of which nothing may be seen in an error.
const (
	aliceToken = "alices-static-token-7741-with-some-length"
	agentToken = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJhIn0.agents-signature-0815"
)

func newCA(t *testing.T) *authtest.CA {
	t.Helper()
	ca, err := authtest.NewCA("exchange")
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func newClient(t *testing.T, ca *authtest.CA, url string) *exchange.Client {
	t.Helper()
	client, err := exchange.New(exchange.Config{URL: url, Roots: ca.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func newExchange(t *testing.T) (*exchangetest.Exchange, *exchange.Client) {
	t.Helper()
	ca := newCA(t)
	server := exchangetest.New(t, ca)
	server.Know(aliceToken, "alice")
	server.Know(agentToken, "agent")
	return server, newClient(t, ca, server.URL)
}

// Promise: each field of a request is sent as the parameter of RFC 8693 that it is,
// and nothing else is.
func TestExchange(t *testing.T) {
	t.Parallel()
	const prefix = "urn:ietf:params:oauth:token-type:"
	for name, test := range map[string]struct {
		request exchange.Request
		want    map[string][]string
		life    time.Duration
		kind    string
	}{
		"opaque": {
			exchange.Request{Subject: aliceToken},
			map[string][]string{"subject_token": {aliceToken}, "subject_token_type": {prefix + "access_token"}}, time.Hour, "access_token",
		},
		"a JWT, narrowed": {
			exchange.Request{Subject: agentToken, Scope: "read-only no-secrets", Lifetime: 10 * time.Minute},
			map[string][]string{
				"subject_token": {agentToken}, "subject_token_type": {prefix + "jwt"}, "scope": {"read-only no-secrets"}, "expires_in": {"600"},
			}, 10 * time.Minute, "access_token",
		},
		"an actor, and audiences": {
			exchange.Request{
				Subject: agentToken, SubjectType: "id_token", Actor: aliceToken, Audiences: []string{"a", "b"},
			},
			map[string][]string{
				"subject_token": {agentToken}, "subject_token_type": {prefix + "id_token"}, "actor_token": {aliceToken}, "actor_token_type": {prefix + "access_token"},
				"audience": {"a", "b"},
			}, time.Hour, "access_token",
		},
		"a ServiceAccount's": {
			exchange.Request{Subject: aliceToken, Audiences: []string{"vault"}, Resource: exchange.ServiceAccountResource("shop", "deployer")},
			map[string][]string{
				"subject_token": {aliceToken}, "subject_token_type": {prefix + "access_token"}, "audience": {"vault"},
				"resource": {"urn:kubernetes:serviceaccount:shop:deployer"},
			}, time.Hour, "jwt",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, client := newExchange(t)
			issued, err := client.Exchange(t.Context(), test.request)
			if err != nil {
				t.Fatal(err)
			}
			test.want["grant_type"] = []string{"urn:ietf:params:oauth:grant-type:token-exchange"}
			if diff := cmp.Diff(test.want, map[string][]string(server.Asked()[0])); diff != "" {
				t.Errorf("parameters (-want +got):\n%s", diff)
			}
			if !strings.HasPrefix(issued.Token, "issued.") || issued.Type != prefix+test.kind || issued.Scope != test.request.Scope || issued.Expires.Sub(issued.Obtained) != test.life {
				t.Errorf("%+v", issued)
			}
		})
	}
}

// Promise: a URL that is no origin over TLS is refused before anything is sent.
func TestURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "gatehouse.example.com", "http://gatehouse.example.com", "https://", "https://gatehouse.example.com/", "https://g/token", "https://me:pw@g",
		"https://g?a=b", "https://g?", "https://g#a", "https://g:port", "https://:8444",
	} {
		if _, err := exchange.New(exchange.Config{URL: url}); err == nil || strings.Contains(err.Error(), "pw") {
			t.Errorf("%q: %v", url, err)
		}
	}
}

// Promise: the token is sent to the token endpoint of who was meant, within its
// origin, and to nobody else, whatever the metadata says.
func TestHostileMetadata(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	var stolen atomic.Int64
	thief := exchangetest.Serve(t, ca, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stolen.Add(1)
		exchangetest.Write(w, http.StatusOK, map[string]any{})
	}))
	for name, test := range map[string]struct {
		edit func(map[string]any)
		want string
	}{
		"another issuer":        {func(m map[string]any) { m["issuer"] = thief }, "names another issuer"},
		"an issuer with a path": {func(m map[string]any) { m["issuer"] = m["issuer"].(string) + "/" }, "names another issuer"},
		"an issuer to draw":     {func(m map[string]any) { m["issuer"] = "\x1b[2J\u202e" }, `names another issuer, "\x1b[2J\u202e"`},
		"no issuer":             {func(m map[string]any) { delete(m, "issuer") }, "names another issuer"},
		"a list of issuers":     {func(m map[string]any) { m["issuer"] = []string{thief} }, "of another form"},
		"another origin":        {func(m map[string]any) { m["token_endpoint"] = thief + "/token" }, "at another origin"},
		"without TLS": {func(m map[string]any) {
			m["token_endpoint"] = strings.Replace(m["token_endpoint"].(string), "https", "http", 1)
		}, "at another origin"},
		"another host by user": {func(m map[string]any) {
			m["token_endpoint"] = strings.Replace(m["token_endpoint"].(string), "https://", "https://a@", 1)
		}, "at another origin"},
		"no endpoint":    {func(m map[string]any) { delete(m, "token_endpoint") }, "at another origin"},
		"another grant":  {func(m map[string]any) { m["grant_types_supported"] = []string{"authorization_code"} }, "does not exchange tokens"},
		"a huge field":   {func(m map[string]any) { m["x"] = strings.Repeat("x", 70<<10) }, "longer than"},
		"a name's case":  {func(m map[string]any) { m["Issuer"] = m["issuer"]; delete(m, "issuer") }, "names another issuer"},
		"no grants said": {func(m map[string]any) { delete(m, "grant_types_supported") }, ""},
	} {
		server := exchangetest.New(t, ca)
		server.Know(aliceToken, "alice")
		server.EditMetadata(test.edit)
		_, err := newClient(t, ca, server.URL).Exchange(t.Context(), exchange.Request{Subject: aliceToken})
		if test.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.ContainsRune(err.Error(), '\x1b') {
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
		if len(server.Asked()) > 0 || stolen.Load() > 0 {
			t.Errorf("%s: the token was sent", name)
		}
	}
}

// Promise: no redirect is followed, from the metadata or the token endpoint.
func TestNoRedirects(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	var reached atomic.Int64
	thief := exchangetest.Serve(t, ca, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	for _, code := range []int{301, 302, 303, 307, 308} {
		server := exchangetest.New(t, ca)
		server.Lie(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, thief+"/token", code) })
		metadata := exchangetest.Serve(t, ca, http.RedirectHandler(server.URL, code))
		for _, url := range []string{server.URL, metadata} {
			_, err := newClient(t, ca, url).Exchange(t.Context(), exchange.Request{Subject: aliceToken})
			if err == nil || !strings.Contains(err.Error(), "not followed") {
				t.Errorf("%d: %v", code, err)
			}
		}
	}
	if reached.Load() > 0 {
		t.Error("a redirect was followed")
	}
}

// Promise: an answer that is not one of RFC 8693 is refused, and no byte of it that
// a terminal would act upon, nor a token, is in the error.
func TestHostileAnswers(t *testing.T) {
	t.Parallel()
	server, client := newExchange(t)
	good := func(edit map[string]any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			answer := map[string]any{
				"access_token": "s3cret-new", "issued_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_type": "bearer", "expires_in": 60,
			}
			for name, value := range edit {
				answer[name] = value
			}
			exchangetest.Write(w, http.StatusOK, answer)
		}
	}
	text := func(kind, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = io.WriteString(w, body)
		}
	}
	refuse := func(code, description string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			exchangetest.Refuse(w, http.StatusBadRequest, code, description)
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"good":                  {good(nil), ""},
		"another token type":    {good(map[string]any{"token_type": "N_A"}), "not Bearer"},
		"no token type":         {good(map[string]any{"token_type": nil}), "not Bearer"},
		"DPoP":                  {good(map[string]any{"token_type": "DPoP"}), "not Bearer"},
		"another kind":          {good(map[string]any{"issued_token_type": "urn:ietf:params:oauth:token-type:saml2"}), "not asked for"},
		"no kind":               {good(map[string]any{"issued_token_type": nil}), "not asked for"},
		"no token":              {good(map[string]any{"access_token": ""}), "is none"},
		"a header in the token": {good(map[string]any{"access_token": "s3cret\r\nX: y"}), "is none"},
		"a long token":          {good(map[string]any{"access_token": strings.Repeat("s", 33<<10)}), "is none"},
		"a number as token":     {good(map[string]any{"access_token": 7}), "of another form"},
		"ended":                 {good(map[string]any{"expires_in": 0}), "no lifetime"},
		"no lifetime":           {good(map[string]any{"expires_in": nil}), "no lifetime"},
		"below zero":            {good(map[string]any{"expires_in": -1}), "no lifetime"},
		"for ever":              {good(map[string]any{"expires_in": int64(1) << 62}), "no lifetime"},
		"a lifetime in words":   {good(map[string]any{"expires_in": "60"}), "of another form"},
		"half a second":         {good(map[string]any{"expires_in": 0.5}), "of another form"},
		"a scope to draw":       {good(map[string]any{"scope": "a\x1b[2J"}), "a scope that is none"},
		"huge":                  {good(map[string]any{"x": strings.Repeat("x", 70<<10)}), "longer than"},
		"HTML":                  {text("text/html", "<h1>Sign in</h1>"), "something else than JSON"},
		"no type":               {text("", `{}`), "something else than JSON"},
		"cut off":               {text("application/json", `{"access_token":"s3cret`), "of another form"},
		"twice":                 {text("application/json", `{"access_token":"a","access_token":"b"}`), "of another form"},
		"more":                  {text("application/json", `{} {}`), "of another form"},
		"a list":                {text("application/json", `[]`), "of another form"},
		"empty":                 {text("application/json", ``), "of another form"},
		"refusal":               {refuse("invalid_scope", "A word is not known."), "it answered 400 invalid_scope: A word is not known."},
		"refusal to draw":       {refuse("invalid_scope", "\x1b]0;title\a\u202e"), `invalid_scope: "\x1b]0;title\a\u202e"`},
		"refusal without end":   {refuse("invalid_scope", strings.Repeat("ä", 9999)), "ä…"},
		"code to draw":          {refuse("\x1b[2J", "A"), "not in the form of a token endpoint"},
		"no code":               {refuse("", "A sentence."), "it answered 400: A sentence."},
		"nothing":               {refuse("", ""), "not in the form of a token endpoint"},
		"an echo":               {refuse("invalid_request", "The token "+aliceToken+" is bad"), "it repeats the token"},
		"an echo of a part":     {refuse("invalid_request", "The token …"+aliceToken[8:]), "it repeats the token"},
	} {
		server.Lie(test.answer)
		_, err := client.Exchange(t.Context(), exchange.Request{Subject: aliceToken})
		switch {
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.want == "":
		case err == nil || !strings.Contains(err.Error(), test.want) || len(err.Error()) > 700:
			t.Errorf("%s: %v, want %q", name, err, test.want)
		case strings.ContainsAny(err.Error(), "\x1b\a\u202e") || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), aliceToken[8:]):
			t.Errorf("%s: the error holds what it must not: %q", name, err)
		}
	}
}

// Promise: a token that the exchange narrowed less than it was asked to is not used.
func TestScopeOfAnswer(t *testing.T) {
	t.Parallel()
	server, client := newExchange(t)
	for _, test := range []struct {
		asked, given string
		used         bool
	}{
		{"read-only", "read-only", true},
		{"read-only", "", true},
		{"read-only", "no-secrets read-only", true},
		{"namespaces=b,a no-exec", "no-exec namespaces=a,b", true},
		{"", "read-only", true},
		{"word-of-tomorrow", "word-of-tomorrow", true},
		{"read-only", "no-secrets", false},
		{"read-only no-secrets", "read-only", false},
		{"namespaces=a", "namespaces=a,b", false},
		{"read-only", "openid", false},
	} {
		server.Lie(func(w http.ResponseWriter, _ *http.Request) {
			exchangetest.Write(w, http.StatusOK, map[string]any{
				"access_token": "a", "issued_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_type": "Bearer", "expires_in": 60, "scope": test.given,
			})
		})
		_, err := client.Exchange(t.Context(), exchange.Request{Subject: aliceToken, Scope: test.asked})
		if (err == nil) != test.used || err != nil && !strings.Contains(err.Error(), "another scope") {
			t.Errorf("asked %q, given %q: %v", test.asked, test.given, err)
		}
	}
}

// Promise: a refusal is a Failure with what the exchange said, and when to ask again.
func TestFailure(t *testing.T) {
	t.Parallel()
	server, client := newExchange(t)
	server.Lie(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		exchangetest.Refuse(w, http.StatusTooManyRequests, "temporarily_unavailable", "Too many.")
	})
	_, err := client.Exchange(t.Context(), exchange.Request{Subject: aliceToken})
	failure, _ := errors.AsType[*exchange.Failure](err)
	if diff := cmp.Diff(&exchange.Failure{Status: 429, Code: "temporarily_unavailable", Description: "Too many.", RetryAfter: 7}, failure); diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
}

// Promise: an answer that does not end does not hold anybody past the context.
func TestSlowAnswer(t *testing.T) {
	t.Parallel()
	server, client := newExchange(t)
	begun := make(chan struct{})
	server.Lie(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"access_token":`)
		_ = http.NewResponseController(w).Flush()
		close(begun)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-begun; cancel() }()
	if _, err := client.Exchange(ctx, exchange.Request{Subject: aliceToken}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Promise: who cannot prove to be the exchange gets no token.
func TestWrongCertificate(t *testing.T) {
	t.Parallel()
	server := exchangetest.New(t, newCA(t))
	_, err := newClient(t, newCA(t), server.URL).Exchange(t.Context(), exchange.Request{Subject: aliceToken})
	if err == nil || !strings.Contains(err.Error(), "unknown authority") || len(server.Asked()) > 0 {
		t.Errorf("%v", err)
	}
}

// Promise: nor does a certificate that nobody trusts draw on the terminal.
func TestCertificateToDraw(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	pair, err := ca.Server("\x1b[2J.example.com")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	url := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	_, err = newClient(t, ca, url).Exchange(t.Context(), exchange.Request{Subject: aliceToken})
	if err == nil || !strings.Contains(err.Error(), `\x1b[2J.example.com`) || strings.ContainsRune(err.Error(), '\x1b') {
		t.Errorf("%q", err)
	}
}

// What is no token is not sent, and not repeated.
func TestNoToken(t *testing.T) {
	t.Parallel()
	server, client := newExchange(t)
	for _, r := range []exchange.Request{
		{}, {Subject: "s3cret s3cret"}, {Subject: "s3cret\n"}, {Subject: strings.Repeat("s", 33<<10)}, {Subject: aliceToken, Actor: "s3cret\x00"},
	} {
		if _, err := client.Exchange(t.Context(), r); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%v", err)
		}
	}
	if len(server.Asked()) > 0 {
		t.Error("something was sent")
	}
}

// gitHub answers as GitHub's endpoint does: to GET, with api-version and audience
// in the query, for the bearer of the job's token.
func gitHub(job string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch {
		case r.Header.Get("Authorization") != "Bearer "+job:
			exchangetest.Write(w, http.StatusUnauthorized, map[string]any{"message": "no " + job})
		case r.Method != http.MethodGet || query.Get("api-version") != "2.0" || len(query["audience"]) != 1:
			exchangetest.Write(w, http.StatusBadRequest, map[string]any{})
		default:
			exchangetest.Write(w, http.StatusOK, map[string]any{"count": 1, "value": "id-token-for." + query.Get("audience") + ".x"})
		}
	}
}

// Promise: a job's ID token is asked for as GitHub documents it, for the audience
// that was given; a refusal says which permission is missing, and no secret.
func TestGitHub(t *testing.T) {
	t.Parallel()
	ca := newCA(t)
	const job = "s3cret-job-token"
	url := exchangetest.Serve(t, ca, gitHub(job)) + "/idtoken?api-version=2.0"
	lying := func(body string) string {
		return exchangetest.Serve(t, ca, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, body) }))
	}
	elsewhere := exchangetest.Serve(t, ca, http.RedirectHandler(url, http.StatusFound))
	for name, test := range map[string]struct {
		source exchange.GitHub
		want   string
	}{
		"good":         {exchange.GitHub{URL: url, RequestToken: job, Audience: "a&b=c"}, ""},
		"no job":       {exchange.GitHub{}, "id-token: write"},
		"no token":     {exchange.GitHub{URL: url}, "id-token: write"},
		"another job":  {exchange.GitHub{URL: url, RequestToken: "s3cret-other"}, "it answered 401"},
		"without TLS":  {exchange.GitHub{URL: strings.Replace(url, "https", "http", 1), RequestToken: job}, "no https URL"},
		"no URL":       {exchange.GitHub{URL: "https://s3cret:%%", RequestToken: job}, "no https URL"},
		"a header":     {exchange.GitHub{URL: url, RequestToken: "s3cret\r\nX: y"}, "is no token"},
		"a redirect":   {exchange.GitHub{URL: elsewhere, RequestToken: job}, "not followed"},
		"no value":     {exchange.GitHub{URL: lying(`{"value":""}`), RequestToken: job}, "holds no token"},
		"HTML":         {exchange.GitHub{URL: lying("<p>s3cret"), RequestToken: job}, "holds no token"},
		"huge":         {exchange.GitHub{URL: lying(strings.Repeat("s", 70<<10)), RequestToken: job}, "longer than"},
		"nobody there": {exchange.GitHub{URL: "https://127.0.0.1:1/s3cret?api-version=2.0", RequestToken: job}, "ask GitHub"},
	} {
		test.source.Roots = ca.Pool()
		token, err := test.source.Token(t.Context())
		switch {
		case test.want == "" && (err != nil || token != "id-token-for.a&b=c.x"):
			t.Errorf("%s: %q, %v", name, token, err)
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret")):
			t.Errorf("%s: %v, want %q", name, err, test.want)
		}
	}
}

// Promise: a token is taken for the successor of another one only if it names the
// same subject of the same issuer and says the same of it.
func TestSubject(t *testing.T) {
	t.Parallel()
	key, err := authtest.NewKey("k", "ES256")
	if err != nil {
		t.Fatal(err)
	}
	signed := func(claims string) string { return key.Sign([]byte(claims)) }
	const base = `{"iss":"https://i","sub":"alice","groups":["a"],"n":9007199254740993,"kubernetes.io":{"pod":{"uid":"1"},"warnafter":1},"exp":1,"iat":1,"jti":"a"}`
	first := exchange.Held(signed(base)).Subject()
	replaced := func(from, to string) string { return signed(strings.Replace(base, from, to, 1)) }
	same := map[string]string{
		"signed again": signed(base),
		"renewed":      replaced(`"exp":1,"iat":1,"jti":"a"`, `"exp":9,"nbf":2,"iat":8,"jti":"b"`),
		"warnafter":    replaced(`"warnafter":1`, `"warnafter":7`),
		"other order":  replaced(`"iss":"https://i","sub":"alice"`, `"sub":"alice","iss":"https://i"`),
	}
	for name, token := range same {
		if exchange.Held(token).Subject() != first {
			t.Errorf("%s: taken for another", name)
		}
	}
	different := map[string]string{
		"another subject":       replaced("alice", "bob"),
		"another issuer":        replaced("https://i", "https://j"),
		"other groups":          replaced(`["a"]`, `["a","b"]`),
		"a scope":               replaced(`"exp"`, `"scope":"read-only","exp"`),
		"another pod":           replaced(`"uid":"1"`, `"uid":"2"`),
		"the last digit":        replaced("9007199254740993", "9007199254740992"),
		"a number as text":      replaced("9007199254740993", `"9007199254740993"`),
		"no subject":            replaced(`"sub":"alice",`, ""),
		"no subject, another":   replaced(`"sub":"alice","groups":["a"]`, `"groups":["b"]`),
		"a name twice":          replaced(`"sub":"alice"`, `"sub":"bob","sub":"alice"`),
		"a subject that is not": replaced(`"alice"`, `["alice"]`),
		"session":               replaced(`"exp"`, `"kube-gatehouse.github.io":{},"exp"`),
		"session, another":      replaced(`"jti":"a"`, `"kube-gatehouse.github.io":{},"jti":"b"`),
		"opaque":                "alice",
		"opaque, another":       "alice2",
	}
	seen := map[string]string{first: "the first"}
	for name, token := range different {
		subject := exchange.Held(token).Subject()
		if other, taken := seen[subject]; taken {
			t.Errorf("%s is taken for %s", name, other)
		}
		if strings.Contains(subject, token) || strings.Contains(subject, "alice") {
			t.Errorf("%s: %s can be read", name, subject)
		}
		seen[subject] = name
	}
	job := exchange.GitHub{URL: "https://g", RequestToken: "a", Audience: "b"}
	for _, other := range []exchange.GitHub{{URL: "https://h", RequestToken: "a", Audience: "b"}, {URL: "https://g", RequestToken: "c", Audience: "b"}, {URL: "https://g", RequestToken: "a", Audience: "c"}} {
		if job.Subject() == other.Subject() {
			t.Errorf("%v is taken for another job", other)
		}
	}
}

// Promise: no two lists of what a token depends on have one key.
func TestKeysDiffer(t *testing.T) {
	t.Parallel()
	seen := map[exchange.Key]string{}
	for _, parts := range [][]string{nil, {""}, {"", ""}, {"ab"}, {"a", "b"}, {"", "ab"}, {"ab", ""}, {"b", "a"}} {
		name := fmt.Sprintf("%q", parts)
		if other, taken := seen[exchange.KeyOf(parts...)]; taken {
			t.Errorf("%s and %s have one key", name, other)
		}
		seen[exchange.KeyOf(parts...)] = name
	}
}
