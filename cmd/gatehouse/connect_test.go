package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// stall makes an issuer not answer for its keys until the returned function is
// called.
func (w *world) stall(t *testing.T, issuer *authtest.Issuer) (release func()) {
	t.Helper()
	released := make(chan struct{})
	issuer.ServeKeySet(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-released:
		case <-r.Context().Done():
		}
	})
	return func() { close(released) }
}

// trouble returns what is on standard error besides progress, which a slow
// machine makes at any time.
func trouble(stderr string) string {
	var rest strings.Builder
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "still asking ") {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// reviewer is an API server that says of our own account what it may do.
type reviewer struct {
	version string
	ready   int
	code    int // of every answer, if not 0
	may     func(body string) bool
}

func (v reviewer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	switch {
	case err != nil || r.Header.Get("Authorization") != "Bearer "+ownToken:
		w.WriteHeader(http.StatusUnauthorized)
	case v.code != 0:
		w.WriteHeader(v.code)
	case r.URL.Path == "/readyz":
		w.WriteHeader(v.ready)
	case r.URL.Path == "/version":
		_, _ = fmt.Fprintf(w, `{"major":"1","minor":%q,"gitVersion":"v1.%s.0"}`, v.version, v.version)
	case strings.HasSuffix(r.URL.Path, "/selfsubjectreviews"):
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, `{"kind":"SelfSubjectReview","status":{"userInfo":{"username":"system:serviceaccount:g:g"}}}`)
	case strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews"):
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","status":{"allowed":%t}}`, v.may(string(body)))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// Who may what, told by the body of a SelfSubjectAccessReview.
func constrainedOnly(body string) bool {
	return strings.Contains(body, `"verb":"impersonate:`) || strings.Contains(body, `"verb":"impersonate-on:`) || reviewsOnly(body)
}
func legacyOnly(body string) bool {
	return strings.Contains(body, `"verb":"impersonate"`) || reviewsOnly(body)
}
func reviewsOnly(body string) bool { return strings.Contains(body, `"subjectaccessreviews"`) }
func everything(string) bool       { return true }
func nothing(string) bool          { return false }

// review starts v, and makes it the API server of w.
func (w *world) review(t *testing.T, v reviewer) string {
	t.Helper()
	pair, err := w.ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(v)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	w.write(t, "kubeconfig", kubeconfig(server.URL, "ca.crt", "token: "+ownToken))
	return server.URL
}

// Promise: check --connect says what came of each part, asks all of them even if
// one fails, and exits 1 if one does.
func TestCheckConnect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.newIssuer(t), w.newIssuer(t)
	file := w.writeConfig(t, "v1", "", w.jwt(first, plainMapping), w.jwt(second, plainMapping))
	environ := w.environ(map[string]string{"AUTHENTICATION_CONFIG": file})
	curve, err := authtest.NewKey("key-2", jose.ES256)
	if err != nil {
		t.Fatal(err)
	}
	second.Publish(second.Key(), curve)
	server := w.review(t, reviewer{version: "37", ready: 200, may: constrainedOnly})
	lines := func(second, ready string) string {
		return "ok    settings    every setting and every file is good\n" +
			"warn  settings    the issuers " + first.URL + " and " + w.urlOf(second) + " can give two people one name: their prefixes of user names are \"plain:\" and \"plain:\"\n" +
			"ok    issuer      " + first.URL + ": 1 key (RS256) from " + first.URL + "/keys\n" + second +
			"ok    API server  " + server + " is reached, and its certificate is trusted\n" + ready +
			"ok    credential  is accepted, as system:serviceaccount:g:g\n" +
			"ok    version     v1.37.0\n" +
			"ok    rights      constrained impersonation\n"
	}
	good := "ok    issuer      " + second.URL + ": 2 keys (ES256, RS256) from " + second.URL + "/keys\n"
	code, stdout, stderr := once(t, environ, "check", "--connect")
	if want := lines(good, "ok    API server  is ready\n"); code != exitOK || stdout != want || trouble(stderr) != "" {
		t.Errorf("exit code %d\n%s%swant:\n%s", code, stdout, stderr, want)
	}
	second.SetDown(true)
	bad := "FAIL  issuer      " + second.URL + ": discovery: get " + second.URL + "/.well-known/openid-configuration: status 503\n"
	code, stdout, stderr = once(t, environ, "check", "--connect")
	if want := lines(bad, "ok    API server  is ready\n"); code != exitFault || stdout != want || trouble(stderr) != "" {
		t.Errorf("exit code %d\n%s%swant:\n%s", code, stdout, stderr, want)
	}
	mustNotHold(t, "check --connect", stdout)
	second.SetDown(false)
	old := first.KeyFetches.Load()
	if code, stdout, _ := once(t, environ, "check"); code != exitOK || first.KeyFetches.Load() != old || stdout != "The settings and all files are good.\n" {
		t.Errorf("without --connect: exit code %d, %d fetches: %s", code, first.KeyFetches.Load()-old, stdout)
	}
}

// urlOf returns the URL in a line about an issuer.
func (w *world) urlOf(line string) string { return strings.TrimSuffix(strings.Fields(line)[2], ":") }

// Promise: each way in which the API server can fail us has a line of its own,
// with what mends it.
func TestCheckConnectUpstream(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		server reviewer
		code   int
		want   []string
		not    string
	}{
		"legacy on an old cluster": {reviewer{version: "30", ready: 200, may: legacyOnly}, exitOK,
			[]string{"ok    rights      legacy impersonation\n"}, "warn"},
		"legacy on a new cluster": {reviewer{version: "36", ready: 200, may: legacyOnly}, exitOK,
			[]string{"ok    rights      legacy impersonation", "warn  rights      the account may name anybody, system:masters too: v1.36.0 knows constrained impersonation, so apply what `gatehouse rbac --namespace g --service-account g` prints in place of its role\n"}, "FAIL"},
		"constrained on an old cluster": {reviewer{version: "34", ready: 200, may: constrainedOnly}, exitFault,
			[]string{"FAIL  rights      the account has the rights of constrained impersonation, but v1.34.0 does not know it: it came with 1.36; apply what `gatehouse rbac --legacy --namespace g --service-account g` prints\n"}, "ok    rights"},
		"constrained behind a feature gate": {reviewer{version: "35", ready: 200, may: constrainedOnly}, exitOK,
			[]string{"ok    rights      constrained impersonation\n", "warn  rights      v1.35.0 knows constrained impersonation with the feature gate"}, "FAIL"},
		"everything on an old cluster": {reviewer{version: "34", ready: 200, may: everything}, exitOK,
			[]string{"ok    rights      legacy impersonation\n", "warn  rights      far more than is needed"}, "constrained"},
		"no rights": {reviewer{version: "36", ready: 200, may: nothing}, exitFault,
			[]string{"FAIL  rights      the account may not say for whom a request is, so that every such request will be refused: apply what `gatehouse rbac --namespace g --service-account g` prints\n"}, "ok    rights"},
		"no rights on an old cluster": {reviewer{version: "30", ready: 200, may: nothing}, exitFault, []string{"apply what `gatehouse rbac --legacy --namespace g --service-account g` prints\n"}, "ok    rights"},
		"a missing right": {reviewer{version: "36", ready: 200, may: func(b string) bool { return constrainedOnly(b) && !strings.Contains(b, `"uids"`) }}, exitFault,
			[]string{"FAIL  rights      missing: impersonate:user-info uids.authentication.k8s.io; apply what `gatehouse rbac --namespace g --service-account g` prints\n"}, "ok    rights"},
		"a narrower door": {reviewer{version: "36", ready: 200, may: func(b string) bool { return constrainedOnly(b) && !strings.Contains(b, `:delete"`) }}, exitOK,
			[]string{"ok    rights", "warn  rights      nobody can do this through gatehouse: impersonate-on:user-info:delete *.*; `gatehouse rbac --namespace g --service-account g` grants it, unless"}, "FAIL"},
		"far too much": {reviewer{version: "36", ready: 200, may: everything}, exitOK,
			[]string{"warn  rights      far more than is needed: the account may do everything (* *.*)"}, "FAIL"},
		"not ready": {reviewer{version: "36", ready: 500, may: constrainedOnly}, exitFault,
			[]string{"FAIL  API server  is not ready: /readyz answers 500\n", "ok    rights"}, "ok    API server  is ready"},
		"another credential": {reviewer{code: 401}, exitFault,
			[]string{"is reached, and its certificate is trusted\n", "FAIL  credential  the API server does not accept gatehouse's own credential (401)"}, "rights"},
		"broken": {reviewer{code: 500}, exitFault, []string{"warn  version     cannot be asked", "FAIL  rights      cannot be told"}, "ok    rights"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.review(t, test.server)
			code, stdout, stderr := once(t, w.environ(nil), "check", "--connect")
			for _, want := range test.want {
				if code != test.code || !strings.Contains(stdout, want) || strings.Contains(stdout, test.not) || trouble(stderr) != "" {
					t.Errorf("exit code %d, want %d and %q, not %q:\n%s%s", code, test.code, want, test.not, stdout, stderr)
				}
			}
			mustNotHold(t, "check --connect", stdout)
		})
	}
}

// An API server that is not there, or is another one, is told apart.
func TestCheckConnectUnreached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	server := w.review(t, reviewer{})
	w.write(t, "kubeconfig", kubeconfig("https://127.0.0.1:1", "ca.crt", "token: "+ownToken))
	code, stdout, _ := once(t, w.environ(nil), "check", "--connect")
	if want := "FAIL  API server  https://127.0.0.1:1: cannot be reached: dial tcp 127.0.0.1:1: connect: connection refused; nothing else was asked of it\n"; code != exitFault || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, want %q:\n%s", code, want, stdout)
	}
	stranger, err := authtest.NewCA("stranger")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "stranger.crt", string(stranger.PEM()))
	w.write(t, "kubeconfig", kubeconfig(server, "stranger.crt", "token: "+ownToken))
	code, stdout, _ = once(t, w.environ(nil), "check", "--connect")
	if want := "FAIL  API server  " + server + ": its certificate is not trusted: "; code != exitFault || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, want %q:\n%s", code, want, stdout)
	}
}

// An issuer that does not answer holds up nobody else, is told after two
// seconds, and ends at --timeout. One whose keys fit nothing is a fault.
func TestCheckConnectIssuers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	w.review(t, reviewer{version: "36", ready: 200, may: constrainedOnly})
	release := w.stall(t, issuer)
	defer release()
	start := time.Now()
	code, stdout, stderr := once(t, w.environ(w.oidc(issuer, nil)), "check", "--connect", "--timeout", "6s")
	if code != exitFault || !strings.Contains(stdout, "FAIL  issuer      "+issuer.URL+": no answer in time\n") || !strings.Contains(stdout, "ok    rights") ||
		!strings.Contains(stderr, "still asking the issuer "+issuer.URL+" (--timeout 6s)\n") || trouble(stderr) != "" || time.Since(start) > 18*time.Second {
		t.Errorf("exit code %d after %s:\n%s%s", code, time.Since(start), stdout, stderr)
	}
	issuer.ServeKeySet(nil)
	code, stdout, _ = once(t, w.environ(w.oidc(issuer, map[string]string{"OIDC_SIGNING_ALGS": "ES256"})), "check", "--connect")
	if code != exitFault || !strings.Contains(stdout, "1 key (RS256) from "+issuer.URL+"/keys: none fits the accepted algorithms, ES256\n") {
		t.Errorf("exit code %d:\n%s", code, stdout)
	}
	if code, _, stderr := once(t, w.environ(nil), "check", "--connect", "--timeout", "-1s"); code != exitUsage || !strings.Contains(stderr, "longer than nothing") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// With TOKEN_REVIEW, the right to ask for reviews is among those to have.
func TestCheckConnectTokenReview(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.review(t, reviewer{version: "36", ready: 200, may: constrainedOnly})
	code, stdout, _ := once(t, w.environ(map[string]string{"TOKEN_REVIEW": "true"}), "check", "--connect")
	if want := "FAIL  rights      missing: create tokenreviews.authentication.k8s.io; apply what `gatehouse rbac --namespace g --service-account g` prints\n"; code != exitFault || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, want %q:\n%s", code, want, stdout)
	}
}

// The keys of extra that a configuration makes are among the rights to have.
func TestCheckConnectExtra(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	issuer := w.newIssuer(t)
	environ := w.environ(map[string]string{"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "", w.jwt(issuer, celMapping))})
	w.review(t, reviewer{version: "36", ready: 200, may: func(b string) bool {
		return constrainedOnly(b) && !bytes.Contains([]byte(b), []byte("example.com/tenant"))
	}})
	code, stdout, _ := once(t, environ, "check", "--connect")
	if want := "FAIL  rights      missing: impersonate:user-info userextras.authentication.k8s.io/example.com/tenant; apply what `gatehouse rbac --namespace g --service-account g` prints\n"; code != exitFault || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, want %q:\n%s", code, want, stdout)
	}
}
