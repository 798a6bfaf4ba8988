package oidc

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Claims is the payload of a token: JSON values as encoding/json decodes them
// into any.
type Claims map[string]any

// unverified is a token that has the form of an ID token. Nothing in it may be
// trusted before its signature is.
type unverified struct {
	raw    string
	claims Claims
	issuer string
	alg    string
	kid    string
	typ    string
	// fault is what the token's issuer would not have made: kept, so that the
	// issuer is known to whom it belongs.
	fault error
}

// errNotJWT says that a string is not even of the form of a JWT with an issuer.
var errNotJWT = errors.New("not a JWT with an issuer")

// parse reads a compact JWS (RFC 7515 section 7.1) whose payload is a JSON
// object with the string member `iss`. It is strict: names are
// case-sensitive and may not repeat, not even in another case of letters, and
// nothing may follow. No signature is checked.
func parse(token string) (*unverified, error) {
	headerPart, rest, _ := strings.Cut(token, ".")
	payloadPart, signature, found := strings.Cut(rest, ".")
	if !found || signature == "" || strings.Contains(signature, ".") {
		return nil, errNotJWT
	}
	claims, err := decodeObject(payloadPart)
	if err != nil {
		return parseLoosely(token, payloadPart, err)
	}
	issuer, ok := claims["iss"].(string)
	if !ok {
		return nil, errNotJWT
	}
	t := &unverified{raw: token, claims: claims, issuer: issuer}
	if err := foldedNames(claims, registeredClaims); err != nil {
		t.fault = errors.Join(t.fault, fmt.Errorf("payload: %w", err))
	}
	// go-jose would take it with other bits at its end, too.
	if _, err := decode(signature); err != nil {
		t.fault = errors.Join(t.fault, fmt.Errorf("signature: %w", err))
	}
	t.fault = errors.Join(t.fault, t.readHeader(headerPart))
	return t, nil
}

// parseLoosely keeps a token whose payload is not read here from being taken for
// somebody else's: it belongs to the issuer that any reader could find in it,
// and carries the fault for which that issuer's verdict is a refusal.
func parseLoosely(token, payload string, fault error) (*unverified, error) {
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return nil, errNotJWT
	}
	var claims struct {
		Issuer string `json:"iss"`
	}
	// A type that does not fit leaves what was read before it.
	if err := json.Unmarshal(raw, &claims); claims.Issuer == "" || err != nil && !json.Valid(raw) {
		return nil, errNotJWT
	}
	return &unverified{raw: token, issuer: claims.Issuer, fault: fmt.Errorf("payload: %w", fault)}, nil
}

// UnverifiedIssuer returns the `iss` of a token, or "" if it has none. It says
// nothing of who made the token.
func UnverifiedIssuer(token string) string {
	t, err := parse(token)
	if err != nil {
		return ""
	}
	return t.issuer
}

// UnverifiedSubject returns the `sub` of a token, or "" if it has none. It says
// nothing of who made the token.
func UnverifiedSubject(token string) string {
	t, err := parse(token)
	if err != nil {
		return ""
	}
	subject, _ := t.claims["sub"].(string)
	return subject
}

// UnverifiedExpiry returns the `exp` of a token, or the zero time if it has none.
// It says nothing of who made the token.
func UnverifiedExpiry(token string) time.Time {
	t, err := parse(token)
	if err != nil {
		return time.Time{}
	}
	expires, err := t.claims.date("exp")
	if err != nil {
		return time.Time{}
	}
	return expires
}

// registeredClaims are the claims that decide something here. A claim whose
// name differs from one of them in case alone is refused: another reader of
// the same token could take it for the real one.
var registeredClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "azp", "email", "email_verified",
	"cnf", "events", "_claim_names", "_claim_sources",
}

// headerNames are the header members with a meaning (RFC 7515 section 4.1, RFC
// 7516, RFC 7797).
var headerNames = []string{
	"alg", "kid", "typ", "cty", "crit", "b64", "zip", "enc", "epk", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256",
}

// forbiddenHeaders carry a key, or change how the token must be read.
var forbiddenHeaders = []string{"crit", "b64", "zip", "enc", "cty", "jku", "jwk", "x5u", "x5c"}

func (t *unverified) readHeader(part string) error {
	header, err := decodeObject(part)
	if err != nil {
		return fmt.Errorf("header: %w", err)
	}
	if err := foldedNames(header, headerNames); err != nil {
		return fmt.Errorf("header: %w", err)
	}
	for _, name := range forbiddenHeaders {
		if _, present := header[name]; present {
			return fmt.Errorf("header: %q is not accepted", name)
		}
	}
	var faults [3]error
	t.alg, faults[0] = textOf(header, "alg")
	t.kid, faults[1] = textOf(header, "kid")
	t.typ, faults[2] = textOf(header, "typ")
	return errors.Join(faults[:]...)
}

// textOf returns a member that must be a string, "" if it is absent.
func textOf(header map[string]any, name string) (string, error) {
	value, present := header[name]
	text, ok := value.(string)
	if present && !ok {
		return "", fmt.Errorf("header: %q is not a string", name)
	}
	return text, nil
}

// decode reads base64url in its one right form: encoding/base64 overlooks line
// breaks, even where it is strict.
func decode(part string) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || strings.ContainsAny(part, "\r\n") {
		return nil, errors.New("not base64url")
	}
	return raw, nil
}

// decodeObject decodes a base64url part into a JSON object. go-jose's decoder
// refuses repeated names at any depth, and bounds the depth.
func decodeObject(part string) (map[string]any, error) {
	raw, err := decode(part)
	if err != nil {
		return nil, err
	}
	if !utf8.Valid(raw) {
		return nil, errors.New("not valid UTF-8")
	}
	var object map[string]any
	if err := josejson.Unmarshal(raw, &object); err != nil {
		if fault, ok := errors.AsType[*josejson.UnmarshalTypeError](err); ok && strings.HasPrefix(fault.Value, "number") {
			return nil, errors.New("a number is too large to be read")
		}
		// The decoder's own words may quote the token.
		return nil, errors.New("not a JSON object with unique names")
	}
	if object == nil {
		return nil, errors.New("not a JSON object")
	}
	return object, nil
}

// foldedNames refuses a name that equals one of known but for its case.
func foldedNames(object map[string]any, known []string) error {
	for name := range object {
		for _, k := range known {
			// Letters beyond ASCII that fold into it are longer, never shorter.
			if len(name) >= len(k) && name != k && strings.EqualFold(name, k) {
				return fmt.Errorf("a name differs from %q in case alone", k)
			}
		}
	}
	return nil
}

// audience returns `aud`, a string or a list of strings (RFC 7519 section 4.1.3).
func (c Claims) audience() ([]string, error) {
	switch aud := c["aud"].(type) {
	case string:
		return []string{aud}, nil
	case []any:
		list := make([]string, 0, len(aud))
		for _, member := range aud {
			text, ok := member.(string)
			if !ok && member != nil { // null is nobody: kube-apiserver passes over it
				return nil, errors.New("`aud` holds something else than strings")
			}
			list = append(list, text)
		}
		return list, nil
	default:
		return nil, errors.New("`aud` is neither a string nor a list")
	}
}

// date returns a NumericDate (RFC 7519 section 2), cut to the second as
// kube-apiserver does; the zero time if the claim is absent.
func (c Claims) date(name string) (time.Time, error) {
	value, present := c[name]
	if !present {
		return time.Time{}, nil
	}
	// Past the year 5000 a date is a mistake, or meant to overflow.
	const latest = 1e11
	seconds, ok := value.(float64)
	if !ok || seconds <= 0 || seconds > latest {
		return time.Time{}, fmt.Errorf("`%s` is not a date", name)
	}
	return time.Unix(int64(seconds), 0), nil
}

// credential returns by what a verified token can be named in a list of revoked
// ones.
func (c Claims) credential() auth.Credential {
	var credential auth.Credential
	credential.Subject, _ = c["sub"].(string)
	credential.Issued, _ = c.date("iat") // was judged with the other dates
	if jti, _ := c["jti"].(string); jti != "" {
		credential.IDs = []string{"JTI=" + jti}
	}
	return credential
}
