package e2e_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// printed returns what `gatehouse rbac` prints with env for an account of its own
// namespace.
func (w world) printed(t *testing.T, env map[string]string, namespace string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), w.Binary(), append([]string{"rbac", "--namespace", namespace, "--service-account", "door"}, args...)...)
	for name, value := range env {
		command.Env = append(command.Env, name+"="+value)
	}
	out, err := command.Output()
	if err != nil {
		t.Fatalf("gatehouse rbac: %v", err)
	}
	return string(out)
}

// account applies a manifest of printed, and returns the account's kubeconfig.
func (w world) account(t *testing.T, namespace, manifest string) string {
	t.Helper()
	if err := w.Cluster.Apply(t.Context(), []byte(manifest)); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := w.Cluster.ServiceAccountKubeconfig(t.Context(), namespace, "door")
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig
}

// everyFeature are settings with every kind of credential that needs a right, with
// the issuer in an AuthenticationConfiguration that makes a uid and an extra.
func (w world) everyFeature(t *testing.T) map[string]string {
	t.Helper()
	env := w.Env()
	ca, err := os.ReadFile(env["GATEHOUSE_OIDC_CA_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	config := fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: %q, audiences: [%q], certificateAuthority: %q}
  claimMappings:
    username: {claim: email, prefix: ""}
    groups: {claim: groups, prefix: "oidc:"}
    uid: {claim: sub}
    extra: [{key: example.com/team, valueExpression: '"blue"'}]
anonymous: {enabled: true, conditions: [{path: /livez}]}
`, w.Issuer.URL, env["GATEHOUSE_OIDC_CLIENT_ID"], ca)
	maps.DeleteFunc(env, func(name, _ string) bool { return strings.HasPrefix(name, "GATEHOUSE_OIDC_") })
	env["GATEHOUSE_AUTHENTICATION_CONFIG"] = put(t, filepath.Join(t.TempDir(), "authentication.yaml"), []byte(config))
	env["GATEHOUSE_TOKEN_AUTH_FILE"] = w.tokens(t, `robot-secret,ci-robot,ci-1,"ci,builders"`, `root-secret,root,1,system:masters`,
		`node-secret,system:node:one,2,system:nodes`, `account-secret,system:serviceaccount:kube-system:default,3,x`).Path()
	env["GATEHOUSE_ALLOWED_RESERVED_NAMES"] = "system:masters,system:node:one,system:nodes,system:serviceaccount:kube-system:default"
	env["GATEHOUSE_TOKEN_REVIEW"] = "true"
	return env
}

// startAs starts a gatehouse with env alone, and a kubeconfig of its own.
func (w world) startAs(t *testing.T, cfg gatehouse.Config, env map[string]string, kubeconfig string) gate {
	t.Helper()
	env = maps.Clone(env)
	env["GATEHOUSE_KUBECONFIG"] = kubeconfig
	for name := range w.Env() {
		if env[name] == "" {
			env[name] = "" // of the stage, and taken away
		}
	}
	return w.startWith(t, cfg, env)
}

// asked is one run of kubectl, and what must come of it.
type asked struct {
	name, token, args string
	code              int
	prints            string
}

func (g gate) expect(t *testing.T, rows ...asked) {
	t.Helper()
	for _, row := range rows {
		r, err := g.kubectl(t, row.token).Run(t.Context(), strings.Fields(row.args)...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
			t.Errorf("%s: kubectl %s: got %+v, want code %d and %q", row.name, row.args, r, row.code, row.prints)
		}
	}
}

// testPrintedRights: with what `gatehouse rbac` prints alone, every feature works;
// what gatehouse is made to send beyond it is refused by the API server; and the
// account itself can do nothing.
func (w world) testPrintedRights(t *testing.T) {
	const namespace = "printed"
	env := w.everyFeature(t)
	kubeconfig := w.account(t, namespace, w.printed(t, env, namespace))
	g := w.startAs(t, gatehouse.Config{}, env, kubeconfig)
	g.awaitReport(t, http.StatusOK, "[+]rights ok\n")
	claims := stage.Person("alice", "developers")
	claims["jti"] = "token-18"
	alice := w.Issuer.Token(claims)
	me := "system:serviceaccount:" + namespace + ":door"
	g.expect(t,
		asked{"who", alice, "auth whoami", 0, "[oidc:developers system:authenticated]"},
		asked{"uid", alice, "auth whoami -o yaml", 0, "uid: alice\n"},
		asked{"extra", alice, "auth whoami -o yaml", 0, "example.com/team:\n      - blue\n"},
		asked{"credential", alice, "auth whoami -o yaml", 0, "- JTI=token-18\n"},
		asked{"create", alice, "create configmap printed -n dev --from-literal=a=b", 0, "created"},
		asked{"patch", alice, "label configmap printed -n dev a=b", 0, "labeled"},
		asked{"list", alice, "get configmaps,deployments -n dev", 0, "configmap/printed"},
		asked{"can", alice, "auth can-i delete deployments -n dev", 0, "yes"},
		asked{"cannot", alice, "get pods -n kube-system", 1, `User "alice@example.com" cannot list resource "pods"`},
		asked{"delete", alice, "delete configmap printed -n dev", 0, "deleted"},
		asked{"robot", "robot-secret", "auth whoami", 0, "[ci builders system:authenticated]"},
		asked{"account", w.builderToken(t, ""), "get deployments -n dev -o name", 0, "deployment.apps/hello"},
		asked{"path", alice, "get --raw /version", 0, "gitVersion"},
		asked{"--as", w.Issuer.Token(stage.Person("bob", "viewers")), "create configmap printed-as -n dev --as=devops-admin", 0, "created"},
		// gatehouse was told to let these through.
		asked{"system:masters", "root-secret", "get --raw /api/v1/namespaces", 1, "impersonating the system:masters group is not allowed"},
		asked{"a node", "node-secret", "get --raw /api/v1/namespaces", 1, `User "` + me + `" cannot impersonate `},
		asked{"a ServiceAccount", "account-secret", "get --raw /api/v1/namespaces", 1, `User "` + me + `" cannot impersonate `},
	)
	w.expectWatch(t, g, alice, "printed-event")
	for _, row := range []struct {
		method, path, header string
		code                 int
		want                 string
	}{
		{http.MethodGet, "/livez", "Accept: */*", http.StatusOK, "ok"}, // anonymous
		{http.MethodDelete, "/api/v1/namespaces/dev/configmaps?labelSelector=printed%3Dall", bearer(alice), http.StatusOK, "ConfigMapList"},
		{http.MethodGet, "/api/v1/namespaces/dev/pods/none/exec?command=sh", bearer(alice), http.StatusNotFound, `pods \"none\" not found`},
		{http.MethodPut, "/apis/apps/v1/namespaces/dev/deployments/hello", bearer(alice), http.StatusBadRequest, "must be of type Deployment"},
		{http.MethodPost, "/version", bearer(alice), http.StatusForbidden, me + `\" cannot impersonate-on:user-info:post path`}, // an unlisted verb
	} {
		a, err := g.ask(t.Context(), row.method, row.path, "", row.header)
		if err != nil || a.StatusCode != row.code || !strings.Contains(a.body, row.want) {
			t.Errorf("%s %s: got %s: %s (%v), want %d and %q", row.method, row.path, a.Status, a.body, err, row.code, row.want)
		}
	}
	w.expectNothing(t, kubeconfig)
}

// testLegacyRights: what `gatehouse rbac --legacy` prints suffices alone, too.
func (w world) testLegacyRights(t *testing.T) {
	const namespace = "printed-legacy"
	env := w.everyFeature(t)
	env["GATEHOUSE_IMPERSONATION"] = "false" // with it, ServiceAccounts may be named
	g := w.startAs(t, gatehouse.Config{}, env, w.account(t, namespace, w.printed(t, env, namespace, "--legacy")))
	g.awaitReport(t, http.StatusOK, "[+]rights ok\n")
	claims := stage.Person("alice", "developers")
	claims["jti"] = "token-19"
	alice := w.Issuer.Token(claims)
	g.expect(t,
		asked{"uid", alice, "auth whoami -o yaml", 0, "uid: alice\n"},
		asked{"extra", alice, "auth whoami -o yaml", 0, "example.com/team:\n      - blue\n"},
		asked{"credential", alice, "auth whoami -o yaml", 0, "- JTI=token-19\n"},
		asked{"create", alice, "create configmap printed-legacy -n dev", 0, "created"},
		asked{"account", w.builderToken(t, ""), "get deployments -n dev -o name", 0, "deployment.apps/hello"},
		asked{"a ServiceAccount", "account-secret", "get --raw /api/v1/namespaces", 1, `cannot impersonate resource "serviceaccounts"`},
	)
}

// expectWatch checks that a ConfigMap that alice makes in dev is seen by a watch.
func (w world) expectWatch(t *testing.T, g gate, token, name string) {
	t.Helper()
	watch, err := g.kubectl(t, token).Start(t.Context(), "get", "configmaps", "-n", "dev", "--watch-only")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	g.awaitInFlight(t, "watch", 1)
	if _, err := w.Cluster.Admin().Must(t.Context(), "", "create", "configmap", name, "-n", "dev"); err != nil {
		t.Fatal(err)
	}
	if _, err := watch.AwaitLine(t.Context(), name); err != nil {
		t.Error(err)
	}
}

// expectNothing checks that the API server knows of no right of an account but to
// impersonate, to ask for reviews, and what every account has.
func (w world) expectNothing(t *testing.T, kubeconfig string) {
	t.Helper()
	k, err := w.Kubectl(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	for _, args := range []string{"get pods -A", "get secrets -n dev", "get namespaces", "get nodes", "create configmap x -n printed", "get clusterroles", "get --raw /metrics"} {
		if r, err := k.Run(t.Context(), strings.Fields(args)...); err != nil || r.Code != 1 || !strings.Contains(r.Stderr, "orbidden") {
			t.Errorf("the account itself: kubectl %s: got %+v, %v", args, r, err)
		}
	}
	bare, whole := w.rulesOf(t, w.Cluster.Admin(), "--as=system:serviceaccount:printed:default"), w.rulesOf(t, k)
	own := slices.DeleteFunc(whole, func(rule string) bool { return slices.Contains(bare, rule) })
	if len(bare) < 5 || len(own) < 10 {
		t.Fatalf("%d rules of every account, %d of its own", len(bare), len(own))
	}
	for _, rule := range own {
		if !strings.HasPrefix(rule, "impersonate:") && !strings.HasPrefix(rule, "impersonate-on:") &&
			rule != "create authentication.k8s.io/tokenreviews" && rule != "create authorization.k8s.io/subjectaccessreviews" {
			t.Errorf("the account itself may %s", rule)
		}
	}
}

// rulesOf returns what the API server says that a caller may do, one by one.
func (w world) rulesOf(t *testing.T, k *kubectl.Kubectl, args ...string) (rules []string) {
	t.Helper()
	const question = `{"apiVersion":"authorization.k8s.io/v1","kind":"SelfSubjectRulesReview","spec":{"namespace":"printed"}}`
	out, err := k.Must(t.Context(), question, append([]string{"create", "-f", "-", "-o", "json", "--validate=false"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	var review authorizationv1.SelfSubjectRulesReview
	if err := json.Unmarshal([]byte(out), &review); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, rule := range review.Status.ResourceRules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rules = append(rules, verb+" "+group+"/"+resource)
				}
			}
		}
	}
	for _, rule := range review.Status.NonResourceRules {
		for _, path := range rule.NonResourceURLs {
			for _, verb := range rule.Verbs {
				rules = append(rules, verb+" "+path)
			}
		}
	}
	return rules
}

// testReadOnly: with what `gatehouse rbac --read-only` prints, people can look and
// ask about themselves, and neither change anything nor open an exec, whatever
// their roles: the API server says no.
func (w world) testReadOnly(t *testing.T) {
	const namespace = "looking"
	manifest := w.printed(t, w.Env(), namespace, "--read-only")
	g := w.startAs(t, gatehouse.Config{}, w.Env(), w.account(t, namespace, manifest))
	g.awaitReport(t, http.StatusOK, "[+]rights ok\n")
	alice := w.Issuer.Token(stage.Person("alice", "developers"))
	const refused = `User "system:serviceaccount:looking:door" cannot impersonate-on:user-info:`
	g.expect(t,
		asked{"who", alice, "auth whoami", 0, "[oidc:developers system:authenticated]"},
		asked{"can", alice, "auth can-i create configmaps -n dev", 0, "yes"},
		asked{"rules", alice, "auth can-i --list -n dev", 0, "configmaps"},
		asked{"get", alice, "get deployment hello -n dev", 0, "hello"},
		asked{"list", alice, "get configmaps -n dev", 0, "kube-root-ca.crt"},
		asked{"create", alice, "create configmap looking -n dev", 1, refused + `create resource "configmaps"`},
		asked{"patch", alice, "label deployment hello -n dev a=b", 1, refused + `patch resource "deployments"`},
		asked{"delete", alice, "delete deployment hello -n dev", 1, refused + `delete resource "deployments"`},
		asked{"review", alice, "create token builder -n dev", 1, refused + `create resource "serviceaccounts/token"`},
	)
	g.expect(t,
		asked{"--as", w.Issuer.Token(stage.Person("bob", "viewers")), "get secrets -n dev --as=devops-admin", 0, ""},
		asked{"--as", w.Issuer.Token(stage.Person("bob", "viewers")), "create configmap looking -n dev --as=devops-admin", 1, refused + `create resource "configmaps"`},
	)
	w.expectWatch(t, g, alice, "looking-event")
	for _, path := range []string{"pods/one/exec?command=sh", "pods/one/attach", "pods/one/portforward", "pods/one/proxy/", "services/one/proxy/"} {
		a := g.get(t, "/api/v1/namespaces/dev/"+path, alice)
		if a.StatusCode != http.StatusForbidden || !strings.Contains(a.body, "impersonate-on:user-info:get") {
			t.Errorf("GET of %s: got %s: %s", path, a.Status, a.body)
		}
	}
	w.expectWholeReading(t, manifest)
}

// expectWholeReading checks that everything that the API server has to read, but
// for what connects to something, is in a read-only manifest.
func (w world) expectWholeReading(t *testing.T, manifest string) {
	t.Helper()
	list := func(path string, v any) {
		out, err := w.Cluster.Admin().Must(t.Context(), "", "get", "--raw", path)
		if err == nil {
			err = json.Unmarshal([]byte(out), v)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var core metav1.APIResourceList
	list("/api/v1", &core)
	var groups metav1.APIGroupList
	list("/apis", &groups)
	if len(core.APIResources) < 30 || len(groups.Groups) < 15 {
		t.Fatalf("%d resources, %d groups", len(core.APIResources), len(groups.Groups))
	}
	connecting := []string{"pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy"}
	for _, resource := range core.APIResources {
		_, subresource, _ := strings.Cut(resource.Name, "/")
		readable := slices.Contains(resource.Verbs, "get") || slices.Contains(resource.Verbs, "list")
		if want := readable && !slices.Contains(connecting, resource.Name); want != (strings.Contains(manifest, "      - "+resource.Name+"\n") ||
			subresource != "" && strings.Contains(manifest, `      - "*/`+subresource+"\"\n")) {
			t.Errorf("%s: in the manifest: %t", resource.Name, !want)
		}
	}
	for _, group := range groups.Groups {
		review := group.Name == "authentication.k8s.io" || group.Name == "authorization.k8s.io" // to be created alone
		if strings.Contains(manifest, "      - "+group.Name+"\n") == review {
			t.Errorf("%s: in the manifest: %t", group.Name, review)
		}
	}
}

// testMissingRights: readiness names the rule that is missing, and recovers when
// it is applied.
func (w world) testMissingRights(t *testing.T) {
	const namespace = "lacking"
	env := w.everyFeature(t)
	delete(env, "GATEHOUSE_TOKEN_REVIEW") // with it, somebody could be served still
	whole := w.printed(t, env, namespace)
	without := func(text string) string {
		if strings.Count(whole, text) != 1 {
			t.Fatalf("%q is not there once:\n%s", text, whole)
		}
		return strings.Replace(whole, text, "", 1)
	}
	g := w.startAs(t, gatehouse.Config{NotReady: true}, env, w.account(t, namespace, without("      - users\n")))
	lacks := "gatehouse's own account lacks: impersonate:user-info "
	g.awaitReport(t, http.StatusServiceUnavailable, "[-]rights failed: "+lacks+"users.authentication.k8s.io; apply what `gatehouse rbac --namespace lacking --service-account door` prints\n")
	for _, step := range []struct {
		manifest, report, metric string
	}{
		{without("      - userextras/example.com/team\n"), "[!]rights degraded: " + lacks + "userextras.authentication.k8s.io/example.com/team; ", `gatehouse_rights_rule_missing{rule="extra"} 1`},
		{whole, "[+]rights ok\n", "gatehouse_rights_missing 0"},
	} {
		if err := w.Cluster.Apply(t.Context(), []byte(step.manifest)); err != nil {
			t.Fatal(err)
		}
		g.awaitReport(t, http.StatusOK, step.report)
		if _, metrics, err := g.Ops(t.Context(), "/metrics"); err != nil || !strings.Contains(metrics, step.metric) {
			t.Errorf("%v, and no %s in the metrics", err, step.metric)
		}
	}
	g.expect(t, asked{"served", w.Issuer.Token(stage.Person("alice", "developers")), "get deployments -n dev", 0, "hello"})
}

// awaitReport waits until /readyz answers code with a report that holds want.
func (g gate) awaitReport(t *testing.T, code int, want string) {
	t.Helper()
	eventually(t, reloadLimit, func() error {
		got, report, err := g.Ops(t.Context(), "/readyz?verbose")
		if err == nil && (got != code || !strings.Contains(report, want)) {
			err = fmt.Errorf("%d: %s, want %d and %q", got, report, code, want)
		}
		return err
	})
}
