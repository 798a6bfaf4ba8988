package revocation

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// The fields of an entry.
const (
	jti               = "jti"
	issuer            = "issuer"
	subject           = "subject"
	credentialID      = "credentialID"
	user              = "user"
	certificateSHA256 = "certificateSHA256"
	certificateSerial = "certificateSerial"
	certificateIssuer = "certificateIssuer"
	issuedBefore      = "issuedBefore"
	note              = "note"
)

// things are the fields that say what an entry denies. An entry has one.
var things = []string{jti, credentialID, user, subject, certificateSHA256, certificateSerial}

var entryFields = append(slices.Clone(things), issuer, certificateIssuer, issuedBefore, note)

// entry is what an entry says.
type entry struct {
	thing  string
	values map[string]string // of all fields that are texts, each in its one form
	rule   rule
}

// entry adds one entry, or the faults it has.
func (p *parser) entry(i int, n *yaml.Node) {
	path := fmt.Sprintf("revoked[%d]", i)
	fields, ok := p.fields(n, path, entryFields)
	if !ok {
		return
	}
	e := entry{thing: p.thing(n, path, fields), values: map[string]string{}, rule: rule{before: always, entry: i}}
	e.rule.field = e.thing
	for _, field := range entryFields { // in a fixed order, so that errors are
		if value := fields[field]; value != nil {
			p.value(&e, field, value, below(path, field))
		}
	}
	if len(p.faults) == 0 {
		p.list.add(e)
	}
}

// thing returns the field that says what an entry denies, and holds the rules
// about which fields go together.
func (p *parser) thing(n *yaml.Node, path string, fields map[string]*yaml.Node) string {
	var found []string
	for _, field := range things {
		if fields[field] != nil {
			found = append(found, field)
		}
	}
	if len(found) != 1 {
		p.fault(n, path, "%s", countFault(found, fields))
		return ""
	}
	thing := found[0]
	for _, companion := range []struct {
		field    string
		required bool
		of       []string
		why      string
	}{
		{issuer, thing == subject, []string{jti, subject}, "other issuers may have the same subject"},
		{certificateIssuer, thing == certificateSerial, []string{certificateSerial}, "other issuers may have given the same serial number"},
		{issuedBefore, false, []string{user, subject}, "it names one credential, which is revoked whenever it was issued"},
	} {
		value, belongs := fields[companion.field], slices.Contains(companion.of, thing)
		switch {
		case value == nil && companion.required:
			p.fault(n, path, "%s needs %s: %s", thing, companion.field, companion.why)
		case value != nil && !belongs && companion.field == issuedBefore:
			p.fault(value, below(path, companion.field), "does not go with %s: %s", thing, companion.why)
		case value != nil && !belongs:
			p.fault(value, below(path, companion.field), "goes with %s alone, not with %s", strings.Join(companion.of, " and "), thing)
		}
	}
	return thing
}

// countFault says what is wrong with an entry that names none or several things.
func countFault(found []string, fields map[string]*yaml.Node) string {
	switch {
	case len(found) > 1:
		return fmt.Sprintf("names several things (%s): make an entry of each", strings.Join(found, ", "))
	case fields[issuer] != nil:
		return "names an issuer and nothing of it: add subject or jti"
	case fields[certificateIssuer] != nil:
		return "names an issuer and no certificate of it: add certificateSerial"
	default:
		return "names nothing to revoke: add one of " + strings.Join(things, ", ")
	}
}

// value reads the value of one field into e.
func (p *parser) value(e *entry, field string, n *yaml.Node, path string) {
	switch field {
	case issuedBefore:
		e.rule.before = p.before(n, path)
		return
	case note:
		e.rule.note = p.note(n, path)
		return
	}
	text, ok := p.text(n, path)
	if !ok {
		return
	}
	fault := ""
	switch field {
	case jti:
		fault = jtiFault(text)
	case credentialID:
		text, fault = idForm(text)
	case certificateSHA256:
		text, fault = fingerprintForm(text)
	case certificateSerial:
		text, fault = serialForm(text)
	case certificateIssuer:
		text, fault = nameForm(text)
	}
	if fault != "" {
		p.fault(n, path, "%s", fault)
		return
	}
	e.values[field] = text
}

// note reads what is for people alone, so that it need not be quoted.
func (p *parser) note(n *yaml.Node, path string) string {
	if !p.plain(n, path) {
		return ""
	}
	switch {
	case n.Kind != yaml.ScalarNode:
		p.fault(n, path, "must be a text, not a list or a mapping")
	case n.Tag == "!!null" || strings.TrimSpace(n.Value) == "":
		p.fault(n, path, "is empty: leave it out")
	case len(n.Value) > maxNote:
		p.fault(n, path, "has %d bytes, the limit is %d", len(n.Value), maxNote)
	}
	return n.Value
}

// before reads a moment. It may stand in quotes or not.
func (p *parser) before(n *yaml.Node, path string) int64 {
	if !p.plain(n, path) {
		return 0
	}
	var moment time.Time
	switch {
	case n.Tag == "!!null":
		p.fault(n, path, "has no value: leave it out to revoke whatever was issued")
	case n.Kind != yaml.ScalarNode || moment.UnmarshalText([]byte(n.Value)) != nil:
		p.fault(n, path, "must be a date and time with its zone (RFC 3339), such as 2026-11-23T12:00:00Z or 2026-11-23T13:00:00+01:00")
	case moment.Nanosecond() != 0:
		p.fault(n, path, "must be a whole second, since tokens say no more")
	}
	return moment.Unix()
}

// add adds an entry without faults.
func (l *List) add(e entry) {
	value := e.values[e.thing]
	switch e.thing {
	case jti:
		id := tokenID + value
		if of, found := e.values[issuer]; found {
			put(&l.issuerIDs, pair{of, id}, e.rule)
		} else {
			put(&l.ids, id, e.rule)
		}
	case credentialID:
		put(&l.ids, value, e.rule)
	case certificateSHA256:
		put(&l.ids, fingerprintID+value, e.rule)
	case subject:
		put(&l.subjects, pair{e.values[issuer], value}, e.rule)
	case certificateSerial:
		put(&l.serials, pair{e.values[certificateIssuer], value}, e.rule)
	case user:
		put(&l.users, value, e.rule)
	}
}
