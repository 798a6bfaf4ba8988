package chart_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// row says what one value does: with value set to `to`, an object holds `want` at a
// path, which it does not before.
type row struct {
	value string
	to    any
	with  values // what else is set, before and after
	in    string // the object, as KIND/NAME
	path  string // a JSONPath in it; empty: whether it is there, as a bool
	want  any
}

// Promise: every value of the chart does what it says. A template that ignores one
// fails its row here, and a value without a row fails too.
func TestEveryValue(t *testing.T) {
	c := open(t)
	rows := slices.Concat(settingRows(), fileRows(t), podRows(), accountRows(), networkRows(), metricsRows())
	for i, r := range rows {
		t.Run(fmt.Sprintf("%s %d", r.value, i), func(t *testing.T) {
			t.Parallel()
			c.judge(t, r)
		})
	}
	t.Run("complete", func(t *testing.T) {
		var done []string
		for _, r := range rows {
			done = append(done, r.value)
		}
		for _, leaf := range leaves(t, c) {
			if !slices.Contains(done, leaf) {
				t.Errorf("no row says what the value %s does", leaf)
			}
		}
	})
	t.Run("settings", func(t *testing.T) { c.testSettingsComplete(t, rows) })
}

// judge renders before and after.
func (c chart) judge(t *testing.T, r row) {
	want := plain(t, r.want)
	base := values{}
	maps.Copy(base, deepCopy(t, r.with))
	before := c.look(t, r, base)
	after := c.look(t, r, base.set(r.value, r.to))
	if !reflect.DeepEqual(after, want) {
		t.Errorf("%s: %v: %s %s: got %v, want %v", r.value, r.to, r.in, r.path, after, want)
	}
	if reflect.DeepEqual(before, want) {
		t.Errorf("%s: %s %s is %v without the value too: the row shows nothing", r.value, r.in, r.path, want)
	}
}

func (c chart) look(t *testing.T, r row, v values) any {
	t.Helper()
	o := c.mustRender(t, v).find(r.in)
	if r.path == "" {
		return o != nil
	}
	return o.at(t, r.path)
}

// plain is v as it is read from YAML.
func plain(t *testing.T, v any) any {
	t.Helper()
	b, err := yaml.Marshal(map[string]any{"v": v})
	if err != nil {
		t.Fatal(err)
	}
	o, err := parse(string(b))
	if err != nil {
		t.Fatal(err)
	}
	return o[0]["v"]
}

func deepCopy(t *testing.T, v values) values {
	t.Helper()
	copied, _ := plain(t, v).(map[string]any)
	return copied
}

// defaults reads values.yaml.
func defaults(t *testing.T, c chart) map[string]any {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(c.dir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]any
	if err := yaml.UnmarshalStrict(b, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// leaves are the paths of values.yaml below which there is nothing.
func leaves(t *testing.T, c chart) []string {
	t.Helper()
	var found []string
	var walk func(prefix string, v any)
	walk = func(prefix string, v any) {
		inner, ok := v.(map[string]any)
		if !ok || len(inner) == 0 {
			found = append(found, strings.TrimPrefix(prefix, "."))
			return
		}
		for name, v := range inner {
			walk(prefix+"."+name, v)
		}
	}
	walk("", defaults(t, c))
	slices.Sort(found)
	return found
}

// testSettingsComplete: each setting of gatehouse can be reached by a value that
// has a row.
func (c chart) testSettingsComplete(t *testing.T, rows []row) {
	reference, err := os.ReadFile(filepath.Join(filepath.Dir(c.deploy), "docs", "settings.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("(?m)^\\| `(GATEHOUSE_[A-Z_]+)`").FindAllStringSubmatch(string(reference), -1)
	if len(documented) < 50 {
		t.Fatalf("only %d settings are documented", len(documented))
	}
	for _, match := range documented {
		name := match[1]
		path := environment(name)
		if strings.HasPrefix(name, "GATEHOUSE_TLS_") {
			continue // where the chart mounts the Secret; the pod that runs shows it
		}
		if !slices.ContainsFunc(rows, func(r row) bool { return r.path == path }) {
			t.Errorf("no row says which value sets %s: put it into `settings` of the schema, or give it a value", name)
		}
	}
}

const deployment = "Deployment/gatehouse"

// environment is the path of a variable's value in the Deployment.
func environment(name string) string {
	return `.spec.template.spec.containers[0].env[?(@.name=="` + name + `")].value`
}

// setting is a row of a value that becomes a variable, without its prefix.
func setting(value string, to any, variable, want string, more ...any) row {
	return row{value, to, with(more...), deployment, environment("GATEHOUSE_" + variable), want}
}

// exchangeURL turns the exchange of tokens on.
const exchangeURL = "https://gatehouse.example.com:8444"

// settingRows are the settings that are no files.
func settingRows() []row {
	issuer := []any{"oidc.issuerURL", "https://example.com", "oidc.clientID", "c"}
	sessions := []any{"exchange.url", exchangeURL, "exchange.sessionKeys.existingSecret", "keys"}
	return []row{
		setting("oidc.issuerURL", "https://login.example.com", "OIDC_ISSUER_URL", "https://login.example.com", issuer...),
		setting("oidc.clientID", "kubernetes", "OIDC_CLIENT_ID", "kubernetes", issuer...),
		setting("oidc.usernameClaim", "email", "OIDC_USERNAME_CLAIM", "email", issuer...),
		setting("oidc.usernamePrefix", "-", "OIDC_USERNAME_PREFIX", "-", issuer...),
		setting("oidc.groupsClaim", "groups", "OIDC_GROUPS_CLAIM", "groups", issuer...),
		setting("oidc.groupsPrefix", "oidc:", "OIDC_GROUPS_PREFIX", "oidc:", issuer...),
		// In the charts of others this ends up among the algorithms.
		setting("oidc.requiredClaims", map[string]any{"hd": "example.com", "acr": "2"}, "OIDC_REQUIRED_CLAIMS", "acr=2,hd=example.com", issuer...),
		setting("oidc.signingAlgs", []string{"ES256", "RS256"}, "OIDC_SIGNING_ALGS", "ES256,RS256", issuer...),
		setting("clientCRL.stale", "allow", "CLIENT_CRL_STALE", "allow"),
		setting("tokenReview.enabled", true, "TOKEN_REVIEW", "true", issuer...),
		setting("tokenReview.audiences", []string{"a", "b"}, "API_AUDIENCES", "a,b"),
		setting("impersonation", false, "IMPERSONATION", "false"),
		setting("allowedReservedNames", []string{"system:masters"}, "ALLOWED_RESERVED_NAMES", "system:masters"),
		setting("entra.tenantID", "t", "ENTRA_TENANT_ID", "t"),
		setting("entra.clientID", "c", "ENTRA_CLIENT_ID", "c"),
		setting("entra.groups", []string{"g", "h"}, "ENTRA_GROUPS", "g,h"),
		setting("entra.groupsMaxAge", "10m", "ENTRA_GROUPS_MAX_AGE", "10m"),
		setting("entra.loginURL", "https://login.example.com", "ENTRA_LOGIN_URL", "https://login.example.com"),
		setting("entra.graphURL", "https://graph.example.com", "ENTRA_GRAPH_URL", "https://graph.example.com"),
		setting("trustedProxies", []string{"10.0.0.0/8", "192.0.2.1"}, "TRUSTED_PROXIES", "10.0.0.0/8,192.0.2.1"),
		setting("proxyProtocol", "on", "PROXY_PROTOCOL", "on", "trustedProxies", []string{"10.0.0.0/8"}),
		setting("ports.proxy", 9443, "LISTEN_ADDRESS", ":9443"),
		setting("ports.ops", 9080, "OPS_ADDRESS", ":9080"),
		setting("log.level", "debug", "LOG_LEVEL", "debug"),
		setting("log.format", "text", "LOG_FORMAT", "text"),
		setting("shutdown.delaySeconds", 15, "SHUTDOWN_DELAY", "15s"),
		setting("shutdown.timeoutSeconds", 60, "SHUTDOWN_TIMEOUT", "60s"),
		setting("settings", map[string]any{"MAX_REQUESTS": 8000}, "MAX_REQUESTS", "8000"),
		setting("settings.END_STREAMS", false, "END_STREAMS", "false"),
		setting("settings.ALLOW_CLUSTER_ISSUER", true, "ALLOW_CLUSTER_ISSUER", "true"),
		setting("settings.AUTHORIZED_PARTIES", []string{"a", "b"}, "AUTHORIZED_PARTIES", "a,b"),
		setting("settings.TOKEN_TYPES", []string{"JWT", "at+jwt"}, "TOKEN_TYPES", "JWT,at+jwt"),
		setting("settings.JWKS_ORIGINS", []string{"https://keys.example.com"}, "JWKS_ORIGINS", "https://keys.example.com"),
		setting("settings.JWKS_REFRESH_INTERVAL", "1m", "JWKS_REFRESH_INTERVAL", "1m"),
		setting("settings.JWKS_MAX_AGE", "1h", "JWKS_MAX_AGE", "1h"),
		setting("settings.DISTRIBUTED_CLAIM_ENDPOINTS", []string{"https://claims.example.com/"}, "DISTRIBUTED_CLAIM_ENDPOINTS", "https://claims.example.com/"),
		setting("settings.MAX_HEADER_BYTES", 1048576, "MAX_HEADER_BYTES", "1048576"), // no 1.048576e+06
		setting("settings.MAX_HEADER_LINES", 99, "MAX_HEADER_LINES", "99"),
		setting("settings.MAX_TOKEN_BYTES", 4096, "MAX_TOKEN_BYTES", "4096"),
		setting("settings.MAX_CONNECTIONS", 20000000, "MAX_CONNECTIONS", "20000000"),
		setting("settings.MAX_STREAMS_PER_CONNECTION", 9, "MAX_STREAMS_PER_CONNECTION", "9"),
		setting("settings.MAX_REQUESTS_PER_USER", 9, "MAX_REQUESTS_PER_USER", "9"),
		setting("settings.MAX_STREAMS", 9, "MAX_STREAMS", "9"),
		setting("settings.MAX_STREAMS_PER_USER", 9, "MAX_STREAMS_PER_USER", "9"),
		setting("settings.MAX_FAILURES_PER_ADDRESS", 9, "MAX_FAILURES_PER_ADDRESS", "9"),
		setting("settings.MAX_TOKEN_REVIEWS", 9, "MAX_TOKEN_REVIEWS", "9"),
		setting("settings.HEADER_TIMEOUT", "9s", "HEADER_TIMEOUT", "9s"),
		setting("settings.BODY_TIMEOUT", "9s", "BODY_TIMEOUT", "9s"),
		setting("settings.IDLE_TIMEOUT", "9s", "IDLE_TIMEOUT", "9s"),
		setting("settings.UPSTREAM_TIMEOUT", "9s", "UPSTREAM_TIMEOUT", "9s"),
		setting("exchange.url", exchangeURL, "EXCHANGE_URL", exchangeURL),
		setting("exchange.url", exchangeURL, "EXCHANGE_ADDRESS", ":8444"),
		setting("ports.exchange", 9444, "EXCHANGE_ADDRESS", ":9444", "exchange.url", exchangeURL),
		setting("exchange.perMinute", 9, "EXCHANGE_RATE", "9", "exchange.url", exchangeURL),
		setting("exchange.sessionKeys.existingSecret", "keys", "SESSION_KEY_DIR", "/etc/gatehouse/session-keys", "exchange.url", exchangeURL),
		setting("exchange.sessionMaxLifetime", "9m", "SESSION_MAX_LIFETIME", "9m", sessions...),
		setting("exchange.sessionLifetimes", map[string]any{"https://a.example.com": "9m", "https://b.example.com": "8m"},
			"SESSION_LIFETIMES", "https://a.example.com=9m,https://b.example.com=8m", sessions...),
		setting("exchange.sessionOutlive", []string{"https://a.example.com", "https://b.example.com"},
			"SESSION_OUTLIVE", "https://a.example.com,https://b.example.com", sessions...),
		{"extraEnv", []any{map[string]any{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}}, nil, deployment, environment("HTTPS_PROXY"), "http://proxy:3128"},
	}
}

// file is a value that says where a file of gatehouse comes from.
type file struct {
	value, volume, variable string
	content                 any // nil: it can only come from a Secret
}

// files are all of them.
func files() []file {
	return []file{
		{"oidc.ca", "oidc-ca", "OIDC_CA_FILE", "PEM"},
		{"authenticationConfig", "authentication-config", "AUTHENTICATION_CONFIG", "kind: AuthenticationConfiguration\n"},
		{"tokenAuthFile", "tokens", "TOKEN_AUTH_FILE", nil},
		{"clientCA", "client-ca", "CLIENT_CA_FILE", "PEM"},
		{"clientCRL", "client-crl", "CLIENT_CRL_FILE", "PEM"},
		{"revocations", "revocations", "REVOCATION_FILE", "users: []\n"},
		{"entra.clientSecret", "entra-client-secret", "ENTRA_CLIENT_SECRET_FILE", nil},
		{"entra.ca", "entra-ca", "ENTRA_CA_FILE", "PEM"},
		{"kubeconfig", "kubeconfig", "KUBECONFIG", nil},
		{"audit.policy", "audit-policy", "AUDIT_POLICY_FILE", "kind: Policy\n"},
	}
}

// fileRows: from each place the file is mounted, whole and for the group alone, and
// the variable names it.
func fileRows(t *testing.T) []row {
	var rows []row
	for _, f := range files() {
		volume := `.spec.template.spec.volumes[?(@.name=="` + f.volume + `")]`
		items := func(key string) []any { return []any{map[string]any{"key": key, "path": "file"}} }
		// Revocation lists are for certificates.
		key := with(f.value+".key", "file")
		if f.value == "clientCRL" {
			key.set("clientCA.existingSecret", "ca")
		}
		there := deepCopy(t, key).set(f.value+".existingSecret", "mine").set(f.value+".key", "another")
		variable, path := environment("GATEHOUSE_"+f.variable), "/etc/gatehouse/"+f.volume+"/file"
		mounted := `.spec.template.spec.containers[0].volumeMounts[?(@.name=="` + f.volume + `")]`
		mount := map[string]any{"name": f.volume, "mountPath": "/etc/gatehouse/" + f.volume, "readOnly": true}
		secret := row{f.value + ".existingSecret", "mine", key, deployment, "", nil}
		rows = append(rows,
			secret.check(volume+".secret", map[string]any{"secretName": "mine", "defaultMode": 0o440, "items": items("file")}),
			secret.check(mounted, mount), secret.check(variable, path),
			row{f.value + ".key", "file", there, deployment, variable, path})
		if f.content == nil {
			continue
		}
		configMap := row{f.value + ".existingConfigMap", "mine", key, deployment, "", nil}
		content := row{f.value + ".content", f.content, key, deployment, "", nil}
		rows = append(rows,
			configMap.check(volume+".configMap", map[string]any{"name": "mine", "defaultMode": 0o440, "items": items("file")}),
			configMap.check(mounted, mount), configMap.check(variable, path),
			content.check(volume+".configMap", map[string]any{"name": "gatehouse", "defaultMode": 0o440, "items": items(f.volume)}),
			content.check(mounted, mount), content.check(variable, path),
			row{f.value + ".content", f.content, key, "ConfigMap/gatehouse", `.data.` + f.volume, f.content})
	}
	return append(rows,
		// YAML is as good as a text.
		row{"authenticationConfig.content", map[string]any{"jwt": []any{}}, nil, "ConfigMap/gatehouse", ".data.authentication-config", "jwt: []"},
		row{"revocations.content", map[string]any{"users": []any{}}, nil, "ConfigMap/gatehouse", ".data.revocations", "users: []"},
		row{"audit.policy.content", map[string]any{"rules": []any{}}, nil, "ConfigMap/gatehouse", ".data.audit-policy", "rules: []"},
		// The two settings come together.
		row{"audit.policy.existingSecret", "mine", nil, deployment, environment("GATEHOUSE_AUDIT_LOG_PATH"), "-"},
		row{"audit.logPath", "/audit/log", with("audit.policy.existingSecret", "mine"), deployment, environment("GATEHOUSE_AUDIT_LOG_PATH"), "/audit/log"})
}

// check is r with what it is to show.
func (r row) check(path string, want any) row {
	r.path, r.want = path, want
	return r
}
