package exchange

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
)

const anAccount = "urn:kubernetes:serviceaccount:dev:"

// Promise: the token of a ServiceAccount is asked for by the caller: by
// impersonation, or with the caller's own token if that is a ServiceAccount's. What
// the caller says of an identity or of the way plays no part, and no address is
// doubled.
func TestAccountTokenIsAskedForByTheCaller(t *testing.T) {
	for _, test := range []struct {
		token  string
		header http.Header
		more   []string
		want   map[string][]string
		spec   string
	}{
		{"canary.alice.token", nil, nil, map[string][]string{
			"Authorization": {"Bearer " + ownToken}, "Impersonate-User": {"alice"}, "Impersonate-Group": {"dev"}, "Impersonate-Extra-Example.com%2fteam": {"a"},
			"X-Forwarded-For": {"127.0.0.1"},
		}, `{"audiences":["vault"]}`},
		{"canary-ben", http.Header{
			"Impersonate-User": {"root"}, "Impersonate-Group": {"system:masters"}, "X-Remote-User": {"root"}, "Gatehouse-Via": {"x"},
			"X-Forwarded-For": {"198.51.100.1, 203.0.113.7"}, "Sec-Websocket-Protocol": {"base64url.bearer.authorization.k8s.io.Y2FuYXJ5LWFsaWNl"},
		}, []string{"audience", "other", "expires_in", "700"}, map[string][]string{
			"Authorization": {"Bearer " + ownToken}, "Impersonate-User": {"ben"}, "Impersonate-Group": {"dev"}, "Impersonate-Extra-Example.com%2fteam": {"a"},
			"X-Forwarded-For": {"203.0.113.7"},
		}, `{"audiences":["vault","other"],"expirationSeconds":700}`},
		{"canary.account.token", nil, []string{"client_id", "x", "requested_token_type", typeJWT}, map[string][]string{
			"Authorization": {"Bearer canary.account.token"}, "X-Forwarded-For": {"127.0.0.1"},
		}, `{"audiences":["vault"]}`},
	} {
		for _, protocol := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s over HTTP/%d", test.token, protocol), func(t *testing.T) {
				w := newWorld(t)
				r := w.post(t, values(append([]string{"subject_token", test.token, "resource", anAccount + "job", "audience", "vault"}, test.more...)...).Encode())
				for name, values := range test.header {
					r.Header[name] = values
				}
				got := w.do(t, w.client(t, protocol), r)
				if got.code != http.StatusOK || got.Token != madeFor || got.Use != "Bearer" || got.Scope != "" || got.Expires < 600 || got.Expires > 3600 {
					t.Fatalf("%+v", got)
				}
				if want := map[bool]string{true: typeJWT, false: typeAccessToken}[slices.Contains(test.more, typeJWT)]; got.Type != want {
					t.Errorf("of the type %s, want %s", got.Type, want)
				}
				asked := w.requests()
				if len(asked) != 1 || asked[0].URL.String() != "/api/v1/namespaces/dev/serviceaccounts/job/token" {
					t.Fatalf("the API server got %v", asked)
				}
				for name, values := range asked[0].Header {
					if tells := strings.HasPrefix(name, "Impersonate") || strings.HasPrefix(name, "X-") || name == "Authorization"; tells && !slices.Equal(values, test.want[name]) {
						t.Errorf("%s: %q, want %q", name, values, test.want[name])
					}
				}
				for name := range test.want {
					if asked[0].Header[name] == nil {
						t.Errorf("%s did not arrive", name)
					}
				}
				var body struct {
					APIVersion, Kind string
					Spec             json.RawMessage
					Status           any
				}
				if err := json.Unmarshal([]byte(asked[0].Header.Get(bodyHeader)), &body); err != nil {
					t.Fatal(err)
				}
				if body.APIVersion != "authentication.k8s.io/v1" || body.Kind != "TokenRequest" || string(body.Spec) != test.spec || body.Status != nil {
					t.Errorf("asked with %+v %s", body, body.Spec)
				}
			})
		}
	}
}

// Promise: a token with a scope, whatever its words are, gives no ServiceAccount's
// token, and the API server is not even asked. One without may, as what it was made
// of may.
func TestNoAccountTokenForAScope(t *testing.T) {
	w := newWorld(t)
	for _, scope := range []string{"read-only", "no-exec", "no-impersonation", "namespaces=dev", "verbs=create", "resources=serviceaccounts/token", "resources=serviceaccounts,serviceaccounts/*"} {
		token := w.given(t, "scope", scope).Token
		again := w.given(t, "subject_token", token).Token
		for _, token := range []string{token, again} {
			if got := w.exchanged(t, "subject_token", token, "resource", anAccount+"job", "audience", "vault"); got.code != mayNotHave.code || got.Description != mayNotHave.description {
				t.Errorf("%s: %+v", scope, got)
			}
		}
	}
	if asked := w.requests(); len(asked) > 0 {
		t.Errorf("the API server got %v", asked)
	}
	w.given(t, "subject_token", w.given(t).Token, "resource", anAccount+"job", "audience", "vault")
}
