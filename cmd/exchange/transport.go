package exchange

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// maxBody is the longest answer that is read, in bytes.
const maxBody = 64 << 10

// metadataPath is that of RFC 8414 section 3, of an issuer without a path.
const metadataPath = "/.well-known/oauth-authorization-server"

// newHTTPClient returns a client that follows no redirect, as one could send the
// token to somebody else. How long it waits is up to the context.
func newHTTPClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxBody,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// received is an answer that was read to its end.
type received struct {
	status int
	header http.Header
	body   []byte
}

// send asks and reads the whole answer. Its errors name no URL: that of GitHub's
// endpoint is for the job alone.
func send(client *http.Client, r *http.Request) (*received, error) {
	r.Header.Set("Accept", "application/json")
	resp, err := client.Do(r)
	if err != nil {
		return nil, shown{withoutURL(err)}
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		return nil, fmt.Errorf("it answered %d and sent us elsewhere, which is not followed", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", shown{err})
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("its answer is longer than %d bytes", maxBody)
	}
	return &received{status: resp.StatusCode, header: resp.Header, body: body}, nil
}

// shown is an error that may quote what somebody else wrote, such as the names of
// a certificate that is not trusted yet.
type shown struct{ error }

func (s shown) Error() string { return printable(s.error.Error()) }

func (s shown) Unwrap() error { return s.error }

func withoutURL(err error) error {
	if asked, ok := errors.AsType[*url.Error](err); ok {
		return asked.Err
	}
	return err
}

// object reads the body, a JSON object, into v. Names are compared to the letter
// and may not repeat. The error quotes nothing.
func (r *received) object(v any) error {
	if kind, _, err := mime.ParseMediaType(r.header.Get("Content-Type")); err != nil || kind != "application/json" {
		return fmt.Errorf("it answered %d with something else than JSON: is this the URL of an exchange?", r.status)
	}
	if err := josejson.Unmarshal(r.body, v); err != nil {
		return fmt.Errorf("it answered %d with JSON of another form", r.status)
	}
	return nil
}

// endpoint returns the URL of the token endpoint (RFC 8414), once it is sure that
// it belongs to who was asked: the issuer is the one that was meant (section 3.3),
// and the token stays within the origin.
func (c *Client) endpoint(ctx context.Context) (string, error) {
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, c.origin+metadataPath, nil)
	if err != nil {
		return "", err
	}
	got, err := send(c.http, ask)
	if err != nil {
		return "", err
	}
	if got.status != http.StatusOK {
		return "", fmt.Errorf("it answered %d: is this the URL of an exchange?", got.status)
	}
	return parseMetadata(got, c.origin)
}

func parseMetadata(got *received, origin string) (string, error) {
	var metadata struct {
		Issuer   string   `json:"issuer"`
		Endpoint string   `json:"token_endpoint"`
		Grants   []string `json:"grant_types_supported"`
	}
	if err := got.object(&metadata); err != nil {
		return "", err
	}
	if metadata.Issuer != origin {
		return "", fmt.Errorf("it names another issuer, %s: use the URL that the operator gave you, to the letter", printable(metadata.Issuer))
	}
	u, err := url.Parse(metadata.Endpoint)
	switch {
	case err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || originOf(u) != originOf(mustParse(origin)):
		return "", errors.New("its token endpoint is at another origin, to which no token is sent")
	case metadata.Grants != nil && !slices.Contains(metadata.Grants, grantType):
		return "", errors.New("it does not exchange tokens: the grant is not among grant_types_supported")
	}
	return u.String(), nil
}

// mustParse returns a URL that [New] has parsed before.
func mustParse(origin string) *url.URL {
	u, err := url.Parse(origin)
	if err != nil {
		return &url.URL{}
	}
	return u
}

// originOf returns host and port of an https URL, written in one way.
func originOf(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}
