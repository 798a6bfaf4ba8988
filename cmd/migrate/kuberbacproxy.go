package migrate

import (
	"errors"
	"net"
	"net/url"
	"slices"
	"strings"
)

// kubeRBACProxy translates the flags of kube-rbac-proxy, if it stands before the
// API server. It authenticates by OIDC alone, or, without an issuer, by the API
// server and client certificates.
func (t *translation) kubeRBACProxy() error {
	if err := t.checkUpstream(); err != nil {
		return err
	}
	var err error
	if t.flags.on("oidc-issuer") || t.flags.on("oidc-clientID") {
		err = t.addRBACProxyIssuer()
	} else {
		t.delegate()
	}
	if err != nil {
		return err
	}
	if err := t.addRBACProxyAddresses(); err != nil {
		return err
	}
	t.translatePlain()
	t.note(Differs, "kube-rbac-proxy asks by SubjectAccessReview whether a caller may pass, and then forwards under a name of its own or under none. gatehouse does not ask: each request goes to the API server in the caller's name, and RBAC judges the request itself. Roles that only opened kube-rbac-proxy do not open the API server, and the other way round.")
	t.note(Differs, "who is refused gets a Status that says why, where kube-rbac-proxy answers in plain text: change scripts that read it.")
	t.note(Differs, "X-Forwarded-For: kube-rbac-proxy hands on what anybody writes there, and gatehouse believes nobody, until GATEHOUSE_TRUSTED_PROXIES names the proxies before it.")
	t.noteReserved()
	if len(t.issuers) > 0 {
		t.noteTokens()
	}
	return nil
}

// checkUpstream refuses what cannot be the API server.
func (t *translation) checkUpstream() error {
	given := t.flags.get("upstream")
	u, err := url.Parse(given)
	switch {
	case given == "":
	case err != nil || u.Scheme != "https":
		return errors.New("--upstream: it is no https URL, and so not the Kubernetes API server, before which alone gatehouse stands. Keep kube-rbac-proxy before other applications")
	case slices.Contains([]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}, u.Hostname()):
		t.note(Kept, "--upstream is the API server of the cluster, which gatehouse finds by itself in a pod.")
	default:
		t.note(Differs, "--upstream: gatehouse forwards to the Kubernetes API server alone, that of its own cluster or the one of GATEHOUSE_KUBECONFIG. If yours is another application, keep kube-rbac-proxy before it: this is no replacement.")
	}
	return nil
}

// addRBACProxyIssuer adds the issuer, with kube-rbac-proxy's defaults, which are
// not kube-apiserver's.
func (t *translation) addRBACProxyIssuer() error {
	f := t.flags
	i := issuer{
		url: f.get("oidc-issuer"), audiences: []string{f.get("oidc-clientID")}, caFile: f.get("oidc-ca-file"),
		username: f.get("oidc-username-claim"), usernamePrefix: f.get("oidc-username-prefix"),
		groups: f.get("oidc-groups-claim"), groupsPrefix: f.get("oidc-groups-prefix"),
		algs: f.all("oidc-sign-alg"), algsFlag: "oidc-sign-alg",
	}
	if i.url == "" || i.audiences[0] == "" {
		return errors.New("--oidc-issuer and --oidc-clientID belong together: there is no issuer without both")
	}
	if !f.values["oidc-username-claim"].given {
		i.username = "email"
		t.note(Kept, "--oidc-username-claim is not set: kube-rbac-proxy then takes email, where kube-apiserver takes sub.")
	} else if i.username == "" {
		return errors.New("--oidc-username-claim: it is empty, so that nobody has a name")
	}
	if !f.values["oidc-groups-claim"].given {
		i.groups = "groups"
		t.note(Kept, "--oidc-groups-claim is not set: kube-rbac-proxy then takes groups, where kube-apiserver takes none.")
	}
	if len(i.algs) == 0 {
		i.algs = []string{"RS256"}
	}
	switch i.usernamePrefix {
	case "":
		t.note(Kept, "--oidc-username-prefix is not set: kube-rbac-proxy then puts nothing before user names, whatever their claim, and so do these settings.")
	case "-":
		t.note(Kept, "--oidc-username-prefix=-: kube-rbac-proxy puts the character - before user names, where kube-apiserver puts nothing. The file keeps it, and with it names such as -alice in RBAC.")
	}
	for _, name := range []string{"client-ca-file", "auth-token-audiences"} {
		if f.on(name) {
			t.note(LeftOut, "--%s: %s", name, notWithOIDC)
		}
	}
	t.issuers = append(t.issuers, i)
	return nil
}

// delegate translates what kube-rbac-proxy does without an issuer.
func (t *translation) delegate() {
	f := t.flags
	for _, one := range f.known {
		if strings.HasPrefix(one.name, "oidc-") && f.on(one.name) {
			t.note(LeftOut, "--%s: kube-rbac-proxy does not look at it without --oidc-issuer.", one.name)
		}
	}
	t.set("TOKEN_REVIEW", "true")
	t.set("API_AUDIENCES", strings.Join(f.all("auth-token-audiences"), ","))
	t.note(Differs, "kube-rbac-proxy asks the API server about every token. gatehouse asks about tokens of the cluster's ServiceAccounts alone, and hands these on as they are; others that the API server knows, such as those of its own issuers, are refused.")
	if f.on("auth-token-audiences") {
		t.note(Differs, "--auth-token-audiences: the API server gets the token itself, and refuses one that is for none of its own audiences.")
	}
	if f.on("client-ca-file") {
		t.setFile("CLIENT_CA_FILE", f.get("client-ca-file"))
		t.note(Differs, "--client-ca-file: a certificate that is not accepted is refused, where kube-rbac-proxy goes on to the token. Certificates of the cluster's own components (system:masters, system:nodes) are refused as reserved names.")
	}
}

// addRBACProxyAddresses translates where kube-rbac-proxy listens.
func (t *translation) addRBACProxyAddresses() error {
	f := t.flags
	if address := f.get("secure-listen-address"); address != "" {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return errors.New("--secure-listen-address: it is not of the form host:port")
		}
		t.listen(host, port)
	}
	port := f.get("proxy-endpoints-port")
	if port == "" || port == "0" {
		t.note(Differs, "health, readiness and metrics are at /livez, /readyz and /metrics on port 8080, in plain HTTP; kube-rbac-proxy had no such port.")
		return nil
	}
	if port != "8080" {
		t.set("OPS_ADDRESS", ":"+port)
	}
	t.note(Differs, "--proxy-endpoints-port: liveness is at /livez and readiness at /readyz on port %s, where it was /healthz, and in plain HTTP, where it was TLS: change the probes. Metrics are beside them.", port)
	return nil
}
