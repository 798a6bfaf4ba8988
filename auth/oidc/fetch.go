package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
)

// Bounds on what an issuer can make us read and wait for.
const (
	maxBody      = 1 << 20
	maxKeys      = 128
	maxRedirects = 3
	fetchTimeout = 10 * time.Second
	minRSABits   = 2048
	maxRSABits   = 8192
)

// googleIssuer publishes its keys on another origin, as everybody knows.
const (
	googleIssuer  = "https://accounts.google.com"
	googleKeyHost = "https://www.googleapis.com"
)

// newClient returns a client that reaches an issuer and nothing else: no proxy
// of the environment, no cookies, no redirect to another origin.
func newClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: fetchTimeout / 2}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    fetchTimeout / 2,
			MaxResponseHeaderBytes: 64 << 10,
			IdleConnTimeout:        time.Minute,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			if origin(req.URL) != origin(via[0].URL) {
				return fmt.Errorf("redirect to another origin, %.200s, not followed", origin(req.URL))
			}
			return nil
		},
	}
}

// origin returns scheme, host and port, written in one way.
func origin(u *url.URL) string {
	return u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), ":443")
}

// getJSON reads one bounded JSON document into v. Errors do not quote the body.
// It asks for no media type: kube-apiserver, as an issuer, answers 406 to who
// does not name application/jwk-set+json, and others answer so to who does.
func getJSON(ctx context.Context, client *http.Client, from string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: status %d", from, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return fmt.Errorf("get %s: %w", from, err)
	}
	if len(body) > maxBody {
		return fmt.Errorf("get %s: more than %d bytes", from, maxBody)
	}
	if err := josejson.Unmarshal(body, v); err != nil {
		return fmt.Errorf("get %s: not the JSON document that was expected", from)
	}
	return nil
}

// discover returns the issuer's jwks_uri (OpenID Connect Discovery 1.0 section 4).
func (i *Issuer) discover(ctx context.Context) (string, error) {
	var doc struct {
		Issuer  string `json:"issuer"`
		JWKSURI string `json:"jwks_uri"`
	}
	from := i.cfg.DiscoveryURL
	if from == "" {
		from = strings.TrimSuffix(i.url, "/") + "/.well-known/openid-configuration"
	}
	if err := getJSON(ctx, i.client, from, &doc); err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	if doc.Issuer != i.url {
		return "", fmt.Errorf("discovery: the document names the issuer %.200q, not %q", doc.Issuer, i.url)
	}
	if err := i.acceptKeysURL(doc.JWKSURI); err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	return doc.JWKSURI, nil
}

// acceptKeysURL refuses a jwks_uri that leaves the issuer's origin, unless the
// operator allowed where it leads.
func (i *Issuer) acceptKeysURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("jwks_uri %.200q is not an https URL", raw)
	}
	switch to := origin(u); {
	case slices.Contains(i.ownOrigins(), to), slices.Contains(i.cfg.KeyOrigins, to):
	case i.url == googleIssuer && to == googleKeyHost:
	default:
		return fmt.Errorf("jwks_uri is on another origin, %.200s: add it to GATEHOUSE_JWKS_ORIGINS if you trust it", to)
	}
	return nil
}

// ownOrigins are those that the operator named for this issuer.
func (i *Issuer) ownOrigins() []string {
	var origins []string
	for _, raw := range []string{i.url, i.cfg.DiscoveryURL} {
		if u, err := url.Parse(raw); err == nil && raw != "" {
			origins = append(origins, origin(u))
		}
	}
	return origins
}

// errNoKeys says that an issuer publishes a key set in which no key can verify
// a signature: nothing that it ever signed is good any more.
var errNoKeys = errors.New("keys: the key set has no key that could verify a signature")

// fetchKeys reads the key set (RFC 7517 section 5) and keeps the keys that can
// verify a signature. With errNoKeys the list is empty, but not nil.
func (i *Issuer) fetchKeys(ctx context.Context, from string) ([]jose.JSONWebKey, error) {
	var set struct {
		Keys []josejson.RawMessage `json:"keys"`
	}
	if err := getJSON(ctx, i.client, from, &set); err != nil {
		return nil, fmt.Errorf("keys: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New("keys: the document has no key set")
	}
	if len(set.Keys) > maxKeys {
		return nil, fmt.Errorf("keys: %d keys, the limit is %d", len(set.Keys), maxKeys)
	}
	keys := []jose.JSONWebKey{}
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		// A key of a kind unknown here is ignored (RFC 7517 section 5).
		if err := key.UnmarshalJSON(raw); err == nil && usable(&key) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return keys, errNoKeys
	}
	return keys, nil
}

func usable(key *jose.JSONWebKey) bool {
	if (key.Use != "" && key.Use != "sig") || !key.IsPublic() || !key.Valid() {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		bits := public.N.BitLen()
		return bits >= minRSABits && bits <= maxRSABits
	case *ecdsa.PublicKey:
		return true
	default:
		return false
	}
}

// fits reports whether key may verify a signature by alg.
func fits(key *jose.JSONWebKey, alg string) bool {
	if key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return alg[0] == 'R' || alg[0] == 'P'
	case *ecdsa.PublicKey:
		switch public.Curve.Params().BitSize {
		case 256:
			return alg == "ES256"
		case 384:
			return alg == "ES384"
		default:
			return alg == "ES512" && public.Curve.Params().BitSize == 521
		}
	default:
		return false
	}
}
