package tokenreview

import (
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	josejson "github.com/go-jose/go-jose/v4/json"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// claims are what a token says of itself. Nothing in it may be trusted before
// the API server has accepted the token.
type claims struct {
	issuer  string
	subject string
	id      string    // `jti`; empty if it has none
	expires time.Time // zero if the token has no end, as those of Secrets have not
	issued  time.Time // zero if it does not say so
}

// algorithms may sign a ServiceAccount token. Symmetric ones and none are not
// among them, so that no such token costs a review.
var algorithms = []string{"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"}

// decisive are the claims that decide here to whom a token belongs. One that
// differs from them in case alone is refused: kube-apiserver looks for `iss`
// in any case of letters (v1.37, pkg/serviceaccount/jwt.go), so that it could
// read another issuer than the one that was judged here.
var decisive = []string{"iss", "sub", "aud", "exp", "iat"}

// read returns what token says of itself, if it is a ServiceAccount token to
// ask the API server about. It is as strict as auth/oidc about the form, so
// that the two cannot disagree about who issued a token.
func (a *Authenticator) read(token string) (claims, error) {
	headerPart, rest, _ := strings.Cut(token, ".")
	payloadPart, signature, _ := strings.Cut(rest, ".")
	payload := decodeObject(payloadPart)
	issuer, ok := payload["iss"].(string)
	if !ok || issuer == "" || a.cfg.Known(issuer) {
		return claims{}, auth.ErrNotMine
	}
	subject, _ := payload["sub"].(string)
	mine := slices.Contains(a.cfg.Issuers, issuer)
	if len(a.cfg.Issuers) == 0 {
		mine = strings.HasPrefix(subject, auth.ServiceAccountPrefix)
	}
	if !mine {
		return claims{}, auth.ErrNotMine
	}
	if err := checkForm(headerPart, payload, signature); err != nil {
		return claims{}, refuse(auth.MalformedToken, err.Error())
	}
	if _, _, ok := auth.SplitServiceAccount(subject); !ok {
		return claims{}, refuse(auth.MalformedToken, "`sub` is not the name of a ServiceAccount")
	}
	expires, err := date(payload, "exp")
	issued, iatErr := date(payload, "iat")
	if err := errors.Join(err, iatErr); err != nil {
		return claims{}, refuse(auth.MalformedToken, err.Error())
	}
	id, _ := payload["jti"].(string)
	c := claims{issuer: issuer, subject: subject, id: id, expires: expires, issued: issued}
	if c.expired(a.cfg.Now()) {
		// Not auth.Expired: the signature has not been verified.
		return claims{}, refuse(auth.UnknownToken, "the token says itself that it has expired, and was not reviewed")
	}
	return c, nil
}

func (c claims) expired(now time.Time) bool { return !c.expires.IsZero() && !now.Before(c.expires) }

func checkForm(headerPart string, payload map[string]any, signature string) error {
	header := decodeObject(headerPart)
	if header == nil {
		return errors.New("the header is not a JSON object with unique names")
	}
	if alg, _ := header["alg"].(string); !slices.Contains(algorithms, alg) {
		return errors.New("`alg` is not one of a ServiceAccount token")
	}
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(signature); err != nil || len(raw) == 0 {
		return errors.New("the signature is not base64url")
	}
	for name := range payload {
		for _, known := range decisive {
			if name != known && strings.EqualFold(name, known) {
				return errors.New("a claim differs from a registered one in case alone")
			}
		}
	}
	return nil
}

// decodeObject decodes a base64url part into a JSON object, or returns nil.
// go-jose's decoder refuses repeated names at any depth, and bounds the depth.
func decodeObject(part string) map[string]any {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil || !utf8.Valid(raw) {
		return nil
	}
	var object map[string]any
	if err := josejson.Unmarshal(raw, &object); err != nil {
		return nil
	}
	return object
}

// date returns a NumericDate (RFC 7519 section 2), cut to the second; the zero
// time if the claim is absent.
func date(payload map[string]any, name string) (time.Time, error) {
	value, present := payload[name]
	if !present {
		return time.Time{}, nil
	}
	const latest = 1e11 // past the year 5000 it is a mistake, or meant to overflow
	seconds, ok := value.(float64)
	if !ok || seconds < 1 || seconds > latest {
		return time.Time{}, errors.New("`" + name + "` is not a date")
	}
	return time.Unix(int64(seconds), 0), nil
}
