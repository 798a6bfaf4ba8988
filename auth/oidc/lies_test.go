package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// Promise: only keys that can be trusted with a signature count.
func TestUnfitKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	encryption := newKey(t, "encryption")
	encryption.Use = "enc"
	wrongAlg := newKey(t, "wrong-alg")
	for name, set := range map[string]any{
		"weak":       map[string]any{"keys": []any{jose.JSONWebKey{Key: weak.Public(), KeyID: "key-1"}}},
		"symmetric":  map[string]any{"keys": []any{map[string]any{"kty": "oct", "kid": "key-1", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"}}},
		"private":    map[string]any{"keys": []any{jose.JSONWebKey{Key: weak, KeyID: "key-1"}}},
		"encryption": map[string]any{"keys": []any{encryption.JWK()}},
		"empty":      map[string]any{"keys": []any{}},
		"null":       map[string]any{"keys": nil},
		"no keys":    map[string]any{},
		"list":       []any{},
		"too many":   map[string]any{"keys": manyKeys(wrongAlg, 200)},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t, func(_ *oidc.Config, real *authtest.Issuer) {
				real.ServeKeySet(func(rw http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(rw).Encode(set) })
			})
			if w.nextFetch() {
				t.Error("the key set was accepted")
			}
			if _, reason := w.ask(w.real.Token(nil)); reason != auth.IssuerUnavailable && reason != auth.UnknownKey {
				t.Errorf("refused with %q", reason)
			}
		})
	}
}

func manyKeys(key *authtest.Key, n int) []any {
	keys := make([]any, n)
	for i := range keys {
		keys[i] = key.JWK()
	}
	return keys
}

// Promise: a bad key set, however it is bad, leaves the last good one in use.
func TestBadKeySetKeepsTheLast(t *testing.T) {
	w := newWorld(t, nil)
	good := w.real.Token(authtest.Claims{"exp": w.clock.Now().Add(time.Hour).Unix()})
	stranger := newKey(t, "new")
	for name, serve := range map[string]http.HandlerFunc{
		"not JSON": func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "<html>") },
		"error":    func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "{}", http.StatusInternalServerError) },
		"created":  func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusCreated) },
		"too large": func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(rw, `{"keys":[],"x":%q}`, strings.Repeat("x", 2<<20))
		},
		"cut off": func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Length", "1000")
			fmt.Fprint(rw, `{"keys":[`)
		},
		"redirect elsewhere": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "https://localhost:1/keys", http.StatusFound)
		},
		"redirect for ever": func(rw http.ResponseWriter, r *http.Request) {
			http.Redirect(rw, r, "/keys", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := *w
			w.t = t
			w.real.ServeKeySet(serve)
			w.clock.Advance(pastThePause)
			w.want(stranger.Sign(w.real.Payload(nil)), auth.UnknownKey)
			w.want(good, "")
			if err := w.view.Status().Err; err == nil {
				t.Error("the status shows no error")
			} else if strings.Contains(err.Error(), "<html>") || len(err.Error()) > 500 {
				t.Errorf("the error quotes the body: %.600s", err)
			}
		})
	}
}

// Promise: never follows a URL that an issuer chose to another origin.
func TestKeyOrigin(t *testing.T) {
	elsewhere := newWorld(t, nil)
	moved := func(doc map[string]any) { doc["jwks_uri"] = elsewhere.real.URL + "/keys" }
	w := startWorld(t, func(_ *oidc.Config, real *authtest.Issuer) { real.EditDiscovery(moved) })
	before := elsewhere.real.KeyFetches.Load()
	if w.nextFetch() {
		t.Error("keys of another origin were accepted")
	}
	if elsewhere.real.KeyFetches.Load() != before {
		t.Error("another origin was asked")
	}
	if err := w.view.Status().Err; err == nil || !strings.Contains(err.Error(), "GATEHOUSE_JWKS_ORIGINS") {
		t.Errorf("status %v does not say what to do", err)
	}

	allowed := newWorld(t, func(c *oidc.Config, real *authtest.Issuer) {
		real.EditDiscovery(moved)
		c.KeyOrigins = []string{elsewhere.real.URL}
		roots := elsewhere.ca.Pool()
		roots.AppendCertsFromPEM(real.CertificatePEM())
		c.Roots = roots
	})
	allowed.want(elsewhere.real.Key().Sign(allowed.real.Payload(nil)), "")
}

// Promise: the discovery document is asked for where the operator says, and its
// keys may be there too; the issuer it names is still the configured one.
func TestDiscoveryURL(t *testing.T) {
	elsewhere := newWorld(t, nil)
	w := newWorld(t, func(c *oidc.Config, _ *authtest.Issuer) {
		elsewhere.real.EditDiscovery(func(doc map[string]any) { doc["issuer"] = c.URL })
		c.DiscoveryURL = elsewhere.real.URL + "/.well-known/openid-configuration"
		c.Roots = elsewhere.ca.Pool()
	})
	if w.real.DiscoveryFetches.Load() != 0 || w.real.KeyFetches.Load() != 0 {
		t.Error("the issuer itself was asked")
	}
	w.want(elsewhere.real.Key().Sign(w.real.Payload(nil)), "")
	w.want(elsewhere.real.Token(nil), "not mine")

	elsewhere.real.EditDiscovery(nil)
	w = startWorld(t, func(c *oidc.Config, _ *authtest.Issuer) {
		c.DiscoveryURL = elsewhere.real.URL + "/.well-known/openid-configuration"
		c.Roots = elsewhere.ca.Pool()
	})
	if w.nextFetch() {
		t.Error("a document that names another issuer was believed")
	}
}

// Promise: a discovery document that names another issuer, or keys without
// TLS, is not believed.
func TestDiscoveryLies(t *testing.T) {
	for name, edit := range map[string]func(map[string]any){
		"other issuer":     func(doc map[string]any) { doc["issuer"] = "https://elsewhere.example" },
		"issuer and slash": func(doc map[string]any) { doc["issuer"] = doc["issuer"].(string) + "/" },
		"no issuer":        func(doc map[string]any) { delete(doc, "issuer") },
		"no jwks_uri":      func(doc map[string]any) { delete(doc, "jwks_uri") },
		"http jwks_uri":    func(doc map[string]any) { doc["jwks_uri"] = "http://127.0.0.1/keys" },
		"file jwks_uri":    func(doc map[string]any) { doc["jwks_uri"] = "file:///etc/passwd" },
		"userinfo": func(doc map[string]any) {
			doc["jwks_uri"] = strings.Replace(doc["jwks_uri"].(string), "//", "//a:b@", 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := startWorld(t, func(_ *oidc.Config, real *authtest.Issuer) { real.EditDiscovery(edit) })
			if w.nextFetch() || w.real.KeyFetches.Load() != 0 {
				t.Error("the document was believed")
			}
			w.want(w.real.Token(nil), auth.IssuerUnavailable)
		})
	}
}

// Promise: an issuer whose certificate is not trusted is not asked for keys.
func TestUntrustedIssuer(t *testing.T) {
	w := startWorld(t, func(c *oidc.Config, _ *authtest.Issuer) { c.Roots = nil })
	if w.nextFetch() {
		t.Error("an untrusted certificate was accepted")
	}
}
