package migrate

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// form is how a value of gatehouse's chart is written.
type form int

const (
	asText form = iota
	asList
	asTruth
	asNumber
	asPairs
	asPort
	asPublicFile // may be a value itself
	asSecretFile // is a Secret's, and nothing else
	asTLS
	withPolicy // a value that counts only beside another
)

// chartValue is the value of deploy/chart/gatehouse that becomes a variable.
type chartValue struct {
	variable, path string
	form           form
	key            string // of a file, in a Secret or ConfigMap
}

// chartValues are those of every variable that a translation can set.
func chartValues() []chartValue {
	return []chartValue{
		{"LISTEN_ADDRESS", "ports.proxy", asPort, ""},
		{"OPS_ADDRESS", "ports.ops", asPort, ""},
		{"TLS_CERT_FILE", "tls.existingSecret", asTLS, "tls.crt"},
		{"TLS_KEY_FILE", "tls.existingSecret", asTLS, "tls.key"},
		{"KUBECONFIG", "kubeconfig", asSecretFile, "kubeconfig"},
		{"OIDC_ISSUER_URL", "oidc.issuerURL", asText, ""},
		{"OIDC_CLIENT_ID", "oidc.clientID", asText, ""},
		{"OIDC_CA_FILE", "oidc.ca", asPublicFile, "ca.crt"},
		{"OIDC_USERNAME_CLAIM", "oidc.usernameClaim", asText, ""},
		{"OIDC_USERNAME_PREFIX", "oidc.usernamePrefix", asText, ""},
		{"OIDC_GROUPS_CLAIM", "oidc.groupsClaim", asText, ""},
		{"OIDC_GROUPS_PREFIX", "oidc.groupsPrefix", asText, ""},
		{"OIDC_REQUIRED_CLAIMS", "oidc.requiredClaims", asPairs, ""},
		{"OIDC_SIGNING_ALGS", "oidc.signingAlgs", asList, ""},
		{"AUTHENTICATION_CONFIG", "authenticationConfig", asPublicFile, "config.yaml"},
		{"ENTRA_TENANT_ID", "entra.tenantID", asText, ""},
		{"ENTRA_CLIENT_ID", "entra.clientID", asText, ""},
		{"ENTRA_CLIENT_SECRET_FILE", "entra.clientSecret", asSecretFile, "client-secret"},
		{"ENTRA_GROUPS_MAX_AGE", "entra.groupsMaxAge", asText, ""},
		{"TOKEN_AUTH_FILE", "tokenAuthFile", asSecretFile, "tokens.csv"},
		{"CLIENT_CA_FILE", "clientCA", asPublicFile, "ca.crt"},
		{"TOKEN_REVIEW", "tokenReview.enabled", asTruth, ""},
		{"API_AUDIENCES", "tokenReview.audiences", asList, ""},
		{"IMPERSONATION", "impersonation", asTruth, ""},
		{"ALLOWED_RESERVED_NAMES", "allowedReservedNames", asList, ""},
		{"TRUSTED_PROXIES", "trustedProxies", asList, ""},
		{"MAX_STREAMS_PER_CONNECTION", "settings.MAX_STREAMS_PER_CONNECTION", asNumber, ""},
		{"AUDIT_POLICY_FILE", "audit.policy", asPublicFile, "audit-policy.yaml"},
		{"AUDIT_LOG_PATH", "audit.logPath", withPolicy, ""},
		{"LOG_FORMAT", "log.format", asText, ""},
	}
}

// values returns the values of gatehouse's chart for the settings, as YAML.
func (t *translation) values() ([]byte, error) {
	all := map[string]any{}
	for name, value := range t.pods {
		all[name] = value
	}
	known := chartValues()
	for _, s := range t.settings {
		i := slices.IndexFunc(known, func(v chartValue) bool { return Prefix+v.variable == s.Name })
		if i < 0 {
			return nil, fmt.Errorf("%s: the chart has no value for it", s.Name)
		}
		if err := t.setValue(all, known[i], s.Value); err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	t.addChartToDo(all)
	content, err := yaml.Marshal(all) // the library that helm reads them by
	if err != nil {
		return nil, fmt.Errorf("write the values: %w", err)
	}
	return content, nil
}

// setValue writes one setting into values.
func (t *translation) setValue(values map[string]any, v chartValue, s string) error {
	var value any = s
	switch v.form {
	case asList:
		value = strings.Split(s, ",")
	case asTruth:
		value = s == "true"
	case asPairs:
		claims := map[string]any{}
		for pair := range strings.SplitSeq(s, ",") {
			name, required, _ := strings.Cut(pair, "=")
			claims[name] = required
		}
		value = claims
	case asNumber:
		n, err := strconv.Atoi(s)
		if err != nil {
			return fmt.Errorf("it is no number")
		}
		value = n
	case asPort:
		host, port, err := net.SplitHostPort(s)
		if err != nil || host != "" {
			return fmt.Errorf("the chart has a value for the port alone: gatehouse listens on every address of its pod there")
		}
		return t.setValue(values, chartValue{v.variable, v.path, asNumber, ""}, port)
	case withPolicy:
		if s != "-" {
			t.note(ToDo, "audit.logPath: the root file system of the chart's pods is read-only: mount a volume for %s by extraVolumes and extraVolumeMounts, or set it to \"-\".", s)
		}
	case asPublicFile, asSecretFile:
		return t.setFileValue(values, v, s)
	case asTLS:
		t.setServingSecret(values, v, s)
		return nil
	}
	put(values, v.path, value)
	return nil
}

// put sets values at a path such as oidc.issuerURL.
func put(values map[string]any, path string, value any) {
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		inner, ok := values[name].(map[string]any)
		if !ok {
			inner = map[string]any{}
			values[name] = inner
		}
		values = inner
	}
	values[names[len(names)-1]] = value
}

// setFileValue says where the chart gets a file from: its content, if that is in
// the input and no secret; what the input mounts; or an object to be made.
func (t *translation) setFileValue(values map[string]any, v chartValue, file string) error {
	if v.form == asPublicFile {
		content, ok, err := t.publicContent(v.variable, file)
		if err != nil || ok {
			put(values, v.path+".content", string(content))
			return err
		}
	}
	from, ok := t.mounts.origin(file)
	if v.variable == "ENTRA_CLIENT_SECRET_FILE" && t.secret.name != "" {
		from, ok = t.secret, true
	}
	if ok && (from.kind == "Secret" || v.form == asPublicFile) {
		put(values, v.path+".existing"+from.kind, from.name)
		put(values, v.path+".key", from.key)
		t.note(ToDo, "%s: keep the %s %s, which the values name. If a chart made it, `helm uninstall` of that release deletes it.", v.path, from.kind, from.name)
		return nil
	}
	kind, command := "ConfigMap", "configmap"
	if v.form == asSecretFile {
		kind, command = "Secret", "secret generic"
	}
	name := "gatehouse-" + strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(v.variable, "_FILE"), "_", "-"))
	put(values, v.path+".existing"+kind, name)
	t.note(ToDo, "%s: make the %s that the values name: kubectl create %s %s --from-file=%s=%s", v.path, kind, command, name, v.key, quotedForShell(file))
	if v.variable == "AUTHENTICATION_CONFIG" {
		t.note(ToDo, "authenticationConfig.carries: the chart cannot read that file: say there whether its claims give groups, uids and extra, for the rights that they need.")
	}
	return nil
}

// publicContent returns the content of a file that anybody may read, if it is in
// the input.
func (t *translation) publicContent(variable, file string) (content []byte, ok bool, err error) {
	if variable == "AUTHENTICATION_CONFIG" && len(t.config) > 0 {
		return t.config, true, nil
	}
	if content, ok = t.mounts.content(file); !ok {
		return nil, false, nil
	}
	if strings.HasSuffix(variable, "_CA_FILE") {
		content, err = onlyCertificates(content)
	}
	return content, err == nil, err
}

// setServingSecret says which Secret has the serving certificate, if it is of the
// form that the chart takes.
func (t *translation) setServingSecret(values map[string]any, v chartValue, file string) {
	from, ok := t.mounts.origin(file)
	if ok && from.kind == "Secret" && from.key == v.key && t.certificates[v.key] == "" {
		t.certificates[v.key] = from.name
	}
	if name := t.certificates["tls.crt"]; name != "" && name == t.certificates["tls.key"] {
		put(values, v.path, name)
	}
}

// addChartToDo says what the chart leaves to the operator.
func (t *translation) addChartToDo(values map[string]any) {
	tls, _ := values["tls"].(map[string]any)
	switch name, _ := tls["existingSecret"].(string); {
	case tls["certManager"] != nil:
		t.note(ToDo, "tls.certManager: give the names in people's kubeconfigs as dnsNames.")
	case name != "":
		t.note(ToDo, "tls: keep the Secret %s. If a chart made it, `helm uninstall` of that release deletes it.", name)
	default:
		t.note(ToDo, "tls: the pods wait for a Secret of type kubernetes.io/tls, by default NAME-tls: make it, name yours in tls.existingSecret, or set tls.certManager.")
	}
	t.note(ToDo, "install with these values: helm install gatehouse deploy/chart/gatehouse --values FILE. The chart makes gatehouse's account, with the least rights for them.")
}

// quotedForShell is a word of a command line.
func quotedForShell(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// topOf is the first name of a path such as oidc.issuerURL.
func topOf(path string) string {
	top, _, _ := strings.Cut(path, ".")
	return top
}
