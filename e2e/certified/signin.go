package certified

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"time"
)

// maxSteps is how many pages and redirects a sign-in may take.
const maxSteps = 20

// SignIn goes through the authorization code flow with PKCE (S256) as the
// account with this login name, and returns its ID token. The scopes are
// openid, email and groups.
func (p *Provider) SignIn(ctx context.Context, login string) (string, error) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return "", fmt.Errorf("sign in: %w", err)
	}
	b := &browser{login: login, client: &http.Client{
		Jar:       jar,
		Timeout:   10 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse // the last redirect leads to no server
		},
	}}
	defer b.client.CloseIdleConnections()
	verifier, state := random(), random()
	challenge := sha256.Sum256([]byte(verifier))
	query := url.Values{
		"client_id": {ClientID}, "redirect_uri": {redirectURI}, "response_type": {"code"},
		"scope": {"openid email groups"}, "state": {state}, "nonce": {random()},
		"code_challenge":        {base64.RawURLEncoding.EncodeToString(challenge[:])},
		"code_challenge_method": {"S256"},
	}
	back, err := b.authorize(ctx, p.URL+"/auth?"+query.Encode())
	if err != nil {
		return "", fmt.Errorf("sign in as %s: %w", login, err)
	}
	if back.Get("state") != state || back.Get("code") == "" {
		return "", fmt.Errorf("sign in as %s: sent back with %q", login, back.Encode())
	}
	return b.exchange(ctx, p.URL+"/token", back.Get("code"), verifier)
}

// browser holds the cookies of one sign-in.
type browser struct {
	client *http.Client
	login  string
}

// authorize follows redirects and fills in forms from address on, and returns
// what the client is sent back with.
func (b *browser) authorize(ctx context.Context, address string) (url.Values, error) {
	var form url.Values
	for range maxSteps {
		resp, page, err := b.send(ctx, address, form)
		if err != nil {
			return nil, err
		}
		form = nil
		switch {
		case resp.StatusCode/100 == 3:
			next, err := resp.Location()
			if err != nil {
				return nil, err
			}
			if strings.HasPrefix(next.String(), redirectURI+"?") {
				return next.Query(), nil
			}
			address = next.String()
		case resp.StatusCode == http.StatusOK:
			if address, form, err = b.fillIn(resp.Request.URL, page); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%s answered %s: %.300s", resp.Request.URL.Path, resp.Status, page)
		}
	}
	return nil, errors.New("the flow does not end")
}

// fillIn answers the provider's login page or its consent page.
func (b *browser) fillIn(at *url.URL, page string) (string, url.Values, error) {
	action, ok := attribute(page, ` action="`)
	if !ok {
		return "", nil, fmt.Errorf("no form on the page %s", at.Path)
	}
	target, err := at.Parse(action)
	if err != nil {
		return "", nil, err
	}
	if strings.Contains(page, `name="login"`) {
		return target.String(), url.Values{"prompt": {"login"}, "login": {b.login}, "password": {"any"}}, nil
	}
	return target.String(), url.Values{"prompt": {"consent"}}, nil
}

// attribute returns the text between the first prefix and the next quote.
func attribute(page, prefix string) (string, bool) {
	_, rest, found := strings.Cut(page, prefix)
	value, _, closed := strings.Cut(rest, `"`)
	return value, found && closed
}

// exchange swaps the code for an ID token.
func (b *browser) exchange(ctx context.Context, endpoint, code, verifier string) (string, error) {
	resp, body, err := b.send(ctx, endpoint, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {ClientID}, "redirect_uri": {redirectURI},
		"code": {code}, "code_verifier": {verifier},
	})
	if err != nil {
		return "", fmt.Errorf("exchange the code: %w", err)
	}
	var tokens struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal([]byte(body), &tokens); err != nil || tokens.IDToken == "" {
		return "", fmt.Errorf("exchange the code: %s with no ID token", resp.Status)
	}
	return tokens.IDToken, nil
}

// send posts form, or gets if it is nil, and returns the answer and its body.
func (b *browser) send(ctx context.Context, address string, form url.Values) (*http.Response, string, error) {
	method := http.MethodGet
	if form != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, "", err
	}
	if form != nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	resp, err := b.client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return resp, string(page), err
}

func random() string { return rand.Text() + rand.Text() } // a verifier has 43 characters at least
