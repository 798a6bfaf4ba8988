// Package scope answers: what may a narrowed token be used for?
//
// A scope is a list of words, written as OAuth writes scopes (RFC 6749 section
// 3.3): separated by spaces. Each word is a restriction, and a request passes if
// every word allows it. So a scope can only ever narrow: two scopes together are
// the words of both, and no scope at all restricts nothing.
//
//	read-only                      get, list and watch; nothing that runs or connects
//	no-secrets                     nothing about secrets
//	no-exec                        no exec, attach, port-forward, proxy and ephemeral containers
//	no-impersonation               no acting as another user
//	namespaces=dev,test            what is in these namespaces
//	groups=apps,core               what is of these API groups; core has no name of its own
//	resources=pods,pods/log,deployments.apps
//	verbs=get,list
//
// It imports the standard library alone.
package scope

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The words that stand alone.
const (
	readOnly        = "read-only"
	noSecrets       = "no-secrets"
	noExec          = "no-exec"
	noImpersonation = "no-impersonation"
)

// The words that have values.
const (
	namespaces = "namespaces"
	groups     = "groups"
	resources  = "resources"
	verbs      = "verbs"
)

// CoreGroup stands for the API group without a name.
const CoreGroup = "core"

const (
	maxWords = 32
	maxBytes = 2 << 10
)

// Scope is what a token may be used for. It does not change. The zero value
// restricts nothing.
type Scope struct {
	words []word // sorted by their text, each once
}

// word is one restriction.
type word struct {
	text   string
	name   string
	values []string // sorted, each once
}

// Parse reads a scope. Its words may come in any order, and more than once. The
// error names the first word that is not known or cannot be read, and says what
// is.
func Parse(text string) (Scope, error) {
	if len(text) > maxBytes {
		return Scope{}, fmt.Errorf("a scope may have %d bytes, not more", maxBytes)
	}
	var s Scope
	for _, one := range strings.Split(text, " ") {
		if one == "" {
			continue
		}
		w, err := parseWord(one)
		if err != nil {
			return Scope{}, err
		}
		s.words = append(s.words, w)
	}
	s.words = unique(s.words)
	if len(s.words) > maxWords {
		return Scope{}, fmt.Errorf("a scope may have %d words, not more", maxWords)
	}
	return s, nil
}

func unique(words []word) []word {
	slices.SortFunc(words, func(a, b word) int { return strings.Compare(a.text, b.text) })
	return slices.CompactFunc(words, func(a, b word) bool { return a.text == b.text })
}

var errUnknown = errors.New("is not known: read-only, no-secrets, no-exec, no-impersonation, " +
	"namespaces=, groups=, resources= and verbs= are")

func parseWord(text string) (word, error) {
	name, list, valued := strings.Cut(text, "=")
	if !valued {
		switch name {
		case readOnly, noSecrets, noExec, noImpersonation:
			return word{text: text, name: name}, nil
		}
		return word{}, fault(text, errUnknown)
	}
	valid, known := map[string]func(string) error{
		namespaces: validLabel, groups: validGroup, resources: validResource, verbs: validVerb,
	}[name]
	if !known {
		return word{}, fault(text, errUnknown)
	}
	values := strings.Split(list, ",")
	for _, value := range values {
		if err := valid(value); err != nil {
			return word{}, fault(text, err)
		}
	}
	slices.Sort(values)
	values = slices.Compact(values)
	return word{text: name + "=" + strings.Join(values, ","), name: name, values: values}, nil
}

// fault quotes no more of a word than a person can read.
func fault(text string, err error) error {
	const limit = 64
	if len(text) > limit {
		text = text[:limit] + "…"
	}
	return fmt.Errorf("the word %q of the scope %w", text, err)
}

// validLabel holds the rule of RFC 1123 for a namespace's name.
func validLabel(value string) error {
	if len(value) > 63 || !plain(value, "-") {
		return errors.New("names something that cannot be a namespace")
	}
	return nil
}

func validGroup(value string) error {
	if len(value) > 253 || !plain(value, "-.") {
		return errors.New("names something that cannot be an API group; that without a name is called core")
	}
	return nil
}

// validResource reads pods, pods/log, pods/* and deployments.apps/scale.
func validResource(value string) error {
	name, sub, hasSub := strings.Cut(value, "/")
	if len(value) > 253 || !plain(name, "-.") || hasSub && sub != "*" && !plain(sub, "-") {
		return errors.New("names something that cannot be a resource: they are written as pods, pods/log, pods/* or deployments.apps")
	}
	return nil
}

func validVerb(value string) error {
	if !slices.Contains(Verbs(), value) {
		return fmt.Errorf("names a verb that is none of %s", strings.Join(Verbs(), ", "))
	}
	return nil
}

// Verbs returns those that a scope can name: kube-apiserver's on resources.
func Verbs() []string {
	return []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"}
}

// plain reports whether s is of lower-case letters, digits and more alone, and
// begins and ends with one of the former.
func plain(s, more string) bool {
	if s == "" || strings.IndexByte(more, s[0]) >= 0 || strings.IndexByte(more, s[len(s)-1]) >= 0 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', strings.IndexByte(more, c) >= 0:
		default:
			return false
		}
	}
	return true
}

// String returns the one form in which s is written.
func (s Scope) String() string { return strings.Join(s.Words(), " ") }

// Words returns the words of s, sorted.
func (s Scope) Words() []string {
	texts := make([]string, len(s.words))
	for i, w := range s.words {
		texts[i] = w.text
	}
	return texts
}

// Unlimited reports whether s restricts nothing.
func (s Scope) Unlimited() bool { return len(s.words) == 0 }

// And returns the scope that allows what both s and other allow. The error says
// that it would be too long to be written.
func (s Scope) And(other Scope) (Scope, error) {
	both := Scope{words: unique(slices.Concat(s.words, other.words))}
	if len(both.words) > maxWords || len(both.String()) > maxBytes {
		return Scope{}, fmt.Errorf("the scopes together have more than %d words or %d bytes", maxWords, maxBytes)
	}
	return both, nil
}

// Equal reports whether s and other have the same words.
func (s Scope) Equal(other Scope) bool { return s.String() == other.String() }
