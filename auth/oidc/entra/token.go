package entra

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc/lookup"
)

// Lives of our own access token.
const (
	earlier      = time.Minute // how much before its end a new one is asked for
	withoutAnEnd = time.Minute // of one that does not say when it ends
)

// ownToken is the key of the only entry in Resolver.tokens.
var ownToken = lookup.KeyOf("access token for Microsoft Graph")

// token returns our access token for Graph.
func (r *Resolver) token(ctx context.Context) (string, error) {
	answer, err := r.tokens.Get(ctx, ownToken, r.fetchToken)
	return answer.Value, err
}

func (r *Resolver) forgetToken() { r.tokens.Drop(ownToken) }

// fetchToken asks Entra for one by the client credentials flow
// (learn.microsoft.com/entra/identity-platform/v2-oauth2-client-creds-grant-flow).
func (r *Resolver) fetchToken(ctx context.Context) (none lookup.Answer[string], err error) {
	grant := clientcredentials.Config{
		ClientID:     r.cfg.ClientID,
		ClientSecret: r.cfg.ClientSecret,
		TokenURL:     r.cfg.LoginURL + "/" + r.cfg.TenantID + "/oauth2/v2.0/token",
		Scopes:       []string{r.cfg.GraphURL + "/.default"},
		AuthStyle:    oauth2.AuthStyleInParams,
	}
	began := r.cfg.Lookup.Now()
	token, err := grant.Token(context.WithValue(ctx, oauth2.HTTPClient, r.client))
	if err != nil {
		return none, tokenError(err)
	}
	if !auth.IsBearerToken(token.AccessToken) || token.Type() != "Bearer" {
		return none, errors.New("no access token for Microsoft Graph: the answer of Microsoft Entra holds no bearer token")
	}
	life := withoutAnEnd
	if !token.Expiry.IsZero() {
		life = max(time.Until(token.Expiry)-earlier, time.Second)
	}
	return lookup.Answer[string]{Value: token.AccessToken, Size: len(token.AccessToken), Until: began.Add(life)}, nil
}

// number is what Entra puts before a description.
var number = regexp.MustCompile(`^AADSTS[0-9]{1,10}\b`)

// tokenError keeps of an answer what tells the operator what to mend, and nothing
// of its text, which could quote what was sent.
func tokenError(err error) error {
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Errorf("no access token for Microsoft Graph: %w", wrapped.Err)
	}
	refused, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return errors.New("no access token for Microsoft Graph: what Microsoft Entra answers cannot be read")
	}
	code := refused.ErrorCode
	if !plainCode.MatchString(code) {
		code = ""
	}
	if n := number.FindString(refused.ErrorDescription); n != "" {
		code += " (" + n + ")"
	}
	return fmt.Errorf("no access token for Microsoft Graph: Microsoft Entra answers %d %s", refused.Response.StatusCode, code)
}
