package migrate

import (
	"errors"
	"slices"
	"strings"
)

// Why flags of kube-apiserver have no counterpart.
const (
	noWebhook        = "gatehouse asks no webhook about tokens: those that only the webhook knows are refused."
	noBootstrap      = "gatehouse takes no bootstrap tokens: nodes join at the API server itself."
	noRequestHeader  = "gatehouse believes no X-Remote- headers: front proxies go to the API server itself."
	theirsToJudge    = "gatehouse lets the API server judge ServiceAccount tokens, by its own flags."
	noExtraAudiences = "gatehouse lets the API server judge ServiceAccount tokens, and asks it for no audience but its own; GATEHOUSE_API_AUDIENCES narrows that."
)

// oidcFlags are kube-apiserver's, and kube-oidc-proxy's.
func oidcFlags() []flag {
	return []flag{
		{name: "oidc-issuer-url"}, {name: "oidc-client-id"}, {name: "oidc-ca-file"}, {name: "oidc-username-claim"}, {name: "oidc-username-prefix"},
		{name: "oidc-groups-claim"}, {name: "oidc-groups-prefix"}, {name: "oidc-required-claim", kind: pairs}, {name: "oidc-signing-algs", kind: list},
	}
}

// apiServerFlags are the flags of kube-apiserver that say who a caller is
// (v1.37, pkg/kubeapiserver/options/authentication.go).
func apiServerFlags() []flag {
	return append(oidcFlags(),
		flag{name: "authentication-config", variable: "AUTHENTICATION_CONFIG", file: true},
		flag{name: "token-auth-file", variable: "TOKEN_AUTH_FILE", file: true},
		flag{name: "client-ca-file", variable: "CLIENT_CA_FILE", file: true},
		flag{name: "anonymous-auth", kind: boolean},
		flag{name: "service-account-issuer", kind: pairs},
		flag{name: "service-account-key-file", kind: pairs},
		flag{name: "service-account-lookup", kind: boolean, why: theirsToJudge},
		flag{name: "service-account-jwks-uri", why: theirsToJudge},
		flag{name: "service-account-max-token-expiration", why: theirsToJudge},
		flag{name: "service-account-extend-token-expiration", kind: boolean, why: theirsToJudge},
		flag{name: "api-audiences", kind: list, why: noExtraAudiences},
		flag{name: "authentication-token-webhook-config-file", why: noWebhook},
		flag{name: "authentication-token-webhook-version", why: noWebhook},
		flag{name: "authentication-token-webhook-cache-ttl", why: noWebhook},
		flag{name: "enable-bootstrap-token-auth", kind: boolean, why: noBootstrap},
		flag{name: "requestheader-username-headers", kind: list, why: noRequestHeader},
		flag{name: "requestheader-uid-headers", kind: list, why: noRequestHeader},
		flag{name: "requestheader-group-headers", kind: list, why: noRequestHeader},
		flag{name: "requestheader-extra-headers-prefix", kind: list, why: noRequestHeader},
		flag{name: "requestheader-client-ca-file", why: noRequestHeader},
		flag{name: "requestheader-allowed-names", kind: list, why: noRequestHeader},
		// Of versions before 1.19.
		flag{name: "basic-auth-file", why: "gatehouse takes no passwords, as kube-apiserver does since 1.19."},
	)
}

// apiServerOwn are kube-apiserver's other flags, in v1.37 and, after them, those
// of versions since 1.20 that it has no longer. With ! they are on or off, with
// ? they may stand alone. They say nothing of who a caller is.
const apiServerOwn = `
admission-control admission-control-config-file advertise-address aggregator-reject-forwarding-redirect!
allow-metric-labels allow-metric-labels-manifest allow-privileged!
audit-log-batch-buffer-size audit-log-batch-max-size audit-log-batch-max-wait audit-log-batch-throttle-burst
audit-log-batch-throttle-enable! audit-log-batch-throttle-qps audit-log-compress! audit-log-format audit-log-maxage
audit-log-maxbackup audit-log-maxsize audit-log-mode audit-log-path audit-log-truncate-enabled!
audit-log-truncate-max-batch-size audit-log-truncate-max-event-size audit-log-version audit-policy-file
audit-webhook-batch-buffer-size audit-webhook-batch-max-size audit-webhook-batch-max-wait audit-webhook-batch-throttle-burst
audit-webhook-batch-throttle-enable! audit-webhook-batch-throttle-qps audit-webhook-config-file audit-webhook-initial-backoff
audit-webhook-mode audit-webhook-truncate-enabled! audit-webhook-truncate-max-batch-size
audit-webhook-truncate-max-event-size audit-webhook-version
authorization-config authorization-mode authorization-policy-file authorization-webhook-cache-authorized-ttl
authorization-webhook-cache-unauthorized-ttl authorization-webhook-config-file authorization-webhook-version
bind-address cert-dir contention-profiling! coordinated-leadership-lease-duration coordinated-leadership-renew-deadline
coordinated-leadership-retry-period cors-allowed-origins debug-socket-path default-not-ready-toleration-seconds
default-unreachable-toleration-seconds delete-collection-workers disable-admission-plugins disable-http2-serving!
disabled-metrics egress-selector-config-file emulated-version emulation-forward-compatible! enable-admission-plugins
enable-aggregator-routing! enable-garbage-collector! enable-logs-handler! enable-priority-and-fairness!
encryption-provider-config encryption-provider-config-automatic-reload! endpoint-reconciler-type
etcd-cafile etcd-certfile etcd-compaction-interval etcd-count-metric-poll-period etcd-db-metric-poll-interval
etcd-healthcheck-timeout etcd-keyfile etcd-prefix etcd-readycheck-timeout etcd-servers etcd-servers-overrides event-ttl
external-hostname feature-gates goaway-chance help! http2-max-streams-per-connection kubelet-certificate-authority
kubelet-client-certificate kubelet-client-key kubelet-preferred-address-types kubelet-timeout kubernetes-service-node-port
lease-reuse-duration-seconds livez-grace-period log-flush-frequency log-json-info-buffer-size log-json-split-stream!
log-text-info-buffer-size log-text-split-stream! logging-format max-connection-bytes-per-sec max-mutating-requests-inflight
max-requests-inflight min-compatibility-version min-request-timeout peer-advertise-ip peer-advertise-port peer-ca-file
permit-address-sharing! permit-port-sharing! profiling! proxy-client-cert-file proxy-client-key-file request-timeout
runtime-config runtime-config-emulation-forward-compatible! secure-port service-account-signing-endpoint
service-account-signing-key-file service-cluster-ip-range service-node-port-range show-hidden-metrics-for-version
shutdown-delay-duration shutdown-send-retry-after! shutdown-watch-termination-grace-period storage-backend
storage-initialization-timeout storage-media-type strict-transport-security-directives tls-cert-file tls-cipher-suites
tls-curve-preferences tls-min-version tls-private-key-file tls-sni-cert-key tracing-config-file v version? vmodule
watch-cache! watch-cache-sizes

add-dir-header! address alsologtostderr! apiserver-count cloud-config cloud-provider
cloud-provider-gce-l7lb-src-cidrs cloud-provider-gce-lb-src-cidrs default-watch-cache-size deserialization-cache-size
enable-inflight-quota-handler! enable-swagger-ui! experimental-encryption-provider-config experimental-logging-sanitization!
identity-lease-duration-seconds identity-lease-renew-interval-seconds insecure-bind-address insecure-port kubelet-https!
kubelet-port kubelet-read-only-port log-backtrace-at log-dir log-file log-file-max-size logtostderr! master-service-namespace
maximum-startup-sequence-duration one-output! port repair-malformed-updates! service-account-api-audiences
skip-headers! skip-log-headers! ssh-keyfile ssh-user stderrthreshold target-ram-mb
`

// apiServerAll are all of kube-apiserver's flags.
func apiServerAll() []flag {
	all := apiServerFlags()
	for word := range strings.FieldsSeq(apiServerOwn) {
		all = append(all, flagOf(word, ""))
	}
	return all
}

// kubeAPIServer translates the flags of kube-apiserver.
func (t *translation) kubeAPIServer() error {
	f := t.flags
	if err := t.addFlagIssuer(true); err != nil {
		return err
	}
	if f.get("authentication-config") != "" && len(t.issuers) > 0 {
		return errors.New("--authentication-config excludes the --oidc- flags: kube-apiserver itself does not start with both")
	}
	t.translatePlain()
	if len(t.issuers) > 0 || f.on("authentication-config") {
		t.noteTokens()
	}
	if f.on("token-auth-file") {
		t.note(Differs, "--token-auth-file: gatehouse refuses a file that does not mean what it says: spaces in the list of groups, a token twice, an empty user, a last line without an end. `gatehouse check` names the lines.")
	}
	if f.on("client-ca-file") {
		t.note(Differs, "--client-ca-file: a certificate that is not accepted is refused, where kube-apiserver goes on to the token, or to nobody. Most certificates of this CA are the cluster's own (system:masters, system:nodes): they are refused as reserved names, and belong to the API server itself.")
	}
	t.noteReserved()
	if f.on("service-account-issuer") || f.on("service-account-key-file") {
		t.set("TOKEN_REVIEW", "true")
		t.note(Kept, "kube-apiserver accepts tokens of its ServiceAccounts, and so does gatehouse with GATEHOUSE_TOKEN_REVIEW=true, by asking it. Leave it out if no workload comes this way.")
	}
	if f.get("anonymous-auth") != "false" && !f.on("authentication-config") {
		t.note(Differs, "who brings no credential is refused, where kube-apiserver takes them for system:anonymous, unless --anonymous-auth=false. The section anonymous of an AuthenticationConfiguration opens single paths.")
	}
	if f.on("authentication-config") {
		t.note(Kept, "--authentication-config: the file works as it is, but for egressSelectorType, which gatehouse refuses. Without its section anonymous nobody is anonymous.")
	}
	t.countOwn()
	return nil
}

// countOwn says how many flags were passed over because they concern the API
// server alone.
func (t *translation) countOwn() {
	own := 0
	for _, one := range t.flags.known[len(apiServerFlags()):] {
		if t.flags.values[one.name].given {
			own++
		}
	}
	if own > 0 {
		t.note(Kept, "flags that do not say who a caller is stay with the API server; there are %d.", own)
	}
}

// noteTokens says how gatehouse judges ID tokens, where people will meet it.
func (t *translation) noteTokens() {
	t.note(Differs, "ID tokens are judged more strictly: azp must be the client id or in GATEHOUSE_AUTHORIZED_PARTIES, typ must be JWT or in GATEHOUSE_TOKEN_TYPES, and the issuer's keys must lie on its own origin or one of GATEHOUSE_JWKS_ORIGINS. docs/divergences.md has every difference.")
}

// noteReserved says what becomes of reserved names, which only gatehouse refuses.
func (t *translation) noteReserved() {
	t.note(Differs, "users and groups that begin with system: or kubeadm: are refused with 403, unless GATEHOUSE_ALLOWED_RESERVED_NAMES lists them.")
}

// addFlagIssuer adds the issuer of the --oidc- flags, if there is one. defaults
// says that a user name gets the issuer's URL as its prefix, and nothing by "-",
// as in kube-apiserver.
func (t *translation) addFlagIssuer(defaults bool) error {
	f := t.flags
	any := slices.ContainsFunc(oidcFlags(), func(one flag) bool { return f.on(one.name) })
	if !any {
		return nil
	}
	i := issuer{
		url: f.get("oidc-issuer-url"), audiences: []string{f.get("oidc-client-id")}, caFile: f.get("oidc-ca-file"), ca: t.ca,
		username: f.get("oidc-username-claim"), usernamePrefix: f.get("oidc-username-prefix"),
		groups: f.get("oidc-groups-claim"), groupsPrefix: f.get("oidc-groups-prefix"), algs: f.all("oidc-signing-algs"), algsFlag: "oidc-signing-algs",
	}
	if i.url == "" || i.audiences[0] == "" {
		return errors.New("--oidc-issuer-url and --oidc-client-id belong together: there is no issuer without both")
	}
	if i.username == "" {
		i.username = "sub"
	}
	if len(i.algs) == 0 {
		i.algs = []string{"RS256"}
	}
	switch {
	case defaults && i.usernamePrefix == "-":
		i.usernamePrefix = ""
	case defaults && i.usernamePrefix == "":
		i.usernamePrefix = i.defaultPrefix()
	}
	for _, required := range f.all("oidc-required-claim") {
		name, value, found := strings.Cut(required, "=")
		if !found || strings.TrimSpace(name) == "" {
			return errors.New("--oidc-required-claim: one is not of the form name=value")
		}
		p := pair{strings.TrimSpace(name), strings.TrimSpace(value)}
		i.required = slices.DeleteFunc(i.required, func(former pair) bool { return former.name == p.name })
		i.required = append(i.required, p)
	}
	t.issuers = append(t.issuers, i)
	return nil
}
