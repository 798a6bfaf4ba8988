package main

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// manifest is gatehouse's own account with its rights, written as YAML for
// `kubectl apply`. The same values give the same bytes.
type manifest struct {
	heading            string // a comment
	namespace, account string
	rules              []upstream.Rule
}

// role is the name of the ClusterRole and its binding. Two gatehouses in one
// cluster must not take each other's binding away.
func (m manifest) role() string {
	if m.namespace == defaultAccount && m.account == defaultAccount {
		return defaultAccount
	}
	return "gatehouse:" + m.namespace + ":" + m.account
}

// String writes all of m.
func (m manifest) String() string {
	var b strings.Builder
	writeComment(&b, "", m.heading)
	namespace, account, role := scalar(m.namespace), scalar(m.account), scalar(m.role())
	fmt.Fprintf(&b, `apiVersion: v1
kind: Namespace
metadata:
  name: %s
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: %s
  namespace: %s
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: %s
rules:`, namespace, account, namespace, role)
	if len(m.rules) == 0 {
		b.WriteString(" []")
	}
	b.WriteString("\n")
	for i := range m.rules {
		writeRule(&b, &m.rules[i])
	}
	fmt.Fprintf(&b, `---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: %s
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: %s
subjects:
  - kind: ServiceAccount
    name: %s
    namespace: %s
`, role, role, account, namespace)
	return b.String()
}

func writeComment(b *strings.Builder, indent, text string) {
	for line := range strings.SplitSeq(text, "\n") {
		b.WriteString(strings.TrimRight(indent+"# "+line, " ") + "\n")
	}
}

func writeRule(b *strings.Builder, rule *upstream.Rule) {
	if rule.Why != "" {
		writeComment(b, "  ", rule.Why)
	}
	indent := "  - "
	for _, member := range []struct {
		name   string
		values []string
	}{
		{"apiGroups", rule.Groups}, {"resources", rule.Resources}, {"nonResourceURLs", rule.Paths}, {"verbs", rule.Verbs},
	} {
		if len(member.values) > 0 {
			writeList(b, indent, member.name, member.values)
			indent = "    "
		}
	}
}

// maxLine is the longest line with a list in it.
const maxLine = 100

func writeList(b *strings.Builder, indent, name string, values []string) {
	scalars := make([]string, len(values))
	for i, value := range values {
		scalars[i] = scalar(value)
	}
	if line := indent + name + ": [" + strings.Join(scalars, ", ") + "]\n"; len(line) <= maxLine {
		b.WriteString(line)
		return
	}
	b.WriteString(indent + name + ":\n")
	for _, s := range scalars {
		b.WriteString("      - " + s + "\n")
	}
}

var (
	plain = regexp.MustCompile(`^[a-z][a-z0-9./-]*$`)
	// words mean something else in YAML 1.1.
	words = regexp.MustCompile(`^(y|n|yes|no|on|off|true|false|null)$`)
)

// scalar writes s as YAML, plain if it can only be read as a string.
func scalar(s string) string {
	if plain.MatchString(s) && !words.MatchString(s) {
		return s
	}
	return strconv.Quote(s)
}
