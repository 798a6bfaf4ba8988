package main

import (
	"crypto/tls"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

func claimSourceSettingTests() map[string]settingTest {
	return map[string]settingTest{
		"DISTRIBUTED_CLAIM_ENDPOINTS": testDistributedClaimEndpoints,
		"ENTRA_TENANT_ID":             testEntraTenantID,
		"ENTRA_CLIENT_ID":             testEntraClientID,
		"ENTRA_CLIENT_SECRET_FILE":    testEntraClientSecretFile,
		"ENTRA_GROUPS":                testEntraGroups,
		"ENTRA_GROUPS_MAX_AGE":        testEntraGroupsMaxAge,
		"ENTRA_LOGIN_URL":             testEntraOrigins,
		"ENTRA_GRAPH_URL":             testEntraOrigins,
		"ENTRA_CA_FILE":               testEntraCAFile,
	}
}

// claimSource is a server that answers with one JWT, and counts.
func claimSource(t *testing.T, w *world, jwt func() string) (url string, asked *atomic.Int64) {
	t.Helper()
	pair, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	asked = new(atomic.Int64)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(rw, jwt())
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	return server.URL, asked
}

// Groups are fetched from where a token says only below
// DISTRIBUTED_CLAIM_ENDPOINTS; the JWT may be signed by the issuer, and by one
// that the list names.
func testDistributedClaimEndpoints(t *testing.T, w *world, issuer *authtest.Issuer) {
	other := w.newIssuer(t)
	signer := issuer
	url, asked := claimSource(t, w, func() string { return signer.Token(authtest.Claims{"groups": []string{"dev", "ops"}}) })
	token := func(path string) string {
		return issuer.Token(authtest.Claims{"_claim_names": map[string]any{"groups": "s"}, "_claim_sources": map[string]any{
			"s": map[string]any{"endpoint": url + path, "access_token": "access-token-of-the-source-6120"},
		}})
	}
	p := signIn(t, w, issuer, map[string]string{"OIDC_GROUPS_CLAIM": "groups"})
	p.expectRefusal(t, token("/groups"), http.StatusUnauthorized, "only says where to find them")

	p = signIn(t, w, issuer, map[string]string{"OIDC_GROUPS_CLAIM": "groups", "DISTRIBUTED_CLAIM_ENDPOINTS": url + "/groups," + other.URL})
	p.expectRefusal(t, token("/other"), http.StatusUnauthorized, "only says where to find them")
	if n := asked.Load(); n != 0 {
		t.Errorf("asked %d times before anybody might", n)
	}
	p.expectUser(t, token("/groups"), issuer.URL+"#subject-1", "dev", "ops")
	signer = other
	p.expectUser(t, token("/groups/7"), issuer.URL+"#subject-1", "dev", "ops")
	signer = w.newIssuer(t)
	p.expectRefusal(t, token("/groups/8"), http.StatusServiceUnavailable, "groups cannot be looked up now")
	mustNotHold(t, "the log", p.log.text(), "access-token-of-the-source-6120", "eyJ")
	_, metrics := p.opsGet(t, "/metrics")
	for _, want := range []string{`gatehouse_group_lookups_total{resolver="distributed",result="success"} 2`, `gatehouse_group_lookups_total{resolver="distributed",result="failure"} 1`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
}

// Of an Entra tenant in which one person is in two groups.
const (
	anasID  = "a1b2c3d4-0000-4000-8000-00000000000a"
	devs    = "d0000000-0000-4000-8000-000000000001"
	admins  = "d0000000-0000-4000-8000-000000000002"
	noGroup = "d0000000-0000-4000-8000-000000000003"
)

func newTenant(t *testing.T, w *world) *authtest.Entra {
	t.Helper()
	tenant, err := authtest.NewEntra(w.ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tenant.Close() })
	tenant.SetGroups(anasID, devs, admins)
	return tenant
}

// entra returns settings that resolve the tenant's groups, with more.
func (w *world) entra(t *testing.T, tenant *authtest.Entra, more map[string]string) map[string]string {
	t.Helper()
	settings := map[string]string{
		"OIDC_GROUPS_CLAIM": "groups", "OIDC_USERNAME_CLAIM": "oid", "OIDC_USERNAME_PREFIX": "entra:", "OIDC_GROUPS_PREFIX": "entra:",
		"ENTRA_TENANT_ID": tenant.TenantID, "ENTRA_CLIENT_ID": tenant.ClientID,
		"ENTRA_CLIENT_SECRET_FILE": w.write(t, strings.ReplaceAll(t.Name(), "/", "-")+"-secret", authtest.EntraSecret+"\n"),
		"ENTRA_LOGIN_URL":          tenant.Origin, "ENTRA_GRAPH_URL": tenant.Origin, "ENTRA_CA_FILE": w.path("ca.crt"),
	}
	for name, value := range more {
		settings[name] = value
	}
	return settings
}

// The groups of a person of ENTRA_TENANT_ID are looked up, and of no other.
func testEntraTenantID(t *testing.T, w *world, _ *authtest.Issuer) {
	tenant := newTenant(t, w)
	token := tenant.Token(tenant.OverageClaims(anasID, nil))
	p := signIn(t, w, tenant.Issuer, w.entra(t, tenant, nil))
	p.expectUser(t, token, "entra:"+anasID, "entra:"+devs, "entra:"+admins)
	p.expectUser(t, tenant.Token(authtest.Claims{"oid": anasID, "tid": tenant.TenantID, "hasgroups": true}), "entra:"+anasID, "entra:"+devs, "entra:"+admins)
	p.expectUser(t, tenant.Token(authtest.Claims{"oid": anasID, "groups": []string{devs}}), "entra:"+anasID, "entra:"+devs)
	mustNotHold(t, "the log", p.log.text(), authtest.EntraSecret, "graph-access-token")

	p = signIn(t, w, tenant.Issuer, w.entra(t, tenant, map[string]string{"ENTRA_TENANT_ID": noGroup}))
	p.expectRefusal(t, token, http.StatusUnauthorized, "only says where to find them")
	if n := tenant.OtherRequests.Load(); n != 0 {
		t.Errorf("%d requests to the endpoint in the token", n)
	}
}

// Graph is asked as ENTRA_CLIENT_ID.
func testEntraClientID(t *testing.T, w *world, _ *authtest.Issuer) {
	tenant := newTenant(t, w)
	token := tenant.Token(tenant.OverageClaims(anasID, nil))
	p := signIn(t, w, tenant.Issuer, w.entra(t, tenant, map[string]string{"ENTRA_CLIENT_ID": noGroup}))
	p.expectRefusal(t, token, http.StatusServiceUnavailable, "groups cannot be looked up now")
	p.log.await(t, "the reason", func(line string) bool { return strings.Contains(line, "400 unauthorized_client (AADSTS700016)") })
}

// The secret in ENTRA_CLIENT_SECRET_FILE is used, and a changed one soon after.
func testEntraClientSecretFile(t *testing.T, w *world, _ *authtest.Issuer) {
	tenant := newTenant(t, w)
	tenant.SetSecret("another-secret")
	settings := w.entra(t, tenant, nil)
	p := signIn(t, w, tenant.Issuer, settings)
	token := tenant.Token(tenant.OverageClaims(anasID, nil))
	p.expectRefusal(t, token, http.StatusServiceUnavailable, "groups cannot be looked up now")
	w.write(t, strings.ReplaceAll(t.Name(), "/", "-")+"-secret", "another-secret")
	awaitRefusal(t, p, token, http.StatusOK)
	mustNotHold(t, "the log", p.log.text(), authtest.EntraSecret, "another-secret")
}

// Of the groups in which Graph finds a person only those of ENTRA_GROUPS count.
func testEntraGroups(t *testing.T, w *world, _ *authtest.Issuer) {
	tenant := newTenant(t, w)
	p := signIn(t, w, tenant.Issuer, w.entra(t, tenant, map[string]string{"ENTRA_GROUPS": strings.ToUpper(admins) + "," + noGroup}))
	p.expectUser(t, tenant.Token(tenant.OverageClaims(anasID, nil)), "entra:"+anasID, "entra:"+admins)
}

// A membership that was taken away ends within ENTRA_GROUPS_MAX_AGE.
func testEntraGroupsMaxAge(t *testing.T, w *world, _ *authtest.Issuer) {
	tenant := newTenant(t, w)
	token := tenant.Token(tenant.OverageClaims(anasID, nil))
	p := signIn(t, w, tenant.Issuer, w.entra(t, tenant, map[string]string{"ENTRA_GROUPS_MAX_AGE": "1s"}))
	p.expectUser(t, token, "entra:"+anasID, "entra:"+devs, "entra:"+admins)
	tenant.SetGroups(anasID, devs)
	eventually(t, func() bool {
		return len(p.ask(t, token, "/version").seen.Header["Impersonate-Group"]) == 1
	}, func() string { return "the group does not end" })
}

// The access token is asked for at ENTRA_LOGIN_URL, and the groups at
// ENTRA_GRAPH_URL.
func testEntraOrigins(t *testing.T, w *world, _ *authtest.Issuer) {
	login, graph := newTenant(t, w), newTenant(t, w)
	login.Scope = graph.Origin + "/.default"
	graph.ServeGraph(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(rw, `{"value":["`+devs+`"]}`)
	})
	p := signIn(t, w, login.Issuer, w.entra(t, login, map[string]string{"ENTRA_GRAPH_URL": graph.Origin}))
	p.expectUser(t, login.Token(login.OverageClaims(anasID, nil)), "entra:"+anasID, "entra:"+devs)
	if login.TokenRequests.Load() != 1 || login.GroupRequests.Load() != 0 || graph.TokenRequests.Load() != 0 || graph.GroupRequests.Load() != 1 {
		t.Error("the questions went to the wrong origins")
	}
}

// Both are trusted by ENTRA_CA_FILE alone.
func testEntraCAFile(t *testing.T, w *world, _ *authtest.Issuer) {
	tenant := newTenant(t, w)
	stranger, err := authtest.NewCA("stranger")
	if err != nil {
		t.Fatal(err)
	}
	p := signIn(t, w, tenant.Issuer, w.entra(t, tenant, map[string]string{"ENTRA_CA_FILE": w.write(t, "entra-stranger.crt", string(stranger.PEM()))}))
	p.expectRefusal(t, tenant.Token(tenant.OverageClaims(anasID, nil)), http.StatusServiceUnavailable, "groups cannot be looked up now")
	if n := tenant.TokenRequests.Load(); n != 0 {
		t.Errorf("%d requests with the secret to a server that is not trusted", n)
	}
}

// Where an expression makes the groups, Entra's are looked up for it too: it
// would see a person without groups.
func TestEntraForExpressions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tenant := newTenant(t, w)
	indented := strings.ReplaceAll(strings.TrimSpace(string(w.ca.PEM())), "\n", "\n      ")
	settings := w.entra(t, tenant, map[string]string{
		"TOKEN_AUTH_FILE": "", "OIDC_GROUPS_CLAIM": "", "OIDC_USERNAME_CLAIM": "", "OIDC_USERNAME_PREFIX": "", "OIDC_GROUPS_PREFIX": "",
		"AUTHENTICATION_CONFIG": w.write(t, "config.yaml", `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: `+tenant.URL+`
    audiences: [`+authtest.Audience+`]
    certificateAuthority: |
      `+indented+`
  claimMappings:
    username: {claim: oid, prefix: ''}
    groups: {expression: 'claims.?groups.orValue([])'}
`),
	})
	p := w.start(t, settings)
	p.awaitReady(t, http.StatusOK, "[+]issuer")
	p.expectUser(t, tenant.Token(tenant.OverageClaims(anasID, nil)), anasID, devs, admins)
	tenant.ServeGraph(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusInternalServerError) })
	p.expectRefusal(t, tenant.Token(tenant.OverageClaims(noGroup, nil)), http.StatusServiceUnavailable, "groups cannot be looked up now")
}

// check warns of a tenant of which no issuer is configured.
func TestEntraWithoutItsIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tenant := newTenant(t, w)
	settings := w.oidc(tenant.Issuer, w.entra(t, tenant, nil))
	if code, _, stderr := once(t, w.environ(settings), "check"); code != exitOK || stderr != "" {
		t.Errorf("with its issuer: exit code %d, %q", code, stderr)
	}
	settings["ENTRA_TENANT_ID"] = noGroup
	if code, _, stderr := once(t, w.environ(settings), "check"); code != exitOK || !strings.Contains(stderr, "no configured issuer is that of GATEHOUSE_ENTRA_TENANT_ID") {
		t.Errorf("without: exit code %d, %q", code, stderr)
	}
}
