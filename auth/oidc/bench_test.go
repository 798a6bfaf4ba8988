package oidc_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/auth/tokenfile"
)

// employee are the claims of an ordinary ID token, of 1.3 KB when signed by an
// RSA key.
func employee(n int) authtest.Claims {
	groups := make([]string, 12)
	for i := range groups {
		groups[i] = fmt.Sprintf("team-%02d-of-the-platform", i)
	}
	return authtest.Claims{
		"sub": fmt.Sprintf("00u1a2b3c4D5e6F7g8h%d", n), "jti": fmt.Sprintf("ID.%032d", n),
		"email": "alice@example.com", "email_verified": true, "groups": groups,
		"nbf": time.Now().Unix(), "at_hash": "J2k3l4m5n6o7p8q9r0s1tA", "name": "Alice Example",
		"preferred_username": "alice@example.com",
	}
}

func benchWorld(b *testing.B, alg jose.SignatureAlgorithm) *world {
	return newWorld(b, func(c *oidc.Config, real *authtest.Issuer) {
		c.Algorithms = []string{string(alg)}
		c.Now = time.Now
		real.Publish(newKeyOf(b, "key-1", alg))
	})
}

func BenchmarkCached(b *testing.B) {
	w := benchWorld(b, jose.RS256)
	for name, claims := range map[string]authtest.Claims{"small": nil, "ordinary": employee(1)} {
		token := w.real.Token(claims)
		b.Run(fmt.Sprintf("%s/bytes=%d", name, len(token)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				mustAccept(b, w.issuers, token)
			}
		})
	}
}

// A thousand people at once.
func BenchmarkCachedParallel(b *testing.B) {
	w := benchWorld(b, jose.RS256)
	tokens := make([]string, 1000)
	for i := range tokens {
		tokens[i] = w.real.Token(employee(i))
		mustAccept(b, w.issuers, tokens[i])
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			mustAccept(b, w.issuers, tokens[i%len(tokens)])
		}
	})
}

func BenchmarkUncachedRS256(b *testing.B) { benchmarkUncached(b, jose.RS256) }

func BenchmarkUncachedES256(b *testing.B) { benchmarkUncached(b, jose.ES256) }

func benchmarkUncached(b *testing.B, alg jose.SignatureAlgorithm) {
	w := benchWorld(b, alg)
	for name, claims := range map[string]authtest.Claims{"small": nil, "ordinary": employee(1)} {
		token := w.real.Token(claims)
		b.Run(fmt.Sprintf("%s/bytes=%d", name, len(token)), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w.issuers.Forget()
				mustAccept(b, w.issuers, token)
			}
		})
	}
}

// What a stranger can make gatehouse do, beside an issuer that answers.
func BenchmarkForged(b *testing.B) {
	w := benchWorld(b, jose.RS256)
	payload := w.real.Payload(employee(1))
	good := w.real.Key().Sign(payload)
	mustAccept(b, w.issuers, good)
	for name, token := range map[string]string{
		"known key":    newKey(b, "key-1").Sign(payload),
		"unknown key":  newKey(b, "key-2").Sign(payload),
		"other issuer": newKey(b, "key-1").Sign(w.real.Payload(authtest.Claims{"iss": "https://issuer.example"})),
		"no JWT":       strings.Repeat("x", len(good)),
	} {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := w.issuers.AuthenticateToken(b.Context(), token); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

// What a request pays: its header, a token file that does not know the token,
// and the cache.
func BenchmarkBearer(b *testing.B) {
	w := benchWorld(b, jose.RS256)
	sum := sha256.Sum256([]byte("another token"))
	table, err := tokenfile.Parse([]byte("sha256:"+hex.EncodeToString(sum[:])+",ana,1\n"), auth.NamePolicy{})
	if err != nil {
		b.Fatal(err)
	}
	var live, issuers auth.Live
	live.Swap(table)
	issuers.Swap(w.issuers)
	bearer := auth.Bearer(&live, &issuers)
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "https://gatehouse.example/version", nil)
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+w.real.Token(employee(1)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := bearer.Authenticate(r); err != nil {
			b.Fatal(err)
		}
	}
}

func mustAccept(b *testing.B, issuers *oidc.Issuers, token string) {
	if _, err := issuers.AuthenticateToken(context.Background(), token); err != nil {
		b.Fatal(err)
	}
}
