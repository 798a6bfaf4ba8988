package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/cmd/migrate"
)

// migrateCase is a file of testdata/migrate: sections that begin with a line
// `-- name --`. command and stdin go in; stdout, stderr and, if there is one,
// authentication-config are all that comes out.
type migrateCase struct{ command, stdin, stdout, stderr, config string }

func readCase(t *testing.T, path string) migrateCase {
	t.Helper()
	sections := map[string]string{}
	name := ""
	for line := range strings.Lines(read(t, path)) {
		if strings.HasPrefix(line, "-- ") && strings.HasSuffix(line, " --\n") {
			name = strings.Trim(line, "- \n")
			sections[name] = ""
			continue
		}
		sections[name] += line
	}
	return migrateCase{sections["command"], sections["stdin"], sections["stdout"], sections["stderr"], sections["authentication-config"]}
}

func (c migrateCase) String() string {
	text := "-- command --\n" + c.command
	for _, section := range []struct{ name, content string }{{"stdin", c.stdin}, {"stdout", c.stdout}, {"stderr", c.stderr}, {"authentication-config", c.config}} {
		if section.content != "" {
			text += "-- " + section.name + " --\n" + section.content
		}
	}
	return text
}

// run fills in what comes out.
func (c *migrateCase) run(t *testing.T) (code int) {
	t.Helper()
	args := strings.Fields(c.command)
	code, c.stdout, c.stderr = onceWith(t, c.stdin, nil, args[1:]...)
	c.config = ""
	if strings.Contains(c.stdout, "GATEHOUSE_AUTHENTICATION_CONFIG=/etc/gatehouse/") {
		var stderr string
		if _, c.config, stderr = onceWith(t, c.stdin, nil, append([]string{"migrate", "-o", "authentication-config"}, args[2:]...)...); stderr != "" {
			t.Errorf("-o authentication-config: %s", stderr)
		}
	}
	return code
}

func migrateCases(t *testing.T) []string {
	t.Helper()
	cases, err := filepath.Glob("testdata/migrate/*.txt")
	if err != nil || len(cases) < 20 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	return cases
}

// Promise: for each trap of a migration, and each form of input, settings and
// sentences are to the letter what stands in testdata/migrate.
func TestMigrateText(t *testing.T) {
	t.Parallel()
	for _, path := range migrateCases(t) {
		want := readCase(t, path)
		got := migrateCase{command: want.command, stdin: want.stdin}
		code := got.run(t)
		if *update {
			if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want.String(), got.String()); diff != "" && !*update {
			t.Errorf("%s (-want +got):\n%s", path, diff)
		}
		if refused := strings.Contains(filepath.Base(path), "refused"); refused != (code == exitUsage) || refused != (got.stdout == "") {
			t.Errorf("%s: exit code %d, and %q on standard output", path, code, got.stdout)
		}
	}
}

// Promise: what migrate prints is accepted by `gatehouse check`, once the files
// that it names are there.
func TestMigratedSettingsAreGood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	checked := 0
	for _, path := range migrateCases(t) {
		c := readCase(t, path)
		if c.stdout == "" || strings.Contains(c.command, "-o values") { // which e2e/chart renders
			continue
		}
		settings := map[string]string{"TOKEN_AUTH_FILE": ""}
		for line := range strings.Lines(c.stdout) {
			name, value, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, envPrefix), "\n"), "=")
			switch name {
			case "TLS_CERT_FILE", "TLS_KEY_FILE", "KUBECONFIG":
				continue // those of the world
			case "OIDC_CA_FILE", "CLIENT_CA_FILE":
				value = w.path("ca.crt")
			case "TOKEN_AUTH_FILE":
				value = w.path("tokens.csv")
			case "ENTRA_CLIENT_SECRET_FILE":
				value = w.write(t, "client-secret", "s3cret")
			case "AUDIT_LOG_PATH":
				value = "-"
			case "AUDIT_POLICY_FILE":
				value = w.write(t, "migrated-policy.yaml", policyOfAll)
			case "AUTHENTICATION_CONFIG":
				config := c.config
				if config == "" {
					config = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n"
				}
				value = w.write(t, "authentication.yaml", config)
			}
			settings[name] = value
		}
		if code, _, stderr := once(t, w.environ(settings), "check"); code != exitOK {
			t.Errorf("%s: exit code %d: %s", path, code, stderr)
		}
		checked++
	}
	if checked < 15 {
		t.Errorf("only %d were checked", checked)
	}
}

// peersFlags are the flags of kube-oidc-proxy and its forks, each with a value
// that is not its default.
const peersFlags = `disable-impersonation readiness-probe-port=9090 flush-interval=1s token-passthrough
token-passthrough-audiences=a extra-user-header-client-ip extra-user-headers=k1=a,k2=b,k1=c
oidc-ca-file=/ca oidc-username-claim=email oidc-username-prefix=o: oidc-groups-claim=g oidc-groups-prefix=g: oidc-signing-algs=ES256
oidc-required-claim=a=b bind-address=127.0.0.1 secure-port=9443 cert-dir=/d tls-cert-file=/c tls-private-key-file=/k tls-cipher-suites=x
tls-min-version=VersionTLS13 tls-sni-cert-key=a,b http2-max-streams-per-connection=7 permit-port-sharing permit-address-sharing
disable-http2-serving tls-curve-preferences=1 audit-policy-file=/p audit-log-path=/l audit-log-maxage=1 audit-log-maxbackup=1
audit-log-maxsize=1 audit-log-format=json audit-log-version=v1 audit-log-compress audit-log-mode=batch audit-log-batch-buffer-size=1
audit-log-batch-max-size=1 audit-log-batch-max-wait=1s audit-log-batch-throttle-enable audit-log-batch-throttle-qps=1
audit-log-batch-throttle-burst=1 audit-log-truncate-enabled audit-log-truncate-max-batch-size=1 audit-log-truncate-max-event-size=1
audit-webhook-config-file=/w audit-webhook-initial-backoff=1s audit-webhook-version=v1 audit-webhook-mode=batch
audit-webhook-batch-buffer-size=1 audit-webhook-batch-max-size=1 audit-webhook-batch-max-wait=1s audit-webhook-batch-throttle-enable
audit-webhook-batch-throttle-qps=1 audit-webhook-batch-throttle-burst=1 audit-webhook-truncate-enabled
audit-webhook-truncate-max-batch-size=1 audit-webhook-truncate-max-event-size=1 kubeconfig=/kc context=c cluster=c user=u namespace=n
server=https://s tls-server-name=s certificate-authority=/ca client-certificate=/c client-key=/k token=s3cret insecure-skip-tls-verify
request-timeout=1s disable-compression as-uid=u as-user-extra=a=b kube-client-qps=1 kube-client-burst=1 version help v=2 vmodule=a=1
readiness-require-all-issuers oidc-tls-client-cert-file=/c oidc-tls-client-key-file=/k trusted-proxies=10.0.0.0/8
subject-access-review-timeout=9s allow-reserved-groups=system:monitoring token-passthrough-cache-success-ttl=1s
token-passthrough-cache-failure-ttl=1s max-impersonation-header-values=9 subject-access-review-allow-cache-ttl=1s
subject-access-review-deny-cache-ttl=1s subject-access-review-cache-allow-ttl=1s metrics-bind-address=:9091 api-audiences=a
logging-format=text token-passthrough-request-timeout=1s`

// apiServerFlags are those flags of kube-apiserver that say who a caller is.
const apiServerFlags = `oidc-ca-file=/ca oidc-username-claim=email oidc-username-prefix=o: oidc-groups-claim=g oidc-groups-prefix=g:
oidc-required-claim=a=b oidc-signing-algs=ES256 anonymous-auth=false api-audiences=a authentication-token-webhook-cache-ttl=1s
authentication-token-webhook-config-file=/w authentication-token-webhook-version=v1 client-ca-file=/c enable-bootstrap-token-auth
requestheader-allowed-names=a requestheader-client-ca-file=/c requestheader-extra-headers-prefix=X-a
requestheader-group-headers=X-b requestheader-uid-headers=X-c requestheader-username-headers=X-d service-account-extend-token-expiration
service-account-issuer=https://i service-account-jwks-uri=https://j service-account-key-file=/k service-account-lookup
service-account-max-token-expiration=1h token-auth-file=/t etcd-servers=https://e allow-privileged v=2 version=raw`

// rbacProxyFlags are the flags of kube-rbac-proxy v0.21, each with a value that is
// not its default, but for those that the test gives anyway.
const rbacProxyFlags = `allow-paths=/api ignore-paths=/healthz auth-header-fields-enabled auth-header-groups-field-name=x auth-header-groups-field-separator=,
auth-header-user-field-name=x auth-token-audiences=a client-ca-file=/c config-file=/f http2-disable http2-max-concurrent-streams=7 http2-max-size=9
insecure-listen-address=:80 kube-api-burst=1 kube-api-qps=1 kubeconfig=/kc oidc-ca-file=/ca oidc-groups-claim=g oidc-groups-prefix=g: oidc-sign-alg=ES256
oidc-username-claim=sub oidc-username-prefix=o: proxy-endpoints-port=9000 secure-listen-address=:9443 tls-cert-file=/c tls-cipher-suites=x
tls-min-version=VersionTLS13 tls-private-key-file=/k tls-reload-interval=1h upstream=https://api.example.com upstream-ca-file=/ca
upstream-client-cert-file=/c upstream-client-key-file=/k upstream-force-h2c v=2 logtostderr version help`

// azadFlags are those of azad-kube-proxy.
const azadFlags = `client-secret=s3cret azure-ad-group-prefix=p azure-ad-max-group-count=9 group-identifier=OBJECTID group-sync-interval=9
kubernetes-api-host=h kubernetes-api-port=6443 kubernetes-api-tls=false kubernetes-api-ca-cert-path=/c kubernetes-api-token-path=/t
kubernetes-api-validate-cert=false address=127.0.0.1 port=9443 tls-enabled tls-certificate-path=/c tls-key-path=/k metrics=NONE
metrics-address=127.0.0.1 metrics-port=9000 cors-enabled=false cors-allowed-headers=a cors-allowed-methods=GET cors-allowed-origins=a
cors-allowed-origins-default-scheme=http cache-engine=REDIS redis-uri=redis://u:s3cret@h version help`

// Promise: every flag of the programs is known, and none is passed over in
// silence: it makes another setting, or a sentence names it. No value of a flag
// without a counterpart is repeated.
func TestMigrateKnowsEveryFlag(t *testing.T) {
	t.Parallel()
	oidc := []string{"--oidc-issuer-url=https://login.example.com", "--oidc-client-id=kubernetes"}
	for from, source := range map[string]struct {
		flags string
		base  []string
	}{
		migrate.RafPe:         {peersFlags, oidc},
		migrate.Tremolo:       {peersFlags, oidc},
		migrate.Jetstack:      {peersFlags, oidc},
		migrate.KubeAPIServer: {apiServerFlags, oidc},
		migrate.KubeRBACProxy: {rbacProxyFlags, []string{"--oidc-issuer=https://login.example.com", "--oidc-clientID=kubernetes"}},
		migrate.AzadKubeProxy: {azadFlags, []string{"--tenant-id=00000000-0000-0000-0000-000000000000", "--client-id=11111111-1111-1111-1111-111111111111"}},
	} {
		base := append([]string{"migrate", "--from", from, "--"}, source.base...)
		ca := filepath.Join(t.TempDir(), "ca")
		for flag := range strings.FieldsSeq(source.flags) {
			before := slices.Clone(base)
			switch flag { // these depend on others
			case "oidc-groups-prefix=g:":
				before = append(before, "--oidc-groups-claim=g")
			case "token-passthrough-audiences=a":
				before = append(before, "--token-passthrough")
			case "tls-enabled":
				before = append(before, "--tls-certificate-path=/c", "--tls-key-path=/k")
			case "client-secret=s3cret": // what the notes ask for in any case
				continue
			}
			_, plain, notes := once(t, nil, before...)
			code, stdout, stderr := once(t, nil, append(before, "--"+strings.ReplaceAll(flag, "=/ca", "="+ca))...)
			name, _, _ := strings.Cut(flag, "=")
			named := regexp.MustCompile(`--` + name + `\b[^-]`).MatchString(stderr)
			own := strings.Contains(stderr, "stay with the API server; there are 1.")
			if code != exitOK || stdout == plain && stderr == notes || stdout == plain && !named && !own && name != "anonymous-auth" && name != "cors-enabled" || strings.Contains(stdout+stderr, "s3cret") {
				t.Errorf("%s --%s: exit code %d:\n%s%s", from, flag, code, stdout, stderr)
			}
		}
	}
}

// Promise: `-o authentication-config` is refused where there is nothing to print,
// and what cannot be read is said without a word of it.
func TestMigrateUsage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "flags")
	if err := os.WriteFile(file, []byte("kube-apiserver --oidc-issuer-url=https://login.example.com \\\n  --oidc-client-id='kubernetes' # the client\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"migrate -o yaml -- --x":                   `unknown output "yaml": there are env, authentication-config, values`,
		"migrate -o authentication-config " + file: "need no file",
		"migrate " + file + " " + file:             "give one file, or flags behind --",
		"migrate " + file + " -- --a":              "give one file, or flags behind --",
		"migrate --from nobody -- --a":             `--from "nobody": it is none of`,
		"migrate --from kube-oidc-proxy " + file:   "the flags are those of kube-apiserver",
	} {
		if code, stdout, stderr := once(t, nil, strings.Fields(args)...); code != exitUsage || stdout != "" || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit code %d, want 2 and %q: %s%s", args, code, want, stdout, stderr)
		}
	}
	if code, _, stderr := once(t, nil, "migrate", "/nonexistent"); code != exitFault || !strings.Contains(stderr, "read the flags: open /nonexistent") {
		t.Errorf("a file that is not there: exit code %d: %s", code, stderr)
	}
	want := "GATEHOUSE_OIDC_ISSUER_URL=https://login.example.com\nGATEHOUSE_OIDC_CLIENT_ID=kubernetes\n"
	if code, stdout, stderr := once(t, nil, "migrate", file); code != exitOK || stdout != want {
		t.Errorf("a file: exit code %d, want %q: %s%s", code, want, stdout, stderr)
	}
}

// Promise: the audit log moves over, and what gatehouse leaves to the platform is
// said.
func TestMigrateAudit(t *testing.T) {
	t.Parallel()
	_, stdout, stderr := once(t, nil, "migrate", "--from", migrate.RafPe, "--", "--oidc-issuer-url=https://i", "--oidc-client-id=c",
		"--audit-policy-file=/p", "--audit-log-path=/l", "--audit-log-maxage=7")
	for _, want := range []string{"GATEHOUSE_AUDIT_POLICY_FILE=/p\n", "GATEHOUSE_AUDIT_LOG_PATH=/l\n"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("printed without %q:\n%s", want, stdout)
		}
	}
	if !strings.Contains(stderr, "--audit-log-maxage") || !strings.Contains(stderr, "left to the platform") {
		t.Errorf("does not say what becomes of --audit-log-maxage:\n%s", stderr)
	}
}

// Promise: of the values that the documents show, -o values makes those below them.
func TestDocumentedValues(t *testing.T) {
	t.Parallel()
	page := read(t, "../../docs/how-to/migrate-from-kube-oidc-proxy.md")
	shown := regexp.MustCompile("(?s)```yaml\n(image: .*?)```.*?```yaml\n# values.yaml\n(.*?)```").FindStringSubmatch(page)
	if shown == nil {
		t.Fatal("there are none")
	}
	if code, stdout, stderr := onceWith(t, shown[1], nil, "migrate", "-o", "values"); code != exitOK || stdout != shown[2] {
		t.Errorf("exit code %d, %s (-want +got):\n%s", code, stderr, cmp.Diff(shown[2], stdout))
	}
}
