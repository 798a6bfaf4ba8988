// Package revocation answers: which credentials and users are denied, and since
// when?
//
// The answer stands in a file, as YAML or JSON:
//
//	revoked:
//	- user: oidc:alice                     # as the cluster sees the name
//	  issuedBefore: 2026-11-23T12:00:00Z   # without it: whenever issued
//	  note: laptop stolen                  # for the operator's log
//	- issuer: https://login.example.com    # with subject: dated, as user
//	  subject: "42"
//	- jti: 3f2c8a1e                        # of that issuer, or of any
//	  issuer: https://login.example.com
//	- credentialID: JTI=3f2c8a1e           # or X509SHA256=…, as in an audit log
//	- certificateSHA256: AB:CD:…
//	- certificateSerial: 0A:1B
//	  certificateIssuer: CN=corp ca
//
// An identity is looked up by every name that it has. What is compared is what
// the credential was verified to say, never its text, of which there may be
// several forms.
package revocation

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// List is the content of one file. It is never changed, so it may be shared.
// Its zero value denies nobody.
type List struct {
	entries int
	// Each map has one rule for a name: of several entries, the strictest.
	ids       map[string]rule // by credential-id, of any issuer
	issuerIDs map[pair]rule   // by issuer and credential-id
	subjects  map[pair]rule   // by issuer and subject
	serials   map[pair]rule   // by issuer name and serial
	users     map[string]rule
}

type pair struct{ of, name string }

// always is the rule.before of an entry that does not ask when a credential was
// issued.
const always = math.MaxInt64

// rule says which credentials of a name are denied, and by which entry.
type rule struct {
	before int64 // Unix seconds; issued earlier is denied
	entry  int
	field  string // by which the entry names it
	note   string
}

// denies compares whole seconds, as the dates of tokens and certificates have
// them. What says nothing of when it was issued is denied: nobody can tell that
// it was issued later.
func (r rule) denies(issued time.Time) bool {
	return r.before == always || issued.IsZero() || issued.Unix() < r.before
}

func (r rule) String() string {
	text := fmt.Sprintf("revoked[%d].%s of the revocation file names it", r.entry, r.field)
	if r.before != always {
		text += ", if issued before " + time.Unix(r.before, 0).UTC().Format(time.RFC3339)
	}
	if r.note != "" {
		text += fmt.Sprintf(": %q", r.note)
	}
	return text
}

// put adds a rule to rules; of two for one key the stricter stays.
func put[K comparable](rules *map[K]rule, key K, r rule) {
	if *rules == nil {
		*rules = map[K]rule{}
	}
	if present, found := (*rules)[key]; !found || present.before < r.before {
		(*rules)[key] = r
	}
}

// Len returns the number of entries.
func (l *List) Len() int { return l.entries }

// Issuers returns every issuer that an entry names, sorted. One that is not
// configured is probably misspelled, so that its entries deny nobody.
func (l *List) Issuers() []string {
	issuers := map[string]bool{}
	for key := range l.issuerIDs {
		issuers[key.of] = true
	}
	for key := range l.subjects {
		issuers[key.of] = true
	}
	return slices.Sorted(maps.Keys(issuers))
}

// Check returns an [*auth.Refusal], for auth.Revoked, if id is denied: by an
// entry that names it, unless it was issued at the entry's issuedBefore or
// later. The refusal's detail names the entry and its note. Without an identity
// the refusal is auth.InternalAuthFailed.
//
// It takes the same time whatever the number of entries, and allocates nothing
// for an identity that passes.
func (l *List) Check(id *auth.Identity) error {
	if id == nil {
		return auth.Refuse(auth.KindUnknown, auth.InternalAuthFailed, "an authenticator returned no identity that could be looked up in the revocation file")
	}
	if r, denied := l.find(id); denied {
		return auth.Refuse(id.Kind, auth.Revoked, r.String())
	}
	return nil
}

func (l *List) find(id *auth.Identity) (rule, bool) {
	for _, credentialID := range id.IDs {
		if r, found := l.ids[credentialID]; found && r.denies(id.Issued) {
			return r, true
		}
		if r, found := l.issuerIDs[pair{id.Issuer, credentialID}]; found && r.denies(id.Issued) {
			return r, true
		}
	}
	if r, found := l.subjects[pair{id.Issuer, id.Subject}]; found && r.denies(id.Issued) {
		return r, true
	}
	if r, found := l.serials[pair{id.IssuerName, id.Serial}]; found && r.denies(id.Issued) {
		return r, true
	}
	if r, found := l.users[id.Name]; found && r.denies(id.Issued) {
		return r, true
	}
	return rule{}, false
}
