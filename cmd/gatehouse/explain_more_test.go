package main

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// A token whose issuer cannot be reached is not called bad: nobody can tell, and
// the fault is named.
func TestExplainIssuerDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	issuer.SetDown(true)
	code, stdout, _ := onceWith(t, issuer.Token(nil), w.environ(w.oidc(issuer, nil)), "explain")
	for _, want := range []string{
		"Verdict     cannot tell: issuer_unavailable (503)\n", "configured as GATEHOUSE_OIDC_ISSUER_URL\n",
		"its keys could not be fetched: discovery: get " + issuer.URL + "/.well-known/openid-configuration: status 503\n",
		"NOT verified: anybody can have written this",
	} {
		if code != exitFault || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, without %q:\n%s", code, want, stdout)
		}
	}
}

// What takes more than two seconds is told, and ends at --timeout.
func TestExplainTimeout(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	release := w.stall(t, issuer)
	defer release()
	start := time.Now()
	code, stdout, stderr := onceWith(t, issuer.Token(nil), w.environ(w.oidc(issuer, nil)), "explain", "--timeout", "3s")
	if code != exitFault || !strings.Contains(stdout, "no answer within the time of --timeout") || time.Since(start) > 15*time.Second {
		t.Errorf("exit code %d after %s:\n%s", code, time.Since(start), stdout)
	}
	if want := "still asking " + issuer.URL + " for its keys (--timeout 3s)\n"; stderr != want {
		t.Errorf("progress %q, want %q", stderr, want)
	}
}

// A token of an issuer that is not configured is said to be whose it says: one
// that was meant, the cluster's own, or anybody's.
func TestExplainForeignIssuer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer, cluster := w.newIssuer(t), w.newIssuer(t)
	environ := w.environ(w.oidc(issuer, nil))
	account := authtest.Claims{"sub": "system:serviceaccount:a:b"}
	for _, test := range []struct{ own, token, want string }{
		{"", issuer.Token(authtest.Claims{"iss": issuer.URL + "/"}), `is configured. They must be equal, byte for byte.`},
		{"", issuer.Token(authtest.Claims{"iss": "https://x.example"}), `it is of "https://x.example"; configured are: ` + issuer.URL},
		{"", cluster.Token(account), "of a ServiceAccount of the cluster itself. This gatehouse does not accept those"},
		{cluster.Token(account), cluster.Token(account), "of a ServiceAccount of the cluster itself. This gatehouse does not accept those"},
	} {
		if test.own != "" {
			w.write(t, "kubeconfig", kubeconfig(w.upstream.URL, "ca.crt", "token: "+test.own))
		}
		code, stdout, _ := onceWith(t, test.token, environ, "explain")
		if code != exitFault || !strings.Contains(stdout, test.want) || !strings.Contains(stdout, "a JWT of an issuer that is not configured") {
			t.Errorf("exit code %d, without %q:\n%s", code, test.want, stdout)
		}
	}
	if issuer.KeyFetches.Load()+cluster.KeyFetches.Load() > 0 {
		t.Error("an issuer was asked that the token only names")
	}
}

// Who looks into a refusal needs no serving key and no kubeconfig, and is told
// that they are missing; every other fault stops.
func TestExplainWithoutServing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	bare := map[string]string{"TLS_CERT_FILE": "", "TLS_KEY_FILE": "", "KUBECONFIG": ""}
	code, stdout, stderr := onceWith(t, anaToken, w.environ(bare), "explain")
	if code != exitOK || !strings.Contains(stdout, "User        ana\n              from its row in "+w.path("tokens.csv")+"\n") ||
		strings.Count(stderr, "; explain does without it\n") != 3 {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
	account := w.newIssuer(t).Token(authtest.Claims{"sub": builderName})
	maps.Copy(bare, map[string]string{"TOKEN_REVIEW": "true"})
	code, stdout, _ = onceWith(t, account, w.environ(bare), "explain")
	if code != exitFault || !strings.Contains(stdout, "Verdict     cannot tell: authenticator_error (503)\n") || !strings.Contains(stdout, "Without the kubeconfig, no ServiceAccount token can be judged.") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	maps.Copy(bare, map[string]string{"TOKEN_AUTH_FIEL": "x"})
	code, stdout, stderr = onceWith(t, anaToken, w.environ(bare), "explain")
	if code != exitFault || stdout != "" || !strings.Contains(stderr, "1 fault in the settings:\n  GATEHOUSE_TOKEN_AUTH_FIEL: unknown setting") {
		t.Errorf("exit code %d:\n%s%s", code, stdout, stderr)
	}
}

// A certificate is judged as in a handshake, but for the proof of its key, which
// is said.
func TestExplainCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	people, err := authtest.NewCA("people")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := people.Client("grace", "viewers")
	if err != nil {
		t.Fatal(err)
	}
	list, err := people.RevocationList(1, pair)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"CLIENT_CA_FILE": w.write(t, "people.crt", string(people.PEM()))}
	file := w.write(t, "grace.pem", string(pair.Key)+string(pair.Cert))
	const unproven = "has the key of the certificate was not proven here"
	for _, test := range []struct {
		settings map[string]string
		file     string
		code     int
		want     []string
	}{
		{settings, file, exitOK, []string{"Verdict     accepted, until ", "Certificate CN=grace,O=viewers\n", "Revocation  not checked",
			"User        grace\n              from the common name\n", "Groups      viewers\n              from the organizations\n"}},
		{map[string]string{"CLIENT_CA_FILE": settings["CLIENT_CA_FILE"], "CLIENT_CRL_FILE": w.write(t, "people.crl", string(list))}, file, exitFault,
			[]string{"Verdict     refused: certificate_revoked (401)\n", `is on the CRL of "CN=people"`, "Revocation  checked against"}},
		{settings, w.path("tls.crt"), exitFault, []string{"Verdict     refused: certificate_not_trusted (401)\n"}},
		{nil, file, exitFault, []string{"Verdict     refused: no_credential (401)\n", "GATEHOUSE_CLIENT_CA_FILE is not set"}},
	} {
		code, stdout, stderr := once(t, w.environ(test.settings), "explain", "--certificate", test.file)
		for _, want := range append(test.want, unproven) {
			if code != test.code || !strings.Contains(stdout, want) {
				t.Errorf("exit code %d, without %q:\n%s%s", code, want, stdout, stderr)
			}
		}
		if strings.Contains(stdout, "PRIVATE") || slices.ContainsFunc(strings.Split(string(pair.Key), "\n"), func(line string) bool {
			return len(line) > 40 && strings.Contains(stdout, line)
		}) {
			t.Error("the output holds the key")
		}
	}
}

// A ServiceAccount's token is judged by the API server, as serve has it judged;
// gatehouse's own is refused.
func TestExplainServiceAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cluster := w.newIssuer(t)
	builder := cluster.Token(authtest.Claims{"sub": builderName, "aud": apiAudience})
	own := cluster.Token(authtest.Claims{"sub": ownName, "aud": apiAudience})
	stranger := cluster.Token(authtest.Claims{"sub": "system:serviceaccount:ci:stranger", "aud": apiAudience})
	w.upstream.reviews.give(builder, builderName, apiAudience)
	w.upstream.reviews.give(own, ownName, apiAudience)
	settings := map[string]string{"TOKEN_REVIEW": "true"}
	p := w.start(t, settings)
	p.awaitReady(t, http.StatusOK, "[+]token_review ok")
	for _, test := range []struct {
		token string
		code  int
		want  []string
	}{
		{builder, exitOK, []string{"Verdict     accepted", "Credential  ServiceAccount token of the cluster\n", "Signature   verified by the API server's TokenReview: RS256",
			"User        " + builderName + "\n              from the API server's TokenReview\n", "The API server gets this token itself, and no impersonation."}},
		{own, exitFault, []string{"Verdict     refused: reserved_name (403)\n", "the token is of gatehouse's own account", "NOT verified: anybody can have written this"}},
		{stranger, exitFault, []string{"Verdict     refused: unknown_token (401)\n", "NOT verified: anybody can have written this"}},
	} {
		code, stdout, stderr := onceWith(t, test.token, w.environ(settings), "explain")
		for _, want := range test.want {
			if code != test.code || !strings.Contains(stdout, want) {
				t.Errorf("exit code %d, without %q:\n%s%s", code, want, stdout, stderr)
			}
		}
		if got := p.ask(t, test.token, "/version"); (got.code == http.StatusOK) != (code == exitOK) {
			t.Errorf("the server answers %d, explain exits with %d", got.code, code)
		}
	}
}

// A revoked credential is refused at the last step, with the entry that names
// it.
func TestExplainRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	settings := w.oidc(issuer, map[string]string{"REVOCATION_FILE": w.write(t, "revoked.yaml", "revoked:\n- {user: mallory, note: left}\n"), "OIDC_USERNAME_PREFIX": "-"})
	code, stdout, stderr := onceWith(t, issuer.Token(authtest.Claims{"sub": "mallory"}), w.environ(settings), "explain")
	for _, want := range []string{
		"Verdict     refused: revoked (401)\n", "Why         revoked[0].user of the revocation file names it: \"left\"\n",
		"rules ok, names ok, REVOCATION REFUSED\n",
	} {
		if code != exitFault || !strings.Contains(stdout, want) {
			t.Errorf("exit code %d, without %q:\n%s%s", code, want, stdout, stderr)
		}
	}
	if _, stdout, _ := onceWith(t, issuer.Token(nil), w.environ(settings), "explain"); !strings.Contains(stdout, "names ok, revocation ok\n") {
		t.Errorf("a token that is not revoked:\n%s", stdout)
	}
}
