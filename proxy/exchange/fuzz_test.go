package exchange

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

// Promise: no form ends the process; an answer has only the characters of RFC 6749;
// and what is read of a form that is accepted is what stands in it, once, and cannot
// leave its place in a path, a header or a log line.
func FuzzForm(f *testing.F) {
	for _, test := range faultTests() {
		f.Add(values(test.form...).Encode())
	}
	for _, seed := range []string{
		"", "&", "a;b", "%", "grant_type", values("scope", "read-only namespaces=dev,test").Encode(),
		values("resource", anAccount+"job", "audience", "a", "audience", "b", "expires_in", "600").Encode(),
		values().Encode() + "&resource=urn%3Akubernetes%3Aserviceaccount%3Adev%3Aa%2F..%2Fb&audience=x",
		values().Encode() + "&%73cope=read-only&scope=", strings.ReplaceAll(values().Encode(), ".", "%2e"),
	} {
		f.Add(seed)
	}
	s, err := New(Config{URL: self, Door: &proxy.Proxy{}, BodyTime: time.Minute})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest(http.MethodPost, TokenPath, strings.NewReader(text))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		got, fault := s.readForm(httptest.NewRecorder(), r)
		if fault != nil {
			if said := fault.description + fault.quoting; said != described(said) || !slices.Contains(Results(), fault.name) || fault.code < 400 {
				t.Errorf("%+v", fault)
			}
			if fault.quoting == "" && fault.description == "" {
				t.Error("no description")
			}
			return
		}
		form, err := url.ParseQuery(text)
		if err != nil {
			t.Fatalf("accepted: %v", err)
		}
		one := func(name string) string {
			if len(form[name]) > 1 {
				t.Errorf("%s stands %d times", name, len(form[name]))
			}
			return form.Get(name)
		}
		if one("grant_type") != GrantType || one("client_secret")+one("client_assertion")+one("client_assertion_type") != "" {
			t.Error("another grant, or a client's secret")
		}
		if got.subject != (subject{one("subject_token"), one("subject_token_type")}) || !auth.IsBearerToken(got.subject.token) {
			t.Errorf("the subject is %+v", got.subject)
		}
		if actor := (subject{one("actor_token"), one("actor_token_type")}); (got.actor == nil) != (actor == subject{}) || got.actor != nil && (*got.actor != actor || !auth.IsBearerToken(actor.token)) {
			t.Errorf("the actor is %+v, the form has %+v", got.actor, actor)
		}
		if words := strings.Fields(one("scope")); len(words) > 0 && got.scope.Unlimited() {
			t.Errorf("%q restricts nothing", words)
		}
		if strings.ContainsFunc(got.clientID+strings.Join(got.audiences, ""), func(c rune) bool { return c < ' ' || c > '~' }) || got.lifetime < 0 || got.lifetime > maxLifetime {
			t.Errorf("%+v", got)
		}
		if got.account == nil {
			if got.target() != targetSession || slices.ContainsFunc(got.audiences, func(a string) bool { return a != self }) {
				t.Errorf("a session token for %q", got.audiences)
			}
			return
		}
		at := "/api/v1/namespaces/" + got.account.namespace + "/serviceaccounts/" + got.account.name + "/token"
		if u, err := url.Parse(at); err != nil || path.Clean(at) != at || u.EscapedPath() != at || u.Path != at || strings.Count(at, "/") != 7 || u.RawQuery != "" {
			t.Errorf("the path is %q", at)
		}
		if one("resource") != accountPrefix+got.account.namespace+":"+got.account.name || len(got.audiences) == 0 || got.actor != nil || !got.scope.Unlimited() {
			t.Errorf("%+v", got)
		}
	})
}
