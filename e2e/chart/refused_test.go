package chart_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/helm"
)

// Promise: helm's own linter has nothing to say, with the values as they are and
// with everything on.
func TestLint(t *testing.T) {
	c := open(t)
	all := filepath.Join(t.TempDir(), "everything.yaml")
	if err := os.WriteFile(all, everything(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, more := range [][]string{nil, {"--values", all}} {
		out, err := c.helm.Run(t.Context(), append([]string{"lint", "--strict", c.dir}, more...)...)
		if err != nil || !out.OK() || strings.Contains(out.Stdout, "[WARNING]") || strings.Contains(out.Stdout, "Fail:") {
			t.Errorf("%v: %v\n%s%s", more, err, out.Stdout, out.Stderr)
		}
	}
}

// Promise: helm 3 makes of the chart what helm 4 does.
func TestHelm3(t *testing.T) {
	four := open(t)
	binary, err := helm.Binary(t.Context(), helm.Three, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	three := four
	three.helm, three.rendered = four.helm.WithBinary(binary), &sync.Map{}
	version, err := three.helm.Must(t.Context(), "", "version", "--short")
	if err != nil || !strings.HasPrefix(version, "v3.") {
		t.Fatalf("helm says that it is %s, %v", version, err)
	}
	var all values
	if err := yaml.Unmarshal(everything(t), &all); err != nil {
		t.Fatal(err)
	}
	for _, v := range []values{nil, all} {
		want, got := four.mustRender(t, v), three.mustRender(t, v)
		for _, o := range want {
			if diff := cmp.Diff(o, got.find(o.name())); diff != "" {
				t.Errorf("%s (-helm 4 +helm 3):\n%s", o.name(), diff)
			}
		}
		if len(got) != len(want) || len(want) < 8 {
			t.Errorf("helm 4 makes %d objects, helm 3 %d", len(want), len(got))
		}
	}
	out, err := three.render(t.Context(), with("tokenReveiw.enabled", true))
	if err == nil || !strings.Contains(err.Error(), "tokenReveiw") {
		t.Errorf("helm 3 takes a misspelt name: %d objects, %v", len(out), err)
	}
}

// everything turns on all that is off, with what it needs.
func everything(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "everything.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Promise: what is misspelt, of the wrong kind or contradicts itself fails before
// anything is applied, and says where.
func TestRefusedValues(t *testing.T) {
	c := open(t)
	for name, test := range map[string]struct {
		values values
		want   string
	}{
		"a misspelt name":             {with("tokenReveiw.enabled", true), "additional properties 'tokenReveiw' not allowed"},
		"a misspelt name inside":      {with("oidc.requiredClaim", m{"a": "b"}), "additional properties 'requiredClaim' not allowed"},
		"a misspelt setting":          {with("settings.MAX_REQUEST", 1), "additional properties 'MAX_REQUEST' not allowed"},
		"a setting with its prefix":   {with("settings.GATEHOUSE_MAX_REQUESTS", 1), "not allowed"},
		"a setting that has a value":  {with("settings.TOKEN_REVIEW", true), "additional properties 'TOKEN_REVIEW' not allowed"},
		"a misspelt member of env":    {with("extraEnv", list{m{"name": "A", "valeu": "b"}}), "additional properties 'valeu' not allowed"},
		"a text for a number":         {with("replicaCount", "two"), "at '/replicaCount'"},
		"a text for yes or no":        {with("impersonation", "no"), "at '/impersonation'"},
		"a text for a list":           {with("trustedProxies", "10.0.0.0/8"), "at '/trustedProxies'"},
		"a comma in a list":           {with("trustedProxies", list{"10.0.0.0/8,192.0.2.1"}), "at '/trustedProxies/0'"},
		"a comma in a required claim": {with("oidc.requiredClaims", m{"a": "b,c=d"}), "at '/oidc/requiredClaims/a'"},
		"an algorithm":                {with("oidc.signingAlgs", list{"none"}), "at '/oidc/signingAlgs/0'"},
		"an issuer without TLS":       {with("oidc.issuerURL", "http://login.example.com"), "at '/oidc/issuerURL'"},
		"a service type":              {with("service.type", "ExternalName"), "at '/service/type'"},
		"a duration":                  {with("settings.JWKS_MAX_AGE", 3600), "at '/settings/JWKS_MAX_AGE'"},
		"tokens in the open":          {with("tokenAuthFile.content", "token,user,uid"), "additional properties 'content' not allowed"},
		"a short token":               {with("serviceAccountToken.expirationSeconds", 60), "at '/serviceAccountToken/expirationSeconds'"},

		"an issuer without a client":       {with("oidc.issuerURL", "https://login.example.com"), "oidc.clientID"},
		"a client without an issuer":       {with("oidc.clientID", "kubernetes"), "oidc.issuerURL"},
		"two ways to say the issuer":       {with("oidc.issuerURL", "https://a", "oidc.clientID", "b", "authenticationConfig.existingSecret", "c"), "authenticationConfig excludes oidc"},
		"two places of a file":             {with("clientCA.content", "PEM", "clientCA.existingSecret", "mine"), "clientCA: set one of"},
		"a list without certificates":      {with("clientCRL.existingSecret", "mine"), "clientCRL needs clientCA"},
		"audiences for no token":           {with("tokenReview.enabled", false, "tokenReview.audiences", list{"a"}), "tokenReview.audiences needs tokenReview.enabled"},
		"nobody may sign in":               {with("tokenReview.enabled", false), "nobody could sign in"},
		"no YAML":                          {with("authenticationConfig.content", "a: ["), "authenticationConfig.content"},
		"read-only and legacy":             {with("rbac.legacy", true, "rbac.readOnly", true), "rbac.readOnly needs constrained impersonation"},
		"API groups for no door":           {with("rbac.apiGroups", list{"a"}), "rbac.apiGroups needs rbac.readOnly"},
		"every API group":                  {with("rbac.readOnly", true, "rbac.apiGroups", list{"*"}), "at '/rbac/apiGroups/0'"},
		"one port for both":                {with("ports.ops", 8443), "ports.ops"},
		"the exchange at another's port":   {with("exchange.url", exchangeURL, "ports.exchange", 8443), "ports.exchange"},
		"the exchange at one Service port": {with("exchange.url", exchangeURL, "service.exchangePort", 443), "service.exchangePort"},
		"an exchange with a path":          {with("exchange.url", exchangeURL+"/token"), "at '/exchange/url'"},
		"an exchange without TLS":          {with("exchange.url", "http://gatehouse.example.com"), "at '/exchange/url'"},
		"keys for no exchange":             {with("exchange.sessionKeys.existingSecret", "keys"), "exchange.sessionKeys needs exchange.url"},
		"peers for no exchange":            {with("networkPolicy.exchangeFrom", list{m{"podSelector": m{}}}), "networkPolicy.exchangeFrom needs exchange.url"},
		"lifetimes for no sessions":        {with("exchange.url", exchangeURL, "exchange.sessionLifetimes", m{"https://a": "9m"}), "need exchange.sessionKeys"},
		"sessions for ever":                {with("exchange.url", exchangeURL, "exchange.sessionKeys.existingSecret", "keys", "exchange.sessionMaxLifetime", "forever"), "at '/exchange/sessionMaxLifetime'"},
		"a certificate of nobody":          {with("tls.certManager.enabled", true), "tls.certManager.issuerRef.name"},
		"a route from nowhere":             {with("tlsRoute.enabled", true), "tlsRoute.parentRefs"},
		"a route for no host":              {with("tlsRoute.enabled", true, "tlsRoute.parentRefs", list{m{"name": "edge"}}), "tlsRoute.hostnames"},
		"a monitor of nothing":             {with("metrics.serviceMonitor.enabled", true, "metrics.service.enabled", false), "metrics.service.enabled"},
		"a variable twice":                 {with("extraEnv", list{m{"name": "GATEHOUSE_IMPERSONATION", "value": "false"}}), "extraEnv: GATEHOUSE_IMPERSONATION"},
		"a proxy protocol from anybody":    {with("proxyProtocol", "on"), "proxyProtocol needs trustedProxies"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if all, err := c.render(t.Context(), test.values); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %d objects and %v, want %q", len(all), err, test.want)
			}
		})
	}
}

// Promise: on a cluster that cannot constrain impersonation, the wide rights are
// never given unasked, and never for want of a word.
func TestOlderCluster(t *testing.T) {
	c := open(t)
	if _, err := c.render(t.Context(), nil, "--kube-version", "1.35.9"); err == nil || !strings.Contains(err.Error(), "rbac.legacy=true") {
		t.Errorf("1.35: got %v", err)
	}
	rules := c.mustRender(t, with("rbac.legacy", true), "--kube-version", "1.35.9").find("ClusterRole/gatehouse").at(t, ".rules[0].verbs")
	if verbs, _ := rules.([]any); !slices.Equal(verbs, list{"impersonate"}) {
		t.Errorf("1.35 with rbac.legacy: got %v", rules)
	}
	c.mustRender(t, nil, "--kube-version", "1.36.0-gke.100")
}

// Promise: a route has a version that the cluster knows.
func TestRouteVersion(t *testing.T) {
	c := open(t)
	v := with("tlsRoute.enabled", true, "tlsRoute.parentRefs", list{m{"name": "edge"}}, "tlsRoute.hostnames", list{"k8s.example.com"})
	const group = "gateway.networking.k8s.io/"
	for known, want := range map[string]string{
		"": "v1", "v1alpha2": "v1alpha2", "v1alpha3": "v1alpha3", "v1alpha2,v1alpha3": "v1alpha3", "v1alpha2,v1alpha3,v1": "v1",
	} {
		var more []string
		for version := range strings.SplitSeq(known, ",") {
			if version != "" {
				more = append(more, "--api-versions", group+version+"/TLSRoute")
			}
		}
		if got := c.mustRender(t, v, more...).find("TLSRoute/gatehouse").at(t, ".apiVersion"); got != group+want {
			t.Errorf("a cluster with %q: got %v, want %s", known, got, want)
		}
	}
}

// Promise: the schema and values.yaml name the same values: what is shown can be
// set, and what can be set is shown. Where the schema lets anything in, a
// Kubernetes object goes on as it is.
func TestSchemaNamesWhatIsShown(t *testing.T) {
	c := open(t)
	b, err := os.ReadFile(filepath.Join(c.dir, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema map[string]any
	if err := json.Unmarshal(b, &schema); err != nil {
		t.Fatal(err)
	}
	var walk func(path string, schema, shown map[string]any)
	walk = func(path string, schema, shown map[string]any) {
		properties, ok := schema["properties"].(map[string]any)
		if !ok || path == ".settings" {
			return
		}
		if schema["additionalProperties"] != false {
			t.Errorf("%s lets unknown names in", path)
		}
		for name, property := range properties {
			value, ok := shown[name]
			if !ok && path+"."+name != ".global" { // what helm gives every subchart
				t.Errorf("values.yaml does not show %s.%s", path, name)
			}
			inner, _ := value.(map[string]any)
			walk(path+"."+name, property.(map[string]any), inner)
		}
		for name := range shown {
			if properties[name] == nil {
				t.Errorf("the schema does not know %s.%s", path, name)
			}
		}
	}
	walk("", schema, defaults(t, c))
}
