// Package pki puts what auth/authtest makes into the files that servers and
// kubeconfigs name: authorities, serving and client pairs, a signing key.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// Authority signs certificates. Its own certificate is in CAFile.
type Authority struct {
	*authtest.CA
	CAFile string

	dir string
}

// Pair is a certificate and its key, as files.
type Pair struct{ CertFile, KeyFile string }

// NewAuthority makes an authority that writes its files, NAME.crt and those of
// the pairs it issues, to dir, which it creates.
func NewAuthority(dir, name string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make authority %s: %w", name, err)
	}
	ca, err := authtest.NewCA(name)
	if err != nil {
		return nil, err
	}
	a := &Authority{CA: ca, CAFile: filepath.Join(dir, name+".crt"), dir: dir}
	return a, WriteFile(a.CAFile, ca.PEM())
}

// Loopback issues a serving pair for the loopback address as NAME.crt and
// NAME.key. Issuing a name again replaces the files, the key first, each in one
// step.
func (a *Authority) Loopback(name string) (Pair, error) {
	pair, err := a.Server("127.0.0.1", "localhost")
	if err != nil {
		return Pair{}, err
	}
	return a.write(name, pair)
}

// User issues a client pair that names a user and groups, as NAME.crt and
// NAME.key.
func (a *Authority) User(name, user string, groups ...string) (Pair, error) {
	pair, err := a.Client(user, groups...)
	if err != nil {
		return Pair{}, err
	}
	return a.write(name, pair)
}

// Signer writes the authority's own pair as NAME.crt and NAME.key, for a process
// that signs in its name.
func (a *Authority) Signer(name string) (Pair, error) {
	pair, err := a.Pair()
	if err != nil {
		return Pair{}, err
	}
	return a.write(name, pair)
}

func (a *Authority) write(name string, pair authtest.Pair) (Pair, error) {
	p := Pair{filepath.Join(a.dir, name+".crt"), filepath.Join(a.dir, name+".key")}
	if err := WriteFile(p.KeyFile, pair.Key); err != nil {
		return Pair{}, err
	}
	return p, WriteFile(p.CertFile, pair.Cert)
}

// Key writes a fresh private key to the file name in dir and returns its path.
func Key(dir, name string) (string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return "", fmt.Errorf("make key %s: %w", name, err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return "", fmt.Errorf("make key %s: %w", name, err)
	}
	path := filepath.Join(dir, name)
	return path, WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

// WriteFile replaces the file at path in one step, readable by its owner alone.
func WriteFile(path string, b []byte) error {
	temporary := path + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
