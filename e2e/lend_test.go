package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// The how-to pages whose commands are run here, in a real shell.
const (
	lendPage     = "../docs/how-to/lend-a-narrowed-token.md"
	exchangePage = "../docs/how-to/run-the-token-exchange.md"
)

// blocks returns the blocks of a page in this language, or in none.
func blocks(t *testing.T, page, language string) (found []string) {
	t.Helper()
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, match := range regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$").FindAllStringSubmatch(string(content), -1) {
		if match[1] == language {
			found = append(found, match[2])
		}
	}
	return found
}

// blockWith returns the one block that holds text.
func blockWith(t *testing.T, page, language, text string) string {
	t.Helper()
	var found []string
	for _, block := range blocks(t, page, language) {
		if strings.Contains(block, text) {
			found = append(found, block)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s has %d blocks with %q, want one", page, len(found), text)
	}
	return found[0]
}

// shell runs a script in dir, with kubectl and gatehouse on the PATH, and returns what
// it printed.
func (w world) shell(t *testing.T, dir, script string, env ...string) string {
	t.Helper()
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"kubectl": w.KubectlPath(), "gatehouse": w.Binary()} {
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil && !os.IsExist(err) {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "/bin/sh", "-euc", script)
	command.Dir = dir
	command.Env = append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + dir, "NO_PROXY=127.0.0.1"}, env...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s\nit printed:\n%s", err, script, out)
	}
	return string(out)
}

// testLentByThePage: what docs/how-to/lend-a-narrowed-token.md has people do works as
// it is written: the token is made, handed over as a kubeconfig, taken back, and an
// agent acts in its own name.
func (w world) testLentByThePage(t *testing.T) {
	x := w.exchange(t, "exchange-page")
	dir := t.TempDir()
	here := strings.NewReplacer("https://gatehouse.example.com:8444", x.ExchangeURL(), "https://gatehouse.example.com", x.URL())
	trust := "SSL_CERT_FILE=" + x.CAFile()
	put(t, filepath.Join(dir, "token"), []byte(w.signedIn("alice", "developers", "page-alice")))
	put(t, filepath.Join(dir, "agent-token"), []byte(x.ci.Token(authtest.Claims{"sub": "agent", "jti": "page-agent"})))

	made := blockWith(t, lendPage, "", "AGENT_TOKEN=$(") + blockWith(t, lendPage, "", "set-credentials")
	w.shell(t, dir, here.Replace(made), trust)
	k, err := w.Kubectl(filepath.Join(dir, "agent.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	k = k.WithEnv(trust)
	shown := blockWith(t, lendPage, "", "$ kubectl auth whoami\n")
	for _, step := range strings.Split(shown, "$ kubectl ")[1:] {
		args, want, _ := strings.Cut(step, "\n")
		r, err := k.Run(t.Context(), strings.Fields(args)...)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(want) {
			line = strings.TrimSpace(line)
			if line != "…" && !strings.Contains(r.Stdout+r.Stderr, line) {
				t.Errorf("kubectl %s: got %+v, want the line %q", args, r, line)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*streamLimit)
	defer cancel()
	watch, err := k.Start(ctx, "get", "configmaps", "--watch")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	if _, err := watch.AwaitLine(ctx, "kube-root-ca.crt"); err != nil {
		t.Fatal(err)
	}
	id := w.shell(t, dir, blockWith(t, lendPage, "", "credential-id[0]"), trust, "KUBECONFIG=agent.kubeconfig")
	entry := blockWith(t, lendPage, "yaml", "revoked:")
	denied := regexp.MustCompile(`JTI=\w+`).ReplaceAllString(entry, id)
	if denied == entry || !strings.HasPrefix(id, "JTI=") {
		t.Fatalf("the id is %q, and the entry %q", id, denied)
	}
	put(t, x.denied, []byte(denied))
	if _, err := watch.Wait(ctx); err != nil {
		t.Errorf("the watch goes on: %v", err)
	}
	if r, err := k.Run(t.Context(), "get", "pods"); err != nil || !strings.Contains(r.Stderr, "Your access has been revoked") {
		t.Errorf("afterwards: %+v, %v", r, err)
	}
	if err := w.Cluster.Apply(t.Context(), []byte(blockWith(t, lendPage, "yaml", "act-for"))); err != nil {
		t.Fatal(err)
	}
	acting := w.shell(t, dir, here.Replace(blockWith(t, lendPage, "", "--actor-token-file")), trust)
	if user, _ := x.whoAmI(t, strings.TrimSpace(acting)); user.Username != "alice@example.com" || len(user.Extra["kube-gatehouse.github.io/actor"]) != 1 {
		t.Errorf("the agent is %+v", user)
	}
}

// keyStep runs one block of the page that tells how to run the exchange, which makes
// or replaces the Secret with the keys, and puts what is in it into the directory, as
// the kubelet would.
func (x *exchanging) keyStep(t *testing.T, dir, holds string) {
	t.Helper()
	w := x.world
	w.shell(t, dir, blockWith(t, exchangePage, "", holds), "KUBECONFIG="+w.Cluster.AdminKubeconfig())
	out, err := w.Cluster.Admin().Must(t.Context(), "", "get", "secret", "gatehouse-session-keys", "-n", stage.AccountNamespace, "-o", "jsonpath={.data}")
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]string
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		t.Fatal(err)
	}
	x.mount(t, keys)
}

// mount makes the directory of the keys hold these files, in base64, and no others.
func (x *exchanging) mount(t *testing.T, keys map[string]string) {
	t.Helper()
	for name, encoded := range keys {
		content, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(x.keys, name), content)
	}
	present, err := filepath.Glob(filepath.Join(x.keys, "*.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range present {
		if _, kept := keys[filepath.Base(path)]; kept {
			continue
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}
