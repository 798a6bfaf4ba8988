package migrate

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// issuer is one trusted issuer, without defaults.
type issuer struct {
	url       string
	audiences []string
	ca        []byte
	caFile    string // in place of ca
	algs      []string
	algsFlag  string // says them

	username, usernamePrefix, usernameExpression string
	groups, groupsPrefix, groupsExpression       string
	required                                     []pair
	rules                                        []string // expressions
	extra                                        []extra
}

type pair struct{ name, value string }

type extra struct {
	key    string
	values []string
}

// fitsVariables reports whether GATEHOUSE_OIDC_ variables can say all of i.
func (i *issuer) fitsVariables() bool {
	bad := func(p pair) bool {
		return p.value == "" || strings.ContainsAny(p.name+p.value, ",\n") || strings.TrimSpace(p.name) != p.name || strings.TrimSpace(p.value) != p.value
	}
	return len(i.audiences) == 1 && len(i.ca) == 0 && i.usernameExpression == "" && i.groupsExpression == "" && len(i.rules) == 0 &&
		len(i.extra) == 0 && i.usernamePrefix != "-" && !slices.ContainsFunc(i.required, bad)
}

// defaultPrefix is what GATEHOUSE_OIDC_USERNAME_PREFIX is if it is not set, as it
// is for kube-apiserver.
func (i *issuer) defaultPrefix() string {
	if i.username == "email" {
		return ""
	}
	return i.url + "#"
}

// addIssuers writes the issuers as variables, or, if these cannot say all, as an
// AuthenticationConfiguration.
func (t *translation) addIssuers() error {
	switch {
	case len(t.config) > 0:
		t.set("AUTHENTICATION_CONFIG", t.ConfigPath)
		return nil
	case len(t.issuers) == 0:
		return nil
	case len(t.issuers) == 1 && t.issuers[0].fitsVariables():
		t.addVariables(&t.issuers[0])
		return nil
	}
	var b strings.Builder
	b.WriteString("apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n")
	for n := range t.issuers {
		i := &t.issuers[n]
		if i.caFile != "" {
			content, err := t.read(i.caFile)
			if err != nil {
				return fmt.Errorf("the settings need an AuthenticationConfiguration, which holds the CA of %s itself: %w. Let it be found there, or below the folder of --root", i.url, err)
			}
			i.ca = content
		}
		if err := i.write(&b); err != nil {
			return err
		}
		if len(i.algs) > 0 {
			t.note(Differs, "--%s: an AuthenticationConfiguration has no such list: every RS, ES and PS algorithm of a key of the issuer is accepted, not %s alone.", i.algsFlag, strings.Join(i.algs, ", "))
		}
	}
	t.config = []byte(b.String())
	t.set("AUTHENTICATION_CONFIG", t.ConfigPath)
	return nil
}

// read returns a file of the manifest, or of this machine.
func (t *translation) read(path string) ([]byte, error) {
	if content, ok := t.mounts.content(path); ok {
		return content, nil
	}
	return t.ReadFile(path)
}

func (t *translation) addVariables(i *issuer) {
	claim, prefix, groupsPrefix, algs := i.username, i.usernamePrefix, i.groupsPrefix, strings.Join(i.algs, ",")
	if claim == "sub" {
		claim = ""
	}
	switch prefix {
	case i.defaultPrefix():
		prefix = ""
	case "":
		prefix = "-"
	}
	if i.groups == "" {
		groupsPrefix = ""
	}
	if algs == "RS256" {
		algs = ""
	}
	required := make([]string, len(i.required))
	for n, p := range i.required {
		required[n] = p.name + "=" + p.value
	}
	t.setFile("OIDC_CA_FILE", i.caFile)
	for _, s := range []struct{ variable, value string }{
		{"OIDC_ISSUER_URL", i.url},
		{"OIDC_CLIENT_ID", i.audiences[0]},
		{"OIDC_USERNAME_CLAIM", claim},
		{"OIDC_USERNAME_PREFIX", prefix},
		{"OIDC_GROUPS_CLAIM", i.groups},
		{"OIDC_GROUPS_PREFIX", groupsPrefix},
		{"OIDC_REQUIRED_CLAIMS", strings.Join(required, ",")},
		{"OIDC_SIGNING_ALGS", algs},
	} {
		t.set(s.variable, s.value)
	}
}

// write adds i as an entry of `jwt`.
func (i *issuer) write(b *strings.Builder) error {
	fmt.Fprintf(b, "  - issuer:\n      url: %s\n      audiences: %s\n", strconv.Quote(i.url), quotedList(i.audiences))
	if len(i.audiences) > 1 {
		b.WriteString("      audienceMatchPolicy: MatchAny\n")
	}
	if len(i.ca) > 0 {
		certificates, err := onlyCertificates(i.ca)
		if err != nil {
			return fmt.Errorf("the CA of %s: %w", i.url, err)
		}
		b.WriteString("      certificateAuthority: |\n")
		for line := range strings.Lines(string(certificates)) {
			b.WriteString("        " + line)
		}
	}
	b.WriteString("    claimMappings:\n")
	writeMapping(b, "username", i.username, i.usernamePrefix, i.usernameExpression)
	if i.groups != "" || i.groupsExpression != "" {
		writeMapping(b, "groups", i.groups, i.groupsPrefix, i.groupsExpression)
	}
	if len(i.extra) > 0 {
		b.WriteString("      extra:\n")
	}
	for _, e := range i.extra {
		fmt.Fprintf(b, "        - key: %s\n          valueExpression: %s\n", strconv.Quote(e.key), singleQuoted(quotedList(e.values)))
	}
	if len(i.required)+len(i.rules) > 0 {
		b.WriteString("    claimValidationRules:\n")
	}
	for _, p := range i.required {
		fmt.Fprintf(b, "      - claim: %s\n        requiredValue: %s\n", strconv.Quote(p.name), strconv.Quote(p.value))
	}
	for _, rule := range i.rules {
		fmt.Fprintf(b, "      - expression: %s\n", singleQuoted(rule))
	}
	return nil
}

func writeMapping(b *strings.Builder, field, claim, prefix, expression string) {
	if expression != "" {
		fmt.Fprintf(b, "      %s:\n        expression: %s\n", field, singleQuoted(expression))
		return
	}
	fmt.Fprintf(b, "      %s:\n        claim: %s\n        prefix: %s\n", field, strconv.Quote(claim), strconv.Quote(prefix))
}

// quotedList is a list, in YAML and in CEL.
func quotedList(values []string) string {
	quoted := make([]string, len(values))
	for i, value := range values {
		quoted[i] = strconv.Quote(value)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// singleQuoted is s in YAML.
func singleQuoted(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// onlyCertificates returns the certificates of a PEM file. Nothing else that is in
// it may come into a file for others to read.
func onlyCertificates(content []byte) ([]byte, error) {
	var certificates bytes.Buffer
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds something else than certificates")
		}
		if err := pem.Encode(&certificates, &pem.Block{Type: block.Type, Bytes: block.Bytes}); err != nil {
			return nil, err
		}
	}
	if certificates.Len() == 0 {
		return nil, fmt.Errorf("it holds no certificate as PEM")
	}
	return certificates.Bytes(), nil
}

// jsonValue is what JSON can write without quotes.
var jsonValue = regexp.MustCompile(`^(true|false|-?(0|[1-9][0-9]{0,14}))$`)

// claimRule is an expression that accepts a claim that is value in JSON, or a
// string that reads so.
func claimRule(p pair) string {
	claim := "claims[" + strconv.Quote(p.name) + "]"
	return claim + " == " + p.value + " || " + claim + " == " + strconv.Quote(p.value)
}
