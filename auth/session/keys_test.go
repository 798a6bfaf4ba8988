package session_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/session"
)

// Promise: what cannot be used as a key is found at the start, with its file, and
// nothing of a private key is quoted or published.
func TestLoadKeys(t *testing.T) {
	key := newKey(t)
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&newKey(t).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	large, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	rsaDER, err := x509.MarshalPKCS8PrivateKey(rsaKey)
	if err != nil {
		t.Fatal(err)
	}
	signing := func(t *testing.T, dir string) { writeKey(t, filepath.Join(dir, session.SigningFile), key) }
	for name, test := range map[string]struct {
		write func(t *testing.T, dir string)
		keys  int
		fault string
	}{
		"one": {signing, 1, ""},
		"SEC 1": {func(t *testing.T, dir string) {
			writePEM(t, filepath.Join(dir, session.SigningFile), "EC PRIVATE KEY", sec1)
		}, 1, ""},
		"a public": {func(t *testing.T, dir string) {
			signing(t, dir)
			writePEM(t, filepath.Join(dir, "old.pem"), "PUBLIC KEY", public)
		}, 2, ""},
		"other files": {func(t *testing.T, dir string) {
			signing(t, dir)
			if err := os.WriteFile(filepath.Join(dir, "README"), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 1, ""},

		"none":            {func(*testing.T, string) {}, 0, "signing.pem: file does not exist"},
		"none that signs": {func(t *testing.T, dir string) { writeKey(t, filepath.Join(dir, "next.pem"), key) }, 0, "signing.pem: file does not exist"},
		"a public one that should sign": {func(t *testing.T, dir string) {
			writePEM(t, filepath.Join(dir, session.SigningFile), "PUBLIC KEY", public)
		}, 0, "signing.pem: holds a public key"},
		"another curve": {func(t *testing.T, dir string) { writeKey(t, filepath.Join(dir, session.SigningFile), large) }, 0, "signing.pem: holds no key that can be used"},
		"RSA": {func(t *testing.T, dir string) {
			writePEM(t, filepath.Join(dir, session.SigningFile), "PRIVATE KEY", rsaDER)
		}, 0, "signing.pem: holds no key that can be used"},
		"two faults": {func(t *testing.T, dir string) {
			signing(t, dir)
			for _, name := range []string{"a.pem", "b.pem"} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("secret-canary"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}, 0, "a.pem: holds no key"},
		"two keys in a file": {func(t *testing.T, dir string) {
			signing(t, dir)
			file := filepath.Join(dir, session.SigningFile)
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, append(content, content...), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 0, "signing.pem: holds no key that can be used"},
		"too many": {func(t *testing.T, dir string) {
			signing(t, dir)
			for i := range 16 {
				writeKey(t, filepath.Join(dir, fmt.Sprintf("%d.pem", i)), key)
			}
		}, 0, "the limit is 16"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			test.write(t, dir)
			keys, err := session.LoadKeys(dir)
			if test.fault != "" {
				if err == nil || !strings.Contains(err.Error(), test.fault) || strings.Contains(err.Error(), "canary") {
					t.Fatalf("%v, want %q", err, test.fault)
				}
				if name == "two faults" && !strings.Contains(err.Error(), "b.pem") {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			published, err := json.Marshal(keys.Public())
			if err != nil || len(keys.Public().Keys) != test.keys {
				t.Fatalf("%d keys, %v", len(keys.Public().Keys), err)
			}
			if strings.Contains(string(published), `"d"`) {
				t.Error("a private key is published")
			}
		})
	}
}
