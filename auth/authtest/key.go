package authtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // the hashes that crypto.Hash.New finds
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"

	jose "github.com/go-jose/go-jose/v4"
)

// Key signs tokens. Its fields may be changed before it is published, to lie
// about the key.
type Key struct {
	ID        string
	Algorithm jose.SignatureAlgorithm
	Use       string // `use` of the published key
	signer    crypto.Signer
}

// NewKey makes a key for one of RS, PS or ES 256/384/512.
func NewKey(id string, alg jose.SignatureAlgorithm) (*Key, error) {
	var signer crypto.Signer
	var err error
	switch alg {
	case jose.ES256:
		signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case jose.ES384:
		signer, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case jose.ES512:
		signer, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512:
		signer, err = rsa.GenerateKey(rand.Reader, 2048)
	default:
		return nil, fmt.Errorf("no key for algorithm %q", alg)
	}
	if err != nil {
		return nil, fmt.Errorf("make %s key: %w", alg, err)
	}
	return &Key{ID: id, Algorithm: alg, Use: "sig", signer: signer}, nil
}

// JWK returns the public key as an issuer publishes it.
func (k *Key) JWK() jose.JSONWebKey {
	return jose.JSONWebKey{Key: k.signer.Public(), KeyID: k.ID, Algorithm: string(k.Algorithm), Use: k.Use}
}

// Sign returns a compact JWS with the usual header for k.
func (k *Key) Sign(payload []byte) string {
	header := map[string]any{"alg": string(k.Algorithm), "typ": "JWT"}
	if k.ID != "" {
		header["kid"] = k.ID
	}
	return k.SignHeader(header, payload)
}

// SignHeader returns a compact JWS with any header. The signature is made with
// k, whatever the header says.
func (k *Key) SignHeader(header map[string]any, payload []byte) string {
	raw, err := json.Marshal(header)
	if err != nil {
		panic(fmt.Sprintf("authtest: header: %v", err))
	}
	return k.SignBytes(raw, payload)
}

// SignBytes returns a compact JWS over exactly these bytes.
func (k *Key) SignBytes(header, payload []byte) string {
	signed := base64.RawURLEncoding.EncodeToString(header) + "." + base64.RawURLEncoding.EncodeToString(payload)
	return signed + "." + base64.RawURLEncoding.EncodeToString(k.signature([]byte(signed)))
}

// signature panics on failure: a test key always can sign, and callers want a
// token in an expression.
func (k *Key) signature(signed []byte) []byte {
	hash := map[byte]crypto.Hash{'2': crypto.SHA256, '3': crypto.SHA384, '5': crypto.SHA512}[k.Algorithm[2]]
	h := hash.New()
	h.Write(signed)
	digest := h.Sum(nil)

	var out []byte
	var err error
	switch key := k.signer.(type) {
	case *ecdsa.PrivateKey:
		r, s, signErr := ecdsa.Sign(rand.Reader, key, digest)
		if signErr != nil {
			panic(fmt.Sprintf("authtest: sign: %v", signErr))
		}
		size := (key.Curve.Params().BitSize + 7) / 8
		out = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	case *rsa.PrivateKey:
		var opts crypto.SignerOpts = hash
		if k.Algorithm[0] == 'P' {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		out, err = key.Sign(rand.Reader, digest, opts)
	}
	if err != nil {
		panic(fmt.Sprintf("authtest: sign: %v", err))
	}
	return out
}
