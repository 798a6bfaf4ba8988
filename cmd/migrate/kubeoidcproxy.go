package migrate

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
)

// kubeOIDCProxy translates the flags of kube-oidc-proxy, of any fork.
func (t *translation) kubeOIDCProxy() error {
	f := t.flags
	if err := t.addFlagIssuer(false); err != nil {
		return err
	}
	t.addConfigFile()
	if (len(t.config) > 0 || t.has("AUTHENTICATION_CONFIG")) && len(t.issuers)+len(t.providers) > 0 {
		return errors.New("--authentication-config and --oidc- flags: gatehouse takes one of them. Write the issuer of the flags into the file, with prefix: \"\" where there is no prefix")
	}
	if len(t.issuers) > 0 {
		t.adaptIssuer(&t.issuers[0])
	}
	if err := t.addProviders(); err != nil {
		return err
	}
	if err := t.addExtraHeaders(); err != nil {
		return err
	}
	if err := t.addAddresses(); err != nil {
		return err
	}
	if streams := f.get("http2-max-streams-per-connection"); streams != "0" {
		t.set("MAX_STREAMS_PER_CONNECTION", streams)
	}
	switch format := f.get("logging-format"); format {
	case "", "json":
	default:
		t.set("LOG_FORMAT", format)
	}
	t.translatePlain()
	t.addAudit()
	t.passThrough()
	t.actAs()
	t.noteProxies()
	t.noteTokens()
	return nil
}

// addConfigFile translates --authentication-config: the file itself, if it is at
// hand, as with the values of a chart, or its name.
func (t *translation) addConfigFile() {
	path := t.flags.get("authentication-config")
	switch content, ok := t.mounts.content(path); {
	case len(t.command.config) > 0:
		t.config = t.command.config
	case ok:
		t.config = content
	default:
		t.setFile("AUTHENTICATION_CONFIG", path)
	}
}

// addAudit translates the audit log, which either program keeps by both flags
// alone.
func (t *translation) addAudit() {
	policy, log := t.flags.get("audit-policy-file"), t.flags.get("audit-log-path")
	switch {
	case policy != "" && log != "":
		t.setFile("AUDIT_POLICY_FILE", policy)
		t.set("AUDIT_LOG_PATH", log)
		t.note(Differs, "--audit-log-path: gatehouse never rotates the file, and records no bodies, whatever the level. It makes a file anew that was moved away.")
	case policy != "":
		t.note(LeftOut, "--audit-policy-file: nothing is recorded without --audit-log-path.")
	case log != "":
		t.note(LeftOut, "--audit-log-path: nothing is recorded without --audit-policy-file.")
	}
}

// adaptIssuer makes of what the flags say what kube-oidc-proxy does with it.
func (t *translation) adaptIssuer(i *issuer) {
	switch i.usernamePrefix {
	case "":
		t.note(Kept, "--oidc-username-prefix is not set: kube-oidc-proxy then puts nothing before user names, whatever its help says. GATEHOUSE_OIDC_USERNAME_PREFIX=-, or prefix: \"\" in a file, keeps that, and with it the names in RBAC.")
	case "-":
		t.note(Kept, "--oidc-username-prefix=-: kube-oidc-proxy puts the character - before user names, where kube-apiserver puts nothing. The file keeps it, and with it names such as -alice in RBAC.")
	}
	if len(i.required) > 0 {
		switch t.from {
		case Tremolo:
			t.note(Differs, "--oidc-required-claim: TremoloSecurity's fork never looks at it, and gatehouse does: tokens without %s, which passed until now, are refused.", namesOf(i.required))
		case KubeOIDCProxy:
			t.note(Differs, "--oidc-required-claim: if yours is TremoloSecurity's fork, it never looks at it, and gatehouse does: tokens without %s, which passed until now, are refused.", namesOf(i.required))
		}
	}
	var kept []pair
	for _, p := range i.required {
		if !jsonValue.MatchString(p.value) {
			kept = append(kept, p)
			continue
		}
		i.rules = append(i.rules, claimRule(p))
		t.note(Differs, "--oidc-required-claim=%s=%s: kube-oidc-proxy compares strings, so that it refuses the JSON value %s, which most issuers send. The file has a rule that accepts both.", p.name, p.value, p.value)
	}
	i.required = kept
}

func namesOf(required []pair) string {
	names := make([]string, len(required))
	for i, p := range required {
		names[i] = p.name + "=" + p.value
	}
	return strings.Join(names, ", ")
}

// extraKey is a key of extra with a domain, as an AuthenticationConfiguration
// takes it (k8s.io/apiserver v0.37, validateExtraMapping).
var extraKey = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[a-z0-9._~!$&'()*+,;=:@/-]+$`)

// addExtraHeaders adds the constant extras, which kube-oidc-proxy gives to the
// people of every issuer.
func (t *translation) addExtraHeaders() error {
	if t.flags.on("extra-user-headers") && len(t.issuers) == 0 {
		t.note(LeftOut, "--extra-user-headers: an AuthenticationConfiguration says extras itself: write them into that of each issuer, as claimMappings.extra.")
		return nil
	}
	kept, err := t.extraHeaders()
	for n := range t.issuers {
		t.issuers[n].extra = kept
	}
	return err
}

// extraHeaders returns the keys of --extra-user-headers that can be kept.
func (t *translation) extraHeaders() ([]extra, error) {
	var kept []extra
	given := t.flags.get("extra-user-headers")
	if given == "" {
		return nil, nil
	}
	for header := range strings.SplitSeq(given, ",") {
		key, value, found := strings.Cut(header, "=")
		if !found || key == "" {
			return nil, errors.New("--extra-user-headers: it is not of the form key1=a,key2=b")
		}
		domain, _, _ := strings.Cut(key, "/")
		if !extraKey.MatchString(key) || domain == "k8s.io" || domain == "kubernetes.io" || strings.HasSuffix(domain, ".k8s.io") || strings.HasSuffix(domain, ".kubernetes.io") {
			t.note(LeftOut, "--extra-user-headers, %s: a key of extra needs a domain before it, such as example.com/%s, and small letters: without one constrained impersonation (Kubernetes 1.36) refuses it.", key, strings.ToLower(key[strings.LastIndex(key, "/")+1:]))
			continue
		}
		at := slices.IndexFunc(kept, func(e extra) bool { return e.key == key })
		if at < 0 {
			at, kept = len(kept), append(kept, extra{key: key})
		}
		kept[at].values = append(kept[at].values, value)
	}
	return kept, nil
}

// provider is an issuer of --oidc-extra-providers-config.
type provider struct {
	IssuerURL          string   `json:"issuerUrl" yaml:"issuerUrl"`
	Audiences          []string `json:"audiences" yaml:"audiences"`
	UsernameClaim      string   `json:"usernameClaim" yaml:"usernameClaim"`
	UsernameExpression string   `json:"usernameExpression" yaml:"usernameExpression"`
	UsernamePrefix     string   `json:"usernamePrefix" yaml:"usernamePrefix"`
	GroupsClaim        string   `json:"groupsClaim" yaml:"groupsClaim"`
	GroupsExpression   string   `json:"groupsExpression" yaml:"groupsExpression"`
	GroupsPrefix       string   `json:"groupsPrefix" yaml:"groupsPrefix"`
	CAFile             string   `json:"caFile" yaml:"caFile"`
}

// addProviders adds the issuers that TremoloSecurity's fork takes beside that of
// the flags.
func (t *translation) addProviders() error {
	all := t.providers
	if path := t.flags.get("oidc-extra-providers-config"); path != "" {
		content, err := t.read(path)
		if err != nil {
			return fmt.Errorf("--oidc-extra-providers-config: %w. Let it be found there, or below the folder of --root", err)
		}
		if err := json.Unmarshal(content, &all); err != nil {
			return fmt.Errorf("--oidc-extra-providers-config: %s: it is no list of providers", path)
		}
	}
	for _, p := range all {
		if p.IssuerURL == "" || len(p.Audiences) == 0 || (p.UsernameClaim == "") == (p.UsernameExpression == "") {
			return errors.New("extra providers: each needs issuerUrl, audiences, and either usernameClaim or usernameExpression")
		}
		t.issuers = append(t.issuers, issuer{
			url: p.IssuerURL, audiences: p.Audiences, caFile: p.CAFile,
			username: p.UsernameClaim, usernamePrefix: p.UsernamePrefix, usernameExpression: p.UsernameExpression,
			groups: p.GroupsClaim, groupsPrefix: p.GroupsPrefix, groupsExpression: p.GroupsExpression,
		})
	}
	return nil
}

// listen sets the proxy's address. An address for any is written as gatehouse does.
func (t *translation) listen(host, port string) {
	if host == "0.0.0.0" || host == "::" {
		host = ""
	}
	if address := net.JoinHostPort(host, port); address != ":8443" {
		t.set("LISTEN_ADDRESS", address)
	}
}

// addAddresses translates where kube-oidc-proxy listens.
func (t *translation) addAddresses() error {
	f := t.flags
	port := f.get("secure-port")
	switch {
	case port == "" && t.inChart:
		port = "8443" // which the charts say
	case port == "":
		port = "6443"
	}
	t.listen(f.get("bind-address"), port)
	probe := f.get("readiness-probe-port")
	if probe == "" {
		probe = "8080"
	}
	if probe != "8080" {
		t.set("OPS_ADDRESS", ":"+probe)
	}
	t.note(Differs, "readiness is at /readyz, and liveness at /livez, on port %s, where it was /ready: change the probes.", probe)
	if metrics := f.get("metrics-bind-address"); metrics != "" && metrics != "0" {
		_, port, err := net.SplitHostPort(metrics)
		if err != nil {
			return errors.New("--metrics-bind-address: it is not of the form host:port")
		}
		if port != probe {
			t.note(Differs, "--metrics-bind-address: /metrics is on port %s, beside /readyz, and no more on %s: change what scrapes it.", probe, port)
		}
	}
	return nil
}

// passThrough translates token passthrough.
func (t *translation) passThrough() {
	if !t.flags.on("token-passthrough") {
		return
	}
	t.set("TOKEN_REVIEW", "true")
	t.set("API_AUDIENCES", strings.Join(t.flags.all("token-passthrough-audiences"), ","))
	t.note(Differs, "--token-passthrough: kube-oidc-proxy asks the API server about every token that it refuses itself, so that an issuer that is down makes each request a TokenReview. gatehouse asks about tokens of the cluster's ServiceAccounts alone; others that the API server knows, such as those of its own issuers, are refused.")
}

// actAs translates what becomes of --as.
func (t *translation) actAs() {
	if t.from == Jetstack {
		t.set("IMPERSONATION", "false")
		t.note(Kept, "jetstack's kube-oidc-proxy refuses --as, and so does gatehouse with GATEHOUSE_IMPERSONATION=false. Without it the cluster's rules decide.")
		return
	}
	if t.from == KubeOIDCProxy {
		t.note(Differs, "--as: if yours is jetstack's, it refuses it; gatehouse lets the cluster's rules decide, unless GATEHOUSE_IMPERSONATION=false.")
	}
	t.note(Differs, "--as needs rights that the charts of kube-oidc-proxy lack, RafPe's until September 2026, to create SubjectAccessReviews and to name the original user: apply what `gatehouse rbac` prints, and do not reuse the ClusterRole of kube-oidc-proxy. The original user stands in the extra kube-gatehouse.github.io/original-user, where it was originaluser.jetstack.io-….")
}

// noteProxies says what differs from every kube-oidc-proxy.
func (t *translation) noteProxies() {
	t.note(Differs, "who is refused gets a Status that says why, where kube-oidc-proxy answers in plain text: change scripts that read it.")
	if t.from != RafPe && !t.flags.on("trusted-proxies") {
		t.note(Differs, "X-Forwarded-For: kube-oidc-proxy believes it of everybody, and gatehouse of nobody, until GATEHOUSE_TRUSTED_PROXIES names the proxies before it.")
	}
	if t.flags.on("allow-reserved-groups") {
		t.note(Differs, "--allow-reserved-groups: GATEHOUSE_ALLOWED_RESERVED_NAMES allows users of these names too: an issuer that lets people choose their name must not reach them.")
	}
	if t.from == RafPe {
		t.note(Differs, "users and groups that begin with kubeadm: are refused with 403 as those with system: are, unless GATEHOUSE_ALLOWED_RESERVED_NAMES lists them.")
		return
	}
	t.noteReserved()
}
