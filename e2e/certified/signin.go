package certified

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// scopes bring the claims that gatehouse is to read.
const scopes = "openid email groups"

// endpoints are what a provider's discovery document names.
type endpoints struct {
	Authorization string `json:"authorization_endpoint"`
	Token         string `json:"token_endpoint"`
	Device        string `json:"device_authorization_endpoint"`
}

// SignIn goes through the authorization code flow with PKCE (S256) as the
// account with this login name, and returns its ID token. The scopes are
// openid, email and groups.
func (p *Provider) SignIn(ctx context.Context, login string) (string, error) {
	return p.signIn(ctx, login, (*browser).byCode)
}

// SignInByDevice is SignIn by the device flow (RFC 8628): one program asks for
// a code, a person enters it in a browser and signs in there.
func (p *Provider) SignInByDevice(ctx context.Context, login string) (string, error) {
	return p.signIn(ctx, login, (*browser).byDevice)
}

func (p *Provider) signIn(ctx context.Context, login string, flow func(*browser, context.Context, endpoints) (string, error)) (string, error) {
	b, err := newBrowser(p.roots, login)
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", login, err)
	}
	defer b.close()
	var at endpoints
	if err := b.ask(ctx, p.URL+"/.well-known/openid-configuration", nil, &at); err != nil {
		return "", fmt.Errorf("sign in as %s: %w", login, err)
	}
	token, err := flow(b, ctx, at)
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", login, err)
	}
	return token, nil
}

func (b *browser) byCode(ctx context.Context, at endpoints) (string, error) {
	verifier, state := random(), random()
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {ClientID}, "redirect_uri": {redirectURI}, "response_type": {"code"},
		"scope": {scopes}, "state": {state}, "nonce": {random()},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
	}
	back, err := b.walk(ctx, at.Authorization+"?"+query.Encode())
	if err != nil {
		return "", err
	}
	if back.Get("state") != state || back.Get("code") == "" {
		return "", fmt.Errorf("sent back with %q", back.Encode())
	}
	return b.redeem(ctx, at.Token, url.Values{
		"grant_type": {"authorization_code"}, "redirect_uri": {redirectURI},
		"code": {back.Get("code")}, "code_verifier": {verifier},
	})
}

func (b *browser) byDevice(ctx context.Context, at endpoints) (string, error) {
	var device struct {
		Code    string `json:"device_code"`
		Address string `json:"verification_uri_complete"`
	}
	if err := b.ask(ctx, at.Device, url.Values{"client_id": {ClientID}, "scope": {scopes}}, &device); err != nil {
		return "", err
	}
	redeem := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {device.Code}}
	if _, err := b.redeem(ctx, at.Token, redeem); err == nil || !strings.Contains(err.Error(), "authorization_pending") {
		return "", fmt.Errorf("before anybody signed in: got %v, want authorization_pending", err)
	}
	if _, err := b.walk(ctx, device.Address); err != nil {
		return "", err
	}
	return b.redeem(ctx, at.Token, redeem)
}

// redeem swaps a code of either kind for an ID token.
func (b *browser) redeem(ctx context.Context, endpoint string, form url.Values) (string, error) {
	form.Set("client_id", ClientID)
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	if err := b.ask(ctx, endpoint, form, &tokens); err != nil {
		return "", err
	}
	if tokens.IDToken == "" {
		return "", errors.New("the answer has no ID token")
	}
	return tokens.IDToken, nil
}

// ask reads the JSON that an endpoint answers into v.
func (b *browser) ask(ctx context.Context, endpoint string, form url.Values, v any) error {
	resp, body, err := b.send(ctx, endpoint, form)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %.300s", endpoint, resp.Status, body)
	}
	if err := json.Unmarshal([]byte(body), v); err != nil {
		return fmt.Errorf("%s answered no JSON: %w", endpoint, err)
	}
	return nil
}

func random() string { return rand.Text() + rand.Text() } // a verifier has 43 characters at least
