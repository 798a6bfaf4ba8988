package auth

import "time"

// Reason says why a credential was refused. The set is closed: it is a metric
// label, and each has one sentence that the caller sees.
type Reason string

// Reasons that need no trust in the credential. A caller learns little from
// them, since anybody can send anything.
const (
	NoCredential         Reason = "no_credential"         // the request carries none
	BadHeader            Reason = "bad_header"            // the Authorization header cannot be read
	SeveralCredentials   Reason = "several_credentials"   // more than one, so that no one of them counts
	UnsupportedScheme    Reason = "unsupported_scheme"    // a scheme other than Bearer
	TokenTooLong         Reason = "token_too_long"        // longer than [MaxTokenBytes]
	UnknownToken         Reason = "unknown_token"         // nobody here knows this token
	MalformedToken       Reason = "malformed_token"       // a JWT of our issuer's that breaks the rules of its form
	UnsupportedAlgorithm Reason = "unsupported_algorithm" // signed by an algorithm that is not accepted
	UnknownKey           Reason = "unknown_key"           // signed by a key that the issuer does not publish
	BadSignature         Reason = "bad_signature"         // the signature does not fit
	IssuerUnavailable    Reason = "issuer_unavailable"    // the issuer's keys are not known (yet)
)

// Reasons that are given only for a token whose signature has been verified,
// or whose secret was known.
const (
	Expired            Reason = "expired"
	NotYetValid        Reason = "not_yet_valid"
	WrongAudience      Reason = "wrong_audience"
	WrongParty         Reason = "wrong_party"         // `azp` names a client that is not accepted
	WrongTokenType     Reason = "wrong_token_type"    // not an ID token
	BadUsernameClaim   Reason = "bad_username_claim"  // the claim of the user name is missing or no string
	UnverifiedEmail    Reason = "unverified_email"    // `email_verified` is not true
	BadGroupsClaim     Reason = "bad_groups_claim"    // the claim of the groups is neither string nor list of strings
	RequiredClaim      Reason = "required_claim"      // a required claim is missing or has another value
	BadMapping         Reason = "bad_mapping"         // the uid or an extra cannot be made of the claims
	ClaimRule          Reason = "claim_rule"          // a claim validation rule is not met
	UserRule           Reason = "user_rule"           // a user validation rule is not met
	BadName            Reason = "bad_name"            // a name, group, uid or extra that the wire would change
	ReservedName       Reason = "reserved_name"       // a name or group that Kubernetes keeps for itself
	IdentityTooLarge   Reason = "identity_too_large"  // more groups or extras than can be forwarded
	UnsupportedClaims  Reason = "unsupported_claims"  // distributed claims where nobody may look
	GroupsUnavailable  Reason = "groups_unavailable"  // whoever knows the groups cannot be asked now
	GroupsRefused      Reason = "groups_refused"      // whoever knows the groups does not accept the token or its user
	Revoked            Reason = "revoked"             // it, or its user, stands in the revocation file
	OriginGone         Reason = "origin_gone"         // what a session rests on is not accepted any more
	InternalAuthFailed Reason = "authenticator_error" // an authenticator failed for a reason of its own
)

// Reasons returns every [Reason], for metrics and documents.
func Reasons() []Reason {
	return []Reason{
		NoCredential, BadHeader, SeveralCredentials, UnsupportedScheme, TokenTooLong, UnknownToken,
		MalformedToken, UnsupportedAlgorithm, UnknownKey, BadSignature, IssuerUnavailable,
		Expired, NotYetValid, WrongAudience, WrongParty, WrongTokenType, BadUsernameClaim,
		UnverifiedEmail, BadGroupsClaim, RequiredClaim, BadMapping, ClaimRule, UserRule, BadName, ReservedName, IdentityTooLarge,
		UnsupportedClaims, GroupsUnavailable, GroupsRefused, Revoked, OriginGone, InternalAuthFailed,
		BadCertificate, CertificateExpired, CertificateRevoked, CertificateNotTrusted, CRLStale, CRLMissing,
	}
}

// Reasons of a client certificate. That it expired, was revoked or cannot be
// judged is said only of one whose chain verified.
const (
	BadCertificate        Reason = "bad_certificate"         // trusted, but not one that names a user
	CertificateExpired    Reason = "certificate_expired"     // it, or one of its chain
	CertificateRevoked    Reason = "certificate_revoked"     // it, or one of its chain, stands on a CRL
	CertificateNotTrusted Reason = "certificate_not_trusted" // it does not chain to a CA of the file
	CRLStale              Reason = "crl_stale"               // the CRL that should tell is out of date
	CRLMissing            Reason = "crl_missing"             // no CRL tells, though its root publishes them
)

// Refusal is the error of a credential that was recognised and not accepted.
type Refusal struct {
	Reason Reason
	Kind   Kind
	// At is the moment that Expired and NotYetValid speak of.
	At time.Time
	// Detail is for the operator's log. It may quote configuration, and names
	// of claims; never a token.
	Detail string
}

// NoVerdict reports whether r says nothing about the credential: it could not be
// judged, and may be good.
func (r *Refusal) NoVerdict() bool {
	return r.Reason == IssuerUnavailable || r.Reason == GroupsUnavailable || r.Reason == InternalAuthFailed
}

// Refuse makes a [*Refusal].
func Refuse(kind Kind, reason Reason, detail string) *Refusal {
	return &Refusal{Reason: reason, Kind: kind, Detail: detail}
}

// Error returns the reason and the operator's detail.
func (r *Refusal) Error() string {
	if r.Detail == "" {
		return string(r.Reason)
	}
	return string(r.Reason) + ": " + r.Detail
}
