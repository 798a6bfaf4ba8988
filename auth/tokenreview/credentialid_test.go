package tokenreview_test

import (
	"slices"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// Promise: a token can be revoked by its `jti` at every API server, also at one
// that does not say the id of the credential, or says another.
func TestCredentialIDs(t *testing.T) {
	for extra, want := range map[string][]string{
		`{}`: {"JTI=jti-1"},
		`{"authentication.kubernetes.io/credential-id":["JTI=jti-1"]}`: {"JTI=jti-1"},
		`{"authentication.kubernetes.io/credential-id":["JTI=jti-2"]}`: {"JTI=jti-2", "JTI=jti-1"},
	} {
		w := newWorld(t, nil)
		w.api.answerStatus(`{"authenticated":true,"audiences":["` + apiAudience + `"],"user":{"username":"` + builder + `","extra":` + extra + `}}`)
		if id, reason := w.ask(w.api.token(nil)); reason != "" || !slices.Equal(id.IDs, want) {
			t.Errorf("extra %s: %q, %v; want the ids %q", extra, reason, id, want)
		}
	}
	w := newWorld(t, nil)
	w.api.answerStatus(`{"authenticated":true,"user":{"username":"` + builder + `"}}`)
	if id, reason := w.ask(w.api.token(authtest.Claims{"jti": nil})); reason != "" || len(id.IDs) != 0 {
		t.Errorf("without a jti: %q, %v", reason, id)
	}
}
