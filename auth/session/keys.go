package session

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	jose "github.com/go-jose/go-jose/v4"
)

// SigningFile is the file of the directory whose key signs.
const SigningFile = "signing.pem"

const (
	maxKeys    = 16
	maxKeyFile = 64 << 10
)

// Keys are those that session tokens are signed and verified with. They do not
// change.
type Keys struct {
	signer jose.Signer
	public map[string]*ecdsa.PublicKey // by `kid`
	order  []string                    // the kids, the signing one first
	// Files are those that were read.
	Files []string
}

// LoadKeys reads the keys of a directory: that of SigningFile, which signs, and
// every other file with the ending .pem, which only verifies. Each holds one key
// of the curve P-256: a private one (PKCS #8 or SEC 1), or, but for SigningFile,
// a public one. The error joins one for each fault; none quotes what a file holds.
func LoadKeys(dir string) (*Keys, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.pem"))
	if err != nil {
		return nil, fmt.Errorf("look for keys in %s: %w", dir, err)
	}
	signing := filepath.Join(dir, SigningFile)
	if !slices.Contains(files, signing) {
		return nil, &fs.PathError{Op: "open", Path: signing, Err: fs.ErrNotExist}
	}
	if len(files) > maxKeys {
		return nil, fmt.Errorf("%s holds %d keys, the limit is %d: take away those with which nothing is signed that is still good", dir, len(files), maxKeys)
	}
	slices.SortFunc(files, func(a, b string) int { // the signing one first
		switch {
		case a == signing:
			return -1
		case b == signing:
			return 1
		default:
			return strings.Compare(a, b)
		}
	})
	k := &Keys{public: map[string]*ecdsa.PublicKey{}, Files: files}
	var faults []error
	for _, file := range files {
		if err := k.add(file, file == signing); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", file, err))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Keys) add(file string, signs bool) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if info.Size() > maxKeyFile {
		return fmt.Errorf("has more than %d bytes", maxKeyFile)
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	private, public, err := parseKey(content)
	if err != nil {
		return err
	}
	id, err := thumbprint(public)
	if err != nil {
		return err
	}
	if k.public[id] == nil { // while keys change, one may stand in two files
		k.order = append(k.order, id)
	}
	k.public[id] = public
	if !signs {
		return nil
	}
	if private == nil {
		return errors.New("holds a public key: the one that signs must be private")
	}
	k.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: private, KeyID: id, Algorithm: string(jose.ES256)}},
		(&jose.SignerOptions{}).WithType(tokenType))
	return err
}

var errKey = errors.New("holds no key that can be used: one of the curve P-256 is needed, in PEM, as `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256` makes it")

func parseKey(content []byte) (*ecdsa.PrivateKey, *ecdsa.PublicKey, error) {
	block, rest := pem.Decode(content)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam writes it first
		block, rest = pem.Decode(rest)
	}
	if block == nil || strings.TrimSpace(string(rest)) != "" {
		return nil, nil, errKey
	}
	var key any
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	default:
		return nil, nil, errKey
	}
	if err != nil {
		return nil, nil, errKey // its own words could quote the key
	}
	private, _ := key.(*ecdsa.PrivateKey)
	public, _ := key.(*ecdsa.PublicKey)
	if private != nil {
		public = &private.PublicKey
	}
	if public == nil || public.Curve != elliptic.P256() {
		return nil, nil, errKey
	}
	return private, public, nil
}

// thumbprint is RFC 7638's, with SHA-256.
func thumbprint(public *ecdsa.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// Public returns the public keys, for whoever wants to verify a session token.
func (k *Keys) Public() jose.JSONWebKeySet {
	var set jose.JSONWebKeySet
	for _, id := range k.order {
		set.Keys = append(set.Keys, jose.JSONWebKey{Key: k.public[id], KeyID: id, Algorithm: string(jose.ES256), Use: "sig"})
	}
	return set
}
