package main

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/auth/clientcert"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/proxy/address"
)

const envPrefix = "GATEHOUSE_"

// settings are all of gatehouse's settings, and the source of docs/settings.md:
// the tag doc is the meaning that it prints.
type settings struct {
	ListenAddress string `env:"LISTEN_ADDRESS" envDefault:":8443" doc:"Address of the proxy: TLS, with HTTP/2 and HTTP/1.1."`
	OpsAddress    string `env:"OPS_ADDRESS" envDefault:":8080" doc:"Address of /livez, /readyz (?verbose) and /metrics, in plain HTTP. They are never on the proxy's port: there these paths belong to the API server."`
	TLSCertFile   string `env:"TLS_CERT_FILE" doc:"**Required.** Serving certificate, with its intermediates, as PEM. Reloaded when it changes."`
	TLSKeyFile    string `env:"TLS_KEY_FILE" doc:"**Required.** Key of the serving certificate, as PEM. Reloaded when it changes."`
	Kubeconfig    string `env:"KUBECONFIG" doc:"The API server, and gatehouse's own credential for it: a token, a tokenFile or a client certificate. Without it, the service account that Kubernetes mounts into the pod. Reloaded when it, or a file that it names, changes."`

	OIDC oidcSettings `envPrefix:"OIDC_"`

	AuthenticationConfig string `env:"AUTHENTICATION_CONFIG" doc:"kube-apiserver's AuthenticationConfiguration file (apiserver.config.k8s.io v1, v1beta1, v1alpha1), unchanged: several issuers, CEL mappings and rules, anonymous paths. Excludes the GATEHOUSE_OIDC_ variables. Reloaded when it changes."`
	AllowClusterIssuer   bool   `env:"ALLOW_CLUSTER_ISSUER" envDefault:"false" doc:"Whether the issuer of the cluster's own ServiceAccount tokens may stand in AUTHENTICATION_CONFIG, or be OIDC_ISSUER_URL."`

	AuthorizedParties   []string      `env:"AUTHORIZED_PARTIES" doc:"Clients that the claim azp may name besides the client id, separated by commas. * accepts any."`
	TokenTypes          []string      `env:"TOKEN_TYPES" envDefault:"JWT" doc:"Values of the header typ that an ID token may have, separated by commas. A token without typ is always accepted. Add at+jwt to accept access tokens (RFC 9068)."`
	JWKSOrigins         []string      `env:"JWKS_ORIGINS" doc:"Origins, such as https://keys.example.com, besides the issuer's own from which its discovery document may name its keys, separated by commas. Google's is known."`
	JWKSRefreshInterval time.Duration `env:"JWKS_REFRESH_INTERVAL" envDefault:"5m" doc:"How often an issuer's keys are fetched again. A withdrawn key stops working within this time."`
	JWKSMaxAge          time.Duration `env:"JWKS_MAX_AGE" envDefault:"24h" doc:"How long the last good keys are used while the issuer cannot be reached."`

	DistributedClaimEndpoints []string `env:"DISTRIBUTED_CLAIM_ENDPOINTS" doc:"URL prefixes, such as https://claims.example.com/groups, at or below which a token whose groups claim is distributed (_claim_names) may have its groups fetched, separated by commas. An entry that is the exact iss of what an endpoint answers is trusted to have signed it, as every configured issuer is. Unset: nobody is asked, and such tokens are refused."`

	Entra entraSettings `envPrefix:"ENTRA_"`

	TokenAuthFile        string   `env:"TOKEN_AUTH_FILE" doc:"CSV file of static tokens, token,user,uid,\"group1,group2\", as kube-apiserver's --token-auth-file. In place of a token its SHA-256 may stand, as sha256:<hex>. Reloaded when it changes."`
	ClientCAFile         string   `env:"CLIENT_CA_FILE" doc:"CA certificates, as PEM, whose client certificates are accepted: the common name is the user, the organizations are the groups, as kube-apiserver's --client-ca-file. Reloaded when it changes."`
	ClientCRLFile        string   `env:"CLIENT_CRL_FILE" doc:"Certificate revocation lists of those CAs and of intermediates among them, as PEM or one in DER. Reloaded when it changes."`
	ClientCRLStale       string   `env:"CLIENT_CRL_STALE" envDefault:"refuse" doc:"What becomes of certificates whose revocation list is past its nextUpdate: refuse or allow."`
	TokenReview          bool     `env:"TOKEN_REVIEW" envDefault:"false" doc:"Whether tokens of the cluster's own ServiceAccounts are accepted, by TokenReview. The API server then gets the caller's own token, and no impersonation."`
	APIAudiences         []string `env:"API_AUDIENCES" doc:"Audiences of the API server, separated by commas, of which a ServiceAccount token must be for one, as kube-apiserver's --api-audiences. Default: whichever the API server has."`
	RevocationFile       string   `env:"REVOCATION_FILE" doc:"YAML file of revoked credentials and users: token ids, certificates, people, each from when. Their streams end. Reloaded when it changes."`
	Impersonation        bool     `env:"IMPERSONATION" envDefault:"true" doc:"Whether callers may act as other users, as with kubectl --as, where the cluster's rules allow them to impersonate."`
	EndStreams           bool     `env:"END_STREAMS" envDefault:"true" doc:"Whether watches, logs, exec and port-forward end when their credential does: at its expiry, and when it is revoked or taken out of a file."`
	AllowedReservedNames []string `env:"ALLOWED_RESERVED_NAMES" doc:"User names and groups beginning with system: or kubeadm: that a credential may carry, in full, separated by commas."`

	Limits         limitSettings
	TrustedProxies []string `env:"TRUSTED_PROXIES" doc:"Addresses and ranges, such as 10.0.0.0/8, of proxies before gatehouse, separated by commas: X-Forwarded-For of theirs says where a request comes from."`
	ProxyProtocol  string   `env:"PROXY_PROTOCOL" envDefault:"off" doc:"off, or on: connections from TRUSTED_PROXIES must begin with a header of the PROXY protocol, version 1 or 2."`

	Exchange exchangeSettings

	AuditPolicyFile string `env:"AUDIT_POLICY_FILE" doc:"Audit policy (audit.k8s.io/v1), as kube-apiserver's --audit-policy-file: which requests are recorded. Together with GATEHOUSE_AUDIT_LOG_PATH. Reloaded when it changes."`
	AuditLogPath    string `env:"AUDIT_LOG_PATH" doc:"File that audit events are added to, one JSON object a line; - is standard output. A file that was moved away is made anew."`

	ShutdownDelay   time.Duration `env:"SHUTDOWN_DELAY" envDefault:"5s" doc:"How long to go on serving after SIGTERM, not ready, so that load balancers stop sending."`
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s" doc:"How long requests under way then have to end before they are cut off. Watches are ended at once."`

	LogLevel  string `env:"LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error."`
	LogFormat string `env:"LOG_FORMAT" envDefault:"json" doc:"json or text."`

	proxies address.Proxies // of TrustedProxies

	// Where Kubernetes says that the API server is.
	serviceHost, servicePort string
}

// oidcSettings are one issuer, the short way: kube-apiserver's --oidc-* flags.
type oidcSettings struct {
	IssuerURL      string   `env:"ISSUER_URL" doc:"The exact iss of the ID tokens to accept; https. Together with the client id."`
	ClientID       string   `env:"CLIENT_ID" doc:"The client id that the tokens' aud must hold."`
	CAFile         string   `env:"CA_FILE" doc:"CA certificates, as PEM, that verify the issuer; the system's without it. Reloaded when it changes."`
	UsernameClaim  string   `env:"USERNAME_CLAIM" envDefault:"sub" doc:"Claim that names the user. With email, the claim email_verified must be true if it is present."`
	UsernamePrefix string   `env:"USERNAME_PREFIX" doc:"Put before the user name. Unset: the issuer URL and #, but nothing before email. - is no prefix."`
	GroupsClaim    string   `env:"GROUPS_CLAIM" doc:"Claim that names the groups, a string or a list of strings. Unset: no groups."`
	GroupsPrefix   string   `env:"GROUPS_PREFIX" doc:"Put before each group."`
	RequiredClaims []string `env:"REQUIRED_CLAIMS" doc:"Claims, as name=value separated by commas, that must be a string of exactly this value."`
	SigningAlgs    []string `env:"SIGNING_ALGS" envDefault:"RS256" doc:"Signing algorithms to accept, separated by commas, of RS, ES and PS with 256, 384 or 512."`
}

func (o oidcSettings) configured() bool { return o.IssuerURL != "" }

// unknownAlgorithms returns those of SigningAlgs that nobody may use.
func (o oidcSettings) unknownAlgorithms() []string {
	return slices.DeleteFunc(slices.Clone(o.SigningAlgs), func(alg string) bool {
		return slices.Contains(oidc.Algorithms(), alg)
	})
}

// requiredClaims returns RequiredClaims as a map, and what is wrong with them.
func (o oidcSettings) requiredClaims() (map[string]string, error) {
	claims := make(map[string]string, len(o.RequiredClaims))
	for _, pair := range o.RequiredClaims {
		name, value, found := strings.Cut(pair, "=")
		if !found || name == "" || value == "" {
			return nil, fmt.Errorf("%q is not of the form name=value", pair)
		}
		if _, twice := claims[name]; twice {
			return nil, fmt.Errorf("the claim %q is required twice", name)
		}
		claims[name] = value
	}
	return claims, nil
}

// described returns the issuer that o describes, without its CA. What is wrong
// with the required claims is reported with the settings.
func (o oidcSettings) described() (authconfig.Issuer, error) {
	required, _ := o.requiredClaims()
	return authconfig.Flags{
		IssuerURL: o.IssuerURL, ClientID: o.ClientID, UsernameClaim: o.UsernameClaim, UsernamePrefix: o.UsernamePrefix,
		GroupsClaim: o.GroupsClaim, GroupsPrefix: o.GroupsPrefix, RequiredClaims: required,
	}.Issuer()
}

// faults collects everything that is wrong with the settings, each with the
// variable it belongs to.
type faults []error

// fault is what is wrong with one variable, named without its prefix.
type fault struct {
	variable string
	err      error
}

func (f fault) Error() string { return envPrefix + f.variable + ": " + f.err.Error() }

func (f fault) Unwrap() error { return f.err }

func (f *faults) add(variable, format string, args ...any) {
	*f = append(*f, fault{variable, fmt.Errorf(format, args...)})
}

// err returns all faults as one error, or nil if there is none.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	var b strings.Builder
	noun := "faults"
	if len(f) == 1 {
		noun = "fault"
	}
	fmt.Fprintf(&b, "%d %s in the settings:", len(f), noun)
	for _, fault := range f {
		fmt.Fprintf(&b, "\n  %s", strings.ReplaceAll(fault.Error(), "\n", "\n    "))
	}
	return errors.New(b.String())
}

// has reports whether something is wrong with variable already.
func (f *faults) has(variable string) bool {
	return slices.ContainsFunc(*f, func(err error) bool {
		one, ok := errors.AsType[fault](err)
		return ok && one.variable == variable
	})
}

// addAll adds err, or each of the errors that it joins, under variable, or under
// the one that it names itself.
func (f *faults) addAll(variable string, err error) {
	for _, one := range unjoined(err) {
		if _, placed := one.(fault); placed { //nolint:errorlint // what wraps a fault has a place of its own
			*f = append(*f, one)
		} else {
			f.add(variable, "%w", one)
		}
	}
}

// unjoined returns the errors that err joins, or err alone; nothing for nil.
func unjoined(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range joined.Unwrap() {
		all = append(all, unjoined(one)...)
	}
	return all
}

// parseSettings reads the environment. Faults of every variable are added to f.
func parseSettings(environ map[string]string, f *faults) settings {
	var s settings
	options := env.Options{Environment: environ, Prefix: envPrefix}
	if err := env.ParseWithOptions(&s, options); err != nil {
		addParseFaults(err, f)
	}
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		if fault := unknownVariable(name); fault != "" {
			*f = append(*f, fmt.Errorf("%s: %s", name, fault))
		}
	}
	s.serviceHost, s.servicePort = environ["KUBERNETES_SERVICE_HOST"], environ["KUBERNETES_SERVICE_PORT"]
	s.check(f)
	return s
}

func addParseFaults(err error, f *faults) {
	aggregate, ok := errors.AsType[env.AggregateError](err)
	if !ok {
		*f = append(*f, fmt.Errorf("read the environment: %w", err))
		return
	}
	for _, one := range aggregate.Errors {
		if parse, ok := errors.AsType[env.ParseError](one); ok {
			f.add(variableOf(parse.Name), "%w", parse.Err)
		} else {
			*f = append(*f, one)
		}
	}
}

// variableOf returns the variable, without the prefix, of a field of settings.
func variableOf(field string) string {
	for _, v := range variables() {
		if v.field == field {
			return v.name
		}
	}
	return field
}

// check judges each setting by itself.
func (s *settings) check(f *faults) {
	for _, address := range []struct{ name, value string }{
		{"LISTEN_ADDRESS", s.ListenAddress}, {"OPS_ADDRESS", s.OpsAddress}, {"EXCHANGE_ADDRESS", s.Exchange.Address},
	} {
		if address.name == "EXCHANGE_ADDRESS" && address.value == "" {
			continue
		}
		if _, port, err := net.SplitHostPort(address.value); err != nil || !isPort(port) {
			f.add(address.name, "%q is not an address like :8443 or 127.0.0.1:8443", address.value)
		}
	}
	if _, port, _ := net.SplitHostPort(s.OpsAddress); s.OpsAddress == s.ListenAddress && port != "0" {
		f.add("OPS_ADDRESS", "is the proxy's address too")
	}
	for _, duration := range []struct {
		name  string
		value time.Duration
		least time.Duration
	}{
		{"JWKS_REFRESH_INTERVAL", s.JWKSRefreshInterval, time.Second},
		{"JWKS_MAX_AGE", s.JWKSMaxAge, 2 * s.JWKSRefreshInterval}, // else keys lapse while they are fetched
		{"SHUTDOWN_DELAY", s.ShutdownDelay, 0},
		{"SHUTDOWN_TIMEOUT", s.ShutdownTimeout, time.Second},
	} {
		if duration.value < duration.least && !f.has(duration.name) {
			f.add(duration.name, "%s is too short: at least %s", duration.value, duration.least)
		}
	}
	if _, err := s.logLevel(); err != nil {
		f.add("LOG_LEVEL", "%q is none of debug, info, warn, error", s.LogLevel)
	}
	if s.LogFormat != "json" && s.LogFormat != "text" {
		f.add("LOG_FORMAT", "%q is neither json nor text", s.LogFormat)
	}
	if s.ClientCRLStale != string(clientcert.StaleRefuse) && s.ClientCRLStale != string(clientcert.StaleAllow) {
		f.add("CLIENT_CRL_STALE", "%q is neither refuse nor allow", s.ClientCRLStale)
	}
	if s.ClientCRLFile != "" && s.ClientCAFile == "" {
		f.add("CLIENT_CRL_FILE", "needs GATEHOUSE_CLIENT_CA_FILE: without it no certificate is accepted")
	}
	s.checkLists(f)
	s.checkProxies(f)
	s.checkCredentials(f)
	s.checkClaimSources(f)
	s.checkAudit(f)
	s.checkExchange(f)
	s.Limits.check(f)
}

func isPort(port string) bool {
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// checkLists judges the settings that are lists. An entry that is empty or has
// white space around it would never be equal to anything.
func (s *settings) checkLists(f *faults) {
	for _, list := range []struct {
		name    string
		entries []string
	}{
		{"OIDC_REQUIRED_CLAIMS", s.OIDC.RequiredClaims},
		{"OIDC_SIGNING_ALGS", s.OIDC.SigningAlgs},
		{"AUTHORIZED_PARTIES", s.AuthorizedParties},
		{"TOKEN_TYPES", s.TokenTypes},
		{"JWKS_ORIGINS", s.JWKSOrigins},
		{"DISTRIBUTED_CLAIM_ENDPOINTS", s.DistributedClaimEndpoints},
		{"ENTRA_GROUPS", s.Entra.Groups},
		{"ALLOWED_RESERVED_NAMES", s.AllowedReservedNames},
		{"API_AUDIENCES", s.APIAudiences},
		{"TRUSTED_PROXIES", s.TrustedProxies},
		{"SESSION_LIFETIMES", s.Exchange.Lifetimes},
		{"SESSION_OUTLIVE", s.Exchange.Outlive},
	} {
		for _, entry := range list.entries {
			if entry == "" || strings.TrimSpace(entry) != entry {
				f.add(list.name, "the entry %q is empty or has white space around it", entry)
			}
		}
	}
	for _, entry := range s.JWKSOrigins {
		if !f.has("JWKS_ORIGINS") && !isOrigin(entry) {
			f.add("JWKS_ORIGINS", "%q is not an origin like https://keys.example.com", entry)
		}
	}
}

// checkProxies judges what is said of the hops before gatehouse.
func (s *settings) checkProxies(f *faults) {
	var err error
	if s.proxies, err = address.Parse(s.TrustedProxies); !f.has("TRUSTED_PROXIES") {
		f.addAll("TRUSTED_PROXIES", err)
	}
	switch {
	case s.ProxyProtocol != "on" && s.ProxyProtocol != "off":
		f.add("PROXY_PROTOCOL", "%q is neither on nor off", s.ProxyProtocol)
	case s.ProxyProtocol == "on" && len(s.TrustedProxies) == 0:
		f.add("PROXY_PROTOCOL", "needs GATEHOUSE_TRUSTED_PROXIES: from anybody else a header is never read")
	}
}

// isOrigin reports whether raw is https, a host and perhaps a port.
func isOrigin(raw string) bool {
	u, err := url.Parse(raw)
	return err == nil && u.Host != "" && raw == "https://"+u.Host
}

// checkCredentials judges the settings of OIDC and the token file together.
func (s *settings) checkCredentials(f *faults) {
	o := s.OIDC
	anything := !reflect.DeepEqual(o, oidcSettings{UsernameClaim: "sub", SigningAlgs: []string{"RS256"}})
	if anything && o.IssuerURL == "" {
		f.add("OIDC_ISSUER_URL", "is required with any other GATEHOUSE_OIDC_ variable")
	}
	if anything && o.ClientID == "" {
		f.add("OIDC_CLIENT_ID", "is required with any other GATEHOUSE_OIDC_ variable: without an audience, a token for any application would do")
	}
	if _, err := o.requiredClaims(); err != nil && !f.has("OIDC_REQUIRED_CLAIMS") {
		f.add("OIDC_REQUIRED_CLAIMS", "%w", err)
	}
	for _, alg := range o.unknownAlgorithms() {
		if !f.has("OIDC_SIGNING_ALGS") {
			f.add("OIDC_SIGNING_ALGS", "%q is none of %s", alg, strings.Join(oidc.Algorithms(), ", "))
		}
	}
	if anything && s.AuthenticationConfig != "" {
		f.add("AUTHENTICATION_CONFIG", "excludes the GATEHOUSE_OIDC_ variables: put that issuer into the file")
	}
	if len(s.APIAudiences) > 0 && !s.TokenReview {
		f.add("API_AUDIENCES", "needs GATEHOUSE_TOKEN_REVIEW=true: without it no ServiceAccount token is accepted")
	}
	if !anything && s.TokenAuthFile == "" && s.AuthenticationConfig == "" && s.ClientCAFile == "" && !s.TokenReview {
		*f = append(*f, errors.New("no credential is accepted, so that nobody could sign in: set GATEHOUSE_OIDC_ISSUER_URL and GATEHOUSE_OIDC_CLIENT_ID, GATEHOUSE_AUTHENTICATION_CONFIG, GATEHOUSE_TOKEN_AUTH_FILE, GATEHOUSE_CLIENT_CA_FILE, or GATEHOUSE_TOKEN_REVIEW"))
	}
}

func (s *settings) logLevel() (slog.Level, error) {
	var level slog.Level
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, s.LogLevel) {
		return level, errors.New("unknown level")
	}
	return level, level.UnmarshalText([]byte(s.LogLevel))
}
