package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

// credentialNames are the kinds of credential in words.
var credentialNames = map[auth.Kind]string{
	auth.KindOIDC:           "OIDC ID token",
	auth.KindTokenFile:      "static token",
	auth.KindClientCert:     "client certificate",
	auth.KindServiceAccount: "ServiceAccount token of the cluster",
	auth.KindUnknown:        "a token that nobody here knows",
}

// page is the form for people: a label, and what belongs to it.
type page struct{ strings.Builder }

const labelWidth = 12

// line adds a line of text that is safe for a terminal. Without a label it goes
// on with the one before.
func (p *page) line(label, format string, args ...any) {
	fmt.Fprintf(p, "%-*s%s\n", labelWidth, label, fmt.Sprintf(format, args...))
}

// write prints e for a person. All that others may have written goes through
// shown or phrase.
func (e *explanation) write(w io.Writer) error {
	var p page
	e.writeVerdict(&p)
	if e.Token != nil {
		p.line("Credential", "%s", e.tokenName())
	} else {
		p.line("Credential", "%s", credentialNames[e.Credential])
	}
	if i := e.Issuer; i != nil {
		p.line("Issuer", "%s", shown(i.URL))
		p.line("", "configured as %s", shown(i.Configured))
		if i.Fault != "" {
			p.line("", "its keys could not be fetched: %s", phrase(i.Fault))
		} else {
			p.line("", "%s from %s", plural(i.Keys, "key", "keys"), shown(i.KeysURL))
		}
	}
	e.writeToken(&p)
	e.writeCertificate(&p)
	e.writeSteps(&p)
	e.writeMapping(&p)
	for i, note := range e.Notes {
		p.line(labelOnce("Note", i), "%s", phrase(note))
	}
	_, err := io.WriteString(w, p.String())
	return err
}

func labelOnce(label string, i int) string {
	if i == 0 {
		return label
	}
	return ""
}

func (e *explanation) writeVerdict(p *page) {
	r := e.Refusal
	if r == nil {
		until := ""
		if e.Expires != nil {
			until = ", until " + e.moment(*e.Expires)
		}
		p.line("Verdict", "accepted%s", until)
		return
	}
	word := "refused"
	if r.Code >= 500 {
		word = "cannot tell"
	}
	p.line("Verdict", "%s: %s (%d)", word, r.Reason, r.Code)
	p.line("", "%s", phrase(r.Message))
	p.line("Why", "%s", phrase(r.Detail))
}

func (e *explanation) tokenName() string {
	if e.Issuer == nil && e.Credential == auth.KindUnknown {
		return "a JWT of an issuer that is not configured"
	}
	return credentialNames[e.Credential]
}

// moment writes t, and how far it is from now.
func (e *explanation) moment(t time.Time) string {
	text := t.UTC().Format(time.RFC3339)
	if d := t.Sub(e.now); d >= 0 {
		return text + ", in " + proxy.Age(d)
	}
	return text + ", " + proxy.Age(e.now.Sub(t)) + " ago"
}

func (e *explanation) writeToken(p *page) {
	t := e.Token
	if t == nil {
		return
	}
	header := shown(t.Algorithm)
	if t.key != "" {
		header += ", by the key " + shown(t.key)
	} else if t.KeyID != "" {
		header += ", kid " + shown(t.KeyID)
	}
	if t.Type != "" {
		header += ", typ " + shown(t.Type)
	}
	switch {
	case t.Verified && t.by != "":
		p.line("Signature", "verified %s: %s", t.by, header)
		p.line("Claims", "(verified)")
	case t.Verified:
		p.line("Signature", "verified: %s", header)
		p.line("Claims", "(verified)")
	default:
		p.line("Signature", "NOT verified: %s", phrase(t.Fault))
		if t.Algorithm != "" {
			p.line("", "the header says %s", header)
		}
		p.line("Claims", "(NOT verified: anybody can have written this)")
	}
	names := claimNames(t.Claims)
	width := 0
	for _, name := range names {
		width = max(width, min(len(shown(name)), 20))
	}
	for _, name := range names {
		p.line("", "%-*s  %s", width, shown(name), e.claim(name, t.Claims[name]))
	}
}

// claimNames returns names, those first that decide something.
func claimNames(claims map[string]any) []string {
	var names []string
	for _, name := range []string{"iss", "sub", "aud", "azp", "exp", "nbf", "iat", "jti"} {
		if _, present := claims[name]; present {
			names = append(names, name)
		}
	}
	for _, name := range sortedKeys(claims) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}

// maxShown is the longest claim that is shown whole; -o json has all of it.
const maxShown = 500

func (e *explanation) claim(name string, value any) string {
	switch value := value.(type) {
	case string:
		return shortened(shown(value))
	case float64:
		if slices.Contains([]string{"exp", "nbf", "iat", "auth_time"}, name) && value > 0 && value < 1e11 {
			return e.moment(time.Unix(int64(value), 0))
		}
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return "?" // what was JSON once is it again
	}
	if strings.ContainsFunc(string(raw), unseen) {
		return shortened(shown(string(raw)))
	}
	return shortened(string(raw))
}

func shortened(text string) string {
	letters := []rune(text)
	if len(letters) <= maxShown {
		return text
	}
	return fmt.Sprintf("%s… (%d more characters: see -o json)", string(letters[:maxShown]), len(letters)-maxShown)
}

func (e *explanation) writeCertificate(p *page) {
	c := e.Certificate
	if c == nil {
		return
	}
	p.line("Certificate", "%s", shown(c.Subject))
	p.line("", "issued by %s, serial %s", shown(c.Issuer), c.Serial)
	p.line("", "from %s", e.moment(c.NotBefore))
	p.line("", "to %s", e.moment(c.NotAfter))
	p.line("", "%s", c.Fingerprint)
	for _, other := range c.Others {
		p.line("", "presented with %s", shown(other))
	}
	if c.CAFile != "" {
		p.line("Trust", "%s of %s", plural(c.CAs, "CA", "CAs"), shown(c.CAFile))
		p.line("Revocation", "%s", c.revocationText())
	}
}

func (e *explanation) writeSteps(p *page) {
	var words []string
	for _, step := range e.Steps {
		switch step.Result {
		case "passed":
			words = append(words, step.Name+" ok")
		case "refused":
			words = append(words, strings.ToUpper(step.Name)+" REFUSED")
		default:
			words = append(words, step.Name+" not reached")
		}
	}
	if words != nil {
		p.line("Steps", "%s", strings.Join(words, ", "))
	}
}

// fieldLabels are the labels of the fields of a user.
var fieldLabels = map[string]string{"username": "User", "groups": "Groups", "uid": "UID", "extra": "Extra"}

func (e *explanation) writeMapping(p *page) {
	if !e.Accepted && e.Mapping != nil {
		p.line("Identity", "(what it would be, if nothing else refused it)")
	}
	last := ""
	for _, field := range e.Mapping {
		name, _, _ := strings.Cut(field.Field, "[")
		label, ofUser := fieldLabels[name]
		if !ofUser {
			label = "Rules"
		}
		shownLabel := label
		if label == last {
			shownLabel = ""
		}
		last = label
		switch {
		case !ofUser && field.Fault == "":
			p.line(shownLabel, "%s is met: %s", field.Field, phrase(field.Rule))
			continue
		case !ofUser:
			p.line(shownLabel, "%s is NOT met: %s", field.Field, phrase(field.Fault))
			continue
		case field.Fault != "":
			p.line(shownLabel, "REFUSED: %s", phrase(field.Fault))
		default:
			p.line(shownLabel, "%s", fieldValues(field))
		}
		if field.Rule != "" {
			p.line("", "  from %s", phrase(field.Rule))
		}
	}
}

func fieldValues(field explainedField) string {
	values := make([]string, len(field.Values))
	for i, value := range field.Values {
		values[i] = shown(value)
	}
	text := strings.Join(values, ", ")
	if text == "" {
		text = "none"
	}
	if _, key, found := strings.Cut(field.Field, "["); found {
		return shown(strings.Trim(key, `"]`)) + " = " + text
	}
	return text
}
