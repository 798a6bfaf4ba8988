package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	jose "github.com/go-jose/go-jose/v4"
)

// testExchangePlugin: the kubeconfig that `gatehouse exchange` prints holds no
// secret, and has the real kubectl run it by itself: eight that start at once
// exchange one token, and may do what its scope leaves.
// For a ServiceAccount
// it prints that account's token.
func (w world) testExchangePlugin(t *testing.T) {
	x := w.exchange(t, "exchange-plugin")
	dir := t.TempDir()
	alice := w.signedIn("alice", "developers", "alice-by-plugin")
	file := put(t, filepath.Join(dir, "token"), []byte(alice))
	if err := os.Symlink(w.Binary(), filepath.Join(dir, "gatehouse")); err != nil {
		t.Fatal(err)
	}
	run := func(more ...string) string {
		t.Helper()
		args := append([]string{
			"exchange", "--server", x.ExchangeURL(), "--certificate-authority", x.CAFile(), "--token-file", file, "--cache-dir", filepath.Join(dir, "cache"),
		}, more...)
		code, printed := w.once(t, nil, "", args...)
		if code != 0 {
			t.Fatalf("%q: %d %s", args, code, printed)
		}
		return printed
	}
	config := run("--scope", lent, "-o", "kubeconfig", "--cluster-server", x.URL(), "--cluster-certificate-authority", x.CAFile(), "--namespace", "dev")
	if strings.Contains(config, "eyJ") {
		t.Errorf("the kubeconfig holds a token:\n%s", config)
	}
	k, err := w.Kubectl(put(t, filepath.Join(dir, "kubeconfig"), []byte(config)))
	if err != nil {
		t.Fatal(err)
	}
	k = k.WithEnv("PATH=" + dir)
	issued := func() (n int) {
		for _, line := range x.Logs() {
			if strings.Contains(line, `"msg":"token exchange"`) {
				n++
			}
		}
		return n
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if r, err := k.Run(t.Context(), "get", "deployment", "hello", "-o", "name"); err != nil || r.Stdout != "deployment.apps/hello\n" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
	all.Wait()
	if n := issued(); n != 1 {
		t.Errorf("eight kubectl at once exchanged %d tokens", n)
	}
	if r, err := k.Run(t.Context(), "get", "secrets"); err != nil || r.Code != 1 || !strings.Contains(r.Stderr, mayNotBeUsed("no-secrets")) {
		t.Errorf("%+v, %v", r, err)
	}
	put(t, file, []byte(x.ci.Token(job("acme/shop"))))
	printed := strings.TrimSpace(run("--service-account", strings.Replace(deployer, ":", "/", 1), "--audience", "vault"))
	token, err := jose.ParseSignedCompact(printed, []jose.SignatureAlgorithm{jose.RS256, jose.ES256})
	if err != nil {
		t.Fatalf("%q: %v", printed, err)
	}
	if claims := string(token.UnsafePayloadWithoutVerification()); !strings.Contains(claims, `"aud":["vault"]`) || !strings.Contains(claims, `"sub":"`+deployerUser+`"`) {
		t.Errorf("the token says %s", claims)
	}
}
