package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

const forbidsSentence = "The API server does not let gatehouse do this for you"

// testOwnRights: where gatehouse's own account lacks the rights, people are told
// that it is not their fault, and do not learn the account's name, in any
// encoding; the operator learns all of it.
func (w world) testOwnRights(t *testing.T) {
	const account = "has-no-rights"
	kubeconfig := w.account(t, account, fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %[1]s}\n---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: door, namespace: %[1]s}\n", account))
	g := w.startWith(t, gatehouse.Config{NotReady: true}, map[string]string{"GATEHOUSE_KUBECONFIG": kubeconfig})
	eventually(t, reloadLimit, func() error { return g.opsSays(t, "[+]issuer") })
	token := w.Issuer.Token(stage.Person("alice", "developers"))
	asked := 0
	for _, encoding := range []string{"", "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/cbor", "text/html"} {
		for _, path := range []string{"/version", someResourcePath, someResourcePath + "?watch=true", "/apis/apps/v1/deployments", "/nowhere?pretty=true"} {
			a, err := g.ask(t.Context(), http.MethodGet, path, "", bearer(token), "Accept: "+encoding, "User-Agent: curl/8")
			if err != nil {
				t.Fatal(err)
			}
			asked++
			if a.StatusCode != http.StatusBadGateway || !strings.Contains(a.body, forbidsSentence) || strings.Count(a.Header.Get("Warning"), forbidsSentence) != 1 {
				t.Errorf("%s as %q: got %s %v %s", path, encoding, a.Status, a.Header, a.body)
			}
			for name, values := range a.Header {
				if strings.Contains(name+strings.Join(values, ""), account) {
					t.Errorf("%s names the account: %q", name, values)
				}
			}
		}
	}
	// These are long-running to the API server: what it says of them is told, and
	// raises no alarm, since what stands behind it could say the same.
	for _, path := range []string{someResourcePath + "/p/log", someResourcePath + "/p/proxy/x", someResourcePath + "/p/exec?command=true"} {
		if a := g.get(t, path, token); a.StatusCode != http.StatusBadGateway || !strings.Contains(a.body, forbidsSentence) {
			t.Errorf("%s: got %s %s", path, a.Status, a.body)
		}
	}
	r, err := g.kubectl(t, token).Run(t.Context(), "get", "pods", "-n", "dev")
	if err != nil {
		t.Fatal(err)
	}
	if r.OK() || !strings.HasPrefix(r.Stderr, "Warning: "+forbidsSentence) || strings.Contains(r.Stdout+r.Stderr, account) {
		t.Errorf("kubectl: got %+v", r)
	}
	_, metrics, err := g.Ops(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(metrics, `gatehouse_upstream_errors_total{reason="own_rights"} 0`) || strings.Contains(metrics, account) {
		t.Errorf("of %d refusals, the metrics say:\n%s", asked, metrics)
	}
	eventually(t, reloadLimit, func() error {
		return g.opsSays(t, "[-]rights failed: gatehouse's own account lacks")
	})
	logs := strings.Join(g.Logs(), "\n")
	for _, want := range []string{
		"the API server refuses gatehouse's own account", `User \"system:serviceaccount:` + account + `:door\" cannot impersonate`,
		`"certain":true`, `"certain":false`, "gatehouse's own account lacks rights",
	} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log has no %q", want)
		}
	}
}

// testOthersRights: what the API server refuses to a person passes as it wrote
// it, and bears the header by which it is told from what is refused to gatehouse.
func (w world) testOthersRights(t *testing.T) {
	g := w.start(t, nil)
	token := w.Issuer.Token(stage.Person("mallory"))
	for _, encoding := range []string{"application/json", "application/yaml", "application/vnd.kubernetes.protobuf"} {
		for path, header := range map[string]bool{"/api/v1/secrets": true, "/api/v1/secrets?watch=true": true, "/logs": true, someResourcePath + "/p/log": false} {
			a, err := g.ask(t.Context(), http.MethodGet, path, "", bearer(token), "Accept: "+encoding)
			if err != nil {
				t.Fatal(err)
			}
			if a.StatusCode != http.StatusForbidden || !strings.Contains(a.body, "mallory@example.com") || a.Header.Get("Content-Type") != encoding || a.Header.Get("Warning") != "" {
				t.Errorf("%s: got %s %v %s", path, a.Status, a.Header, a.body)
			}
			if got := a.Header.Get("X-Kubernetes-Pf-Flowschema-Uid") != ""; got != header {
				t.Errorf("%s: the header of priority and fairness is there: %t, want %t", path, got, header)
			}
		}
	}
	_, metrics, err := g.Ops(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(metrics, `gatehouse_upstream_errors_total{reason="own_rights"} 0`) {
		t.Error("a person's 403 was counted as ours")
	}
	_, report, err := g.Ops(t.Context(), "/readyz?verbose")
	if err != nil || !strings.Contains(report, "[+]rights ok") {
		t.Errorf("with the shipped rights: %v\n%s", err, report)
	}
}

// opsSays returns an error unless /readyz has this text.
func (g gate) opsSays(t *testing.T, want string) error {
	t.Helper()
	_, report, err := g.Ops(t.Context(), "/readyz?verbose")
	if err == nil && !strings.Contains(report, want) {
		err = errors.New("/readyz says " + report)
	}
	return err
}

// testClientAddress: the API server's audit log has the address of whoever a
// trusted proxy speaks for, and never one that a caller made up.
func (w world) testClientAddress(t *testing.T) {
	token := bearer(w.Issuer.Token(stage.Person("alice", "developers")))
	for trusted, want := range map[string][]string{"": {"127.0.0.1"}, "127.0.0.0/8": {"198.51.100.7", "127.0.0.1"}} {
		g := w.start(t, map[string]string{"GATEHOUSE_TRUSTED_PROXIES": trusted})
		a, err := g.ask(t.Context(), http.MethodGet, someResourcePath, "", token,
			"X-Forwarded-For: 203.0.113.66", "X-Forwarded-For: 198.51.100.7, 127.0.0.9", "X-Real-Ip: 203.0.113.66", "Forwarded: for=203.0.113.66")
		if err != nil {
			t.Fatal(err)
		}
		if got := w.auditEvent(t, a.Header.Get("Audit-Id")).SourceIPs; !slices.Equal(got, want) {
			t.Errorf("trusted %q: the API server has %q, want %q", trusted, got, want)
		}
	}
}
