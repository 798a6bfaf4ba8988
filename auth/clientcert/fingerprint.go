package clientcert

import (
	"bytes"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
)

// certificateForm is the outer form of a certificate (RFC 5280 section 4.1).
type certificateForm struct {
	Signed    asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// CredentialID returns the value of the extra credential-id:
// X509SHA256=<hex SHA-256 of the DER>.
func CredentialID(cert *x509.Certificate) string { return credentialID(cert.Raw) }

func credentialID(der []byte) string {
	sum := sha256.Sum256(der)
	return "X509SHA256=" + hex.EncodeToString(sum[:])
}

// CredentialIDs returns every credential-id under which the holder of cert could
// present it, its own first. A list that denies certificates by fingerprint must
// look for all of them: of an ECDSA signature (r, s) anybody can make (r, n-s),
// which is as valid, and gives another fingerprint.
func CredentialIDs(cert *x509.Certificate) []string {
	ids := []string{CredentialID(cert)}
	var form certificateForm
	var signature struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(cert.Raw, &form); err != nil {
		return ids
	}
	if rest, err := asn1.Unmarshal(form.Signature.Bytes, &signature); err != nil || len(rest) > 0 {
		return ids // no ECDSA signature
	}
	// The order n is that of the issuer's key, which cert does not tell.
	for _, curve := range []elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		twin := signature
		twin.S = new(big.Int).Sub(curve.Params().N, signature.S)
		if twin.S.Sign() <= 0 {
			continue
		}
		bits, err := asn1.Marshal(twin)
		if err != nil {
			continue
		}
		form.Signature = asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)}
		if der, err := asn1.Marshal(form); err == nil {
			ids = append(ids, credentialID(der))
		}
	}
	return ids
}

// encodingFault says what is wrong with the bytes of a certificate around its
// signed part, or "". They are not signed: whoever holds a certificate could
// change them, and so its fingerprint, to pass by a list of denied ones.
func encodingFault(cert *x509.Certificate) string {
	var form certificateForm
	const fault = "the certificate is not in its one DER form"
	if rest, err := asn1.Unmarshal(cert.Raw, &form); err != nil || len(rest) > 0 {
		return fault
	}
	if form.Signature.BitLength%8 != 0 {
		return fault
	}
	if der, err := asn1.Marshal(form); err != nil || !bytes.Equal(der, cert.Raw) {
		return fault
	}
	return ""
}
