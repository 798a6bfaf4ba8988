package clientcert_test

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"slices"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
)

type form struct {
	Signed, Algorithm asn1.RawValue
	Signature         asn1.BitString
}

// reencoded returns leaf with other bytes around its signed part.
func reencoded(t *testing.T, leaf *entity, change func(form) any) *x509.Certificate {
	t.Helper()
	var parts form
	if _, err := asn1.Unmarshal(leaf.cert.Raw, &parts); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(change(parts))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if clientcert.CredentialID(cert) == clientcert.CredentialID(leaf.cert) {
		t.Fatal("the fingerprint is the same")
	}
	return cert
}

// Promise: who holds a certificate cannot change the bytes around its signed
// part, and so its fingerprint, and still be accepted.
func TestOneEncoding(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice"))
	a := clientcert.New(clientcert.Config{Live: trusting(t, root.pem()), Now: at(now)})
	for name, change := range map[string]func(form) any{
		"appended": func(f form) any {
			return struct {
				Signed, Algorithm asn1.RawValue
				Signature         asn1.BitString
				More              int
			}{f.Signed, f.Algorithm, f.Signature, 7}
		},
		"signature moved by two bits": func(f form) any {
			bits := new(big.Int).SetBytes(f.Signature.Bytes) // begins with 0x30: two bits are free
			f.Signature = asn1.BitString{Bytes: bits.Lsh(bits, 2).Bytes(), BitLength: f.Signature.BitLength - 2}
			return f
		},
	} {
		changed := reencoded(t, leaf, change)
		if _, err := changed.Verify(x509.VerifyOptions{Roots: parseCAs(t, root.pem()).Pool(), CurrentTime: now, KeyUsages: changed.ExtKeyUsage}); err != nil {
			t.Errorf("%s: the library refuses it by itself: %v", name, err)
		}
		if identity, err := a.Authenticate(request(changed)); refusalOf(t, err).Reason != auth.BadCertificate {
			t.Errorf("%s: %+v, %v", name, identity, err)
		}
	}
}

// Promise: a certificate that carries the other of its two ECDSA signatures is
// found by the fingerprint of the first.
func TestTwinFingerprint(t *testing.T) {
	root := issue(t, nil, authority("root"))
	leaf := issue(t, root, client("alice"))
	twin := reencoded(t, leaf, func(f form) any {
		var signature struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(f.Signature.Bytes, &signature); err != nil {
			t.Fatal(err)
		}
		signature.S.Sub(elliptic.P256().Params().N, signature.S)
		bits, err := asn1.Marshal(signature)
		if err != nil {
			t.Fatal(err)
		}
		f.Signature = asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)}
		return f
	})
	a := clientcert.New(clientcert.Config{Live: trusting(t, root.pem(), root.crl(t, nil)), Now: at(now)})
	if _, err := a.Authenticate(request(twin)); err != nil {
		t.Errorf("the twin is as valid: %v", err)
	}
	a = clientcert.New(clientcert.Config{Live: trusting(t, root.pem(), root.crl(t, []*entity{leaf})), Now: at(now)})
	if _, err := a.Authenticate(request(twin)); refusalOf(t, err).Reason != auth.CertificateRevoked {
		t.Errorf("a CRL names the serial number: %v", err)
	}
	for _, pair := range [][2]*x509.Certificate{{leaf.cert, twin}, {twin, leaf.cert}} {
		ids := clientcert.CredentialIDs(pair[0])
		if ids[0] != clientcert.CredentialID(pair[0]) || !slices.Contains(ids[1:], clientcert.CredentialID(pair[1])) {
			t.Errorf("%q", ids)
		}
	}
}
