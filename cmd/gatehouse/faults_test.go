package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// faultCase is an environment that gatehouse must not start with.
type faultCase struct {
	name     string
	settings map[string]string
	want     []string // each is part of what is said, which has no other faults
}

// Bad settings stop the start with exit code 1 and name the variable, the place
// and the way out; check and serve say the same.
func TestBadSettings(t *testing.T) {
	w := newWorld(t)
	for _, test := range append(settingFaults(), fileFaults(t, w)...) {
		t.Run(test.name, func(t *testing.T) {
			environ := w.environ(test.settings)
			_, _, checked := once(t, environ, "check")
			code, stdout, stderr := once(t, environ, "serve")
			if code != exitFault || stdout != "" {
				t.Errorf("exit code %d and %q, want 1 and nothing", code, stdout)
			}
			report := stderr[strings.Index(stderr, "gatehouse: "):] // behind log lines
			if report != checked {
				t.Errorf("serve says\n%s\nand check says\n%s", report, checked)
			}
			for _, want := range test.want {
				if !strings.Contains(report, want) {
					t.Errorf("want %q in:\n%s", want, report)
				}
			}
			noun := "faults"
			if len(test.want) == 1 {
				noun = "fault"
			}
			if head := fmt.Sprintf("gatehouse: %d %s in the settings:\n", len(test.want), noun); !strings.HasPrefix(report, head) {
				t.Errorf("want %q at the head of:\n%s", head, report)
			}
			mustNotHold(t, "the output", stderr, "broken-token-of-dee")
		})
	}
}

// settingFaults are those that show in the variables alone.
func settingFaults() []faultCase {
	return []faultCase{
		{"misspelt variable", map[string]string{"LOG_LEVLE": "debug"},
			[]string{"GATEHOUSE_LOG_LEVLE: unknown setting: did you mean GATEHOUSE_LOG_LEVEL?"}},
		{"misspelt, with a secret in it", map[string]string{"TOKEN_AUTH_FILES": "broken-token-of-dee"},
			[]string{"GATEHOUSE_TOKEN_AUTH_FILES: unknown setting: did you mean GATEHOUSE_TOKEN_AUTH_FILE?"}},
		{"unknown variable", map[string]string{"RAINBOW": "1"},
			[]string{"GATEHOUSE_RAINBOW: unknown setting: docs/settings.md lists them all"}},
		{"injected for another Service", map[string]string{"METRICS_PORT": "tcp://10.0.0.1:80", "METRICS_SERVICE_HOST": "10.0.0.1"},
			[]string{"GATEHOUSE_METRICS_PORT: unknown setting. If Kubernetes injected it for a Service, set enableServiceLinks: false",
				"GATEHOUSE_METRICS_SERVICE_HOST: unknown setting. If Kubernetes injected it"}},
		{"words left out", map[string]string{"CLIENT_ID": "x", "TLS_CERT": "x", "TOKEN_FILE": "x"},
			[]string{"GATEHOUSE_CLIENT_ID: unknown setting: did you mean GATEHOUSE_OIDC_CLIENT_ID?",
				"GATEHOUSE_TLS_CERT: unknown setting: did you mean GATEHOUSE_TLS_CERT_FILE?",
				"GATEHOUSE_TOKEN_FILE: unknown setting: did you mean GATEHOUSE_TOKEN_AUTH_FILE?"}},
		{"one address twice", map[string]string{"LISTEN_ADDRESS": "127.0.0.1:8443", "OPS_ADDRESS": "127.0.0.1:8443"},
			[]string{"GATEHOUSE_OPS_ADDRESS: is the proxy's address too"}},
		{"no address", map[string]string{"LISTEN_ADDRESS": "8443"},
			[]string{`GATEHOUSE_LISTEN_ADDRESS: "8443" is not an address like :8443`}},
		{"no duration", map[string]string{"SHUTDOWN_TIMEOUT": "5 minutes"},
			[]string{`GATEHOUSE_SHUTDOWN_TIMEOUT: unable to parse duration: time: unknown unit " minutes" in duration "5 minutes"`}},
		{"short durations", map[string]string{"SHUTDOWN_DELAY": "-1s", "JWKS_REFRESH_INTERVAL": "10ms", "JWKS_MAX_AGE": "1ms"},
			[]string{"GATEHOUSE_SHUTDOWN_DELAY: -1s is too short: at least 0s",
				"GATEHOUSE_JWKS_REFRESH_INTERVAL: 10ms is too short: at least 1s",
				"GATEHOUSE_JWKS_MAX_AGE: 1ms is too short: at least 20ms"}},
		{"limits", map[string]string{
			"MAX_HEADER_BYTES": "8192", "MAX_HEADER_LINES": "0", "MAX_TOKEN_BYTES": "65536", "MAX_REQUESTS": "-1", "MAX_STREAMS_PER_USER": "0", "BODY_TIMEOUT": "1ms", "MAX_STREAMS": "many",
		}, []string{"GATEHOUSE_MAX_HEADER_BYTES: 8192 is not between 65536 and 16777216", "GATEHOUSE_MAX_HEADER_LINES: 0 is not between 32 and",
			"GATEHOUSE_MAX_TOKEN_BYTES: 65536 is not between 1024 and 32768", "GATEHOUSE_MAX_REQUESTS: -1 is not between 2 and",
			"GATEHOUSE_MAX_STREAMS_PER_USER: 0 is not between 1 and", "GATEHOUSE_BODY_TIMEOUT: 1ms is too short: at least 1s",
			`GATEHOUSE_MAX_STREAMS: strconv.ParseInt: parsing "many": invalid syntax`}},
		{"log", map[string]string{"LOG_LEVEL": "loud", "LOG_FORMAT": "xml"},
			[]string{`GATEHOUSE_LOG_LEVEL: "loud" is none of debug, info, warn, error`, `GATEHOUSE_LOG_FORMAT: "xml" is neither json nor text`}},
		{"no credential accepted", map[string]string{"TOKEN_AUTH_FILE": ""},
			[]string{"set GATEHOUSE_OIDC_ISSUER_URL and GATEHOUSE_OIDC_CLIENT_ID, GATEHOUSE_AUTHENTICATION_CONFIG, GATEHOUSE_TOKEN_AUTH_FILE, GATEHOUSE_CLIENT_CA_FILE, or GATEHOUSE_TOKEN_REVIEW"}},
		{"no serving certificate", map[string]string{"TLS_CERT_FILE": "", "TLS_KEY_FILE": ""},
			[]string{"GATEHOUSE_TLS_CERT_FILE: is required", "GATEHOUSE_TLS_KEY_FILE: is required"}},
		{"issuer over http", map[string]string{"OIDC_ISSUER_URL": "http://login.example.com", "OIDC_CLIENT_ID": "x"},
			[]string{`GATEHOUSE_OIDC_ISSUER_URL: issuer.url: Invalid value: "http://login.example.com": URL scheme must be https`}},
		{"half of OIDC", map[string]string{"OIDC_GROUPS_CLAIM": "groups"},
			[]string{"GATEHOUSE_OIDC_ISSUER_URL: is required", "GATEHOUSE_OIDC_CLIENT_ID: is required"}},
		{"several of OIDC", map[string]string{
			"OIDC_ISSUER_URL": "https://login.example.com?x=1", "OIDC_CLIENT_ID": "x", "OIDC_CA_FILE": "/nonexistent/ca.crt",
			"OIDC_SIGNING_ALGS": "RS256,HS256", "OIDC_REQUIRED_CLAIMS": "hd",
		}, []string{"GATEHOUSE_OIDC_ISSUER_URL: issuer.url: Invalid value", "GATEHOUSE_OIDC_CA_FILE: open /nonexistent/ca.crt: no such file",
			`GATEHOUSE_OIDC_SIGNING_ALGS: "HS256" is none of RS256`, `GATEHOUSE_OIDC_REQUIRED_CLAIMS: "hd" is not of the form name=value`}},
		{"claim required twice", map[string]string{"OIDC_ISSUER_URL": "https://a.example", "OIDC_CLIENT_ID": "x", "OIDC_REQUIRED_CLAIMS": "a=1,a=2"},
			[]string{`GATEHOUSE_OIDC_REQUIRED_CLAIMS: the claim "a" is required twice`}},
		{"lists", map[string]string{"AUTHORIZED_PARTIES": "cli, web", "ALLOWED_RESERVED_NAMES": "system:a,", "JWKS_ORIGINS": "https://keys.example.com/"},
			[]string{`GATEHOUSE_AUTHORIZED_PARTIES: the entry " web"`, `GATEHOUSE_ALLOWED_RESERVED_NAMES: the entry ""`,
				`GATEHOUSE_JWKS_ORIGINS: "https://keys.example.com/" is not an origin like https://keys.example.com`}},
		{"endpoints of claim sources", map[string]string{"DISTRIBUTED_CLAIM_ENDPOINTS": "https://claims.example.com/groups,http://a.example,https://b.example/..,https://c.example?x"},
			[]string{`GATEHOUSE_DISTRIBUTED_CLAIM_ENDPOINTS: "http://a.example" is no URL like https://claims.example.com/groups: it does not begin with https://`,
				`"https://b.example/.." is no URL like https://claims.example.com/groups: it has a dot segment`, `"https://c.example?x" is no URL like`}},
		{"blank endpoint", map[string]string{"DISTRIBUTED_CLAIM_ENDPOINTS": "https://claims.example.com/groups,"}, []string{`GATEHOUSE_DISTRIBUTED_CLAIM_ENDPOINTS: the entry "" is empty`}},
		{"proxies", map[string]string{"TRUSTED_PROXIES": "10.0.0.1/8,0.0.0.0/0,lb.example", "PROXY_PROTOCOL": "yes"},
			[]string{`GATEHOUSE_TRUSTED_PROXIES: "10.0.0.1/8" has bits behind its length: did you mean 10.0.0.0/8?`, `GATEHOUSE_TRUSTED_PROXIES: "0.0.0.0/0" trusts everybody`,
				`GATEHOUSE_TRUSTED_PROXIES: "lb.example" is neither an address`, `GATEHOUSE_PROXY_PROTOCOL: "yes" is neither on nor off`}},
		{"PROXY protocol of nobody", map[string]string{"PROXY_PROTOCOL": "on"}, []string{"GATEHOUSE_PROXY_PROTOCOL: needs GATEHOUSE_TRUSTED_PROXIES"}},
		{"blank proxy", map[string]string{"TRUSTED_PROXIES": "10.0.0.1, 10.0.0.2"}, []string{`GATEHOUSE_TRUSTED_PROXIES: the entry " 10.0.0.2"`}},
		{"part of Entra", map[string]string{"ENTRA_GROUPS_MAX_AGE": "1m"},
			[]string{"GATEHOUSE_ENTRA_TENANT_ID: is required", "GATEHOUSE_ENTRA_CLIENT_ID: is required", "GATEHOUSE_ENTRA_CLIENT_SECRET_FILE: is required"}},
		{"all of Entra", map[string]string{
			"ENTRA_TENANT_ID": "common", "ENTRA_CLIENT_ID": "x", "ENTRA_CLIENT_SECRET_FILE": "/nonexistent/secret", "ENTRA_GROUPS": "admins", "ENTRA_GROUPS_MAX_AGE": "2h",
			"ENTRA_LOGIN_URL": "http://login.example", "ENTRA_GRAPH_URL": "https://graph.example/v1.0", "ENTRA_CA_FILE": "/nonexistent/ca",
		}, []string{`GATEHOUSE_ENTRA_TENANT_ID: "common" is not an id like`, `GATEHOUSE_ENTRA_CLIENT_ID: "x" is not an id`, `GATEHOUSE_ENTRA_GROUPS: "admins" is not an id`,
			"GATEHOUSE_ENTRA_GROUPS_MAX_AGE: 2h0m0s is not between 1s and 1h", `GATEHOUSE_ENTRA_LOGIN_URL: "http://login.example" is not an origin`,
			`GATEHOUSE_ENTRA_GRAPH_URL: "https://graph.example/v1.0" is not an origin`, "GATEHOUSE_ENTRA_CLIENT_SECRET_FILE: open /nonexistent/secret: no such file",
			"GATEHOUSE_ENTRA_CA_FILE: open /nonexistent/ca: no such file"}},
	}
}

// fileFaults are those of files.
func fileFaults(t *testing.T, w *world) []faultCase {
	t.Helper()
	stranger, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	otherKey := w.write(t, "other.key", string(stranger.Key))
	noPEM := w.write(t, "no.pem", "this is no certificate\n")
	short := w.write(t, "short.csv", "good-token-of-ed,ed,1\nbroken-token-of-dee,dee\nbroken-token-of-dee2,system:admin,1\n")
	cut := w.write(t, "cut.csv", "good-token-of-ed,ed,1\nbroken-token-of-dee,dee,1")
	bad := w.write(t, "bad-kubeconfig", strings.Replace(kubeconfig("http://127.0.0.1:1", "ca.crt", "as: boss"), "user: {", "user: {token: broken-token-of-dee, ", 1))
	twoLines := w.write(t, "two-lines", "broken-token-of-dee\nbroken-token-of-dee2\n")
	return []faultCase{
		{"secret of two lines", map[string]string{"ENTRA_TENANT_ID": authtest.EntraTenantID, "ENTRA_CLIENT_ID": authtest.EntraClientID, "ENTRA_CLIENT_SECRET_FILE": twoLines},
			[]string{"GATEHOUSE_ENTRA_CLIENT_SECRET_FILE: " + twoLines + " does not hold one line of visible characters"}},
		{"missing files", map[string]string{"TLS_CERT_FILE": "/nonexistent/crt", "TLS_KEY_FILE": "/nonexistent/key",
			"KUBECONFIG": "/nonexistent/kubeconfig", "TOKEN_AUTH_FILE": "/nonexistent/csv"},
			[]string{"GATEHOUSE_TLS_CERT_FILE: read serving certificate: open /nonexistent/crt: no such file",
				"GATEHOUSE_TLS_KEY_FILE: read serving key: open /nonexistent/key: no such file",
				"GATEHOUSE_KUBECONFIG: read kubeconfig: open /nonexistent/kubeconfig: no such file",
				"GATEHOUSE_TOKEN_AUTH_FILE: open /nonexistent/csv: no such file"}},
		// A directory cannot be read as a file by anybody, root included.
		{"unreadable files", map[string]string{"TLS_KEY_FILE": w.dir, "TOKEN_AUTH_FILE": w.dir},
			[]string{"GATEHOUSE_TLS_KEY_FILE: read serving key: read " + w.dir, "GATEHOUSE_TOKEN_AUTH_FILE: read " + w.dir}},
		{"key of another certificate", map[string]string{"TLS_KEY_FILE": otherKey},
			[]string{"GATEHOUSE_TLS_CERT_FILE: serving certificate " + w.path("tls.crt") + " and key " + otherKey + ": tls: private key does not match"}},
		{"no PEM", map[string]string{"TLS_CERT_FILE": noPEM, "OIDC_CA_FILE": noPEM, "OIDC_ISSUER_URL": "https://a.example", "OIDC_CLIENT_ID": "x"},
			[]string{"GATEHOUSE_TLS_CERT_FILE: serving certificate " + noPEM, "GATEHOUSE_OIDC_CA_FILE: " + noPEM + " holds no certificate in PEM"}},
		{"short row and reserved name", map[string]string{"TOKEN_AUTH_FILE": short},
			[]string{"GATEHOUSE_TOKEN_AUTH_FILE: " + short + ": line 2: 2 columns where at least 3 are needed: token,user,uid",
				"GATEHOUSE_TOKEN_AUTH_FILE: " + short + `: line 3: the user name "system:admin" is reserved: name it in GATEHOUSE_ALLOWED_RESERVED_NAMES`}},
		{"CSV cut off", map[string]string{"TOKEN_AUTH_FILE": cut}, []string{cut + ": line 2: the last line does not end in a newline"}},
		{"kubeconfig", map[string]string{"KUBECONFIG": bad}, []string{"GATEHOUSE_KUBECONFIG: kubeconfig " + bad +
			": server http://127.0.0.1:1 must be https: gatehouse's own credential goes there\n    `as` fields are not accepted"}},
	}
}

// Without KUBECONFIG, outside a pod, the error says what was tried.
func TestNoKubeconfig(t *testing.T) {
	w := newWorld(t)
	code, _, stderr := once(t, w.environ(map[string]string{"KUBECONFIG": ""}), "serve")
	if want := "GATEHOUSE_KUBECONFIG: no kubeconfig is set, and this is no pod of a cluster"; code != exitFault || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, want 1 and %q in:\n%s", code, want, stderr)
	}
}

// An address that is taken stops the start under its variable's name.
func TestAddressTaken(t *testing.T) {
	w := newWorld(t)
	taken := strings.TrimPrefix(w.upstream.URL, "https://")
	for _, variable := range []string{"LISTEN_ADDRESS", "OPS_ADDRESS"} {
		code, _, stderr := once(t, w.environ(map[string]string{variable: taken}), "serve")
		if want := envPrefix + variable + ": listen tcp " + taken; code != exitFault || !strings.Contains(stderr, want) {
			t.Errorf("exit code %d, want 1 and %q in:\n%s", code, want, stderr)
		}
	}
}

// Good settings pass check, which asks nobody: the issuer and the API server
// may be down. What Kubernetes injects for a Service named gatehouse is ignored.
func TestGoodSettings(t *testing.T) {
	w := newWorld(t)
	w.upstream.setDown(true)
	environ := w.environ(map[string]string{
		"OIDC_ISSUER_URL": "https://127.0.0.1:1", "OIDC_CLIENT_ID": authtest.Audience, "OIDC_CA_FILE": w.path("ca.crt"),
		"SERVICE_HOST": "10.0.0.1", "SERVICE_PORT_HTTPS": "443", "PORT": "tcp://10.0.0.1:443", "PORT_443_TCP_ADDR": "10.0.0.1",
	})
	code, stdout, stderr := once(t, environ, "check")
	if code != exitOK || stdout != "The settings and all files are good.\n" || stderr != "" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}
