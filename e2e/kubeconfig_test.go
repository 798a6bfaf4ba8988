package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// plugin writes an exec plugin that prints token, and what it was called with
// beside itself. It returns the folder that it is in, for PATH.
func plugin(t *testing.T, name, token string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	script := "#!/bin/sh\nprintf '%s\\n' \"$@\" > '" + dir + "/args'\nprintf '%s' \"$KUBERNETES_EXEC_INFO\" > '" + dir + "/info'\n" +
		`printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"` + token + `"}}'` + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

// printedKubeconfig runs `gatehouse kubeconfig` with the stage's settings and
// returns the file that holds what it printed.
func (w world) printedKubeconfig(t *testing.T, g gate, args ...string) string {
	t.Helper()
	code, printed := w.once(t, w.Env(), "", append([]string{"kubeconfig", "--server", g.URL(), "--ca-file", g.CAFile(), "--namespace", "dev"}, args...)...)
	if code != 0 {
		t.Fatalf("gatehouse kubeconfig %q: exit code %d: %s", args, code, printed)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(printed), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// testKubeconfig: the real kubectl signs people in through gatehouse with what
// `gatehouse kubeconfig` prints: it calls the plugin with the issuer and client id
// of the settings, says how to get one that is missing, and finds a token and a
// client certificate where the file says. The namespace is that of the flag.
func (w world) testKubeconfig(t *testing.T) {
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	pair, err := w.people.Client("alice@example.com", "oidc:developers")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string][]byte{"token": []byte(token), "me.crt": pair.Cert, "me.key": pair.Key, "people.crt": w.people.PEM()} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	g := w.start(t, map[string]string{"GATEHOUSE_CLIENT_CA_FILE": filepath.Join(dir, "people.crt")})
	kubelogin, another := plugin(t, "kubectl-oidc_login", token), plugin(t, "another", token)
	for _, row := range []struct {
		name, path string
		args       []string
		code       int
		prints     string
	}{
		{"kubelogin", kubelogin, nil, 0, "deployment.apps/hello"},
		{"kubelogin is missing", dir, nil, 1, "Install it as the kubectl plugin oidc-login: https://github.com/int128/kubelogin"},
		{"another plugin", another, []string{"--exec", "another", "--exec-arg", "prod", "--provide-cluster-info"}, 0, "deployment.apps/hello"},
		{"another plugin is missing", dir, []string{"--exec", "another", "--install-hint", "Ask the people of the platform."}, 1, "Ask the people of the platform."},
		{"token file", dir, []string{"--token-file", filepath.Join(dir, "token")}, 0, "deployment.apps/hello"},
		{"client certificate", dir, []string{"--client-certificate", filepath.Join(dir, "me.crt"), "--client-key", filepath.Join(dir, "me.key")}, 0, "deployment.apps/hello"},
	} {
		k, err := w.Kubectl(w.printedKubeconfig(t, g, row.args...))
		if err != nil {
			t.Fatal(err)
		}
		r, err := k.WithEnv("PATH="+row.path).Run(t.Context(), "get", "deployments", "-o", "name")
		if err != nil || r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
			t.Errorf("%s: got %+v and %v, want code %d and %q", row.name, r, err, row.code, row.prints)
		}
	}
	called := func(dir, what string) string {
		content, err := os.ReadFile(filepath.Join(dir, what))
		if err != nil {
			t.Error(err)
		}
		return string(content)
	}
	want := "get-token\n--oidc-issuer-url=" + w.Issuer.URL + "\n--oidc-client-id=" + authtest.Audience + "\n--oidc-extra-scope=email\n--certificate-authority-data="
	if got := called(kubelogin, "args"); !strings.HasPrefix(got, want) {
		t.Errorf("kubelogin was called with %q, want %q…", got, want)
	}
	if got := called(another, "args"); got != "prod\n" {
		t.Errorf("the other plugin was called with %q", got)
	}
	if got := called(another, "info"); !strings.Contains(got, `"server":"`+g.URL()+`"`) {
		t.Errorf("the other plugin was told %q of the cluster", got)
	}
}
