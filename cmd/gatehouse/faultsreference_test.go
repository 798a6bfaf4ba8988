package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// faultRemedy says what to do about a fault that the code words itself.
type faultRemedy struct {
	format    string // as in the code
	variables string // which it is said of, for the reader; "" if of one that has no name
	remedy    string
}

func faultRemedies() []faultRemedy {
	const limits = "`MAX_…`"
	return []faultRemedy{
		{"unknown setting: did you mean %s%s?", "any other `GATEHOUSE_…`", "Correct the name. It may also be a setting of [another version](upgrades.md#settings)."},
		{"unknown setting. If Kubernetes injected it for a Service, set enableServiceLinks: false in the pod", "any other `GATEHOUSE_…`", "A Service whose name begins with `gatehouse-` puts variables into each pod of its namespace. Do as it says; the chart does."},
		{"unknown setting: docs/settings.md lists them all", "any other `GATEHOUSE_…`", "Take it out, or look for its name above."},
		{"read the environment: %w", "", "Please report it: the environment could not be read."},
		{"no credential is accepted, so that nobody could sign in: set GATEHOUSE_OIDC_ISSUER_URL and GATEHOUSE_OIDC_CLIENT_ID, GATEHOUSE_AUTHENTICATION_CONFIG, GATEHOUSE_TOKEN_AUTH_FILE, GATEHOUSE_CLIENT_CA_FILE, or GATEHOUSE_TOKEN_REVIEW", "", "Set one of them. Was the ConfigMap or `.env` file read at all?"},
		{"%q is not an address like :8443 or 127.0.0.1:8443", "`LISTEN_ADDRESS`, `OPS_ADDRESS`", "Write a port, with a colon before it. IPv6 stands in brackets: `[::1]:8443`."},
		{"is the proxy's address too", "`OPS_ADDRESS`", "Choose another port: probes and metrics are never on the proxy's."},
		{"%s is too short: at least %s", "`JWKS_REFRESH_INTERVAL`, `JWKS_MAX_AGE`, `SHUTDOWN_DELAY`, `SHUTDOWN_TIMEOUT`", "Raise it. `JWKS_MAX_AGE` is at least twice `JWKS_REFRESH_INTERVAL`, else keys would lapse while they are fetched."},
		{"%s is too short: at least 1s", "`HEADER_TIMEOUT`, `BODY_TIMEOUT`, `UPSTREAM_TIMEOUT`, `IDLE_TIMEOUT`", "Raise it. A limit cannot be turned off."},
		{"%d is not between %d and %d", limits, "Choose a number between the two. A limit cannot be turned off."},
		{"%q is none of debug, info, warn, error", "`LOG_LEVEL`", "Write one of them, in lower case."},
		{"%q is neither json nor text", "`LOG_FORMAT`", "Write one of them."},
		{"%q is neither refuse nor allow", "`CLIENT_CRL_STALE`", "Write one of them."},
		{"%q is neither on nor off", "`PROXY_PROTOCOL`", "Write one of them."},
		{"needs GATEHOUSE_TRUSTED_PROXIES: from anybody else a header is never read", "`PROXY_PROTOCOL`", "Name the load balancers' addresses: [behind a load balancer](how-to/behind-a-load-balancer.md)."},
		{"needs GATEHOUSE_CLIENT_CA_FILE: without it no certificate is accepted", "`CLIENT_CRL_FILE`", "Set the CA file, or leave the list out."},
		{"needs GATEHOUSE_TOKEN_REVIEW=true: without it no ServiceAccount token is accepted", "`API_AUDIENCES`", "Set it, or leave the audiences out."},
		{"the entry %q is empty or has white space around it", "all lists", "Separate the entries by commas alone, without blanks, and end without a comma."},
		{"%q is not an origin like https://keys.example.com", "`JWKS_ORIGINS`", "Write `https://`, the host and perhaps a port; no path, and no slash at the end."},
		{"%q is not an origin like %s", "`ENTRA_LOGIN_URL`, `ENTRA_GRAPH_URL`", "The same."},
		{"is required with any other GATEHOUSE_OIDC_ variable", "`OIDC_ISSUER_URL`", "Set it, or take the other `OIDC_` variables out."},
		{"is required with any other GATEHOUSE_OIDC_ variable: without an audience, a token for any application would do", "`OIDC_CLIENT_ID`", "Set it to the client's id at the issuer, the tokens' `aud`."},
		{"%q is none of %s", "`OIDC_SIGNING_ALGS`", "Take it out. Neither `none` nor algorithms with a shared secret are ever accepted."},
		{"excludes the GATEHOUSE_OIDC_ variables: put that issuer into the file", "`AUTHENTICATION_CONFIG`", "`gatehouse migrate` writes such a file from flags; else take the variables out."},
		{"is required: gatehouse serves TLS alone", "`TLS_CERT_FILE`, `TLS_KEY_FILE`", "Name the serving certificate and its key."},
		{"is required with any other GATEHOUSE_ENTRA_ variable", "`ENTRA_TENANT_ID`, `ENTRA_CLIENT_ID`, `ENTRA_CLIENT_SECRET_FILE`", "Set all three: [many groups](how-to/many-groups.md)."},
		{"%s is not between 1s and 1h", "`ENTRA_GROUPS_MAX_AGE`", "Choose a time between the two."},
		{"is required with GATEHOUSE_AUDIT_POLICY_FILE: without it nothing is recorded (- is standard output)", "`AUDIT_LOG_PATH`", "Set both, or neither."},
		{"is required with GATEHOUSE_AUDIT_LOG_PATH: it says what is recorded", "`AUDIT_POLICY_FILE`", "Set both, or neither."},
		{"%s is a directory", "`AUDIT_LOG_PATH`", "Name a file in it."},
		{"%s holds no certificate in PEM", "`OIDC_CA_FILE`, `ENTRA_CA_FILE`", "Put certificates into it, each as a block `BEGIN CERTIFICATE`."},
		{"%s does not hold one line of visible characters", "`ENTRA_CLIENT_SECRET_FILE`", "Put the secret into it, and nothing else."},
		{"is the issuer of the cluster's own ServiceAccount tokens: set GATEHOUSE_ALLOW_CLUSTER_ISSUER if they may sign in as people do", "`OIDC_ISSUER_URL`, `AUTHENTICATION_CONFIG`", "For the cluster's own ServiceAccounts use `TOKEN_REVIEW`: [their tokens](how-to/service-account-tokens.md)."},
		{"needs GATEHOUSE_%s", "`EXCHANGE_ADDRESS`, `EXCHANGE_URL`, `SESSION_KEY_DIR`, `SESSION_LIFETIMES`, `SESSION_OUTLIVE`", "Set that too, or leave both out."},
		{"%q is not an origin like https://gatehouse.example.com:8444", "`EXCHANGE_URL`", "Write `https://`, the host and perhaps a port; no path, and no slash at the end."},
		{"%d is not at least 1", "`EXCHANGE_RATE`", "Raise it. To offer no exchange, leave `EXCHANGE_ADDRESS` out."},
		{"%s is too short: at least 1m", "`SESSION_MAX_LIFETIME`", "Raise it."},
		{"is the address of the proxy or of the ops port too", "`EXCHANGE_ADDRESS`", "Choose another port."},
		{"is GATEHOUSE_OIDC_ISSUER_URL too: session tokens are of no other issuer", "`EXCHANGE_URL`", "It is gatehouse's own origin, not that of your issuer."},
		{"%s: jwt[%d]: the issuer is GATEHOUSE_EXCHANGE_URL: session tokens are of no other issuer", "`AUTHENTICATION_CONFIG`", "Take that issuer out of the file: gatehouse knows its own tokens without it."},
		{"%q is not of the form name=value", "`OIDC_REQUIRED_CLAIMS`", "Write `name=value,name=value`."},
		{"the claim %q is required twice", "`OIDC_REQUIRED_CLAIMS`", "Keep one. For more than equality use [rules](how-to/authentication-configuration.md)."},
	}
}

// contentFaults says what to do about faults whose words come from the content of
// a setting or of a file: from a parser's own code, kube-apiserver's or the
// system's.
func contentFaults() []struct{ variables, about, remedy string } {
	return []struct{ variables, about, remedy string }{
		{"each number, duration or switch", "`unable to parse duration`, `invalid syntax`", "Durations have a unit (`30s`, `5m`), switches are `true` or `false`."},
		{"each file", "`open …: no such file or directory`, `permission denied`, `is a directory`", "Correct the path. In a pod: is the volume mounted there, and may uid 65532 read it?"},
		{"`LISTEN_ADDRESS`, `OPS_ADDRESS`", "`listen tcp …: address already in use`", "Something else has the port. `gatehouse check` does not try it."},
		{"`TLS_CERT_FILE`, `TLS_KEY_FILE`", "no PEM, or a key of another certificate", "Put the leaf first, then its intermediates; and its own key."},
		{"`KUBECONFIG`", "`https` is missing, a field is not accepted, no user or no cluster; or this is no pod and nothing is set", "Write [a narrow one](how-to/cluster-kinds.md): programs, passwords and `as` are [refused](decisions/0007-own-credential.md)."},
		{"`OIDC_ISSUER_URL`, `OIDC_CA_FILE`, `OIDC_REQUIRED_CLAIMS`", "`issuer.url: Invalid value` and the like, in the words of kube-apiserver's validation", "The text names the field. The rules are those of kube-apiserver's `--oidc-*` flags."},
		{"`AUTHENTICATION_CONFIG`", "`jwt[0].…: Invalid value`, `unknown field`, an expression that does not compile, two issuers that are one", "The text names the place, in kube-apiserver's own words: [use an AuthenticationConfiguration](how-to/authentication-configuration.md)."},
		{"`TOKEN_AUTH_FILE`", "`line 3: …`", "[The file](how-to/static-tokens.md#faults) is read strictly; no fault quotes a token."},
		{"`CLIENT_CA_FILE`, `CLIENT_CRL_FILE`", "`line 3: …`, `certificate 2: …`, `CRL 1: …`", "[Client certificates](how-to/client-certificates.md) says what the files must hold."},
		{"`REVOCATION_FILE`", "`line 5: revoked[1].subject: …`", "[The file](how-to/revoke-access.md#if-the-file-is-wrong) is refused whole for one fault."},
		{"`AUDIT_POLICY_FILE`, `AUDIT_LOG_PATH`", "`read as audit.k8s.io`, the words of kube-apiserver's validation; the log cannot be opened", "[The policy](how-to/audit.md) has kube-apiserver's format. The log's folder must exist and be writable."},
		{"`TRUSTED_PROXIES`", "`\"10.0.0.1/8\" has bits behind its length`, `trusts everybody`, `is neither an address …`", "Name the load balancers alone, by address or CIDR."},
		{"`DISTRIBUTED_CLAIM_ENDPOINTS`", "`is no URL like https://claims.example.com/groups: …`", "The text says what is wrong with it: [many groups](how-to/many-groups.md)."},
		{"`ENTRA_TENANT_ID`, `ENTRA_CLIENT_ID`, `ENTRA_GROUPS`, `ENTRA_CLIENT_SECRET_FILE`, `ENTRA_CA_FILE`", "`is not an id like …`", "Write ids, not names: the tenant's, the application's, the groups' object ids."},
		{"`SESSION_KEY_DIR`", "`holds no key that can be used`, too many keys", "Make each key as the text says; `signing.pem` must be private. The directory must exist and be readable."},
		{"`SESSION_LIFETIMES`", "`is not of the form issuer=duration`, `stands twice`", "Write `https://ci.example.com=10m`, separated by commas, each issuer once."},
		{"`TOKEN_REVIEW`", "a clash of metrics, or a limit out of bounds", "Please report it: no setting leads there."},
	}
}

// faultsReference is the chapter of docs/settings.md on what check and a start
// that fails say.
func faultsReference() string {
	var b strings.Builder
	b.WriteString("\n## Faults\n\nA start stops at a fault, and `gatehouse check` reports all of them at once:\n\n" +
		"```\ngatehouse: 1 fault in the settings:\n  GATEHOUSE_LOG_LEVLE: unknown setting: did you mean GATEHOUSE_LOG_LEVEL?\n```\n\n" +
		"When a file changes while gatehouse runs, its faults are in the log in the same words, and the last good\n" +
		"content stays in effect. What gatehouse says to callers is in [errors by their sentence](errors.md).\n\n" +
		"In its own words, with … for what differs. All variables begin with `GATEHOUSE_`:\n\n| fault | of | remedy |\n|---|---|---|\n")
	verb := regexp.MustCompile(`(%[a-z])+`) // two in a row are one name
	for _, one := range faultRemedies() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", verb.ReplaceAllStringFunc(one.format, func(v string) string {
			return strings.Repeat("\"", strings.Count(v, "q")) + "…" + strings.Repeat("\"", strings.Count(v, "q"))
		}), one.variables, one.remedy)
	}
	b.WriteString("\nIn the words of what reads the value or the file:\n\n| of | such as | remedy |\n|---|---|---|\n")
	for _, one := range contentFaults() {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", one.variables, one.about, one.remedy)
	}
	return b.String()
}

// Promise: every fault that the code words itself has its remedy in
// docs/settings.md, and none other has; so has every setting whose value or file
// has faults in other words.
func TestFaultsReference(t *testing.T) {
	t.Parallel()
	formats, others := wordedFaults(t)
	var known []string
	for _, one := range faultRemedies() {
		known = append(known, one.format)
		if !slices.Contains(formats, one.format) {
			t.Errorf("docs/settings.md has the fault %q, which the code does not say", one.format)
		}
		if one.remedy == "" {
			t.Errorf("no remedy of %q", one.format)
		}
	}
	for _, format := range formats {
		if !slices.Contains(known, format) {
			t.Errorf("the code says the fault %q, which docs/settings.md does not have", format)
		}
	}
	var named []string
	for _, one := range contentFaults() {
		for _, match := range regexp.MustCompile("`([A-Z_]+)`").FindAllStringSubmatch(one.variables, -1) {
			named = append(named, match[1])
			if !slices.ContainsFunc(variables(), func(v variable) bool { return v.name == match[1] }) {
				t.Errorf("%s is no setting", match[1])
			}
		}
	}
	for _, name := range others {
		if !slices.Contains(named, name) {
			t.Errorf("%s has faults in others' words, of which docs/settings.md says nothing", name)
		}
	}
	if len(formats) < 30 || len(others) < 12 {
		t.Errorf("only %d faults and %d variables were found in the code", len(formats), len(others))
	}
}

// wordedFaults returns the formats in this package that are said of a setting,
// and the others: the variables whose faults are in others' words.
func wordedFaults(t *testing.T) (formats, others []string) {
	t.Helper()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		finder := faultFinder{settings: slices.Contains(settingsFiles(), path)}
		ast.Inspect(file, finder.visit)
		formats, others = append(formats, finder.formats...), append(others, finder.others...)
	}
	slices.Sort(formats)
	slices.Sort(others)
	return slices.Compact(formats), slices.Compact(others)
}

// settingsFiles are those in which every error is a fault of the settings.
func settingsFiles() []string {
	return []string{"settings.go", "variables.go", "limits.go", "claimsources.go", "assemble.go", "clientcerts.go"}
}

type faultFinder struct {
	settings        bool
	formats, others []string
}

func (f *faultFinder) visit(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.CallExpr:
		f.call(n)
	case *ast.CompositeLit:
		if name, ok := n.Type.(*ast.Ident); ok && name.Name == "fault" && len(n.Elts) == 2 {
			f.passes(n.Elts[0])
		}
	case *ast.ReturnStmt: // of unknownVariable
		for _, result := range n.Results {
			if text := literal(result); strings.HasPrefix(text, "unknown setting") {
				f.formats = append(f.formats, text)
			}
		}
	}
	return true
}

func (f *faultFinder) call(call *ast.CallExpr) {
	called, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || len(call.Args) == 0 {
		return
	}
	of, _ := called.X.(*ast.Ident)
	switch {
	case of != nil && of.Name == "f" && called.Sel.Name == "add" && len(call.Args) > 1:
		if text := literal(call.Args[1]); text != "%w" {
			f.formats = append(f.formats, text)
		} else {
			f.passes(call.Args[0])
		}
	case called.Sel.Name == "addAll":
		f.passes(call.Args[0])
	case f.settings && of != nil && (of.Name == "fmt" && (called.Sel.Name == "Errorf" || called.Sel.Name == "Sprintf") || of.Name == "errors" && called.Sel.Name == "New"):
		if text := literal(call.Args[0]); text != "" && !slices.Contains(notFaults(), text) {
			f.formats = append(f.formats, text)
		}
	}
}

// notFaults are the texts in settingsFiles that are not said of a setting.
func notFaults() []string {
	return []string{
		"%s: %w", "%s: jwt[%d]: %w", "%s: %s", // only say where
		"%d %s in the settings:",                // the head of the report
		"%s%s", " (default %s)", "\n      %s\n", // of --help
		"unknown level", // replaced by what is said of LOG_LEVEL
		// Warnings, which stop nothing: docs/operations.md has them.
		"no revocation list speaks of the certificates of the client CA %s: they cannot be revoked",
		"the issuer %q of the revocation file is not configured, so that its entries deny nobody",
	}
}

func (f *faultFinder) passes(variable ast.Expr) {
	if name := literal(variable); name != "" {
		f.others = append(f.others, name)
	}
}

// literal returns the text of a string literal, "" of anything else.
func literal(e ast.Expr) string {
	basic, ok := e.(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(basic.Value)
	if err != nil {
		return ""
	}
	return text
}
