// Package exchange answers: how does a caller exchange one token for another,
// once for many processes?
//
// [Client] asks the token endpoint of a gatehouse (docs/decisions/0028), [Source]
// is where the token comes from, and [Cache] lets processes that start together
// share one answer.
package exchange

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// The identifiers of RFC 8693, sections 2.1 and 3.
const (
	grantType       = "urn:ietf:params:oauth:grant-type:token-exchange"
	tokenTypePrefix = "urn:ietf:params:oauth:token-type:"
	accessTokenType = "access_token"
	jwtType         = "jwt"
)

// TokenTypes are the kinds of token that can be exchanged, without their prefix.
func TokenTypes() []string { return []string{"id_token", jwtType, accessTokenType} }

// Config says which exchange a [Client] asks.
type Config struct {
	// URL is the origin of the exchange, https://host or https://host:port, as
	// its metadata names the issuer.
	URL string
	// Roots are the CAs of its certificate. Nil: those of the system.
	Roots *x509.CertPool
	// Now is the clock. Nil: time.Now.
	Now func() time.Time
}

// Client asks one exchange. It follows no redirect, and uses the proxy of the
// environment, as kubectl does.
type Client struct {
	origin string
	http   *http.Client
	now    func() time.Time
}

// New returns a Client, or an error that says what is wrong with the URL.
func New(config Config) (*Client, error) {
	u, err := url.Parse(config.URL)
	switch {
	case err != nil || u.Scheme != "https" || u.Hostname() == "":
		return nil, errors.New("it is not a URL like https://gatehouse.example.com:8444")
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || u.Path != "":
		return nil, errors.New("leave out everything behind host and port, and a user name")
	}
	if config.Now == nil {
		config.Now = time.Now
	}
	return &Client{origin: config.URL, http: newHTTPClient(config.Roots), now: config.Now}, nil
}

// Request is what is asked for.
type Request struct {
	// Subject is the token that is exchanged.
	Subject string
	// SubjectType is one of TokenTypes. "": a token of three parts is a jwt, any
	// other an access_token.
	SubjectType string
	// Actor is the token of who acts for the subject. "": nobody does.
	Actor string
	// Resource is what ServiceAccountResource returns. "": a session token.
	Resource string
	// Audiences and Scope are those of the new token. Empty: the default.
	Audiences []string
	Scope     string
	// Lifetime is how long the new token should live at most, in whole seconds.
	// 0: as long as the exchange allows.
	Lifetime time.Duration
}

// ServiceAccountResource returns the resource that stands for a ServiceAccount.
func ServiceAccountResource(namespace, name string) string {
	return "urn:kubernetes:serviceaccount:" + namespace + ":" + name
}

// Issued is a token that came out of an exchange.
type Issued struct {
	Token string
	// Type is issued_token_type, a URN of RFC 8693.
	Type string
	// Scope is what the exchange says of it. "": the one that was asked for.
	Scope string
	// Obtained is when it was asked for, and Expires when it ends, by the clock
	// of this machine.
	Obtained, Expires time.Time
}

// enough is the life that a token must have left to be given out again, unless
// half of its life is less.
const enough = 5 * time.Minute

// RenewAt returns when the token should be replaced: 5 minutes before it ends, or
// at half of its life if that is later.
func (i *Issued) RenewAt() time.Time {
	return i.Expires.Add(-min(enough, i.Expires.Sub(i.Obtained)/2))
}

// Exchange asks for a token. The error is a [*Failure] if the exchange refused,
// and never holds a token.
func (c *Client) Exchange(ctx context.Context, r Request) (*Issued, error) {
	form, err := r.form()
	if err != nil {
		return nil, err
	}
	defer c.http.CloseIdleConnections()
	endpoint, err := c.endpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the metadata of %s: %w", c.origin, err)
	}
	ask, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	ask.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	asked := c.now().Round(0) // the wall clock's: it is compared with that of other processes
	got, err := send(c.http, ask)
	if err != nil {
		return nil, fmt.Errorf("ask %s for a token: %w", c.origin, err)
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("ask %s for a token: %w", c.origin, failureOf(got, r.Subject, r.Actor))
	}
	issued, err := parseAnswer(got, asked)
	if err == nil {
		err = narrowed(r.Scope, issued.Scope)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s for a token: %w", c.origin, err)
	}
	return issued, nil
}

// form returns the parameters of RFC 8693 section 2.1, and expires_in.
func (r Request) form() (url.Values, error) {
	if !auth.IsBearerToken(r.Subject) {
		return nil, errors.New("what should be exchanged is no token: it is empty or longer than 32 KiB, or has characters that no token has")
	}
	kind := r.SubjectType
	if kind == "" {
		kind = guessType(r.Subject)
	}
	form := url.Values{
		"grant_type":         {grantType},
		"subject_token":      {r.Subject},
		"subject_token_type": {tokenTypePrefix + kind},
	}
	if r.Actor != "" {
		if !auth.IsBearerToken(r.Actor) {
			return nil, errors.New("the actor's token is no token: it is longer than 32 KiB, or has characters that no token has")
		}
		form.Set("actor_token", r.Actor)
		form.Set("actor_token_type", tokenTypePrefix+guessType(r.Actor))
	}
	if r.Resource != "" {
		form.Set("resource", r.Resource)
	}
	if r.Scope != "" {
		form.Set("scope", r.Scope)
	}
	if len(r.Audiences) > 0 {
		form["audience"] = r.Audiences
	}
	if r.Lifetime > 0 {
		form.Set("expires_in", strconv.FormatInt(int64(r.Lifetime/time.Second), 10))
	}
	return form, nil
}

// guessType tells a JWT from another token by its form alone.
func guessType(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) == 3 && parts[0] != "" && parts[1] != "" && parts[2] != "" {
		return jwtType
	}
	return accessTokenType
}
