package main

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

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// reviews answers TokenReview and SelfSubjectReview as kube-apiserver v1.37
// does, of the tokens that it was given.
type reviews struct {
	mu       sync.Mutex
	accounts map[string]account // by token
	asked    []string           // tokens, in their order
	broken   bool               // every TokenReview fails
	hold     chan struct{}      // answers wait until it is closed; nil if they do not
}

type account struct {
	name      string
	audiences []string // that the token is for
}

const (
	ownName      = "system:serviceaccount:gatehouse:gatehouse"
	builderName  = "system:serviceaccount:ci:builder"
	apiAudience  = "https://kubernetes.default.svc"
	reviewObject = "/apis/authentication.k8s.io/v1/"
)

func (v *reviews) give(token, name string, audiences ...string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.accounts == nil {
		v.accounts = map[string]account{}
	}
	v.accounts[token] = account{name, audiences}
}

func (v *reviews) setBroken(broken bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.broken = broken
}

func (v *reviews) isBroken() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.broken
}

// holdAll makes answers wait until release is called. asked returns how many
// questions have come since.
func (v *reviews) holdAll() (asked func() int, release func()) {
	v.mu.Lock()
	defer v.mu.Unlock()
	hold, before := make(chan struct{}), len(v.asked)
	v.hold = hold
	return func() int {
		v.mu.Lock()
		defer v.mu.Unlock()
		return len(v.asked) - before
	}, func() { close(hold) }
}

// count returns how often the API server was asked about token.
func (v *reviews) count(token string) int {
	v.mu.Lock()
	defer v.mu.Unlock()
	count := 0
	for _, one := range v.asked {
		if one == token {
			count++
		}
	}
	return count
}

func (v *reviews) answer(w http.ResponseWriter, r *http.Request) {
	var object struct {
		Spec struct {
			Token     string
			Audiences []string
			User      string
			Resource  struct{ Verb, Name string } `json:"resourceAttributes"`
		}
	}
	if err := json.NewDecoder(r.Body).Decode(&object); err != nil || r.Header.Get("Authorization") != "Bearer "+ownToken {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	if v.isBroken() && r.URL.Path == reviewObject+"tokenreviews" {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
	switch r.URL.Path {
	case reviewObject + "selfsubjectreviews":
		_, _ = fmt.Fprintf(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","status":{"userInfo":{"username":%q}}}`, ownName)
	case "/apis/authorization.k8s.io/v1/subjectaccessreviews":
		allowed := object.Spec.User == "ana" && object.Spec.Resource.Verb == "impersonate" && object.Spec.Resource.Name == "ben"
		_, _ = fmt.Fprintf(w, `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","status":{"allowed":%t}}`, allowed)
	case reviewObject + "tokenreviews":
		_, _ = fmt.Fprintf(w, `{"apiVersion":"authentication.k8s.io/v1","kind":"TokenReview","status":%s}`, v.review(object.Spec.Token, object.Spec.Audiences))
	}
}

// review returns the status of a TokenReview.
func (v *reviews) review(token string, audiences []string) string {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = append(v.asked, token)
	if hold := v.hold; hold != nil {
		v.mu.Unlock()
		<-hold
		v.mu.Lock()
	}
	known, ok := v.accounts[token]
	if !ok {
		return `{"error":"[invalid bearer token]"}`
	}
	if len(audiences) == 0 {
		audiences = []string{apiAudience}
	}
	var both []string
	for _, audience := range known.audiences {
		if slices.Contains(audiences, audience) {
			both = append(both, audience)
		}
	}
	if len(both) == 0 {
		text, _ := json.Marshal(fmt.Sprintf("[invalid bearer token, token audiences %q is invalid for the target audiences %q]", known.audiences, audiences))
		return fmt.Sprintf(`{"error":%s}`, text)
	}
	list, _ := json.Marshal(both)
	namespace := strings.Split(known.name, ":")[2]
	return fmt.Sprintf(`{"authenticated":true,"audiences":%s,"user":{"username":%q,"uid":"uid-1","groups":["system:serviceaccounts","system:serviceaccounts:%s","system:authenticated"],`+
		`"extra":{"authentication.kubernetes.io/credential-id":["JTI=jti-1"],"authentication.kubernetes.io/pod-name":["pod-1"]}}}`, list, known.name, namespace)
}

// accountToken returns a token of the cluster's that names an account.
func accountToken(cluster *authtest.Issuer, name string, audience string) string {
	return cluster.Token(authtest.Claims{"sub": name, "aud": []string{audience}})
}

// withReviews starts a gatehouse that accepts ServiceAccount tokens.
func withReviews(t *testing.T, w *world, settings map[string]string) *process {
	t.Helper()
	all := map[string]string{"TOKEN_AUTH_FILE": "", "TOKEN_REVIEW": "true"}
	for name, value := range settings {
		all[name] = value
	}
	p := w.start(t, all)
	p.awaitReady(t, http.StatusOK, "[+]token_review ok")
	return p
}

// With TOKEN_REVIEW the token of a ServiceAccount for the API server is accepted
// and passed on as it is; one of gatehouse's own account, for another audience,
// of a deleted account or forged is refused; one of a configured issuer is not
// shown to the API server.
func testTokenReview(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	cluster, issuer := w.newIssuer(t), w.newIssuer(t)
	good, own := accountToken(cluster, builderName, apiAudience), accountToken(cluster, ownName, apiAudience)
	vault := accountToken(cluster, builderName, "vault")
	w.upstream.reviews.give(good, builderName, apiAudience)
	w.upstream.reviews.give(own, ownName, apiAudience)
	w.upstream.reviews.give(vault, builderName, "vault")
	p := withReviews(t, w, w.oidc(issuer, nil))
	p.awaitReady(t, http.StatusOK, "[+]issuer")

	got := p.ask(t, good, "/version")
	if diff := cmp.Diff(http.Header{}, impersonation(got.seen.Header)); diff != "" || got.code != http.StatusOK {
		t.Errorf("status %d %s, impersonation (-want +got):\n%s", got.code, got.body, diff)
	}
	if got := got.seen.Header["Authorization"]; len(got) != 1 || got[0] != "Bearer "+good {
		t.Errorf("the API server saw the credentials %q", got)
	}
	p.expectRefusal(t, own, http.StatusForbidden, "reserved")
	p.expectRefusal(t, vault, http.StatusUnauthorized, "another application")
	p.expectRefusal(t, accountToken(cluster, "system:serviceaccount:ci:gone", apiAudience), http.StatusUnauthorized, "not accepted")
	p.expectRefusal(t, cluster.Token(nil), http.StatusUnauthorized, "not accepted")

	ofIssuer := issuer.Token(authtest.Claims{"sub": builderName, "aud": "another"})
	p.expectRefusal(t, ofIssuer, http.StatusUnauthorized, "")
	if count := w.upstream.reviews.count(ofIssuer); count != 0 {
		t.Errorf("the API server was shown the token of a configured issuer %d times", count)
	}
	_, metrics := p.opsGet(t, "/metrics")
	for series, want := range map[string]string{
		`gatehouse_token_reviews_total{outcome="accepted"}`:                                       "2",
		`gatehouse_token_reviews_total{outcome="refused"}`:                                        "2",
		`gatehouse_authentication_attempts_total{kind="service_account",result="accepted"}`:       "1",
		`gatehouse_authentication_attempts_total{kind="service_account",result="wrong_audience"}`: "1",
		`gatehouse_token_review_duration_seconds_count`:                                           "4",
	} {
		if got, _ := seriesValue(metrics, series); got != want {
			t.Errorf("%s is %q, want %q", series, got, want)
		}
	}
	mustNotHold(t, "the log", p.log.text(), good, own, vault)

	// Without the setting nobody is asked.
	q := w.start(t, nil)
	q.expectRefusal(t, good, http.StatusUnauthorized, "not accepted")
}

// API_AUDIENCES are those that are asked for.
func testAPIAudiences(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	cluster := w.newIssuer(t)
	ours, other := accountToken(cluster, builderName, "ours"), accountToken(cluster, builderName, apiAudience)
	w.upstream.reviews.give(ours, builderName, "ours")
	w.upstream.reviews.give(other, builderName, apiAudience)
	p := withReviews(t, w, map[string]string{"API_AUDIENCES": "theirs,ours"})
	if got := p.ask(t, ours, "/version"); got.code != http.StatusOK {
		t.Errorf("one of the audiences: %d %s", got.code, got.body)
	}
	p.expectRefusal(t, other, http.StatusUnauthorized, "another application")

	code, _, stderr := once(t, w.environ(map[string]string{"API_AUDIENCES": "ours"}), "check")
	if code != exitFault || !strings.Contains(stderr, "GATEHOUSE_API_AUDIENCES: needs GATEHOUSE_TOKEN_REVIEW=true") {
		t.Errorf("without TOKEN_REVIEW: exit code %d\n%s", code, stderr)
	}
}

// With IMPERSONATION, as by default, ana may act as ben because the cluster says
// so, and as nobody else; without it she may act as nobody.
func testImpersonation(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	as := func(p *process, name string) (int, string) {
		r := p.request(t, anaToken, "/api/v1/pods")
		r.Header.Set("Impersonate-User", name)
		resp, err := p.client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	p := w.start(t, nil)
	if code, body := as(p, "ben"); code != http.StatusOK || !strings.Contains(body, `"Impersonate-User":["ben"]`) {
		t.Errorf("as ben: %d %s", code, body)
	}
	if code, body := as(p, "cy"); code != http.StatusForbidden || !strings.Contains(body, "You may not act as this user") {
		t.Errorf("as cy: %d %s", code, body)
	}
	eventually(t, func() bool { // as soon as it knows its own name
		code, body := as(p, ownName)
		return code == http.StatusForbidden && strings.Contains(body, "or gatehouse itself")
	}, func() string { return "gatehouse does not tell its own name" })
	p = w.start(t, map[string]string{"IMPERSONATION": "false"})
	if code, body := as(p, "ben"); code != http.StatusForbidden || !strings.Contains(body, "is not offered here") {
		t.Errorf("with false: %d %s", code, body)
	}
}

// REVOCATION_FILE denies who stands in it, and what is added while gatehouse
// runs: a watch under way ends.
func testRevocationFile(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	issuer := w.newIssuer(t)
	file := w.write(t, "revoked.yaml", "revoked:\n- jti: stolen\n")
	p := w.start(t, w.oidc(issuer, map[string]string{
		"TOKEN_AUTH_FILE": w.path("tokens.csv"), "OIDC_USERNAME_PREFIX": "-", "REVOCATION_FILE": file,
	}))
	p.awaitReady(t, http.StatusOK, "[+]issuer")
	p.expectRefusal(t, issuer.Token(authtest.Claims{"jti": "stolen"}), http.StatusUnauthorized, "has been revoked")
	if got := p.ask(t, issuer.Token(nil), "/version"); got.code != http.StatusOK {
		t.Errorf("another token: %d %s", got.code, got.body)
	}
	resp, err := p.client.Do(p.request(t, anaToken, "/api/v1/pods?watch=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-w.upstream.arrived
	w.write(t, "revoked.yaml", "revoked:\n- user: ana\n  note: left\n")
	if rest, err := io.ReadAll(resp.Body); err != nil || string(rest) != "{\"type\":\"ADDED\"}\n" {
		t.Errorf("the watch ended with %q, %v; want a clean end", rest, err)
	}
	p.expectRefusal(t, anaToken, http.StatusUnauthorized, "has been revoked")
	if got := p.ask(t, issuer.Token(authtest.Claims{"jti": "stolen"}), "/version"); got.code != http.StatusOK {
		t.Errorf("a token that is not revoked any more: %d %s", got.code, got.body)
	}

	code, _, stderr := once(t, w.environ(map[string]string{
		"REVOCATION_FILE": w.write(t, "typo.yaml", "revoked:\n- {issuer: https://login.example/, subject: '1'}\n"),
	}), "check")
	if code != exitOK || !strings.Contains(stderr, `warning: the issuer "https://login.example/" of the revocation file is not configured`) {
		t.Errorf("an issuer that nobody trusts: exit code %d\n%s", code, stderr)
	}
	w.write(t, "revoked.yaml", "revoked:\n- usr: ana\n")
	p.log.awaitMessage(t, "changed files are bad, the last good content stays in effect")
	p.expectRefusal(t, anaToken, http.StatusUnauthorized, "has been revoked")
}

// With END_STREAMS=false a watch goes on when its row is taken away, while new
// requests are refused. That it ends by default is shown by
// TestStreamsEndWithTheirFile.
func testEndStreams(t *testing.T, _ *world, _ *authtest.Issuer) {
	w := newWorld(t)
	p := w.start(t, map[string]string{"END_STREAMS": "false"})
	resp, err := p.client.Do(p.request(t, anaToken, "/api/v1/pods?watch=true"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	<-w.upstream.arrived
	w.write(t, "tokens.csv", "another-static-token,gus,1\n")
	p.awaitReload(t, "token_auth_file")
	p.expectRefusal(t, anaToken, http.StatusUnauthorized, "not accepted")
	ended := make(chan error, 1)
	go func() {
		_, err := io.ReadAll(resp.Body)
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("the watch ended: %v", err)
	case <-time.After(3 * time.Second): // streams are looked through once a second
	}
}

// Promise: a watch ends when its ServiceAccount token is taken back, and when
// its issuer, its row or its certificate is taken out of a file.
func TestStreamsEndWithTheirFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people, issuer := newAuthority(t), w.newIssuer(t)
	pair := people.issue("ana", "/CN=ana")
	settings := map[string]string{
		"CLIENT_CA_FILE": people.path("ca.crt"), "CLIENT_CRL_FILE": people.path("ca.crl"),
		"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "", w.jwt(issuer, plainMapping)),
	}
	p := w.start(t, settings)
	p.awaitReady(t, http.StatusOK, "[+]issuer")
	watch := func(p *process, token string) io.Reader {
		resp, err := p.client.Do(p.request(t, token, "/api/v1/pods?watch=true"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("status %d", resp.StatusCode)
		}
		<-w.upstream.arrived
		return resp.Body
	}
	row, certificate, token := watch(p, anaToken), watch(p.as(t, w, pair), ""), watch(p, issuer.Token(nil))
	for name, tt := range map[string]struct {
		body   io.Reader
		change func()
	}{
		"row":         {row, func() { w.write(t, "tokens.csv", "another-static-token,gus,1\n") }},
		"certificate": {certificate, func() { people.revoke("ana") }},
		"issuer":      {token, func() { w.writeConfig(t, "v1", "") }},
	} {
		tt.change()
		if _, err := io.ReadAll(tt.body); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p.log.await(t, "the end of the last", func(line string) bool { return field(line, "ended") == "unknown_token" })
}
