package e2e_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// once runs a command of gatehouse that ends by itself, and returns its exit
// code and what it printed.
func (w world) once(t *testing.T, env map[string]string, stdin string, args ...string) (int, string) {
	t.Helper()
	command := exec.CommandContext(t.Context(), w.Binary(), args...)
	command.Stdin = strings.NewReader(stdin)
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	err := command.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	} else if ok {
		return exit.ExitCode(), output.String()
	}
	return 0, output.String()
}

// testCheckConnect: check --connect finds the rights that each manifest grants,
// as a real API server has them, and names what a third account lacks.
func (w world) testCheckConnect(t *testing.T) {
	env := w.Env()
	ca, err := authtest.NewCA("serving")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"TLS_CERT_FILE": pair.Cert, "TLS_KEY_FILE": pair.Key} {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		env["GATEHOUSE_"+name] = file
	}
	env["GATEHOUSE_TOKEN_REVIEW"] = "true"
	shipped := env["GATEHOUSE_KUBECONFIG"]
	people := w.Env()
	legacy := w.account(t, "checked-legacy", w.printed(t, people, "checked-legacy", "--legacy"))
	reviewing := w.account(t, "checked-reviewing", w.printed(t, map[string]string{"GATEHOUSE_TOKEN_REVIEW": "true", "GATEHOUSE_IMPERSONATION": "false"}, "checked-reviewing"))
	for _, test := range []struct {
		kubeconfig string
		code       int
		want       []string
	}{
		{shipped, 0, []string{
			"ok    issuer      " + w.Issuer.URL + ": 1 key (RS256) from", "ok    API server  is ready\n",
			"ok    credential  is accepted, as system:serviceaccount:gatehouse:gatehouse\n", "ok    version     v1.37",
			"ok    rights      constrained impersonation\n",
		}},
		{legacy, 1, []string{
			"ok    rights      legacy impersonation\n", "warn  rights      the account may name anybody, system:masters too",
			"FAIL  rights      missing: create tokenreviews.authentication.k8s.io; apply what `gatehouse rbac --legacy --namespace checked-legacy --service-account door` prints\n",
		}},
		{reviewing, 1, []string{"FAIL  rights      the account may not say for whom a request is, so that every such request will be refused: apply what `gatehouse rbac --namespace checked-reviewing --service-account door` prints\n"}},
	} {
		env["GATEHOUSE_KUBECONFIG"] = test.kubeconfig
		code, output := w.once(t, env, "", "check", "--connect")
		for _, want := range test.want {
			if code != test.code || !strings.Contains(output, want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, want, output)
			}
		}
		if strings.Count(output, "rights ") != len(test.want) && test.kubeconfig != shipped || strings.Contains(output, "more than is needed") {
			t.Errorf("something else about rights:\n%s", output)
		}
	}
}

// testExplain: a ServiceAccount's token is explained as the API server judges
// it, and a person's as the issuer's keys do.
func (w world) testExplain(t *testing.T) {
	env := w.Env()
	env["GATEHOUSE_TOKEN_REVIEW"] = "true"
	builder, err := w.BuilderToken(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	own, err := w.Cluster.Token(stage.AccountNamespace, stage.AccountName)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		token string
		code  int
		want  []string
	}{
		{w.Issuer.Token(stage.Person("alice", "developers")), 0, []string{"Verdict     accepted", "User        alice@example.com\n", "Groups      oidc:developers\n"}},
		{builder, 0, []string{"Verdict     accepted", "verified by the API server's TokenReview", "User        " + stage.BuilderUser + "\n"}},
		{own, 1, []string{"Verdict     refused: reserved_name (403)\n", "the token is of gatehouse's own account"}},
	} {
		code, output := w.once(t, env, test.token, "explain")
		for _, want := range test.want {
			if code != test.code || !strings.Contains(output, want) {
				t.Errorf("exit code %d, want %d and %q:\n%s", code, test.code, want, output)
			}
		}
		if strings.Contains(output, test.token) {
			t.Error("the output holds the token")
		}
	}
}
