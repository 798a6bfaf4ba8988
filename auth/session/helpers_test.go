package session_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
	"github.com/kube-gatehouse/gatehouse/auth/session"
)

const exchange = "https://exchange.example.com"

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeKey(t testing.TB, file string, key *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, file, "PRIVATE KEY", der)
}

func writePEM(t testing.TB, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// world is Sessions with a key and a clock.
type world struct {
	*session.Sessions
	dir   string
	key   *ecdsa.PrivateKey
	clock *authtest.Clock
	gone  map[string]bool // issuers that are not configured any more
}

func newWorld(t testing.TB, edits ...func(*session.Config)) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), key: newKey(t), clock: authtest.NewClock(), gone: map[string]bool{}}
	cfg := session.Config{
		Issuer: exchange, MaxLifetime: time.Hour, Now: w.clock.Now,
		Stands: func(id *auth.Identity) error {
			if w.gone[id.Issuer] {
				return errors.New("its issuer is gone")
			}
			return nil
		},
	}
	for _, edit := range edits {
		edit(&cfg)
	}
	var err error
	if w.Sessions, err = session.New(cfg); err != nil {
		t.Fatal(err)
	}
	writeKey(t, filepath.Join(w.dir, session.SigningFile), w.key)
	w.load(t)
	return w
}

func (w *world) load(t testing.TB) {
	t.Helper()
	keys, err := session.LoadKeys(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.SetKeys(keys)
}

// alice is who signed in by an ID token of ten minutes.
func (w *world) alice() *auth.Identity {
	return &auth.Identity{
		Kind: auth.KindOIDC, Issuer: "https://login.example.com", Expires: w.clock.Now().Add(10 * time.Minute),
		User: auth.User{
			Name: "oidc:alice", UID: "7", Groups: []string{"oidc:dev"},
			Extra: map[string][]string{"example.com/team": {"a"}, auth.CredentialIDKey: {"JTI=first"}},
		},
		Credential: auth.Credential{IDs: []string{"JTI=first"}, Subject: "42", Issued: w.clock.Now().Add(-time.Minute).Truncate(time.Second)},
	}
}

// agent is who acts for others.
func (w *world) agent() *auth.Identity {
	return &auth.Identity{
		Kind: auth.KindOIDC, Issuer: "https://ci.example.com", Expires: w.clock.Now().Add(20 * time.Minute), User: auth.User{Name: "ci:agent"},
		Credential: auth.Credential{IDs: []string{"JTI=agent"}, Subject: "bot", Issued: w.clock.Now().Truncate(time.Second)},
	}
}

func parse(t testing.TB, text string) scope.Scope {
	t.Helper()
	s, err := scope.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (w *world) issue(t testing.TB, g session.Grant) session.Issued {
	t.Helper()
	issued, err := w.Issue(g)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

func (w *world) who(t testing.TB, token string) *auth.Identity {
	t.Helper()
	id, err := w.AuthenticateToken(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// forge signs claims with a key, whatever they are.
func forge(t testing.TB, key any, alg jose.SignatureAlgorithm, kid string, header map[string]any, claims any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	for name, value := range header {
		options = options.WithHeader(jose.HeaderKey(name), value)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: jose.JSONWebKey{Key: key, KeyID: kid}}, options)
	if err != nil {
		t.Fatal(err)
	}
	payload, ok := claims.([]byte)
	if !ok {
		if payload, err = json.Marshal(claims); err != nil {
			t.Fatal(err)
		}
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// claimsOf returns what a token says.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(signed.UnsafePayloadWithoutVerification(), &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}
