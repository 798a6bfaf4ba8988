package oracle_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// divergence is a difference that is meant: kube-apiserver accepts and gatehouse
// refuses. There is no other kind.
type divergence struct {
	id    string
	topic string // its row in docs/divergences.md begins so
	says  string
	// explains reports whether it is this difference that is seen.
	explains func(reference, ours answer) bool
}

var divergences = []divergence{
	{
		"reserved-name", "users and groups that begin with `system:` or `kubeadm:`",
		"A user or group of a reserved name needs to be allowed by name.",
		func(reference, ours answer) bool {
			return ours.reason() == auth.ReservedName && hasReserved(reference.user)
		},
	},
	{
		"white-space", "white space at an end of a name, group or uid",
		"White space at an end would be trimmed on one wire and not on the other.",
		func(reference, ours answer) bool {
			return ours.reason() == auth.BadName && anyName(reference.user, func(s string) bool { return strings.TrimSpace(s) != s })
		},
	},
	{
		"control-characters", "control characters, bytes that are not UTF-8, U+FFFD",
		"The wire would change or refuse such a name.",
		func(reference, ours answer) bool {
			return ours.reason() == auth.BadName && anyName(reference.user, func(s string) bool {
				return strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) || r == unicode.ReplacementChar })
			})
		},
	},
	{
		"blank-user", "empty or blank user name",
		"A claim that is empty or blank names nobody.",
		func(_, ours answer) bool {
			return ours.reason() == auth.BadUsernameClaim && strings.HasSuffix(ours.err.Error(), "is blank")
		},
	},
	{
		"empty-group", "empty group",
		"An empty group of a claim would become the bare prefix.",
		func(reference, ours answer) bool {
			return ours.reason() == auth.BadGroupsClaim && strings.HasSuffix(ours.err.Error(), "that are not empty") ||
				ours.reason() == auth.BadName && slices.Contains(reference.user.Groups, "")
		},
	},
	{
		"identity-size", "identity of more than 256 KiB",
		"An identity has to fit into a request header.",
		func(_, ours answer) bool { return ours.reason() == auth.IdentityTooLarge },
	},
	{
		"repeated-name", "the same JSON name twice",
		"Another reader would take the other value.",
		func(reference, ours answer) bool {
			return errors.Is(ours.err, auth.ErrNotMine) || malformed("not a JSON object with unique names")(reference, ours)
		},
	},
	{
		"number-too-large", "a number beyond all bounds, such as `1e400`, in a claim that nobody needs",
		"Such a token cannot be read whole.", malformed("a number is too large to be read"),
	},
	{
		"name-in-another-case", "a name that differs from a known one in case alone",
		"Another reader would take it for the known one.",
		malformed("in case alone"),
	},
	{
		"token-characters", "token with a comma, or characters that are not visible ASCII",
		"No client can send such a token as it is.",
		malformed("not base64url"),
	},
	{
		"spare-bits", "signature whose last character of base64url has other spare bits than zero",
		"A token has one form; header and payload are read so too.",
		malformed("signature: not base64url"),
	},
	{"empty-crit", "empty `crit` list", "RFC 7515 section 4.1.11 forbids it.", malformed(`header: "crit" is not accepted`)},
	{
		"headers", "headers `cty`, `zip`, `enc`, `x5c`", "They bring a key, or change how the rest is read.",
		malformed(`" is not accepted`),
	},
	{
		"no-kid", "no `kid`, and several keys that fit", "A token must say who signed it.",
		because(auth.UnknownKey),
	},
	{"typ", "header `typ` other than `JWT`", "Another kind of token is no ID token.", because(auth.WrongTokenType, `"typ" is not a string`)},
	{"events-cnf", "claims `events`, `cnf`", "They mark another kind of token.", because(auth.WrongTokenType)},
	{"azp", "`azp` of another client", "The token was made for another client.", because(auth.WrongParty, "`azp` is not a string")},
	{"iat", "`iat` in the future", "A clock or an issuer is wrong.", because(auth.NotYetValid)},
	{
		"odd-dates", "dates that are no numbers, below 1, or beyond the year 5000", "A mistake, or meant to overflow.",
		malformed("is not a date"),
	},
	{
		"distributed-groups", "groups in a distributed claim", "The token would choose whom gatehouse calls.",
		because(auth.UnsupportedClaims),
	},
	{
		"key-of-another-alg", "keys for encryption, of another `alg`, RSA below 2048 or above 8192 bits",
		"A key is used for what it was published for alone.", because(auth.UnknownKey),
	},
	{
		"many-certificates", "more than ten certificates presented", "It bounds what a stranger can cause.",
		certificate("more certificates than the limit"),
	},
	{
		"not-der", "certificate in another form than DER", "One certificate must not have two fingerprints.",
		certificate("not in its one DER form"),
	},
}

// because explains a refusal with this reason, or one with these words.
func because(reason auth.Reason, words ...string) func(_, ours answer) bool {
	return func(_, ours answer) bool {
		return ours.reason() == reason || slices.ContainsFunc(words, func(w string) bool { return strings.Contains(ours.err.Error(), w) })
	}
}

func certificate(words string) func(_, ours answer) bool {
	return func(_, ours answer) bool {
		return ours.reason() == auth.BadCertificate && strings.Contains(ours.err.Error(), words)
	}
}

func malformed(words string) func(_, ours answer) bool {
	return func(_, ours answer) bool {
		return ours.reason() == auth.MalformedToken && strings.Contains(ours.err.Error(), words)
	}
}

func hasReserved(u *auth.User) bool {
	return slices.ContainsFunc(append([]string{u.Name}, u.Groups...), func(s string) bool {
		return strings.HasPrefix(s, "system:") || strings.HasPrefix(s, "kubeadm:")
	})
}

func anyName(u *auth.User, has func(string) bool) bool {
	names := append([]string{u.Name, u.UID}, u.Groups...)
	for key, values := range u.Extra {
		names = append(append(names, key), values...)
	}
	return slices.ContainsFunc(names, has)
}

// explanation returns the divergence that a difference is, or "": of a token that
// nothing is wrong with but what it says.
func explanation(reference, ours answer) string {
	if errors.Is(ours.err, auth.ErrNotMine) {
		return ""
	}
	for _, d := range divergences {
		if reference.user != nil && ours.user == nil && d.explains(reference, ours) {
			return d.id
		}
	}
	return ""
}

func sameAnswer(reference, ours answer) bool { return cmp.Equal(reference.user, ours.user) }

// judge compares two answers and counts them.
func judge(t testing.TB, name string, v verdict, reference, ours answer) {
	t.Helper()
	same := sameAnswer(reference, ours)
	count.add(func() {
		count.rows++
		switch {
		case same:
			count.same++
		case v.Differs != "":
			count.divergent[v.Differs]++
		}
	})
	at := slices.IndexFunc(divergences, func(d divergence) bool { return d.id == v.Differs })
	switch {
	case v.Differs != "" && at < 0:
		t.Errorf("%s: %q is not a divergence", name, v.Differs)
	case same && v.Differs != "":
		t.Errorf("%s: there is no difference any more: take %q away", name, v.Differs)
	case same:
	case v.Differs == "":
		t.Errorf("%s:\nkube-apiserver %s\ngatehouse      %s", name, reference, ours)
	case reference.user == nil || ours.user != nil || !divergences[at].explains(reference, ours):
		t.Errorf("%s: the divergence %q does not explain this:\nkube-apiserver %s\ngatehouse      %s", name, v.Differs, reference, ours)
	}
}

// documentedTopics are the first cells of the rows of docs/divergences.md.
func documentedTopics(t testing.TB) []string {
	t.Helper()
	var topics []string
	for line := range strings.Lines(divergencesPage(t)) {
		if topic, found := strings.CutPrefix(line, "| "); found {
			topic, _, _ = strings.Cut(topic, " |")
			topics = append(topics, topic)
		}
	}
	return topics
}

// Promise: every difference that the corpus shows is in docs/divergences.md.
func TestDivergencesAreDocumented(t *testing.T) {
	documented := documentedTopics(t)
	topics := append(slices.Collect(maps.Keys(stricterConfigs)), otherText, authenticatedLast, emptyColumn)
	for _, d := range divergences {
		topics = append(topics, d.topic)
	}
	for _, topic := range topics {
		if !slices.Contains(documented, topic) {
			t.Errorf("docs/divergences.md has no row %q", topic)
		}
	}
}

// mustBeDocumented fails unless docs/divergences.md has a row that begins so.
func mustBeDocumented(t *testing.T, topic string) {
	t.Helper()
	if !slices.ContainsFunc(documentedTopics(t), func(row string) bool { return strings.HasPrefix(row, topic) }) {
		t.Errorf("docs/divergences.md has no row %q", topic)
	}
}
