package migrate

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// helmValues are the values of the charts of kube-oidc-proxy that become settings.
// What else there is says how the pods run.
type helmValues struct {
	Image struct {
		Repository string `yaml:"repository"`
	} `yaml:"image"`
	TLS                  helmTLS  `yaml:"tls"`
	OIDC                 helmOIDC `yaml:"oidc"`
	AuthenticationConfig struct {
		Content        string `yaml:"content"`
		ExistingSecret string `yaml:"existingSecret"`
	} `yaml:"authenticationConfig"`
	ReadinessRequireAllIssuers bool `yaml:"readinessRequireAllIssuers"`
	TokenPassthrough           struct {
		Enabled         bool     `yaml:"enabled"`
		Audiences       []string `yaml:"audiences"`
		CacheSuccessTTL string   `yaml:"cacheSuccessTTL"`
		CacheFailureTTL string   `yaml:"cacheFailureTTL"`
	} `yaml:"tokenPassthrough"`
	SubjectAccessReview struct {
		CacheAllowTTL string `yaml:"cacheAllowTTL"`
		CacheDenyTTL  string `yaml:"cacheDenyTTL"`
	} `yaml:"subjectAccessReview"`
	MaxImpersonationHeaderValues string `yaml:"maxImpersonationHeaderValues"`
	ExtraImpersonationHeaders    struct {
		ClientIP bool   `yaml:"clientIP"`
		Headers  string `yaml:"headers"`
	} `yaml:"extraImpersonationHeaders"`
	Logging struct {
		Format    string `yaml:"format"`
		Verbosity string `yaml:"verbosity"`
	} `yaml:"logging"`
	ExtraArgs map[string]string `yaml:"extraArgs"`
	helmPods  `yaml:",inline"`
	// Volumes are extraVolumes, and where they are mounted: lists, or, where there are
	// none, the charts' default, a map.
	Volumes yaml.Node `yaml:"extraVolumes"`
	Mounts  yaml.Node `yaml:"extraVolumeMounts"`
	Ingress struct {
		Enabled bool `yaml:"enabled"`
	} `yaml:"ingress"`

	all map[string]yaml.Node // by name
}

type helmOIDC struct {
	ClientID       string            `yaml:"clientId"`
	IssuerURL      string            `yaml:"issuerUrl"`
	UsernameClaim  string            `yaml:"usernameClaim"`
	CAPEM          string            `yaml:"caPEM"`
	UsernamePrefix string            `yaml:"usernamePrefix"`
	GroupsClaim    string            `yaml:"groupsClaim"`
	GroupsPrefix   string            `yaml:"groupsPrefix"`
	SigningAlgs    []string          `yaml:"signingAlgs"`
	RequiredClaims map[string]string `yaml:"requiredClaims"`
	APIAudiences   []string          `yaml:"apiAudiences"`
	ExistingSecret string            `yaml:"existingSecret"`
	// AuthenticationConfig is TremoloSecurity's newest, in a form of its own.
	AuthenticationConfig yaml.Node  `yaml:"authenticationConfig"`
	ExtraProviders       []provider `yaml:"extraProviders"`
	TLSClient            struct {
		ExistingSecret string `yaml:"existingSecret"`
	} `yaml:"tlsClient"`
}

// helmSettings are the values that become settings, or have a note of their own,
// with the names that the charts know below them; * is any.
func helmSettings() map[string]string {
	return map[string]string{
		"image":                        "*",
		"tls":                          "secretName certManager selfSigned issuerName",
		"oidc":                         "clientId issuerUrl usernameClaim caPEM usernamePrefix groupsClaim groupsPrefix signingAlgs requiredClaims apiAudiences extraProviders tlsClient existingSecret secretKeys authenticationConfig",
		"authenticationConfig":         "content existingSecret key",
		"readinessRequireAllIssuers":   "",
		"tokenPassthrough":             "enabled audiences cacheSuccessTTL cacheFailureTTL",
		"subjectAccessReview":          "cacheAllowTTL cacheDenyTTL",
		"maxImpersonationHeaderValues": "",
		"extraImpersonationHeaders":    "clientIP headers",
		"logging":                      "format verbosity",
		"extraArgs":                    "*",
		"ingress":                      "*",
	}
}

// valuesOf returns node as the values of a chart, or nil if it is none's.
func valuesOf(node *yaml.Node) *helmValues {
	values := &helmValues{}
	if node.Decode(&values.all) != nil {
		return nil
	}
	ours := slices.ContainsFunc([]string{"oidc", "tokenPassthrough", "authenticationConfig", "extraImpersonationHeaders"}, func(name string) bool {
		_, ok := values.all[name]
		return ok
	})
	if !ours {
		return nil
	}
	if err := node.Decode(values); err != nil {
		values.all["fault"] = yaml.Node{Kind: yaml.ScalarNode, Value: "x"}
	}
	return values
}

// fork returns whose chart it is, as far as image and values tell.
func (v *helmValues) fork() string {
	if from := imageOf(v.Image.Repository); from != "" && from != KubeOIDCProxy {
		return from
	}
	for _, name := range []string{"authenticationConfig", "readinessRequireAllIssuers", "subjectAccessReview", "maxImpersonationHeaderValues", "logging"} {
		if _, ok := v.all[name]; ok {
			return RafPe
		}
	}
	if len(v.OIDC.ExtraProviders) > 0 {
		return Tremolo
	}
	return KubeOIDCProxy
}

// command returns the flags that the chart would pass, if it passed all as it
// should.
func (v *helmValues) command(o Options) (command, error) {
	if _, ok := v.all["fault"]; ok {
		return command{}, errors.New("a Helm value has another type than the charts of kube-oidc-proxy take")
	}
	line := command{from: o.From, inChart: true, ca: []byte(v.OIDC.CAPEM), config: []byte(v.AuthenticationConfig.Content), providers: v.OIDC.ExtraProviders}
	switch fork := v.fork(); {
	case o.From == KubeAPIServer:
		return line, errors.New("--from kube-apiserver: these are the values of a chart of kube-oidc-proxy")
	case o.From == "" || o.From == KubeOIDCProxy:
		line.from = fork
	case !slices.Contains(Sources(), o.From):
		return line, fmt.Errorf("--from %q: it is none of %s", o.From, strings.Join(Sources(), ", "))
	}
	if v.OIDC.ExistingSecret != "" || v.AuthenticationConfig.ExistingSecret != "" {
		return line, errors.New("the values name a Secret that holds the issuer: give the manifest, as `helm get manifest` prints it, and the Secret")
	}
	if given := v.OIDC.AuthenticationConfig; len(given.Content) > 0 || given.Value != "" && given.Tag != "!!null" {
		return line, errors.New("oidc.authenticationConfig: its form is not known here: give the manifest, as `helm get manifest` prints it")
	}
	if v.OIDC.IssuerURL == "" && v.AuthenticationConfig.Content == "" {
		return line, errors.New("the values name no issuer. If it stands in a Secret, give the manifest, as `helm get manifest` prints it, and the Secret")
	}
	v.addArgs(&line)
	line.mounts = v.mounts()
	carried := v.addPods(&line, o.Chart)
	v.addNotes(&line, carried, o.Chart)
	return line, nil
}

// mounts returns where extra files come from.
func (v *helmValues) mounts() *mounts {
	c, pod := &container{}, &podSpec{}
	if v.Mounts.Decode(&c.VolumeMounts) != nil || v.Volumes.Decode(&pod.Volumes) != nil {
		return nil // a map, which says nothing
	}
	return &mounts{container: c, pod: pod}
}

// addArgs adds the flags.
func (v *helmValues) addArgs(line *command) {
	given := []struct{ flag, value string }{
		{"tls-cert-file", "/etc/gatehouse/tls/tls.crt"},
		{"tls-private-key-file", "/etc/gatehouse/tls/tls.key"},
		{"readiness-require-all-issuers", strconv.FormatBool(v.ReadinessRequireAllIssuers)},
		{"oidc-tls-client-cert-file", v.OIDC.TLSClient.ExistingSecret},
		{"subject-access-review-cache-allow-ttl", v.SubjectAccessReview.CacheAllowTTL},
		{"subject-access-review-cache-deny-ttl", v.SubjectAccessReview.CacheDenyTTL},
		{"max-impersonation-header-values", v.MaxImpersonationHeaderValues},
		{"extra-user-header-client-ip", strconv.FormatBool(v.ExtraImpersonationHeaders.ClientIP)},
		{"extra-user-headers", v.ExtraImpersonationHeaders.Headers},
		{"logging-format", v.Logging.Format},
		{"metrics-bind-address", v.Metrics.address()},
		{"v", strings.Trim(v.Logging.Verbosity, "0")},
	}
	if v.TokenPassthrough.Enabled {
		given = append(given, []struct{ flag, value string }{
			{"token-passthrough", "true"},
			{"token-passthrough-audiences", strings.Join(v.TokenPassthrough.Audiences, ",")},
			{"token-passthrough-cache-success-ttl", v.TokenPassthrough.CacheSuccessTTL},
			{"token-passthrough-cache-failure-ttl", v.TokenPassthrough.CacheFailureTTL},
		}...)
	}
	if v.AuthenticationConfig.Content == "" { // which takes the place of these
		given = append(given, []struct{ flag, value string }{
			{"oidc-issuer-url", v.OIDC.IssuerURL},
			{"oidc-client-id", v.OIDC.ClientID},
			{"oidc-username-claim", v.OIDC.UsernameClaim},
			{"oidc-username-prefix", v.OIDC.UsernamePrefix},
			{"oidc-groups-claim", v.OIDC.GroupsClaim},
			{"oidc-groups-prefix", v.OIDC.GroupsPrefix},
			{"oidc-signing-algs", strings.Join(v.OIDC.SigningAlgs, ",")},
			{"api-audiences", strings.Join(v.OIDC.APIAudiences, ",")},
		}...)
		for _, name := range slices.Sorted(maps.Keys(v.OIDC.RequiredClaims)) {
			line.args = append(line.args, "--oidc-required-claim="+name+"="+v.OIDC.RequiredClaims[name])
		}
	}
	for _, arg := range given {
		if arg.value != "" {
			line.args = append(line.args, "--"+arg.flag+"="+arg.value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(v.ExtraArgs)) {
		line.args = append(line.args, "--"+name+"="+v.ExtraArgs[name])
	}
}

// addNotes says what the chart does that its flags do not tell. carried are names
// that gatehouse's chart, if that is wanted, takes over.
func (v *helmValues) addNotes(line *command, carried []string, chart bool) {
	note := func(kind, format string, args ...any) {
		line.notes = append(line.notes, Note{kind, fmt.Sprintf(format, args...)})
	}
	if len(v.OIDC.RequiredClaims) > 0 && line.from != RafPe {
		note(Differs, "oidc.requiredClaims: the charts of jetstack and TremoloSecurity pass them as --oidc-signing-algs, so that no claim was ever required, and perhaps nobody's tokens were accepted, or, later ones, as --oidc-required-claims, which is no flag. gatehouse requires them.")
	}
	if unknown := v.unknown(); len(unknown) > 0 {
		note(LeftOut, "%s: the charts of kube-oidc-proxy that are known here have no such values.", strings.Join(unknown, ", "))
	}
	if len(carried) > 0 {
		note(Kept, "%s: the values have them too.", strings.Join(carried, ", "))
	}
	var left []string
	for _, name := range slices.Sorted(maps.Keys(v.all)) {
		if slices.Contains(strings.Fields(helmPodNames), name) && !slices.Contains(carried, name) {
			left = append(left, name)
		}
	}
	if len(left) > 0 {
		where := "manifest"
		if chart {
			where = "chart"
		}
		note(LeftOut, "%s: they say how the pods run, which gatehouse's own %s does.", strings.Join(left, ", "), where)
	}
	if v.Service.LoadBalancerIP != "" {
		note(LeftOut, "service.loadBalancerIP: Kubernetes deprecates it. Ask for the address by an annotation of your cloud's, or move the name in DNS.")
	}
	if v.Ingress.Enabled {
		note(ToDo, "ingress: it must pass TLS through to gatehouse, or speak TLS to it and stand in GATEHOUSE_TRUSTED_PROXIES.")
	}
	if v.TLS.CertManager && (!chart || v.TLS.IssuerName == "") {
		note(ToDo, "tls.certManager: cert-manager wrote the serving certificate for a Certificate of that chart, which goes with it.")
	}
	if chart {
		return
	}
	secret := "the Secret of the serving certificate"
	if v.TLS.SecretName != "" {
		secret = "the Secret " + v.TLS.SecretName
	}
	note(ToDo, "mount %s at /etc/gatehouse/tls.", secret)
}

// unknown returns the names that no chart has.
func (v *helmValues) unknown() []string {
	var unknown []string
	known := helmSettings()
	for _, name := range slices.Sorted(maps.Keys(v.all)) {
		below, ok := known[name]
		if !ok && !slices.Contains(strings.Fields(helmPodNames), name) && !strings.HasSuffix(name, " VALUES") { // the heading of `helm get values`
			unknown = append(unknown, name)
		}
		inner := map[string]yaml.Node{}
		node := v.all[name]
		if !ok || below == "*" || node.Decode(&inner) != nil {
			continue
		}
		for _, one := range slices.Sorted(maps.Keys(inner)) {
			if !slices.Contains(strings.Fields(below), one) {
				unknown = append(unknown, name+"."+one)
			}
		}
	}
	return unknown
}
