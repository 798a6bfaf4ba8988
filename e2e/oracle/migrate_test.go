package oracle_test

import (
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/cmd/migrate"
	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

// migrated is one way to start kube-apiserver, and whom it then takes tokens of
// its issuer for: a name, or nobody.
type migrated struct {
	flags  []string
	config bool // the settings need an AuthenticationConfiguration
	tokens []migratedToken
}

type migratedToken struct {
	is     string
	key    string // that signs it; key-1 is RS256, key-2 ES256
	claims authtest.Claims
	name   string // ISSUER stands for its URL; empty: refused
}

var migratedFlags = map[string]migrated{
	"variables": {
		flags: []string{
			"--oidc-username-claim=preferred_username", "--oidc-groups-claim=roles", "--oidc-groups-prefix=corp:",
			"--oidc-required-claim=hd=example.com", "--oidc-signing-algs=ES256",
		},
		tokens: []migratedToken{
			{"default prefix", "key-2", authtest.Claims{"preferred_username": "ana", "hd": "example.com", "roles": []string{"dev", "ops"}}, "ISSUER#ana"},
			{"one group, and an id", "key-2", authtest.Claims{"preferred_username": "ana", "hd": "example.com", "roles": "dev", "jti": "7"}, "ISSUER#ana"},
			{"no groups", "key-2", authtest.Claims{"preferred_username": "bob", "hd": "example.com"}, "ISSUER#bob"},
			{"no name", "key-2", authtest.Claims{"hd": "example.com"}, ""},
			{"no required claim", "key-2", authtest.Claims{"preferred_username": "ana"}, ""},
			{"another required claim", "key-2", authtest.Claims{"preferred_username": "ana", "hd": "example.net"}, ""},
			{"required claim in a list", "key-2", authtest.Claims{"preferred_username": "ana", "hd": []string{"example.com"}}, ""},
			{"another algorithm", "key-1", authtest.Claims{"preferred_username": "ana", "hd": "example.com"}, ""},
			{"another audience", "key-2", authtest.Claims{"preferred_username": "ana", "hd": "example.com", "aud": "other"}, ""},
			{"groups that are none", "key-2", authtest.Claims{"preferred_username": "ana", "hd": "example.com", "roles": 7}, ""},
		},
	},
	"file": {
		flags: []string{
			"--oidc-username-claim=email", "--oidc-groups-claim=groups", "--oidc-required-claim=tenant=a,b", "--oidc-required-claim=level=3",
			"--oidc-username-prefix=-",
		},
		config: true,
		tokens: []migratedToken{
			{"no prefix", "key-1", authtest.Claims{"email": "ana@example.com", "tenant": "a,b", "level": "3", "groups": []string{"dev"}}, "ana@example.com"},
			{"verified", "key-1", authtest.Claims{"email": "ana@example.com", "email_verified": true, "tenant": "a,b", "level": "3"}, "ana@example.com"},
			{"not verified", "key-1", authtest.Claims{"email": "ana@example.com", "email_verified": false, "tenant": "a,b", "level": "3"}, ""},
			{"half of a required claim", "key-1", authtest.Claims{"email": "ana@example.com", "tenant": "a", "level": "3"}, ""},
			{"required claim as a number", "key-1", authtest.Claims{"email": "ana@example.com", "tenant": "a,b", "level": 3}, ""},
		},
	},
}

// Promise: what `gatehouse migrate` makes of the command line of a running
// kube-apiserver is a gatehouse that takes every credential for whom that
// kube-apiserver takes it: ID tokens, static tokens, ServiceAccount tokens and
// client certificates.
func TestMigratedFlags(t *testing.T) {
	for name, m := range migratedFlags {
		t.Run(name, m.judge)
	}
}

func (m migrated) judge(t *testing.T) {
	issuer, s, people := m.start(t)
	elliptic, err := authtest.NewKey("key-2", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]*authtest.Key{"key-1": issuer.Key(), "key-2": elliptic}
	issuer.Publish(keys["key-1"], keys["key-2"])
	pair := m.migrate(t, s)
	sign := func(token migratedToken) string { return keys[token.key].Sign(issuer.Payload(token.claims)) }
	first := bearer(t, sign(m.tokens[0]))
	for deadline := time.Now().Add(30 * time.Second); ; {
		got, err := first(pair.direct)
		if err == nil && got.user != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("kube-apiserver does not accept the first token: %s, %v", got, err)
		}
		time.Sleep(50 * time.Millisecond) // nothing tells when it has found the issuer
	}
	for _, token := range m.tokens {
		name := strings.ReplaceAll(token.name, "ISSUER", issuer.URL)
		pair.judgeAlike(t, token.is, name, bearer(t, sign(token)))
	}
	account, err := s.BuilderToken(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	pair.judgeAlike(t, "static token", "robot", bearer(t, "robot-token"))
	pair.judgeAlike(t, "ServiceAccount token", stage.BuilderUser, bearer(t, account))
	pair.judgeAlike(t, "unknown token", "", bearer(t, "nobody-token"))
	pair.judgeAlike(t, "nobody", "", credentials(t, nil))
	pair.judgeAlike(t, "client certificate", "carol", credentials(t, people))
}

// judgeAlike asks both about one credential. name is whom it stands for.
func (p livePair) judgeAlike(t *testing.T, is, name string, ask func(livePeer) (liveAnswer, error)) {
	t.Helper()
	want, err := ask(p.direct)
	if err != nil {
		t.Fatalf("%s: kube-apiserver: %v", is, err)
	}
	got, err := ask(p.through)
	if err != nil {
		t.Fatalf("%s: gatehouse: %v", is, err)
	}
	switch {
	case name == "" && want.code == http.StatusUnauthorized && got.code == http.StatusUnauthorized:
	case want.user == nil || want.user.Name != name || !sameAnswer(want.answer, got.answer):
		t.Errorf("%s: want %q:\nkube-apiserver %s\ngatehouse      %s", is, name, want, got)
	}
}

// start starts a cluster with the flags of m. It returns the issuer beside it, and
// somebody with a client certificate.
func (m migrated) start(t *testing.T) (*authtest.Issuer, *stage.Stage, *holder) {
	t.Helper()
	issuer, authority := stagetest.Issuer(t)
	tokens := filepath.Join(t.TempDir(), "tokens.csv")
	if err := pki.WriteFile(tokens, []byte("robot-token,robot,uid-1,\"ci,builders\"\n")); err != nil {
		t.Fatal(err)
	}
	maker := certMaker{t, time.Now().Truncate(time.Second)}
	ca := maker.issue(nil, maker.authority("people"))
	s, err := stage.Start(t.Context(), stage.Config{Dir: t.TempDir(), Progress: t.Output(), Cluster: cluster.Config{
		APIServerArgs: append([]string{
			"--oidc-issuer-url=" + issuer.URL, "--oidc-client-id=" + authtest.Audience, "--oidc-ca-file=" + authority.CAFile,
			"--token-auth-file=" + tokens,
		}, m.flags...),
		ClientCAs: ca.pem(),
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return issuer, s, maker.issue(ca, named("carol", "dev"))
}

// migrate starts gatehouse with what `gatehouse migrate` makes of the flags of
// the cluster, and with its own account and serving certificate alone.
func (m migrated) migrate(t *testing.T, s *stage.Stage) livePair {
	t.Helper()
	config := filepath.Join(t.TempDir(), "authentication.yaml")
	run := func(args ...string) string {
		args = slices.Concat([]string{"migrate", "--config-path", config}, args, []string{"--", "kube-apiserver"}, s.Cluster.APIServerArgs())
		printed, err := exec.CommandContext(t.Context(), s.Binary(), args...).Output()
		if err != nil {
			t.Fatalf("gatehouse %q: %v", args, err)
		}
		return string(printed)
	}
	env := map[string]string{"GATEHOUSE_KUBECONFIG": s.Env()["GATEHOUSE_KUBECONFIG"], "GATEHOUSE_SHUTDOWN_DELAY": "0s"}
	for line := range strings.Lines(run()) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		env[name] = value
	}
	if (env["GATEHOUSE_AUTHENTICATION_CONFIG"] == config) != m.config {
		t.Fatalf("a file is needed: %t; the settings are %q", m.config, env)
	}
	if m.config {
		if err := pki.WriteFile(config, []byte(run("-o", "authentication-config"))); err != nil {
			t.Fatal(err)
		}
	}
	i, err := s.Gatehouse(t.Context(), gatehouse.Config{}, env)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { i.Stop() })
	return livePair{newPeer(t, s.Cluster.URL(), s.Cluster.CAFile()), newPeer(t, i.URL(), i.CAFile())}
}

// Promise: `gatehouse migrate` knows every flag that this kube-apiserver has, and
// which of them need a value.
func TestMigrateKnowsKubeAPIServer(t *testing.T) {
	binaries, err := build.Cluster(t.Context(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	help, err := exec.CommandContext(t.Context(), binaries.APIServer, "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	// What has no type stands alone: two spaces or more follow its name.
	flags := regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z0-9-]+)( \S+)?  `).FindAllStringSubmatch(string(help), -1)
	if len(flags) < 150 {
		t.Fatalf("only %d flags were found", len(flags))
	}
	for _, flag := range flags {
		name, typed := flag[1], flag[2] != ""
		if name == "version" {
			typed = false // which may have a value
		}
		_, err := migrate.Words([]string{"kube-apiserver", "--token-auth-file=/tokens", "--" + name}, migrate.Options{})
		switch {
		case typed && (err == nil || err.Error() != "--"+name+" needs a value"):
			t.Errorf("--%s needs a value: %v", name, err)
		case !typed && err != nil:
			t.Errorf("--%s: %v", name, err)
		}
	}
}
