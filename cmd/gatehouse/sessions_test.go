package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/exchange"
)

// exchangeURL is the origin of the exchange as clients of a test see it.
const exchangeURL = "https://exchange.example.com"

const accessToken = "urn:ietf:params:oauth:token-type:access_token"

func exchangeSettingTests() map[string]settingTest {
	return map[string]settingTest{
		"EXCHANGE_ADDRESS":     testExchangeAddress,
		"EXCHANGE_URL":         testExchangeURL,
		"EXCHANGE_RATE":        testExchangeRate,
		"SESSION_KEY_DIR":      testSessionKeyDir,
		"SESSION_MAX_LIFETIME": testSessionMaxLifetime,
		"SESSION_LIFETIMES":    testSessionLifetimes,
		"SESSION_OUTLIVE":      testSessionOutlive,
	}
}

// newSessionKeys returns a directory with a key that signs session tokens.
func newSessionKeys(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	writeSessionKey(t, dir, "signing.pem")
	return dir
}

func writeSessionKey(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file+".new", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

// exchanging is a gatehouse that exchanges tokens.
type exchanging struct {
	*process
	url string // where its exchange is
}

// exchanges runs gatehouse with a token exchange and keys of its own.
func (w *world) exchanges(t *testing.T, settings map[string]string) *exchanging {
	t.Helper()
	all := map[string]string{"EXCHANGE_ADDRESS": "127.0.0.1:0", "EXCHANGE_URL": exchangeURL, "SESSION_KEY_DIR": newSessionKeys(t)}
	for name, value := range settings {
		all[name] = value
	}
	p := w.start(t, all)
	line := p.log.await(t, "the exchange", func(line string) bool { return field(line, "msg") == "exchanging tokens" })
	return &exchanging{p, "https://" + field(line, "address")}
}

// answer is what an exchange gives: a token, or an error.
type answer struct {
	code        int
	Token       string `json:"access_token"`
	Type        string `json:"issued_token_type"`
	Expires     int    `json:"expires_in"`
	Scope       string `json:"scope"`
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

// exchange exchanges a token, with more parameters as pairs.
func (e *exchanging) exchange(t *testing.T, token string, more ...string) answer {
	t.Helper()
	form := url.Values{"grant_type": {exchange.GrantType}, "subject_token": {token}, "subject_token_type": {accessToken}}
	for i := 0; i < len(more); i += 2 {
		form.Add(more[i], more[i+1])
	}
	resp, err := e.client.PostForm(e.url+exchange.TokenPath, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	a := answer{code: resp.StatusCode}
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		t.Fatal(err)
	}
	return a
}

// session is exchange for a session token, which must be given.
func (e *exchanging) session(t *testing.T, token string, more ...string) answer {
	t.Helper()
	a := e.exchange(t, token, more...)
	if a.Token == "" {
		t.Fatalf("%+v", a)
	}
	return a
}

// The exchange is where EXCHANGE_ADDRESS says, and nowhere without it: on the
// proxy's port its paths belong to the API server.
func testExchangeAddress(t *testing.T, w *world, _ *authtest.Issuer) {
	e := w.exchanges(t, nil)
	e.session(t, anaToken)
	if got := e.ask(t, anaToken, exchange.KeysPath); got.seen.Path != exchange.KeysPath {
		t.Errorf("the proxy answers %+v", got)
	}
	p := w.start(t, nil)
	if lines := p.log.text(); strings.Contains(lines, "exchanging tokens") {
		t.Error("tokens are exchanged without an address")
	}
	for name, test := range map[string]struct {
		settings map[string]string
		want     string
	}{
		"no URL":       {map[string]string{"EXCHANGE_ADDRESS": "127.0.0.1:0"}, "GATEHOUSE_EXCHANGE_ADDRESS: needs GATEHOUSE_EXCHANGE_URL"},
		"no address":   {map[string]string{"EXCHANGE_ADDRESS": "8444", "EXCHANGE_URL": exchangeURL}, `GATEHOUSE_EXCHANGE_ADDRESS: "8444" is not an address`},
		"taken":        {map[string]string{"LISTEN_ADDRESS": ":8443", "EXCHANGE_ADDRESS": ":8443", "EXCHANGE_URL": exchangeURL}, "GATEHOUSE_EXCHANGE_ADDRESS: is the address of the proxy"},
		"keys alone":   {map[string]string{"SESSION_KEY_DIR": newSessionKeys(t)}, "GATEHOUSE_SESSION_KEY_DIR: needs GATEHOUSE_EXCHANGE_ADDRESS"},
		"without keys": {map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": exchangeURL, "SESSION_LIFETIMES": "a=5m", "SESSION_OUTLIVE": "a"}, "GATEHOUSE_SESSION_LIFETIMES: needs GATEHOUSE_SESSION_KEY_DIR"},
	} {
		if code, _, stderr := once(t, w.environ(test.settings), "check"); code != exitFault || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
}

// EXCHANGE_URL is the issuer of session tokens, and gatehouse accepts those of
// that issuer alone.
func testExchangeURL(t *testing.T, w *world, issuer *authtest.Issuer) {
	keys := newSessionKeys(t)
	here := w.exchanges(t, map[string]string{"SESSION_KEY_DIR": keys})
	there := w.exchanges(t, map[string]string{"SESSION_KEY_DIR": keys, "EXCHANGE_URL": "https://other.example.com"})
	same := w.exchanges(t, map[string]string{"SESSION_KEY_DIR": keys})
	token := here.session(t, anaToken).Token
	for e, code := range map[*exchanging]int{here: 200, same: 200, there: 401} {
		if got := e.ask(t, token, "/version"); got.code != code {
			t.Errorf("%d %s, want %d", got.code, got.body, code)
		}
	}
	resp, err := here.client.Get(here.url + exchange.MetadataPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var metadata struct {
		Issuer string `json:"issuer"`
		Token  string `json:"token_endpoint"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&metadata); err != nil || metadata.Issuer != exchangeURL || metadata.Token != exchangeURL+"/token" {
		t.Errorf("%+v, %v", metadata, err)
	}
	config := w.write(t, "of-exchange.yaml", fmt.Sprintf("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer: {url: %q, audiences: [a]}\n  claimMappings: {username: {claim: sub, prefix: \"\"}}\n", exchangeURL))
	for name, test := range map[string]struct {
		settings map[string]string
		want     string
	}{
		"no origin":       {map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": "https://a.example.com/exchange"}, "is not an origin"},
		"no TLS":          {map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": "http://a.example.com"}, "is not an origin"},
		"alone":           {map[string]string{"EXCHANGE_URL": exchangeURL}, "GATEHOUSE_EXCHANGE_URL: needs GATEHOUSE_EXCHANGE_ADDRESS"},
		"an issuer's":     w.oidcAnd(issuer, "GATEHOUSE_EXCHANGE_URL: is GATEHOUSE_OIDC_ISSUER_URL too"),
		"a file's issuer": {map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": exchangeURL, "AUTHENTICATION_CONFIG": config}, "jwt[0]: the issuer is GATEHOUSE_EXCHANGE_URL"},
	} {
		if code, _, stderr := once(t, w.environ(test.settings), "check"); code != exitFault || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: %d %s", name, code, stderr)
		}
	}
}

func (w *world) oidcAnd(issuer *authtest.Issuer, want string) (test struct {
	settings map[string]string
	want     string
}) {
	test.settings, test.want = w.oidc(issuer, map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": issuer.URL}), want
	return test
}

// One user exchanges no more tokens than EXCHANGE_RATE in a minute; another is
// not held up.
func testExchangeRate(t *testing.T, w *world, _ *authtest.Issuer) {
	tokens := w.write(t, "rated.csv", anaToken+",ana,1\nbens-token,ben,2\n")
	e := w.exchanges(t, map[string]string{"EXCHANGE_RATE": "2", "TOKEN_AUTH_FILE": tokens})
	for i, want := range []int{200, 200, 429} {
		if got := e.exchange(t, anaToken); got.code != want {
			t.Errorf("%d: %+v, want %d", i, got, want)
		}
	}
	e.session(t, "bens-token")
	if code, _, stderr := once(t, w.environ(map[string]string{"EXCHANGE_RATE": "0"}), "check"); code != exitFault || !strings.Contains(stderr, "GATEHOUSE_EXCHANGE_RATE: 0 is not at least 1") {
		t.Errorf("%d %s", code, stderr)
	}
}

// SESSION_KEY_DIR has the keys that sign and verify. They are read again when one
// is added, changed or taken away; without it no session is made.
func testSessionKeyDir(t *testing.T, w *world, _ *authtest.Issuer) {
	dir := newSessionKeys(t)
	e := w.exchanges(t, map[string]string{"SESSION_KEY_DIR": dir})
	old := e.session(t, anaToken).Token
	writeSessionKey(t, dir, "next.pem")
	published := func() int {
		resp, err := e.client.Get(e.url + exchange.KeysPath)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var set struct{ Keys []map[string]any }
		if err := json.NewDecoder(resp.Body).Decode(&set); err != nil {
			t.Fatal(err)
		}
		for _, key := range set.Keys {
			if key["d"] != nil {
				t.Error("a private key is published")
			}
		}
		return len(set.Keys)
	}
	eventually(t, func() bool { return published() == 2 }, func() string { return fmt.Sprint(published(), " keys") })
	if got := e.ask(t, old, "/version"); got.code != http.StatusOK {
		t.Errorf("beside a new key: %+v", got)
	}
	writeSessionKey(t, dir, "signing.pem")
	var got reply
	eventually(t, func() bool { got = e.ask(t, old, "/version"); return got.code == http.StatusUnauthorized }, func() string { return fmt.Sprint(got) })

	without := w.exchanges(t, map[string]string{"SESSION_KEY_DIR": ""})
	if a := without.exchange(t, anaToken); a.Error != "invalid_target" || !strings.Contains(a.Description, "No session tokens are made here") {
		t.Errorf("without keys: %+v", a)
	}
	if code, _, stderr := once(t, w.environ(map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": exchangeURL, "SESSION_KEY_DIR": t.TempDir()}), "check"); code != exitFault || !strings.Contains(stderr, "GATEHOUSE_SESSION_KEY_DIR: open") {
		t.Errorf("an empty directory: %d %s", code, stderr)
	}
}

// No session lives longer than SESSION_MAX_LIFETIME, whatever is asked for.
func testSessionMaxLifetime(t *testing.T, w *world, _ *authtest.Issuer) {
	e := w.exchanges(t, map[string]string{"SESSION_MAX_LIFETIME": "2m"})
	if a := e.session(t, anaToken, "expires_in", "86400"); a.Expires > 120 {
		t.Errorf("lives %d s", a.Expires)
	}
	if a := e.session(t, anaToken, "expires_in", "30"); a.Expires > 30 {
		t.Errorf("lives %d s", a.Expires)
	}
	if code, _, stderr := once(t, w.environ(map[string]string{"SESSION_MAX_LIFETIME": "5s"}), "check"); code != exitFault || !strings.Contains(stderr, "GATEHOUSE_SESSION_MAX_LIFETIME: 5s is too short") {
		t.Errorf("%d %s", code, stderr)
	}
}

// SESSION_LIFETIMES are shorter ones for sessions of some issuers' tokens.
func testSessionLifetimes(t *testing.T, w *world, issuer *authtest.Issuer) {
	e := w.exchanges(t, w.oidc(issuer, map[string]string{"TOKEN_AUTH_FILE": w.path("tokens.csv"), "SESSION_LIFETIMES": issuer.URL + "=2m"}))
	e.awaitReady(t, http.StatusOK, "issuer/"+issuer.URL+" ok")
	if a := e.session(t, issuer.Token(authtest.Claims{"sub": "ana"})); a.Expires > 120 {
		t.Errorf("the issuer's lives %d s", a.Expires)
	}
	if a := e.session(t, anaToken); a.Expires <= 120 {
		t.Errorf("another lives %d s", a.Expires)
	}
	for value, want := range map[string]string{
		"a": "is not of the form issuer=duration", "a=5": "does not end with a duration", "a=5s": "of at least 1m", "a=5m,a=6m": "stands twice",
	} {
		settings := map[string]string{"EXCHANGE_ADDRESS": ":1", "EXCHANGE_URL": exchangeURL, "SESSION_KEY_DIR": newSessionKeys(t), "SESSION_LIFETIMES": value}
		if code, _, stderr := once(t, w.environ(settings), "check"); code != exitFault || !strings.Contains(stderr, "GATEHOUSE_SESSION_LIFETIMES: ") || !strings.Contains(stderr, want) {
			t.Errorf("%q: %d %s", value, code, stderr)
		}
	}
}

// A session outlives the token that it is made of only if SESSION_OUTLIVE names
// the token's issuer.
func testSessionOutlive(t *testing.T, w *world, issuer *authtest.Issuer) {
	short := issuer.Token(authtest.Claims{"sub": "ana", "exp": time.Now().Add(5 * time.Minute).Unix()})
	for outlive, most := range map[string]int{"": 300, issuer.URL: 3600, "https://other.example.com": 300} {
		e := w.exchanges(t, w.oidc(issuer, map[string]string{"SESSION_OUTLIVE": outlive}))
		e.awaitReady(t, http.StatusOK, "issuer/"+issuer.URL+" ok")
		if a := e.session(t, short); a.Expires > most || most > 300 && a.Expires <= 300 {
			t.Errorf("%q: lives %d s, want %d", outlive, a.Expires, most)
		}
	}
}

// Promise: a session ends within seconds when what it rests on does: its own id
// or its user is revoked, the id of the token it was made of, the row of the
// token file, the issuer. So do its streams.
func TestSessionsEnd(t *testing.T) {
	t.Parallel()
	const said, gone = "has been revoked", "is not accepted any more"
	for name, test := range map[string]struct {
		static bool // whether it begins with ana's static token, else with an ID token of bea's
		end    func(t *testing.T, dir, issuer, jti string)
		says   string
	}{
		"its id":            {false, revoke("jti: JTI"), said},
		"its id and issuer": {false, revoke("jti: JTI\n  issuer: " + exchangeURL), said},
		"its user, dated":   {false, revoke("user: bea\n  issuedBefore: 2999-01-01T00:00:00Z"), said},
		"its user":          {false, revoke("user: bea"), said},
		"the first token":   {false, revoke("jti: first\n  issuer: ISSUER"), said},
		"the first subject": {false, revoke("issuer: ISSUER\n  subject: bea"), said},
		"a static user":     {true, revoke("user: ana"), said},
		"the row":           {true, func(t *testing.T, dir, _, _ string) { swap(t, dir, "tokens.csv", "other,ben,1\n") }, gone},
		"the issuer": {false, func(t *testing.T, dir, _, _ string) {
			swap(t, dir, "config.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: []\n")
		}, gone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			issuer := w.newIssuer(t)
			dir := t.TempDir()
			swap(t, dir, "revoked.yaml", "revoked: []\n")
			swap(t, dir, "tokens.csv", anaToken+",ana,1\n")
			swap(t, dir, "config.yaml", fmt.Sprintf("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n"+
				"- issuer: {url: %q, audiences: [%q], certificateAuthority: %q}\n  claimMappings: {username: {claim: sub, prefix: \"\"}}\n",
				issuer.URL, authtest.Audience, string(w.ca.PEM())))
			e := w.exchanges(t, map[string]string{
				"REVOCATION_FILE": filepath.Join(dir, "revoked.yaml"), "TOKEN_AUTH_FILE": filepath.Join(dir, "tokens.csv"), "AUTHENTICATION_CONFIG": filepath.Join(dir, "config.yaml"),
			})
			e.awaitReady(t, http.StatusOK, "issuer/"+issuer.URL+" ok")
			token := anaToken
			if !test.static {
				token = issuer.Token(authtest.Claims{"sub": "bea", "jti": "first"})
			}
			first := e.session(t, token).Token
			again := e.session(t, first, "scope", "read-only").Token
			watch := e.backgroundAs(t, again, "/api/v1/pods?watch=true")
			<-w.upstream.arrived
			test.end(t, dir, issuer.URL, jtiOf(t, first))
			for _, token := range []string{again, first} {
				var got reply
				eventually(t, func() bool { got = e.ask(t, token, "/version"); return got.code == http.StatusUnauthorized }, func() string { return fmt.Sprint(got) })
				if !strings.Contains(got.body, test.says) {
					t.Errorf("%s, want %q", got.body, test.says)
				}
			}
			select {
			case <-watch:
			case <-time.After(patience):
				t.Error("the watch goes on")
			}
			if a := e.exchange(t, first); a.Error != "invalid_request" {
				t.Errorf("it is exchanged for %+v", a)
			}
			mustNotHold(t, "the log", e.log.text(), first, again, token, "deny nobody")
		})
	}
}

// Promise: a session goes on while the issuer that it began with is down: it was
// judged when it was made, and what can end it is known here. Nobody is made a new
// one by a token that cannot be judged.
func TestSessionsGoOnWithoutTheirIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	settings := w.oidc(issuer, map[string]string{"SESSION_KEY_DIR": newSessionKeys(t)})
	e := w.exchanges(t, settings)
	e.awaitReady(t, http.StatusOK, "issuer/"+issuer.URL+" ok")
	token := issuer.Token(authtest.Claims{"sub": "bea"})
	session := e.session(t, token).Token
	issuer.SetDown(true)
	e.stop()
	e.wait(t)
	later := w.exchanges(t, settings) // which has no keys of the issuer
	if a := later.exchange(t, token); a.code != http.StatusServiceUnavailable || a.Error != "temporarily_unavailable" {
		t.Errorf("by a token that cannot be judged: %+v", a)
	}
	if got := later.ask(t, session, "/version"); got.code != http.StatusOK {
		t.Errorf("the session: %+v", got)
	}
	later.session(t, session, "scope", "read-only")
}

// jtiOf returns the id of a session token.
func jtiOf(t *testing.T, token string) string {
	t.Helper()
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		ID string `json:"jti"`
	}
	if err := json.Unmarshal(payload, &claims); err != nil || claims.ID == "" {
		t.Fatal(string(payload), err)
	}
	return claims.ID
}

// revoke returns what puts an entry into the revocation file. JTI stands for the
// session's id, ISSUER for the issuer of bea's token.
func revoke(entry string) func(t *testing.T, dir, issuer, jti string) {
	return func(t *testing.T, dir, issuer, jti string) {
		swap(t, dir, "revoked.yaml", "revoked:\n- "+strings.NewReplacer("JTI", jti, "ISSUER", issuer).Replace(entry)+"\n")
	}
}

// swap puts a file in place in one step.
func swap(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}
