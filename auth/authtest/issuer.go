package authtest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// Audience is the client id in the tokens that [Issuer.Token] makes.
const Audience = "gatehouse"

// Issuer is an OpenID Connect issuer: discovery, a key set, and tokens.
type Issuer struct {
	URL string // https://127.0.0.1:<port> and a path if it has one, also the `iss` of its tokens

	// DiscoveryFetches and KeyFetches count what was asked of it.
	DiscoveryFetches, KeyFetches atomic.Int64

	server *http.Server
	cert   []byte
	mu     sync.Mutex
	keys   []*Key
	down   bool
	edit   func(map[string]any)
	keySet http.HandlerFunc
}

// StartIssuer starts an issuer on listener, which it owns from then on, with
// one RS256 key "key-1". Its certificate is issued by ca for 127.0.0.1.
func StartIssuer(ca *CA, listener net.Listener) (*Issuer, error) {
	return startIssuer(ca, listener, "", http.NewServeMux())
}

// startIssuer starts an issuer whose URL has a path, beside what mux serves.
func startIssuer(ca *CA, listener net.Listener, path string, mux *http.ServeMux) (*Issuer, error) {
	key, err := NewKey("key-1", jose.RS256)
	if err != nil {
		return nil, err
	}
	pair, err := ca.Server("127.0.0.1", "localhost")
	if err != nil {
		return nil, err
	}
	cert, err := pair.TLS()
	if err != nil {
		return nil, fmt.Errorf("serve issuer: %w", err)
	}
	i := &Issuer{URL: "https://" + listener.Addr().String() + path, keys: []*Key{key}, cert: pair.Cert}
	mux.HandleFunc("GET "+path+"/.well-known/openid-configuration", i.serveDiscovery)
	mux.HandleFunc("GET "+path+"/keys", i.serveKeys)
	i.server = &http.Server{
		Handler:           i.unlessDown(mux),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0), // failed handshakes are what some tests want
	}
	go func() {
		if err := i.server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
			panic(fmt.Sprintf("authtest: issuer: %v", err))
		}
	}()
	return i, nil
}

// NewIssuer starts an issuer on a free port of 127.0.0.1.
func NewIssuer(ca *CA) (*Issuer, error) {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for issuer: %w", err)
	}
	return StartIssuer(ca, listener)
}

// CertificatePEM returns the certificate that the issuer serves.
func (i *Issuer) CertificatePEM() []byte { return i.cert }

// Close ends the issuer and its connections.
func (i *Issuer) Close() error { return i.server.Close() }

// SetDown makes every answer a 503, or ends that.
func (i *Issuer) SetDown(down bool) { i.set(func() { i.down = down }) }

// Publish replaces the published key set. The first key signs [Issuer.Token].
func (i *Issuer) Publish(keys ...*Key) { i.set(func() { i.keys = keys }) }

// EditDiscovery lets a test change the discovery document before it is sent.
func (i *Issuer) EditDiscovery(edit func(doc map[string]any)) { i.set(func() { i.edit = edit }) }

// ServeKeySet lets a test answer for the key set; nil gives the truth again.
func (i *Issuer) ServeKeySet(h http.HandlerFunc) { i.set(func() { i.keySet = h }) }

func (i *Issuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// Key returns the first published key.
func (i *Issuer) Key() *Key {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[0]
}

// Claims are the members of a token's payload. A nil value leaves a member
// out that [Issuer.Token] would set.
type Claims map[string]any

// Token signs a token for [Audience], issued now and valid for an hour.
// Claims are added, or take the place of `iss`, `aud`, `sub`, `iat` and `exp`.
func (i *Issuer) Token(claims Claims) string { return i.Key().Sign(i.Payload(claims)) }

// Payload returns the payload of [Issuer.Token].
func (i *Issuer) Payload(claims Claims) []byte {
	now := time.Now()
	all := Claims{
		"iss": i.URL, "aud": Audience, "sub": "subject-1",
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}
	maps.Copy(all, claims)
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	payload, err := json.Marshal(all)
	if err != nil {
		panic(fmt.Sprintf("authtest: claims: %v", err))
	}
	return payload
}

func (i *Issuer) unlessDown(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		down := i.down
		i.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (i *Issuer) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	i.DiscoveryFetches.Add(1)
	doc := map[string]any{
		"issuer":                                i.URL,
		"jwks_uri":                              i.URL + "/keys",
		"authorization_endpoint":                i.URL + "/auth",
		"token_endpoint":                        i.URL + "/token",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256", "ES256"},
	}
	i.mu.Lock()
	if i.edit != nil {
		i.edit(doc)
	}
	i.mu.Unlock()
	writeJSON(w, doc)
}

func (i *Issuer) serveKeys(w http.ResponseWriter, r *http.Request) {
	i.KeyFetches.Add(1)
	i.mu.Lock()
	keySet := i.keySet
	set := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{}}
	for _, key := range i.keys {
		set.Keys = append(set.Keys, key.JWK())
	}
	i.mu.Unlock()
	if keySet != nil {
		keySet(w, r)
		return
	}
	writeJSON(w, set)
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	// A failed write means that the asker has gone, which is its affair.
	_ = json.NewEncoder(w).Encode(v)
}
