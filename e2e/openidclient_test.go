package e2e_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/openidclient"
)

// testOpenIDClient: an OAuth client that knows nothing of gatehouse finds the token
// exchange by its metadata (RFC 8414), exchanges tokens, reads refusals, and verifies
// a session token with the published keys.
func (w world) testOpenIDClient(t *testing.T) {
	x := w.exchange(t, "exchange-standard")
	client, err := openidclient.Install(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	const tokenType = "urn:ietf:params:oauth:token-type:"
	exchange := func(own bool, more ...string) *openidclient.Result {
		t.Helper()
		params := map[string]string{"subject_token": x.ci.Token(job("acme/shop")), "subject_token_type": tokenType + "id_token"}
		for i := 0; i < len(more); i += 2 {
			params[more[i]] = more[i+1]
		}
		result, err := client.Exchange(t.Context(), x.ExchangeURL(), x.CAFile(), own, params)
		if err != nil {
			t.Fatal(err)
		}
		return result
	}
	session := exchange(true, "scope", lent, "expires_in", "120")
	if session.Error != "" || session.TokenType != "bearer" || session.IssuedTokenType != tokenType+"access_token" || session.ExpiresIn > 120 || session.Scope != "no-secrets read-only" {
		t.Errorf("the session is %+v", session)
	}
	if !slices.Equal(session.Grants, []string{"urn:ietf:params:oauth:grant-type:token-exchange"}) {
		t.Errorf("the metadata has %q", session.Grants)
	}
	const user = "ci:repo:acme/shop:ref:refs/heads/main"
	if c := session.Claims; c["sub"] != user || c["client_id"] != openidclient.ClientID || c["scope"] != session.Scope || fmt.Sprint(c["jti"]) == "" {
		t.Errorf("the claims are %v", c)
	}
	if who, _ := x.whoAmI(t, session.AccessToken); who.Username != user {
		t.Errorf("the API server takes it for %s", who.Username)
	}
	account := exchange(false, "resource", "urn:kubernetes:serviceaccount:"+deployer, "audience", "vault", "requested_token_type", tokenType+"jwt")
	if account.Error != "" || account.IssuedTokenType != tokenType+"jwt" {
		t.Errorf("the ServiceAccount's token is %+v", account)
	}
	for _, row := range []struct{ parameter, value, code string }{
		{"subject_token", "a.damaged.token", "invalid_request"},
		{"scope", "everything", "invalid_scope"},
		{"audience", "somebody else", "invalid_target"},
	} {
		if refused := exchange(false, row.parameter, row.value); refused.Error != row.code || refused.ErrorDescription == "" {
			t.Errorf("%s: got %+v, want %s", row.parameter, refused, row.code)
		}
	}
}
