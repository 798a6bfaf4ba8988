package main

import (
	"context"
	"path/filepath"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// wallet is a client certificate, the authority that issued it, and the list on
// which that authority revokes.
type wallet struct {
	ca   *authtest.CA
	pair authtest.Pair

	caFile, listFile, certFile, keyFile string
}

// newWallet issues a certificate for a user and groups into dir.
func newWallet(dir, user string, groups ...string) (*wallet, error) {
	ca, err := authtest.NewCA("people")
	if err != nil {
		return nil, err
	}
	w := &wallet{
		ca:       ca,
		caFile:   filepath.Join(dir, "people.crt"),
		listFile: filepath.Join(dir, "people.crl"),
		certFile: filepath.Join(dir, "grace.crt"),
		keyFile:  filepath.Join(dir, "grace.key"),
	}
	if w.pair, err = ca.Client(user, groups...); err != nil {
		return nil, err
	}
	for path, content := range map[string][]byte{w.caFile: ca.PEM(), w.certFile: w.pair.Cert, w.keyFile: w.pair.Key} {
		if err := pki.WriteFile(path, content); err != nil {
			return nil, err
		}
	}
	return w, w.list(1)
}

// list writes the revocation list of this number, with these certificates.
func (w *wallet) list(number int64, revoked ...authtest.Pair) error {
	content, err := w.ca.RevocationList(number, revoked...)
	if err != nil {
		return err
	}
	return pki.WriteFile(w.listFile, content)
}

func (w *wallet) user() kubeconfig.User {
	return kubeconfig.User{Name: grace, Namespace: "dev", CertFile: w.certFile, KeyFile: w.keyFile}
}

// revoke puts grace's certificate on the revocation list and waits until she is
// refused and her watch has ended: gatehouse promises that within 10 s.
func revoke(ctx context.Context, t *set) (string, error) {
	return endOf(ctx, t, grace, "was revoked", func() error { return t.wallet.list(2, t.wallet.pair) })
}
