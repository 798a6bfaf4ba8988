package e2e_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/scope"
	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/proxy"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// scoped is an authenticator of tokens whose scope is written in them: the name of
// a user, and the words, with _ between them all and + in a comma's place.
type scoped struct{}

func (scoped) AuthenticateToken(_ context.Context, token string) (*auth.Identity, error) {
	name, words, _ := strings.Cut(token, "_")
	narrow, err := scope.Parse(strings.NewReplacer("_", " ", "+", ",").Replace(words))
	if err != nil {
		return nil, err
	}
	user := auth.User{Name: name}
	if name == "alice" {
		user.Groups = []string{"oidc:developers"}
	}
	return &auth.Identity{Kind: auth.KindSession, User: user, Scope: narrow}, nil
}

// lentRights are those of somebody who may do everything in the cluster, and of an
// account for the proxy that may too: which rights gatehouse needs is not asked
// here.
const lentRights = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: lent, namespace: gatehouse}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: lent-admin}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: cluster-admin}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: lent-admin}
- {kind: ServiceAccount, name: lent, namespace: gatehouse}
`

// lentGate is a proxy for scoped, in the test's own process.
type lentGate struct {
	world  world
	url    string
	caFile string
}

func (w world) lentGate(t *testing.T) lentGate {
	t.Helper()
	if err := w.Cluster.Apply(t.Context(), []byte(lentRights)); err != nil {
		t.Fatal(err)
	}
	own, err := w.Cluster.ServiceAccountKubeconfig(t.Context(), stage.AccountNamespace, "lent")
	if err != nil {
		t.Fatal(err)
	}
	target, err := upstream.Load(own)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	p, err := proxy.New(proxy.Config{
		Target: func() *upstream.Target { return target }, Authenticator: auth.Bearer(scoped{}),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(p)
	front.EnableHTTP2 = true
	front.StartTLS()
	t.Cleanup(front.Close)
	g := lentGate{world: w, url: front.URL, caFile: filepath.Join(t.TempDir(), "ca.pem")}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := pki.WriteFile(g.caFile, certificate); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g lentGate) kubectl(t *testing.T, token string) *kubectl.Kubectl {
	t.Helper()
	file := kubeconfig.File{Cluster: "lent", Server: g.url, CAFile: g.caFile, Users: []kubeconfig.User{{Name: "lent", Namespace: "dev", Token: token}}}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	k, err := g.world.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testCanI: kubectl auth can-i says what both the cluster's rules and the scope of
// a token leave, and why it says no.
func (w world) testCanI(t *testing.T) {
	g := w.lentGate(t)
	const no = "no - the scope of your token has the word "
	for token, rows := range map[string][]struct {
		args   string
		code   int
		prints string
	}{
		"alice": {
			{"get secrets", 0, "yes"},
			{"get pods -n kube-system", 1, "no"},
		},
		"alice_read-only_no-secrets": {
			{"get secrets", 1, no + "no-secrets"},
			{"list pods", 0, "yes"},
			{"get pods --subresource=log", 0, "yes"},
			{"create pods --subresource=exec", 1, no + "read-only"},
			{"delete pods", 1, no + "read-only"},
			{"list pods -n kube-system", 1, "no"},
			{"* *", 1, "no - a token with a scope makes no other credentials"},
			{"get /api/v1", 0, "yes"},
			{"create serviceaccounts --subresource=token", 1, "no - a token with a scope makes no other credentials"},
			{"impersonate users", 1, no + "read-only"},
		},
		"lent-admin_namespaces=dev_no-impersonation": {
			{"get secrets", 0, "yes"},
			{"delete deployments.apps", 0, "yes"},
			{"list *", 0, "yes"},
			{"list pods -A", 1, no + "namespaces=dev"},
			{"list pods -n kube-system", 1, no + "namespaces=dev"},
			{"list nodes", 1, no + "namespaces=dev"},
			{"get namespaces/dev", 0, "yes"},
			{"get namespaces/kube-system", 1, no + "namespaces=dev"},
			{"get /metrics", 1, no + "namespaces=dev"},
			{"impersonate serviceaccounts", 1, no + "no-impersonation"},
		},
	} {
		k := g.kubectl(t, token)
		for _, row := range rows {
			r, err := k.Run(t.Context(), append([]string{"auth", "can-i"}, strings.Fields(row.args)...)...)
			if err != nil {
				t.Fatal(err)
			}
			if r.Code != row.code || strings.TrimSpace(r.Stdout) != row.prints {
				t.Errorf("%s: can-i %s: got %+v, want %d and %q", token, row.args, r, row.code, row.prints)
			}
		}
	}
	g.testLists(t)
	g.testListedRights(t)
}

// testLists looks at can-i --list and whoami.
func (g lentGate) testLists(t *testing.T) {
	for token, row := range map[string]struct {
		args       string
		has, not   []string
		incomplete bool
	}{
		"alice_read-only_no-secrets": {
			"auth can-i --list", []string{"pods", "deployments.apps", "[get list watch]", "selfsubjectreviews.authentication.k8s.io"},
			[]string{"secrets", "delete", "patch", "pods/exec"}, false,
		},
		"lent-admin_namespaces=dev": {
			"auth can-i --list", []string{"*.*", "[get list watch]", "pods/exec", "[*]"}, []string{"nodes", "serviceaccounts/token", "storageclasses"}, true,
		},
		"lent-admin_namespaces=dev_resources=pods+namespaces": {
			"auth can-i --list", []string{"pods", "[dev]"}, []string{"*.*", "secrets"}, true,
		},
		"lent-admin_namespaces=test": {"auth can-i --list", []string{"selfsubjectreviews"}, []string{"pods", "*.*", "secrets"}, false},
		"alice_no-exec_no-secrets": {
			"auth whoami", []string{"alice", "kube-gatehouse.github.io/scope", "[no-exec no-secrets]"}, nil, false,
		},
	} {
		r, err := g.kubectl(t, token).Run(t.Context(), strings.Fields(row.args)...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != 0 || strings.Contains(r.Stderr, "may be incomplete: the scope of your token") != row.incomplete {
			t.Errorf("%s: got %d and %s", token, r.Code, r.Stderr)
		}
		for _, text := range row.has {
			if !strings.Contains(r.Stdout, text) {
				t.Errorf("%s: %q is not in\n%s", token, text, r.Stdout)
			}
		}
		for _, text := range row.not {
			if strings.Contains(r.Stdout, text) {
				t.Errorf("%s: %q is in\n%s", token, text, r.Stdout)
			}
		}
	}
}

// testListedRights: whatever is in the list of what somebody may do, gatehouse and
// the API server say of it, when asked about that alone, that he may; and he may
// read what he may list. Clients that speak protobuf hear the same.
func (g lentGate) testListedRights(t *testing.T) {
	for _, token := range []string{
		"alice_read-only_no-secrets", "alice_no-exec_groups=core+apps", "lent-admin_namespaces=dev_read-only", "lent-admin_resources=pods+pods/log+nodes_no-impersonation",
		"lent-admin_no-secrets_no-exec_groups=core", "lent-admin_namespaces=dev_verbs=get+create",
	} {
		inJSON, inProtobuf := g.clientset(t, token, ""), g.clientset(t, token, runtime.ContentTypeProtobuf)
		question := &authorizationv1.SelfSubjectRulesReview{Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "dev"}}
		review, err := inProtobuf.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), question, metav1.CreateOptions{})
		if err != nil {
			t.Fatalf("%s: %v", token, err)
		}
		same, err := inJSON.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(), question, metav1.CreateOptions{})
		if err != nil || len(same.Status.ResourceRules) != len(review.Status.ResourceRules) {
			t.Fatalf("%s: %d rules in protobuf, %d in JSON: %v", token, len(review.Status.ResourceRules), len(same.Status.ResourceRules), err)
		}
		asked := 0
		for _, one := range attributesOf(review.Status.ResourceRules) {
			asked++
			access := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &one}}
			got, err := inProtobuf.AuthorizationV1().SelfSubjectAccessReviews().Create(t.Context(), access, metav1.CreateOptions{})
			if err != nil || !got.Status.Allowed {
				t.Errorf("%s: %+v is listed, and not allowed: %+v, %v", token, one, got.Status, err)
			}
			if one.Verb == "list" && one.Group == "" && !strings.ContainsAny(one.Resource+one.Subresource, "*/") && !scope.ClusterWide("", one.Resource) {
				err := inJSON.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces/dev/" + one.Resource).Do(t.Context()).Error()
				if err != nil && strings.Contains(err.Error(), "scope") {
					t.Errorf("%s: %s is listed, and: %v", token, one.Resource, err)
				}
			}
		}
		if asked < 5 {
			t.Errorf("%s: only %d are listed", token, asked)
		}
	}
}

// attributesOf returns a question for each that some rules allow, but for what
// people look at about themselves.
func attributesOf(rules []authorizationv1.ResourceRule) (all []authorizationv1.ResourceAttributes) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						resource, sub, _ := strings.Cut(resource, "/")
						all = append(all, authorizationv1.ResourceAttributes{
							Namespace: "dev", Verb: verb, Group: group, Resource: resource, Subresource: sub, Name: name,
						})
					}
				}
			}
		}
	}
	return all
}

func (g lentGate) clientset(t *testing.T, token, contentType string) *kubernetes.Clientset {
	t.Helper()
	clients, err := kubernetes.NewForConfig(&rest.Config{
		Host: g.url, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{CAFile: g.caFile}, QPS: -1,
		ContentConfig: rest.ContentConfig{ContentType: contentType, AcceptContentTypes: contentType},
	})
	if err != nil {
		t.Fatal(err)
	}
	return clients
}

// testKnownResources: what gatehouse knows of Kubernetes' own resources, and
// whether they are in namespaces, is what the API server says.
func (w world) testKnownResources(t *testing.T) {
	raw := func(path string, into any) {
		t.Helper()
		text, err := w.Cluster.Admin().Must(t.Context(), "", "get", "--raw", path)
		if err != nil || json.Unmarshal([]byte(text), into) != nil {
			t.Fatalf("%s: %q, %v", path, text, err)
		}
	}
	var groups metav1.APIGroupList
	raw("/apis", &groups)
	paths := map[string]string{"/api/v1": ""}
	for _, group := range groups.Groups {
		for _, version := range group.Versions {
			if strings.HasSuffix(group.Name, ".k8s.io") || !strings.Contains(group.Name, ".") {
				paths["/apis/"+version.GroupVersion] = group.Name
			}
		}
	}
	seen := 0
	for path, group := range paths {
		var list metav1.APIResourceList
		raw(path, &list)
		for _, resource := range list.APIResources {
			seen++
			if !scope.Known(group, resource.Name) || scope.ClusterWide(group, resource.Name) == resource.Namespaced {
				t.Errorf("%s: %s, in namespaces %t: auth/scope says otherwise", path, resource.Name, resource.Namespaced)
			}
		}
	}
	if seen < 100 {
		t.Errorf("only %d resources", seen)
	}
}
