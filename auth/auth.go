// Package auth answers one question: who made this request?
//
// It holds what every kind of credential shares: the [User] that a credential
// names, the [Identity] that carries it, the [Refusal] that says why a
// credential was not accepted, and the rules a name must keep to survive the
// way to the API server ([NamePolicy]). The kinds themselves live in packages
// below this one. It imports the standard library and auth/scope alone.
package auth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// User is whom the API server is told to serve. Its fields are those of
// authentication.k8s.io/v1 UserInfo.
type User struct {
	Name   string
	UID    string
	Groups []string
	Extra  map[string][]string
}

// CredentialIDKey is the extra in which kube-apiserver, too, keeps the id of a
// credential (KEP-4633): JTI=<jti> for a token, X509SHA256=<hex> for a
// certificate.
const CredentialIDKey = "authentication.kubernetes.io/credential-id"

// OwnExtraPrefix begins the keys of extra that gatehouse itself sets, for the
// API server's audit log. No credential and no caller may bring one.
const OwnExtraPrefix = "kube-gatehouse.github.io/"

// Kind says which kind of credential was presented. The set is closed: it is a
// metric label.
type Kind string

// The kinds of credential.
const (
	KindNone      Kind = "none"       // no credential at all
	KindUnknown   Kind = "unknown"    // a credential that no authenticator recognised
	KindOIDC      Kind = "oidc"       // an ID token of a trusted issuer
	KindTokenFile Kind = "token_file" // a static token of the CSV file
	KindAnonymous Kind = "anonymous"  // no credential, where none is needed

	KindClientCert     Kind = "client_certificate" // the certificate of the TLS connection
	KindServiceAccount Kind = "service_account"    // a ServiceAccount token that the API server vouches for
	KindSession        Kind = "session"            // a session token of gatehouse's own
)

// Kinds returns every [Kind], for metrics and documents.
func Kinds() []Kind {
	return []Kind{KindNone, KindUnknown, KindOIDC, KindTokenFile, KindAnonymous, KindClientCert, KindServiceAccount, KindSession}
}

// Identity is what a credential proved. It is shared between requests that
// present the same credential, so nobody may change it.
type Identity struct {
	User
	Kind    Kind
	Issuer  string    // URL of the issuer; empty for kinds that have none
	Expires time.Time // when the credential ends; zero if it has no end of its own
	Credential
	// Scope is what the credential may be used for. The zero value restricts
	// nothing.
	Scope scope.Scope
	// Actors are the names of those who act for the user, the present one first.
	Actors []string
	// Behind are the credentials on which this one rests: it is worth nothing
	// once one of them is denied.
	Behind []*Identity
}

// Credential is by what a credential can be named in a list of revoked ones. A
// field is empty where a credential has no such thing.
type Credential struct {
	// IDs are values of [CredentialIDKey], every one under which the holder
	// could present it.
	IDs []string
	// Subject is the claim `sub` of a token.
	Subject string
	// IssuerName and Serial name a certificate: the distinguished name of its
	// issuer (RFC 4514) and its serial number in lower-case hex.
	IssuerName, Serial string
	// Issued is `iat`, or the beginning of a certificate's validity.
	Issued time.Time
}

// Authenticator says who made a request.
//
// It returns an error wrapping [ErrNotMine] if r carries no credential of its
// kind. Any other error is final: the request is refused, whatever other
// credentials it carries. A credential that was recognised and found bad gives
// a [*Refusal].
type Authenticator interface {
	Authenticate(r *http.Request) (*Identity, error)
}

// TokenAuthenticator says whom a bearer token names. Its errors are those of
// [Authenticator].
type TokenAuthenticator interface {
	AuthenticateToken(ctx context.Context, token string) (*Identity, error)
}

// ErrNotMine says that a credential is of another kind, so that the next
// authenticator should be asked.
var ErrNotMine = errors.New("no credential of this kind")
