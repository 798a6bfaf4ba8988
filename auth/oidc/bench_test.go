package oidc_test

import (
	"fmt"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
)

// employee are the claims of an ordinary ID token, of about 1.3 KB once signed.
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

func BenchmarkUncachedRS256(b *testing.B) { benchmarkUncached(b, jose.RS256) }
func BenchmarkUncachedES256(b *testing.B) { benchmarkUncached(b, jose.ES256) }

func benchmarkUncached(b *testing.B, alg jose.SignatureAlgorithm) {
	w := newWorld(b, func(c *oidc.Config, real *authtest.Issuer) {
		c.Algorithms = []string{string(alg)}
		real.Publish(newKeyOf(b, "key-1", alg))
	})
	token := w.real.Token(employee(1))
	b.ReportMetric(float64(len(token)), "token-bytes")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.issuers.AuthenticateToken(b.Context(), token); err != nil {
			b.Fatal(err)
		}
	}
}
