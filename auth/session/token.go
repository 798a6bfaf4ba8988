package session

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// tokenType is the header `typ` of an access token (RFC 9068 section 2.1), so
// that no session token is taken for an ID token.
const tokenType = "at+jwt"

// claims is the payload of a session token: RFC 9068's, `act` of RFC 8693
// section 4.1, and gatehouse's own.
type claims struct {
	Issuer   string `json:"iss"`
	Audience string `json:"aud"`
	Subject  string `json:"sub"`
	ClientID string `json:"client_id"`
	ID       string `json:"jti"`
	IssuedAt int64  `json:"iat"`
	Expiry   int64  `json:"exp"`
	AuthTime int64  `json:"auth_time"`
	Scope    string `json:"scope,omitempty"`
	Act      *act   `json:"act,omitempty"`
	Own      own    `json:"kube-gatehouse.github.io"`
}

// act is who acts, and in it who acted before.
type act struct {
	Subject string `json:"sub"`
	Act     *act   `json:"act,omitempty"`
}

// own is the user as the cluster knows him, and the credentials on which the
// session rests, the first of them the one that it began with.
type own struct {
	User        user         `json:"user"`
	Credentials []credential `json:"credentials"`
}

type user struct {
	Name   string              `json:"username"`
	UID    string              `json:"uid,omitempty"`
	Groups []string            `json:"groups,omitempty"`
	Extra  map[string][]string `json:"extra,omitempty"`
}

type credential struct {
	Kind     auth.Kind `json:"kind"`
	User     string    `json:"username"`
	Issuer   string    `json:"iss,omitempty"`
	Subject  string    `json:"sub,omitempty"`
	IDs      []string  `json:"ids,omitempty"`
	IssuedAt int64     `json:"iat,omitempty"`
}

// sign returns the token.
func (k *Keys) sign(c *claims) (string, error) {
	payload, err := json.Marshal(c)
	if err != nil {
		return "", err
	}
	signed, err := k.signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return signed.CompactSerialize()
}

// claimsToBe reports whether token says that issuer made it. Nothing of it is
// believed.
func claimsToBe(token, issuer string) bool {
	_, rest, _ := strings.Cut(token, ".")
	payload, signature, found := strings.Cut(rest, ".")
	if !found || strings.Contains(signature, ".") {
		return false
	}
	raw, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	// In any case of letters, and even if other members have wrong types.
	_ = json.Unmarshal(raw, &c)
	return c.Issuer == issuer
}

// verify returns the claims of a token that one of the keys signed.
func (k *Keys) verify(token string) (*claims, *auth.Refusal) {
	signed, err := jose.ParseSignedCompact(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return nil, refuse(auth.MalformedToken, "not signed with ES256, or not of the form of a signed token")
	}
	header := signed.Signatures[0].Header
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); typ != tokenType || len(header.ExtraHeaders) != 1 || header.JSONWebKey != nil {
		return nil, refuse(auth.MalformedToken, "its header is not that of a session token")
	}
	key := k.public[header.KeyID]
	if key == nil {
		return nil, refuse(auth.UnknownKey, "signed by a key that is not among those of the session tokens")
	}
	payload, err := signed.Verify(key)
	if err != nil {
		return nil, refuse(auth.BadSignature, "the signature does not fit the key")
	}
	// What a later version may have added could narrow what the token is for.
	decoder := json.NewDecoder(bytes.NewReader(payload))
	decoder.DisallowUnknownFields()
	var c claims
	if err := decoder.Decode(&c); err != nil {
		return nil, refuse(auth.MalformedToken, "signed by us, and not a session token of this version")
	}
	return &c, nil
}

// identity returns whom c names.
func (c *claims) identity() (*auth.Identity, error) {
	narrow, err := scope.Parse(c.Scope)
	switch {
	case err != nil:
		return nil, err
	case len(c.Own.Credentials) == 0, c.ID == "", c.Subject == "", c.Subject != c.Own.User.Name:
		return nil, errors.New("it lacks what every session token has")
	}
	u := auth.User{Name: c.Own.User.Name, UID: c.Own.User.UID, Groups: c.Own.User.Groups, Extra: c.Own.User.Extra}
	if u.Extra == nil {
		u.Extra = map[string][]string{}
	}
	id := "JTI=" + c.ID
	u.Extra[auth.CredentialIDKey] = []string{id}
	identity := &auth.Identity{
		User: u, Kind: auth.KindSession, Issuer: c.Issuer, Expires: time.Unix(c.Expiry, 0), Scope: narrow,
		Credential: auth.Credential{IDs: []string{id}, Subject: c.Subject, Issued: time.Unix(c.IssuedAt, 0)},
	}
	for a := c.Act; a != nil; a = a.Act {
		identity.Actors = append(identity.Actors, a.Subject)
	}
	for _, one := range c.Own.Credentials {
		identity.Behind = append(identity.Behind, one.identity())
	}
	return identity, nil
}

func (c credential) identity() *auth.Identity {
	id := &auth.Identity{
		User: auth.User{Name: c.User}, Kind: c.Kind, Issuer: c.Issuer,
		Credential: auth.Credential{IDs: c.IDs, Subject: c.Subject},
	}
	if c.IssuedAt != 0 {
		id.Issued = time.Unix(c.IssuedAt, 0)
	}
	return id
}

// credentialOf is by what id can be denied later.
func credentialOf(id *auth.Identity) credential {
	c := credential{Kind: id.Kind, User: id.Name, Issuer: id.Issuer, Subject: id.Subject, IDs: id.IDs}
	if !id.Issued.IsZero() {
		c.IssuedAt = id.Issued.Unix()
	}
	return c
}
