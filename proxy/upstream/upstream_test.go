package upstream_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// Every form of kubeconfig that is accepted reaches the API server with its
// credential. Paths in it are relative to its own directory.
func TestKubeconfigForms(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	pair, err := w.ca.Client("gatehouse", "proxies")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "token", " token-of-a-file\n")
	w.write(t, "client.crt", string(pair.Cert))
	w.write(t, "client.key", string(pair.Key))
	data := base64.StdEncoding.EncodeToString
	inlineCA := "server: " + w.URL + ", certificate-authority-data: " + data(w.ca.PEM())
	for _, test := range []struct {
		name, cluster, user, want string
		files                     []string
	}{
		{"token", w.cluster(), "token: abc", `HTTP/2.0 /version "Bearer abc" ""`, []string{"kubeconfig", "ca.crt"}},
		{"token file", w.cluster(), "tokenFile: token", `HTTP/2.0 /version "Bearer token-of-a-file" ""`, []string{"kubeconfig", "ca.crt"}},
		{"token and token file", w.cluster(), "token: abc, tokenFile: token", `HTTP/2.0 /version "Bearer token-of-a-file" ""`, []string{"kubeconfig", "ca.crt"}},
		{"client certificate", w.cluster(), "client-certificate: client.crt, client-key: client.key", `HTTP/2.0 /version "" "gatehouse"`,
			[]string{"kubeconfig", "ca.crt", "client.crt", "client.key"}},
		{"data within", inlineCA, "client-certificate-data: " + data(pair.Cert) + ", client-key-data: " + data(pair.Key),
			`HTTP/2.0 /version "" "gatehouse"`, []string{"kubeconfig"}},
		{"server with a path", strings.Replace(w.cluster(), w.URL, w.URL+"/clusters/7", 1), "token: abc",
			`HTTP/2.0 /clusters/7/version "Bearer abc" ""`, []string{"kubeconfig", "ca.crt"}},
		{"name of the server", strings.Replace(w.cluster(), "127.0.0.1", "localhost", 1) + ", tls-server-name: 127.0.0.1", "token: abc",
			`HTTP/2.0 /version "Bearer abc" ""`, []string{"kubeconfig", "ca.crt"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := w.load(t, test.cluster, test.user)
			if got, err := get(t, target, target.Requests, "version"); err != nil || got != test.want {
				t.Errorf("the API server saw %s, %v; want %s", got, err, test.want)
			}
			upgrade := strings.Replace(test.want, "HTTP/2.0", "HTTP/1.1", 1)
			if got, err := get(t, target, target.Upgrades, "version"); err != nil || got != upgrade {
				t.Errorf("for an upgrade, the API server saw %s, %v; want %s", got, err, upgrade)
			}
			var files []string
			for _, file := range target.Files {
				files = append(files, strings.TrimPrefix(file, w.dir+"/"))
			}
			if got, want := strings.Join(files, " "), strings.Join(test.files, " "); got != want {
				t.Errorf("made of the files %s, want %s", got, want)
			}
			if strings.Contains(test.user, "tokenFile") != (target.TokenFile == filepath.Join(w.dir, "token")) {
				t.Errorf("token file %q", target.TokenFile)
			}
		})
	}
}

// A token in a file is read again as it rotates. A file that is bad for a
// moment leaves the last token in use.
func TestTokenRotation(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	file := w.write(t, "token", "first\n")
	target := w.load(t, w.cluster(), "tokenFile: token")
	w.write(t, "token", "second\n")
	if err := target.ReloadToken(); err != nil || target.Authorization() != "Bearer second" {
		t.Errorf("%q, %v; want the second token", target.Authorization(), err)
	}
	w.write(t, "token", " \n")
	if err := target.ReloadToken(); err == nil || !strings.Contains(err.Error(), file+" is empty") || target.Authorization() != "Bearer second" {
		t.Errorf("%q, %v; want the second token, and that the file is empty", target.Authorization(), err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := target.ReloadToken(); err == nil || !strings.Contains(err.Error(), "read our own token: open "+file) || target.Authorization() != "Bearer second" {
		t.Errorf("%q, %v; want the second token, and that the file is missing", target.Authorization(), err)
	}
	if err := w.load(t, w.cluster(), "token: abc").ReloadToken(); err != nil {
		t.Errorf("without a token file: %v", err)
	}
}

// What would leak the credential, trust anybody, or take the caller's place is
// refused, all of it at once, by a message that holds no secret.
func TestRefusedKubeconfigs(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	w.write(t, "no.pem", "no PEM")
	server := func(url string) string { return "server: \"" + url + "\"" }
	const (
		insecure   = "insecure-skip-tls-verify is not accepted: put the API server's CA into certificate-authority-data"
		exec       = "exec and auth-provider credentials are not accepted"
		password   = "username and password are not accepted"
		as         = "`as` fields are not accepted"
		credential = "the user has no credential: give a tokenFile, a token or a client certificate"
		plain      = "must be https: gatehouse's own credential goes there"
	)
	for _, test := range []struct {
		name, cluster, user string
		want                []string
	}{
		{"http", server("http://127.0.0.1:1"), "token: s3cret", []string{plain}},
		{"http and insecure", server("http://127.0.0.1:1"), "token: s3cret, as: boss", []string{plain, as}},
		{"insecure", server("https://127.0.0.1:1") + ", insecure-skip-tls-verify: true", "token: s3cret", []string{insecure}},
		{"exec", w.cluster(), "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never}", []string{exec}},
		{"auth provider", w.cluster(), "auth-provider: {name: oidc}", []string{exec}},
		{"password", w.cluster(), "username: admin, password: s3cret", []string{password}},
		{"as", w.cluster(), "token: s3cret, as: boss, as-groups: [a]", []string{as}},
		{"no credential", w.cluster(), "", []string{credential}},
		{"several", server("https://u:s3cret@127.0.0.1:1") + ", insecure-skip-tls-verify: true", "username: admin, password: s3cret, as: boss",
			[]string{"server must be a plain https URL", insecure, password, as}},
		{"query", server("https://127.0.0.1:1?s3cret"), "token: s3cret", []string{"server must be a plain https URL"}},
		{"no URL", server("https://:s3cret@"), "token: s3cret", []string{"server is not a URL"}},
		{"CA that is no PEM", server(w.URL) + ", certificate-authority: no.pem", "token: s3cret", []string{"TLS to the API server"}},
		{"missing CA", server(w.URL) + ", certificate-authority: nowhere.crt", "token: s3cret", []string{"unable to read certificate-authority " + w.dir + "/nowhere.crt"}},
		{"missing token file", w.cluster(), "tokenFile: nowhere", []string{"open " + w.dir + "/nowhere: no such file"}},
		{"missing client key", w.cluster(), "client-certificate: ca.crt", []string{"client-key"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := w.kubeconfig(t, test.cluster, test.user)
			_, err := upstream.Load(file)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.HasPrefix(err.Error(), "kubeconfig "+file+": ") || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("want the file's name and no secret in: %v", err)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("want %q in: %v", want, err)
				}
			}
			if strings.Count(err.Error(), "\n")+1 != len(test.want) {
				t.Errorf("want %d faults in: %v", len(test.want), err)
			}
		})
	}
}

// A kubeconfig that cannot be read says so with its path; none outside a pod
// says what was tried.
func TestUnreadableKubeconfig(t *testing.T) {
	dir := t.TempDir()
	broken := filepath.Join(dir, "broken")
	if err := os.WriteFile(broken, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "nowhere"): "read kubeconfig: open " + dir + "/nowhere: no such file",
		broken:                        "read kubeconfig: ",
	} {
		if _, err := upstream.Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", path, err, want)
		}
	}
}

// In a pod, the mounted service account is the credential, its token is read
// again as it rotates, and whatever is missing is said.
func TestInCluster(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	host, port, err := net.SplitHostPort(strings.TrimPrefix(w.URL, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := upstream.InCluster(w.dir, host, port); err == nil || !strings.Contains(err.Error(), "token") {
		t.Errorf("without a token: %v", err)
	}
	w.write(t, "token", "first\n")
	target, err := upstream.InCluster(w.dir, host, port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	if err := target.Probe(t.Context()); err != nil || target.Authorization() != "Bearer first" {
		t.Errorf("probe with %q: %v", target.Authorization(), err)
	}
	w.write(t, "token", "second")
	if err := target.ReloadToken(); err != nil || target.Authorization() != "Bearer second" {
		t.Errorf("after the rotation: %q, %v", target.Authorization(), err)
	}
	if target.TokenFile != filepath.Join(w.dir, "token") || !slices.Contains(target.Files, filepath.Join(w.dir, "ca.crt")) {
		t.Errorf("files %q and %q are to be watched", target.TokenFile, target.Files)
	}
	if _, err := upstream.InCluster(w.dir, "", port); err == nil || !strings.Contains(err.Error(), "KUBERNETES_SERVICE_HOST") {
		t.Errorf("outside a cluster: %v", err)
	}
	if err := os.Remove(filepath.Join(w.dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if _, err := upstream.InCluster(w.dir, host, port); err == nil || !strings.Contains(err.Error(), "ca.crt") {
		t.Errorf("without a CA, where the system's would be trusted: %v", err)
	}
}

// A server whose certificate another CA signed is refused in the handshake: it
// sees no request, and so no token.
func TestWrongCA(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	stranger, err := authtest.NewCA("stranger")
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "ca.crt", string(stranger.PEM()))
	target := w.load(t, w.cluster(), "token: s3cret-token")
	for _, transport := range []http.RoundTripper{target.Requests, target.Upgrades} {
		if _, err := get(t, target, transport, "version"); err == nil || !strings.Contains(err.Error(), "certificate signed by unknown authority") {
			t.Errorf("error %v, want that nobody vouches for the certificate", err)
		}
	}
	if err := target.Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot be reached: ") {
		t.Errorf("probe: %v", err)
	}
	if n := w.requests.Load(); n != 0 {
		t.Errorf("the stranger got %d requests", n)
	}
	// With TLS 1.3 a client certificate and a request follow the server's
	// certificate; all that may come is the hello and an alert of each
	// connection.
	w.Close()
	w.wire.mu.Lock()
	defer w.wire.mu.Unlock()
	if sent := w.wire.bytes.Bytes(); len(sent) == 0 || len(sent) > 3*2048 || bytes.Contains(sent, []byte("s3cret-token")) {
		t.Errorf("%d bytes were sent", len(sent))
	}
}

// The proxies that the environment names are not used: it must not decide where
// the credential goes. One in the kubeconfig is.
func TestProxies(t *testing.T) {
	var asked atomic.Int64
	forward := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		http.Error(w, "no", http.StatusTeapot)
	}))
	defer forward.Close()
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, forward.URL)
	}
	t.Setenv("NO_PROXY", "")
	t.Setenv("no_proxy", "")
	// Go asks no proxy for a loopback address, so this one only leads to it.
	w := newWorld(t, "0.0.0.0")
	w.URL = strings.Replace(w.URL, "127.0.0.1", "0.0.0.0", 1)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if proxy, err := http.ProxyFromEnvironment(req); err != nil || proxy == nil {
		t.Fatalf("the environment names no proxy: %v, %v", proxy, err)
	}
	target := w.load(t, w.cluster(), "token: abc")
	for _, transport := range []http.RoundTripper{target.Requests, target.Upgrades} {
		if _, err := get(t, target, transport, "version"); err != nil {
			t.Errorf("without a proxy: %v", err)
		}
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the environment's proxy was asked %d times", n)
	}
	target = w.load(t, w.cluster()+", proxy-url: \""+forward.URL+"\"", "token: abc")
	if _, err := get(t, target, target.Requests, "version"); err == nil || asked.Load() != 1 {
		t.Errorf("error %v, and the kubeconfig's proxy was asked %d times; want its refusal", err, asked.Load())
	}
}

// Probe tells apart why the API server cannot be used. 403 means that it is
// reached and knows who asks, which is the question.
func TestProbe(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	target := w.load(t, strings.Replace(w.cluster(), w.URL, w.URL+"/c", 1), "token: abc")
	for code, want := range map[int]string{
		http.StatusOK:                  "",
		http.StatusForbidden:           "",
		http.StatusUnauthorized:        "does not accept gatehouse's own credential (401)",
		http.StatusInternalServerError: "is not ready: /readyz answers 500",
		http.StatusFound:               "is not ready: /readyz answers 302",
	} {
		w.readyCode.Store(int32(code))
		err := target.Probe(t.Context())
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%d: %v, want %q", code, err, want)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := target.Probe(ended); err == nil || !strings.Contains(err.Error(), "cannot be reached: ") {
		t.Errorf("a probe without time: %v", err)
	}
}

// Swap puts another target into use and closes the idle connections of the old
// one, whose requests go on.
func TestSwap(t *testing.T) {
	w := newWorld(t, "127.0.0.1")
	var live upstream.Live
	if live.Target() != nil {
		t.Error("a target before the first")
	}
	first, second := w.load(t, w.cluster(), "token: first"), w.load(t, w.cluster(), "token: second")
	live.Swap(first)
	if live.Target() != first {
		t.Error("the first is not in use")
	}
	for _, transport := range []http.RoundTripper{first.Requests, first.Upgrades} {
		if _, err := get(t, first, transport, "version"); err != nil {
			t.Fatal(err)
		}
	}
	live.Swap(second)
	if live.Target() != second {
		t.Error("the second is not in use")
	}
	<-w.closed
	<-w.closed
	if got, err := get(t, first, first.Requests, "version"); err != nil || !strings.Contains(got, "Bearer first") {
		t.Errorf("a request of the old target: %s, %v", got, err)
	}
}
