package gatehouse

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

// Wish is what a token is exchanged for. Subject is required.
type Wish struct {
	// Subject and Actor are tokens.
	Subject, Actor string
	// Account is a ServiceAccount's namespace and name, with a colon between them.
	// Default: a session token is wanted.
	Account string
	// Audience is of the ServiceAccount's token.
	Audience string
	// Scope is of the session token.
	Scope string
	// Lifetime is how long the token should live at most. Default: as long as it may.
	Lifetime time.Duration
}

const (
	jwtType   = "urn:ietf:params:oauth:token-type:jwt"
	grantType = "urn:ietf:params:oauth:grant-type:token-exchange"
)

// Exchange is [Exchange] at this instance.
func (i *Instance) Exchange(ctx context.Context, w Wish) (*oauth2.Token, error) {
	client := i.Client()
	defer client.CloseIdleConnections()
	return Exchange(ctx, client, i.exchange, w)
}

// Exchange exchanges a token at an origin as any OAuth client would: with
// golang.org/x/oauth2, which knows nothing of gatehouse. A refusal is an
// [*oauth2.RetrieveError].
func Exchange(ctx context.Context, client *http.Client, origin string, w Wish) (*oauth2.Token, error) {
	params := url.Values{"grant_type": {grantType}, "subject_token": {w.Subject}, "subject_token_type": {jwtType}}
	if w.Actor != "" {
		params.Set("actor_token", w.Actor)
		params.Set("actor_token_type", jwtType)
	}
	if w.Account != "" {
		params.Set("resource", "urn:kubernetes:serviceaccount:"+w.Account)
	}
	if w.Audience != "" {
		params.Set("audience", w.Audience)
	}
	if w.Lifetime != 0 {
		params.Set("expires_in", strconv.Itoa(int(w.Lifetime/time.Second)))
	}
	config := clientcredentials.Config{
		TokenURL: origin + "/token", EndpointParams: params, Scopes: strings.Fields(w.Scope), AuthStyle: oauth2.AuthStyleInParams,
	}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err != nil {
		return nil, fmt.Errorf("exchange a token: %w", err)
	}
	return token, nil
}
