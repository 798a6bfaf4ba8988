package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/cmd/exchange/exchangetest"
)

// The tokens of exchange's tests. Nothing of them may be seen but in an output.
const (
	bobToken = "bobs-static-token-9931-of-some-length"
	jobToken = "request-token-of-a-job-of-github-2207"
)

// exchangeWorld is an exchange that knows ana and bob, and a folder of files.
type exchangeWorld struct {
	*exchangetest.Exchange
	ca  *authtest.CA
	dir string
}

func newExchangeWorld(t *testing.T) *exchangeWorld {
	t.Helper()
	ca, err := authtest.NewCA("exchange")
	if err != nil {
		t.Fatal(err)
	}
	w := &exchangeWorld{Exchange: exchangetest.New(t, ca), ca: ca, dir: t.TempDir()}
	w.Know(anaToken, "ana")
	w.Know(bobToken, "bob")
	w.write(t, "ca.crt", string(ca.PEM()))
	w.write(t, "token", anaToken+"\n")
	return w
}

func (w *exchangeWorld) path(name string) string { return filepath.Join(w.dir, name) }

func (w *exchangeWorld) write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(w.path(name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// args returns a command line that reaches the exchange, keeps its cache to the
// test, and has the token in a file unless more says where else.
func (w *exchangeWorld) args(more string) []string {
	args := []string{"exchange", "--server=" + w.URL, "--certificate-authority=" + w.path("ca.crt")}
	if !strings.Contains(more, "--no-cache") {
		args = append(args, "--cache-dir="+w.path("cache"))
	}
	if !strings.Contains(more, "--token-") && !strings.Contains(more, "--github") {
		args = append(args, "--token-file="+w.path("token"))
	}
	return append(args, strings.Fields(more)...)
}

// exchange runs the command, which must succeed and say nothing else.
func (w *exchangeWorld) exchange(t *testing.T, more string) string {
	t.Helper()
	code, stdout, stderr := once(t, nil, w.args(more)...)
	if code != exitOK || said(stderr) != "" {
		t.Fatalf("%s: exit code %d: %s", more, code, stderr)
	}
	return stdout
}

// said returns what stands on standard error, without the lines that tell a
// person that something takes its time: on a busy machine it may.
func said(stderr string) string {
	var lines []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "still ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// command returns gatehouse as a process of its own.
func (w *exchangeWorld) command(t *testing.T, args []string, environ ...string) *exec.Cmd {
	t.Helper()
	command := exec.CommandContext(t.Context(), os.Args[0], args...)
	command.Env = append([]string{asGatehouse + "=1", "HOME=" + w.dir}, environ...)
	return command
}

// Promise: the token is read from standard input, a file or a variable, and the
// new one is printed, with nothing else.
func TestExchangeSources(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	for name, test := range map[string]struct{ args, stdin string }{
		"standard input": {"--no-cache --token-file=-", anaToken + "\n"},
		"a plugin's":     {"--no-cache --token-file=-", `{"kind":"ExecCredential","status":{"token":"` + anaToken + `"}}`},
		"a variable":     {"--no-cache --token-env=KUBE_TOKEN", ""},
		"a file":         {"--no-cache", ""},
	} {
		code, stdout, stderr := onceWith(t, test.stdin, []string{"KUBE_TOKEN=" + anaToken}, w.args(test.args)...)
		if code != exitOK || !strings.HasPrefix(stdout, "issued.ana.") || strings.Count(stdout, "\n") != 1 || said(stderr) != "" {
			t.Errorf("%s: exit code %d, %q: %s", name, code, stdout, stderr)
		}
	}
}

// Promise: each flag changes what is asked for, and nothing else does.
func TestExchangeFlags(t *testing.T) {
	t.Parallel()
	const prefix = "urn:ietf:params:oauth:token-type:"
	w := newExchangeWorld(t)
	w.write(t, "actor", "a.b.c")
	for args, want := range map[string]map[string]string{
		"": {},
		"--scope read-only --scope=namespaces=dev --for 90m":       {"scope": "read-only namespaces=dev", "expires_in": "5400"},
		"--audience vault --audience b --service-account shop/a.b": {"audience": "vault b", "resource": "urn:kubernetes:serviceaccount:shop:a.b"},
		"--subject-token-type id_token":                            {"subject_token_type": prefix + "id_token"},
		"--actor-token-file " + w.path("actor"):                    {"actor_token": "a.b.c", "actor_token_type": prefix + "jwt"},
	} {
		w.exchange(t, "--no-cache "+args)
		got := map[string]string{}
		for name, values := range w.Asked()[len(w.Asked())-1] {
			got[name] = strings.Join(values, " ")
		}
		all := map[string]string{"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": anaToken, "subject_token_type": prefix + "access_token"}
		for name, value := range want {
			all[name] = value
		}
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", args, diff)
		}
	}
}

// Promise: -o json is the answer of the exchange, with the time that is left.
func TestExchangeJSON(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	var got struct {
		Token     string `json:"access_token"`
		Issued    string `json:"issued_token_type"`
		Type      string `json:"token_type"`
		ExpiresIn int    `json:"expires_in"`
		Scope     string `json:"scope"`
	}
	if err := json.Unmarshal([]byte(w.exchange(t, "-o json --scope read-only")), &got); err != nil {
		t.Fatal(err)
	}
	if got.ExpiresIn < 3500 || got.ExpiresIn > 3600 {
		t.Errorf("expires_in %d", got.ExpiresIn)
	}
	got.ExpiresIn = 0
	want := got
	want.Token, want.Issued, want.Type, want.Scope = "issued.ana.1", "urn:ietf:params:oauth:token-type:access_token", "Bearer", "read-only"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Promise: an ExecCredential is of the version that kubectl asks for, and has it
// ask again before the token ends.
func TestExecCredential(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	const v = "client.authentication.k8s.io/"
	for name, test := range map[string]struct{ info, version, fault string }{
		"none":      {"", v + "v1", ""},
		"v1":        {`{"apiVersion":"` + v + `v1","kind":"ExecCredential","spec":{"interactive":false}}`, v + "v1", ""},
		"v1beta1":   {`{"apiVersion":"` + v + `v1beta1","kind":"ExecCredential"}`, v + "v1beta1", ""},
		"v1alpha1":  {`{"apiVersion":"` + v + `v1alpha1","kind":"ExecCredential"}`, "", "another version"},
		"no JSON":   {"s3cret", "", "is no ExecCredential"},
		"elsewhere": {`{"apiVersion":"v1","kind":"Secret"}`, "", "is no ExecCredential"},
	} {
		code, stdout, stderr := once(t, []string{"KUBERNETES_EXEC_INFO=" + test.info}, w.args("-o exec-credential --for 10m")...)
		if test.fault != "" {
			if code != exitFault || stdout != "" || !strings.Contains(stderr, test.fault) || strings.Contains(stderr, "s3cret") {
				t.Errorf("%s: exit code %d, %q: %s", name, code, stdout, stderr)
			}
			continue
		}
		var got struct {
			APIVersion, Kind string
			Status           struct {
				Token               string
				ExpirationTimestamp time.Time
			}
		}
		if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
			t.Fatalf("%s: exit code %d, %v: %s", name, code, err, stderr)
		}
		if left := time.Until(got.Status.ExpirationTimestamp); left < 4*time.Minute || left > 5*time.Minute {
			t.Errorf("%s: kubectl asks again after %s", name, left)
		}
		if got.APIVersion != test.version || got.Kind != "ExecCredential" || got.Status.Token != "issued.ana.1" {
			t.Errorf("%s: %s", name, stdout)
		}
	}
}

// Promise: the cache gives a token out again for the same flags and the same
// subject alone.
func TestExchangeCacheKey(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	w.write(t, "other", anaToken)
	first := w.exchange(t, "")
	seen := map[string]string{first: "no flags"}
	for _, args := range []string{
		"--scope read-only", "--scope no-secrets", "--audience a", "--audience a --audience b", "--audience a,b", "--service-account a/b --audience a", "--service-account a/c --audience a", "--service-account a/c --audience b",
		"--for 10m", "--subject-token-type id_token", "--token-file " + w.path("other"), "--actor-token-file " + w.path("other"), "--actor-token-file " + w.path("token"),
	} {
		token := w.exchange(t, args)
		if other, taken := seen[token]; taken {
			t.Errorf("%s got the token of %s", args, other)
		}
		if again := w.exchange(t, args); again != token {
			t.Errorf("%s: not of the cache", args)
		}
		seen[token] = args
	}
	w.write(t, "token", bobToken)
	if token := w.exchange(t, ""); !strings.HasPrefix(token, "issued.bob.") {
		t.Errorf("bob got %s", token)
	}
	w.write(t, "token", anaToken)
	if token := w.exchange(t, ""); token != first {
		t.Errorf("ana got %s", token)
	}
	before := len(w.Asked())
	if token := w.exchange(t, "--no-cache"); token == first || len(w.Asked()) != before+1 {
		t.Errorf("with --no-cache: %s", token)
	}
}

// Promise: a projected token that rotates does not defeat the cache; a token that
// says anything else does.
func TestExchangeRotatedToken(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	issuer, err := authtest.NewIssuer(w.ca)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = issuer.Close() })
	put := func(claims authtest.Claims) {
		token := issuer.Token(claims)
		w.Know(token, "pod")
		w.write(t, "token", token)
	}
	put(authtest.Claims{"sub": "system:serviceaccount:a:b", "jti": "1"})
	first := w.exchange(t, "")
	put(authtest.Claims{"sub": "system:serviceaccount:a:b", "jti": "2", "exp": time.Now().Add(2 * time.Hour).Unix()})
	if again := w.exchange(t, ""); again != first {
		t.Errorf("the rotated token got %s", again)
	}
	put(authtest.Claims{"sub": "system:serviceaccount:a:c", "jti": "2"})
	if other := w.exchange(t, ""); other == first {
		t.Error("another subject got the token of the first")
	}
}

// The shell completes every word of a scope that there is, and no other.
func TestExchangeScopeWords(t *testing.T) {
	t.Parallel()
	documented := regexp.MustCompile("(?m)^\\| `([a-z-]+=?)")
	var want []string
	for _, match := range documented.FindAllStringSubmatch(read(t, moduleRoot+"/docs/scopes.md"), -1) {
		want = append(want, match[1])
	}
	if diff := cmp.Diff(want, scopeWords()); diff != "" {
		t.Errorf("completed words (-docs/scopes.md +got):\n%s", diff)
	}
	code, stdout, _ := once(t, nil, "__complete", "exchange", "--scope", "")
	if code != exitOK || !strings.HasPrefix(stdout, strings.Join(want, "\n")+"\n:") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// Promise: of 20 processes that kubectl starts at the same time, one exchanges.
func TestExchangeAtOnce(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	held, release := make(chan struct{}, 1), make(chan struct{})
	w.Lie(func(rw http.ResponseWriter, r *http.Request) {
		held <- struct{}{}
		<-release
		exchangetest.Write(rw, http.StatusOK, map[string]any{
			"access_token": "issued", "issued_token_type": "urn:ietf:params:oauth:token-type:access_token", "token_type": "Bearer", "expires_in": 600,
		})
	})
	var group sync.WaitGroup
	var all [20]bytes.Buffer
	stderr := newLogLines()
	for i := range all {
		command := w.command(t, w.args("-o exec-credential"))
		command.Stdout, command.Stderr = &all[i], stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		group.Go(func() {
			if err := command.Wait(); err != nil {
				t.Errorf("process %d: %v", i, err)
			}
		})
	}
	<-held // the first of them exchanges, while others wait, and say so
	stderr.await(t, "a process that waits", func(line string) bool {
		return strings.HasPrefix(line, "still waiting for another gatehouse exchange (--timeout ")
	})
	close(release)
	group.Wait()
	for i := range all {
		if !strings.Contains(all[i].String(), `"token": "issued"`) {
			t.Errorf("process %d: %s", i, all[i].String())
		}
	}
	if asked := len(w.Asked()); asked != 1 {
		t.Errorf("%d exchanges", asked)
	}
}

// Promise: in a job of GitHub Actions the ID token is asked for at GitHub, for the
// exchange unless another audience is given, once for the job.
func TestExchangeInGitHub(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	asked := make(chan string, 8)
	gitHub := exchangetest.Serve(t, w.ca, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+jobToken || r.URL.Query().Get("api-version") != "2.0" {
			exchangetest.Write(rw, http.StatusUnauthorized, map[string]any{})
			return
		}
		asked <- r.URL.Query().Get("audience")
		exchangetest.Write(rw, http.StatusOK, map[string]any{"value": bobToken})
	}))
	environ := []string{
		"ACTIONS_ID_TOKEN_REQUEST_URL=" + gitHub + "/idtoken?api-version=2.0", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + jobToken,
		"SSL_CERT_FILE=" + w.path("ca.crt"),
	}
	for _, test := range []struct{ args, audience string }{{"--github", w.URL}, {"--github", ""}, {"--github --github-audience gatehouse.prod", "gatehouse.prod"}} {
		out, err := w.command(t, w.args(test.args), environ...).Output()
		if err != nil || !strings.HasPrefix(string(out), "issued.bob.") {
			t.Fatalf("%s: %v: %s", test.args, err, out)
		}
		got := ""
		select {
		case got = <-asked:
		default: // of the cache
		}
		if got != test.audience {
			t.Errorf("%s: GitHub was asked for %q, want %q", test.args, got, test.audience)
		}
	}
	environ[1] = "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + jobToken + "x"
	out, err := w.command(t, w.args("--github"), environ...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "id-token: write") || strings.Contains(string(out), jobToken) || strings.Contains(string(out), gitHub) {
		t.Errorf("another job: %v: %s", err, out)
	}
}

// Promise: a refusal of the exchange is shown with what to do, with exit code 1.
func TestExchangeRefused(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	refuse := func(status int, code string) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Retry-After", "9")
			exchangetest.Refuse(rw, status, code, "What it says.")
		}
	}
	for name, test := range map[string]struct {
		lie        http.HandlerFunc
		args, want string
	}{
		"the token":         {refuse(400, "invalid_request"), "", "400 invalid_request: What it says.\nIf it is the token, `gatehouse explain`"},
		"scope":             {refuse(400, "invalid_scope"), "", "docs/scopes.md"},
		"audience":          {refuse(400, "invalid_target"), "--audience a", "leave out --audience"},
		"ServiceAccount":    {refuse(400, "invalid_target"), "--service-account shop/a --audience b", "kubectl auth can-i create serviceaccounts/a --subresource=token -n shop"},
		"busy":              {refuse(429, "temporarily_unavailable"), "", "It asks for 9 s until then."},
		"another":           {refuse(400, "unsupported_grant_type"), "", "400 unsupported_grant_type: What it says.\n"},
		"no token endpoint": {http.NotFound, "", "it answered 404"},
	} {
		w.Lie(test.lie)
		code, stdout, stderr := once(t, nil, w.args(test.args)...)
		if code != exitFault || stdout != "" || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: exit code %d, %q: %s; want %q", name, code, stdout, stderr, test.want)
		}
		mustNotHold(t, name, stderr)
	}
	code, _, stderr := once(t, nil, "exchange", "--server", w.URL, "--token-file", w.path("token"), "--no-cache")
	if code != exitFault || !strings.Contains(stderr, "--certificate-authority") {
		t.Errorf("an unknown CA: exit code %d: %s", code, stderr)
	}
	w.Lie(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if code, _, stderr := once(t, nil, w.args("--timeout 100ms")...); code != exitFault || !strings.Contains(stderr, "--timeout") {
		t.Errorf("no answer: exit code %d: %s", code, stderr)
	}
}

// A command line or a token that makes no sense is told so with exit code 2, and
// nothing of it is repeated, as it could be a secret.
func TestExchangeUsage(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	const at = "exchange --server https://gatehouse.example.com:8444 "
	for _, test := range []struct{ args, stdin, want string }{
		{"exchange", "", "--server is required"},
		{"exchange --server http://g --token-env T", "", "not a URL like https://"},
		{"exchange --server https://g/token --token-env T", "", "behind host and port"},
		{at, "", "say where the token is"},
		{at + "--token-env T --github", "", "choose one of"},
		{at + "--token-file f --token-env T", "", "choose one of"},
		{at + "--token-env T --github-audience a", "", "belongs to --github"},
		{at + "--token-env T -o yaml", "", "unknown output"},
		{at + "--token-env T --subject-token-type saml2", "", "unknown --subject-token-type"},
		{at + "--token-env sEcReT.x", "", "not a token"},
		{at + "--token-env eyJhbGciOiJSUzI1NiJ9.sEcReT", "", "not a token"},
		{at + "--token-file eyJhbGciOiJSUzI1NiJ9.sEcReT", "", "is a secret"},
		{at + "--token-env sEcReT", "", "no such variable"},
		{at + "--token-env T --for 1500ms", "", "whole seconds"},
		{at + "--token-env T --for -1h", "", "whole seconds"},
		{at + "--token-env T --for sEcReT", "", "--for: it cannot be read"},
		{at + "--token-env T --timeout 0s", "", "longer than nothing"},
		{at + "--token-env T --no-cache --cache-dir d", "", "choose one of"},
		{at + "--token-env T --service-account a", "", "NAMESPACE/NAME"},
		{at + "--token-env T --service-account a:b/c", "", "NAMESPACE/NAME"},
		{at + "--token-env T --service-account a/b --audience a --scope read-only", "", "--scope is for session tokens"},
		{at + "--token-env T --service-account a/b --audience a --actor-token-file f", "", "--actor-token-file is for session tokens"},
		{at + "--token-env T --service-account a/b", "", "--audience is needed"},
		{at + "--token-env T --scope a\"b", "", "--scope"},
		{at + "--token-env T --audience=", "", "--audience: it is empty"},
		{at + "--token-env T --name n", "", "belong to -o kubeconfig"},
		{at + "--token-env T -o kubeconfig", "", "--cluster-server is required"},
		{at + "--token-env T -o kubeconfig --cluster-server http://g", "", "--cluster-server: it is not a URL"},
		{at + "--token-file - -o kubeconfig --cluster-server https://g", "", "no token on its standard input"},
		{at + "sEcReT", "", "takes no token as an argument"},
		{at + "--token=sEcReT", "", "unknown flag: there are --actor-token-file, --audience"},
		{at + "--token-file", "", "--token-file needs a value"},
		{at + "--token-file -", "", "no token was given"},
		{at + "--token-file -", "sEcReT sEcReT", "more than one token"},
		{at + "--token-file -", "-----BEGIN PRIVATE KEY-----\nsEcReT", "is PEM"},
		{at + "--token-file -", "sEcReT\x00", "this is no token"},
		{at + "--token-file -", strings.Repeat("s", auth.MaxTokenBytes+1), "this is no token"},
		{at + "--token-file /nonexistent", "", "--token-file: open"},
		{at + "--token-file - --actor-token-file /nonexistent", "a", "--actor-token-file: open"},
		{at + "--token-file - --actor-token-file " + w.path("ca.crt"), "a", "--actor-token-file: this is PEM"},
	} {
		code, stdout, stderr := onceWith(t, test.stdin, nil, strings.Fields(test.args)...)
		if code != exitUsage || stdout != "" || !strings.Contains(stderr, test.want) || strings.Contains(stderr, "sEcReT") {
			t.Errorf("%s: exit code %d, want 2 and %q: %q%s", test.args, code, test.want, stdout, stderr)
		}
	}
	if len(w.Asked()) > 0 {
		t.Error("somebody was asked")
	}
}

// Promise: no output but the one that is asked for holds a token, of all files
// only the cache's, and that the new one alone; a folder that is open to others
// is an error.
func TestExchangeSecrets(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	token := strings.TrimSpace(w.exchange(t, ""))
	names, err := filepath.Glob(w.path("cache") + "/*")
	if err != nil || len(names) != 2 {
		t.Fatalf("%v, %v", names, err)
	}
	for _, name := range names {
		content := read(t, name)
		mustNotHold(t, name, name+content)
		if strings.HasSuffix(name, ".json") != strings.Contains(content, token) {
			t.Errorf("%s: %s", name, content)
		}
	}
	if err := os.Chmod(w.path("cache"), 0o755); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := once(t, nil, w.args("")...); code != exitFault || stdout != "" || !strings.Contains(stderr, "chmod 700") {
		t.Errorf("exit code %d, %q: %s", code, stdout, stderr)
	}
}

// Promise: the default cache is below the user's cache folder; who has none, or
// may not write there, gets a token all the same, with a note.
func TestExchangeDefaultCache(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	args := []string{"exchange", "--server=" + w.URL, "--certificate-authority=" + w.path("ca.crt"), "--token-file=" + w.path("token")}
	w.write(t, "file", "")
	for name, test := range map[string]struct{ home, note string }{
		"a home":  {"HOME=" + w.dir, ""},
		"no home": {"HOME=", "note: no token is kept, as this user has no cache folder"},
		"no way":  {"HOME=" + w.path("file"), "note: no token is kept: make the cache folder"},
	} {
		command := w.command(t, args, test.home)
		var stderr bytes.Buffer
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil || !strings.HasPrefix(string(out), "issued.ana.") || !strings.HasPrefix(said(stderr.String()), test.note) || test.note == "" && said(stderr.String()) != "" {
			t.Errorf("%s: %v, %q: %s", name, err, out, stderr.String())
		}
	}
	if names, err := filepath.Glob(w.path(".cache/gatehouse/exchange/*.json")); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}

// A closed output is an error, not a lost token.
func TestExchangeClosedOutput(t *testing.T) {
	t.Parallel()
	w := newExchangeWorld(t)
	for _, output := range exchangeOutputs() {
		args := w.args("-o " + output)
		if output == outputKubeconfig {
			args = append(args, "--cluster-server=https://g")
		}
		if code := run(t.Context(), args, nil, strings.NewReader(""), closedWriter{}, io.Discard); code != exitFault {
			t.Errorf("%s: exit code %d", output, code)
		}
	}
}

type closedWriter struct{}

func (closedWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }
