package migrate

// Why flags of kube-rbac-proxy have no counterpart.
const (
	noOwnRules   = "gatehouse authorizes nobody itself. Resource attributes, rewrites and static rules of that file are lost: what callers may do is what RBAC says of the request that they make."
	noAllowPaths = "gatehouse narrows no paths: every path goes to the API server, where RBAC decides. This opens what was closed, unless RBAC closes it."
	noOpenPaths  = "gatehouse lets nobody through without a credential, but on exact paths that the section anonymous of an AuthenticationConfiguration opens."
	noUserHeader = "gatehouse tells the API server by impersonation who a caller is, not by headers of that name: its account needs the rights that `gatehouse rbac` prints."
	noPlainHTTP  = "gatehouse serves TLS alone."
	noH2C        = "the API server speaks TLS."
	noReload     = "gatehouse looks at its files by itself; a change takes effect within 10 seconds."
	noFrameSize  = "gatehouse's HTTP/2 frames have Go's sizes."
	notWithOIDC  = "kube-rbac-proxy looks at no certificate, and asks about no token, where --oidc-issuer is set. Neither does gatehouse with these settings."
)

// rbacProxyFlags are the flags of kube-rbac-proxy (cmd/kube-rbac-proxy/app/options
// of v0.21).
func rbacProxyFlags() []flag {
	flags := []flag{
		{name: "oidc-issuer"}, {name: "oidc-clientID"}, {name: "oidc-ca-file"}, {name: "oidc-username-claim"}, {name: "oidc-username-prefix"},
		{name: "oidc-groups-claim"}, {name: "oidc-groups-prefix"}, {name: "oidc-sign-alg", kind: pairs},
		{name: "client-ca-file"}, {name: "auth-token-audiences", kind: list},
		{name: "upstream"}, {name: "secure-listen-address"}, {name: "proxy-endpoints-port"},
		{name: "tls-cert-file", variable: "TLS_CERT_FILE", file: true},
		{name: "tls-private-key-file", variable: "TLS_KEY_FILE", file: true},
		{name: "kubeconfig", variable: "KUBECONFIG", file: true},
		{name: "http2-max-concurrent-streams", variable: "MAX_STREAMS_PER_CONNECTION"},
		{name: "allow-paths", kind: list, why: noAllowPaths}, {name: "ignore-paths", kind: list, why: noOpenPaths},
	}
	return append(flags, flagsWithout([]reason{
		{noOwnRules, "config-file"},
		{noUserHeader, "auth-header-fields-enabled! auth-header-user-field-name auth-header-groups-field-name auth-header-groups-field-separator"},
		{noPlainHTTP, "insecure-listen-address"},
		{noH2C, "upstream-force-h2c!"},
		{inKubeconfig, "upstream-ca-file upstream-client-cert-file upstream-client-key-file"},
		{noReload, "tls-reload-interval"},
		{noTLSChoice, "tls-cipher-suites tls-min-version"},
		{noHTTP1Only, "http2-disable!"},
		{noFrameSize, "http2-max-size"},
		{noTuning, "kube-api-qps kube-api-burst"},
		{noKlog, klogFlags},
		{noOneShot, "version? help!"},
	})...)
}
