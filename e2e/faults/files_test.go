package faults_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// settingsFiles makes every file that a setting can name, in any number of
// versions that let the same people in.
type settingsFiles struct {
	suite  *suite
	issuer *authtest.Issuer
	// authorities: of the issuer, of people's certificates, of gatehouse's own
	issuerCA, people, front *authtest.CA
	ownToken                string // file
}

// The files, and the names of their sources in the metrics. halves says whether
// half of each can be told from a whole one.
var sourceFiles = []struct {
	source string
	files  []string
	halves bool
}{
	{"serving_certificate", []string{"tls.crt", "tls.key"}, true},
	{"upstream", []string{"kubeconfig"}, true},
	{"upstream_token", []string{"token"}, false},
	{"token_auth_file", []string{"tokens.csv"}, true},
	{"client_ca", []string{"client-ca.crt", "client.crl"}, true},
	{"revocation_file", []string{"revoked.yaml"}, true},
	{"authentication_config", []string{"authentication.yaml"}, true},
	{"entra", []string{"entra-secret", "entra-ca.crt"}, false},
}

// version returns all files with other contents than any version before.
func (f *settingsFiles) version(t *testing.T, n int) map[string]string {
	t.Helper()
	pair, err := f.front.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	crl, err := f.people.RevocationList(int64(n))
	if err != nil {
		t.Fatal(err)
	}
	another, err := authtest.NewCA(fmt.Sprintf("another-%d", n))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"tls.crt": string(pair.Cert), "tls.key": string(pair.Key),
		"kubeconfig":          f.kubeconfig(t, n),
		"token":               mustRead(t, f.ownToken),
		"tokens.csv":          fmt.Sprintf("robot-secret,ci-robot,1\nother-secret-%d,other-robot-of-%d,2\n", n, n),
		"client-ca.crt":       string(another.PEM()) + string(f.people.PEM()),
		"client.crl":          string(crl),
		"revoked.yaml":        marshal(t, map[string]any{"revoked": []any{map[string]any{"user": fmt.Sprintf("nobody-%d", n), "note": "left"}}}),
		"authentication.yaml": f.authentication(t, n),
		"entra-secret":        authtest.EntraSecret,
		"entra-ca.crt":        string(another.PEM()) + string(f.issuerCA.PEM()),
	}
}

func (f *settingsFiles) kubeconfig(t *testing.T, n int) string {
	name := fmt.Sprintf("version-%d", n)
	return marshal(t, map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": f.suite.Cluster.URL(), "certificate-authority": f.suite.Cluster.CAFile()}}},
		"users":    []any{map[string]any{"name": name, "user": map[string]any{"tokenFile": "token"}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name}}},
	})
}

func (f *settingsFiles) authentication(t *testing.T, n int) string {
	return marshal(t, map[string]any{
		"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration",
		"jwt": []any{map[string]any{
			"issuer": map[string]any{
				"url": f.issuer.URL, "audiences": []string{authtest.Audience, fmt.Sprintf("version-%d", n)},
				"audienceMatchPolicy": "MatchAny", "certificateAuthority": string(f.issuerCA.PEM())},
			"claimMappings": map[string]any{
				"username": map[string]any{"claim": "email", "prefix": ""},
				"groups":   map[string]any{"claim": "groups", "prefix": "oidc:"}},
		}},
	})
}

func marshal(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b) + "\n"
}

// env names all files of m, with an AuthenticationConfiguration in the place of
// the settings for one issuer.
func (f *settingsFiles) env(m *mount, entra *authtest.Entra) map[string]string {
	env := map[string]string{
		"GATEHOUSE_TLS_CERT_FILE": m.path("tls.crt"), "GATEHOUSE_TLS_KEY_FILE": m.path("tls.key"),
		"GATEHOUSE_KUBECONFIG": m.path("kubeconfig"), "GATEHOUSE_TOKEN_AUTH_FILE": m.path("tokens.csv"),
		"GATEHOUSE_CLIENT_CA_FILE": m.path("client-ca.crt"), "GATEHOUSE_CLIENT_CRL_FILE": m.path("client.crl"),
		"GATEHOUSE_REVOCATION_FILE": m.path("revoked.yaml"), "GATEHOUSE_AUTHENTICATION_CONFIG": m.path("authentication.yaml"),
		"GATEHOUSE_ENTRA_TENANT_ID": entra.TenantID, "GATEHOUSE_ENTRA_CLIENT_ID": entra.ClientID,
		"GATEHOUSE_ENTRA_CLIENT_SECRET_FILE": m.path("entra-secret"), "GATEHOUSE_ENTRA_CA_FILE": m.path("entra-ca.crt"),
		"GATEHOUSE_ENTRA_LOGIN_URL": entra.Origin, "GATEHOUSE_ENTRA_GRAPH_URL": entra.Origin,
	}
	for _, name := range []string{"ISSUER_URL", "CLIENT_ID", "CA_FILE", "USERNAME_CLAIM", "GROUPS_CLAIM", "GROUPS_PREFIX"} {
		env["GATEHOUSE_OIDC_"+name] = ""
	}
	return env
}

// Promise: whatever is written to the files of the settings, nobody is refused
// who is let in by every version of them, and no connection fails: not while
// half of a file is there, not while one is written piece by piece, and not when
// all are swapped in one step.
func (s *suite) testFiles(t *testing.T) {
	f := s.newSettingsFiles(t)
	entra, err := authtest.NewEntra(f.issuerCA)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = entra.Close() })
	m := newMount(t, f.version(t, 0))
	g := s.startGatehouse(t, gatehouse.Config{}, f.env(m, entra))
	count := &tally{}
	asking := f.keepAsking(t, g, count)
	eventually(t, limit, count.more(50))

	halves, inPlace := writable()
	m.truncate(t, only(f.version(t, 1), halves...))
	eventually(t, reloadLimit, func() error { return sourcesAre(t, g, 0) })
	eventually(t, limit, count.more(50))
	m.swap(t, f.version(t, 2))
	eventually(t, reloadLimit, func() error { return sourcesAre(t, g, 1) })
	f.report(t, asking, count, row{fault: "files half-written, and whole again", why: "nothing"})

	count = &tally{}
	asking = f.keepAsking(t, g, count)
	for n, until := 3, time.Now().Add(rewriting); time.Now().Before(until); n++ {
		m.trickle(t, only(f.version(t, n), inPlace...))
	}
	eventually(t, reloadLimit, func() error { return sourcesAre(t, g, 1) })
	f.report(t, asking, count, row{fault: "files written in place again and again, piece by piece", why: "nothing"})

	count = &tally{}
	asking = f.keepAsking(t, g, count)
	for n := range 3 {
		before, files := mustMetrics(t, g), f.version(t, 1000+n)
		m.swap(t, files)
		for _, one := range sourceFiles {
			if one.source != "upstream_token" { // it is the same
				awaitMetric(t, g, before, 1, "gatehouse_reloads_total", `result="success"`, `source="`+one.source+`"`)
			}
		}
		eventually(t, limit, count.more(50))
	}
	f.report(t, asking, count, row{fault: "all files swapped at once, as a Secret is", why: "nothing"})
}

// rewriting is how long files are written in place: gatehouse looks at them some
// times.
const rewriting = 5 * time.Second

// writable returns the files of which half can be told from the whole, and those
// that may be written in place: half of our own token fails every request, and a
// token file that was emptied to be written anew is one without tokens.
func writable() (halves, inPlace []string) {
	for _, one := range sourceFiles {
		if one.halves {
			halves = append(halves, one.files...)
		}
		if one.source != "upstream_token" && one.source != "token_auth_file" {
			inPlace = append(inPlace, one.files...)
		}
	}
	return halves, inPlace
}

func (s *suite) newSettingsFiles(t *testing.T) *settingsFiles {
	t.Helper()
	f := &settingsFiles{suite: s, front: s.front.CA,
		ownToken: filepath.Join(s.Cluster.Dir(), stage.AccountNamespace+"-"+stage.AccountName+".token")}
	for _, ca := range []**authtest.CA{&f.issuerCA, &f.people} {
		made, err := authtest.NewCA("ca")
		if err != nil {
			t.Fatal(err)
		}
		*ca = made
	}
	var err error
	if f.issuer, err = authtest.NewIssuer(f.issuerCA); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.issuer.Close() })
	return f
}

// keepAsking has each kind of credential ask, over connections that stay and by
// new ones.
func (f *settingsFiles) keepAsking(t *testing.T, g *gatehouse.Instance, count *tally) callers {
	t.Helper()
	pair, err := f.people.Client("person-of-a-certificate@example.com", "oidc:developers")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	idToken := read("")
	idToken.token = func() string { return f.issuer.Token(stage.Person("alice", "developers")) }
	byCertificate := read("")
	byCertificate.token = nil
	var stops []func()
	for _, fresh := range []bool{true, false} {
		over := map[bool]string{true: http1, false: http2}[fresh]
		client, signed := f.suite.client(t, over), f.suite.client(t, over)
		transportOf(client).DisableKeepAlives, transportOf(signed).DisableKeepAlives = fresh, fresh
		transportOf(signed).TLSClientConfig.Certificates = []tls.Certificate{certificate}
		stops = append(stops, keepAsking(t, client, g.URL(), 1, 50*time.Millisecond, count, read("robot-secret"), idToken).stop)
		stops = append(stops, keepAsking(t, signed, g.URL(), 1, 50*time.Millisecond, count, byCertificate).stop)
	}
	return callers{func() {
		for _, stop := range stops {
			stop()
		}
	}}
}

func (f *settingsFiles) report(t *testing.T, asking callers, count *tally, r row) {
	t.Helper()
	asking.stop()
	count.judge(nobody)
	r.load = "reads with ID tokens, static tokens and client certificates"
	count.report(t, f.suite.rows, r)
}

// sourcesAre returns an error until the metrics show that of every source the
// present content is in effect (1), or that it is not (0) where half of it is bad.
func sourcesAre(t *testing.T, g *gatehouse.Instance, want float64) error {
	t.Helper()
	m, err := readMetrics(t.Context(), g)
	if err != nil {
		return err
	}
	errs := []error{}
	for _, one := range sourceFiles {
		expected := want
		if !one.halves {
			expected = 1
		}
		if got := m.sum("gatehouse_reload_last_successful", `source="`+one.source+`"`); got != expected {
			errs = append(errs, fmt.Errorf("%s: %v, want %v", one.source, got, expected))
		}
	}
	return errors.Join(errs...)
}

// testOneIssuerFile: the CA file of the one issuer may be cut at a place where it
// still is one, that trusts nobody of use. The issuer's keys stay.
func (s *suite) testOneIssuerFile(t *testing.T) {
	issuer, env := newIssuer(t)
	another, err := authtest.NewCA("another")
	if err != nil {
		t.Fatal(err)
	}
	good := string(another.PEM()) + mustRead(t, env["GATEHOUSE_OIDC_CA_FILE"]) + "\n"
	m := newMount(t, map[string]string{"ca.crt": good})
	env = maps.Clone(env)
	env["GATEHOUSE_OIDC_CA_FILE"] = m.path("ca.crt")
	g := s.startGatehouse(t, gatehouse.Config{}, env)
	count, fresh := &tally{}, read("")
	fresh.token = func() string { return issuer.Token(stage.Person("alice", "developers")) }
	client := s.client(t, http2)
	eventually(t, limit, func() error { return fresh.once(t.Context(), client, g.URL()) })
	asking := keepAsking(t, client, g.URL(), 4, 50*time.Millisecond, count, fresh)
	before := mustMetrics(t, g)
	m.overwrite(t, map[string]string{"ca.crt": good[:len(another.PEM())+100]})
	awaitMetric(t, g, before, 1, "gatehouse_reloads_total", `result="success"`, `source="oidc_ca_file"`)
	awaitMetric(t, g, mustMetrics(t, g), 3, "gatehouse_jwks_fetches_total", `result="failure"`)
	m.swap(t, map[string]string{"ca.crt": good})
	awaitMetric(t, g, before, 2, "gatehouse_reloads_total", `result="success"`, `source="oidc_ca_file"`)
	awaitMetric(t, g, mustMetrics(t, g), 2, "gatehouse_jwks_fetches_total", `result="success"`)
	asking.stop()
	count.judge(nobody)
	count.report(t, s.rows, row{fault: "issuer's CA file cut between two certificates, and whole again", load: "reads with new ID tokens", why: "nothing"})
}
