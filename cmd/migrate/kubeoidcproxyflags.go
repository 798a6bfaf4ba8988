package migrate

import "strings"

// Why flags of kube-oidc-proxy have no counterpart.
const (
	noFlush      = "gatehouse sends on what comes as it comes."
	noCertDir    = "gatehouse makes no certificate for itself."
	noTLSChoice  = "gatehouse serves TLS 1.2 and 1.3, with what Go holds safe."
	noSNI        = "gatehouse has one serving certificate: put every name into it."
	noSharing    = "gatehouse shares its port with nobody."
	noHTTP1Only  = "gatehouse serves HTTP/2 and HTTP/1.1; MAX_STREAMS_PER_CONNECTION bounds a connection."
	noAudit      = "gatehouse's audit log is one file or standard output, JSON lines of audit.k8s.io/v1; rotating and shipping it is left to the platform."
	inKubeconfig = "gatehouse reads where the API server is, and its own credential, from one kubeconfig: write them there, as its current context, and name it in GATEHOUSE_KUBECONFIG."
	neverAs      = "gatehouse is nobody else at the API server: it refuses as fields in its kubeconfig."
	noInsecure   = "gatehouse always verifies the API server: put its CA into the kubeconfig."
	noTuning     = "gatehouse does not limit itself, and compresses nothing on the way to the API server; limits are the GATEHOUSE_MAX_ settings."
	noKlog       = "these are klog's. GATEHOUSE_LOG_LEVEL and GATEHOUSE_LOG_FORMAT are gatehouse's."
	noOneShot    = "it starts no proxy."
	noSARChoice  = "how --as is checked has no settings: at most 256 groups and values, answers used for 10 s."
	noTRChoice   = "how TokenReview is asked has no settings: a token that was accepted is asked about again after 10 s, and one that was refused after 2 s."
	noIssuerTLS  = "gatehouse has no client certificate for issuers: one that demands it cannot be used."
	noAllIssuers = "gatehouse is ready as soon as it can serve somebody; /readyz?verbose and a metric show an issuer that is down."
	noClientIP   = "the extra remote-client-ip has no domain before its name, so that constrained impersonation (Kubernetes 1.36) refuses it. The API server's audit log has the caller's address in sourceIPs."
	noAnonymous  = "with it kube-oidc-proxy sends requests on without any credential, as anonymous. gatehouse always says for whom a request is."
	noAPIAud     = "the client id alone counts for ID tokens. An AuthenticationConfiguration takes several audiences."
)

// kubeOIDCProxyFlags are the flags of kube-oidc-proxy, those that one fork alone
// has included (cmd/app/options of jetstack v0.3.0 and of its forks in 2026).
func kubeOIDCProxyFlags() []flag {
	flags := append(oidcFlags(),
		flag{name: "authentication-config"},
		flag{name: "oidc-extra-providers-config"},
		flag{name: "oidc-tls-client-cert-file", why: noIssuerTLS}, flag{name: "oidc-tls-client-key-file", why: noIssuerTLS},
		flag{name: "api-audiences", kind: list, why: noAPIAud},
		flag{name: "token-passthrough", kind: boolean}, flag{name: "token-passthrough-audiences", kind: list},
		flag{name: "disable-impersonation", kind: boolean, why: noAnonymous},
		flag{name: "extra-user-header-client-ip", kind: boolean, why: noClientIP}, flag{name: "extra-user-headers"},
		flag{name: "readiness-probe-port", short: "P"},
		flag{name: "readiness-require-all-issuers", kind: boolean, why: noAllIssuers},
		flag{name: "trusted-proxies", kind: list, variable: "TRUSTED_PROXIES"},
		flag{name: "allow-reserved-groups", kind: list, variable: "ALLOWED_RESERVED_NAMES"},
		flag{name: "bind-address"}, flag{name: "secure-port"}, flag{name: "metrics-bind-address"},
		flag{name: "tls-cert-file", variable: "TLS_CERT_FILE", file: true},
		flag{name: "tls-private-key-file", variable: "TLS_KEY_FILE", file: true},
		flag{name: "kubeconfig", variable: "KUBECONFIG", file: true},
		flag{name: "audit-policy-file"}, flag{name: "audit-log-path"},
		flag{name: "http2-max-streams-per-connection"}, flag{name: "logging-format"},
	)
	return append(flags, flagsWithout([]reason{
		{noFlush, "flush-interval"},
		{noCertDir, "cert-dir"},
		{noTLSChoice, "tls-cipher-suites tls-min-version tls-curve-preferences"},
		{noSNI, "tls-sni-cert-key"},
		{noSharing, "permit-port-sharing! permit-address-sharing!"},
		{noHTTP1Only, "disable-http2-serving!"},
		{noAudit, auditFlags},
		{inKubeconfig, "context cluster user namespace server tls-server-name certificate-authority client-certificate client-key token username password"},
		{neverAs, "as as-group as-uid as-user-extra"},
		{noInsecure, "insecure-skip-tls-verify!"},
		{noTuning, "request-timeout disable-compression! kube-client-qps kube-client-burst"},
		{noSARChoice, "subject-access-review-timeout subject-access-review-cache-allow-ttl subject-access-review-cache-deny-ttl subject-access-review-allow-cache-ttl subject-access-review-deny-cache-ttl max-impersonation-header-values"},
		{noTRChoice, "token-passthrough-request-timeout token-passthrough-cache-success-ttl token-passthrough-cache-failure-ttl"},
		{noKlog, klogFlags},
		{noOneShot, "version? help!"},
	})...)
}

const (
	auditFlags = "audit-log-maxage audit-log-maxbackup audit-log-maxsize audit-log-format audit-log-version audit-log-compress! audit-log-mode " +
		"audit-log-batch-buffer-size audit-log-batch-max-size audit-log-batch-max-wait audit-log-batch-throttle-enable! audit-log-batch-throttle-qps audit-log-batch-throttle-burst " +
		"audit-log-truncate-enabled! audit-log-truncate-max-batch-size audit-log-truncate-max-event-size audit-webhook-config-file audit-webhook-initial-backoff audit-webhook-version audit-webhook-mode " +
		"audit-webhook-batch-buffer-size audit-webhook-batch-max-size audit-webhook-batch-max-wait audit-webhook-batch-throttle-enable! audit-webhook-batch-throttle-qps audit-webhook-batch-throttle-burst " +
		"audit-webhook-truncate-enabled! audit-webhook-truncate-max-batch-size audit-webhook-truncate-max-event-size"
	klogFlags = "v vmodule logtostderr! alsologtostderr! log-dir log-file log-file-max-size log-backtrace-at add-dir-header! skip-headers! skip-log-headers! stderrthreshold one-output! log-flush-frequency"
)

// reason is why flags, written as for flagOf, have no counterpart.
type reason struct{ why, names string }

// flagsWithout returns the flags that have none.
func flagsWithout(reasons []reason) []flag {
	var flags []flag
	for _, one := range reasons {
		for word := range strings.FieldsSeq(one.names) {
			flags = append(flags, flagOf(word, one.why))
		}
	}
	return flags
}

// flagOf returns a flag without a counterpart. With ! it is on or off, with ? it
// may stand alone.
func flagOf(word, why string) flag {
	one := flag{name: strings.TrimRight(word, "!?"), why: why}
	switch {
	case strings.HasSuffix(word, "!"):
		one.kind = boolean
	case strings.HasSuffix(word, "?"):
		one.kind = maybe
	}
	switch one.name {
	case "v", "help":
		one.short = one.name[:1]
	}
	return one
}

// flagsOf returns every flag of a source.
func flagsOf(from string) []flag {
	switch from {
	case KubeAPIServer:
		return apiServerAll()
	case KubeRBACProxy:
		return rbacProxyFlags()
	case AzadKubeProxy:
		return azadFlags()
	}
	return kubeOIDCProxyFlags()
}
