package e2e_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

//go:embed testdata/impersonators.yaml
var impersonators []byte

// testSudo: the pattern of the article. Bob may look, and change nothing; as
// devops-admin, if he says so, he may. `can-i --as` answers right, and the API
// server's audit log and gatehouse's own tell that it was he.
func (w world) testSudo(t *testing.T) {
	g := w.start(t, nil)
	k := g.kubectl(t, w.Issuer.Token(stage.Person("bob", "viewers")))
	for _, row := range []struct {
		args   string
		code   int
		prints string
	}{
		{"get deployments -n dev", 0, "hello"},
		{"create configmap sudo -n dev", 1, `User "bob@example.com" cannot create resource "configmaps"`},
		{"auth can-i create configmaps -n dev", 1, "no"},
		{"auth can-i create configmaps -n dev --as=devops-admin", 0, "yes"},
		{"auth can-i create nodes --as=devops-admin", 1, "no"},
		{"create configmap sudo -n dev --as=devops-admin", 0, "configmap/sudo created"},
		{"auth whoami --as=devops-admin", 0, "devops-admin"},
		{"get pods -n dev --as=root", 1, "You may not act as this user"},
		{"get pods -n dev --as=devops-admin --as-group=oidc:developers", 1, "You may not act as this user"},
		{"get pods -n dev --as=devops-admin --as-group=system:masters", 1, "Nobody can act in the group system:masters"},
	} {
		r, err := k.Run(t.Context(), strings.Fields(row.args)...)
		if err != nil {
			t.Fatal(err)
		}
		if r.Code != row.code || !strings.Contains(r.Stdout+r.Stderr, row.prints) {
			t.Errorf("kubectl %s: got %+v, want code %d and %q", row.args, r, row.code, row.prints)
		}
	}
	a, err := g.ask(t.Context(), http.MethodGet, "/api/v1/namespaces/dev/configmaps", "",
		bearer(w.Issuer.Token(stage.Person("bob", "viewers"))), "Impersonate-User: devops-admin")
	if err != nil {
		t.Fatal(err)
	}
	event := w.auditEvent(t, a.Header.Get("Audit-Id"))
	if event.ImpersonatedUser == nil || event.ImpersonatedUser.Username != "devops-admin" ||
		fmt.Sprint(event.ImpersonatedUser.Extra["kube-gatehouse.github.io/original-user"]) != "[bob@example.com]" {
		t.Errorf("recorded for %+v", event.ImpersonatedUser)
	}
	if !slices.ContainsFunc(g.Logs(), func(line string) bool {
		return strings.Contains(line, `"user":"bob@example.com"`) && strings.Contains(line, `"as":"devops-admin"`)
	}) {
		t.Error("the log does not tell who acted")
	}
}

// door is a way to the API server with a client certificate.
type door struct {
	url    string
	client *http.Client
}

func newDoor(t *testing.T, url, caFile string, pair tls.Certificate) door {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true}
	t.Cleanup(transport.CloseIdleConnections)
	return door{url, &http.Client{Transport: transport}}
}

// whoAmI asks with these headers who the API server takes the caller for.
func (d door) whoAmI(ctx context.Context, t *testing.T, headers http.Header) (int, authenticationv1.UserInfo, string) {
	t.Helper()
	const review = `{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview"}`
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url+"/apis/authentication.k8s.io/v1/selfsubjectreviews", strings.NewReader(review))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = headers.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := d.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answered authenticationv1.SelfSubjectReview
	if resp.StatusCode == http.StatusCreated {
		if err := json.Unmarshal(body, &answered); err != nil {
			t.Fatal(err)
		}
	}
	return resp.StatusCode, answered.Status.UserInfo, string(bytes.TrimSpace(body))
}

// testActAsDifferential: of the same certificate and the same --as headers,
// kube-apiserver itself and gatehouse in front of it make the same user, or both
// refuse; gatehouse refuses more only where docs/divergences.md says so.
func (w world) testActAsDifferential(t *testing.T) {
	if err := w.Cluster.Apply(t.Context(), impersonators); err != nil {
		t.Fatal(err)
	}
	g := w.start(t, map[string]string{"GATEHOUSE_CLIENT_CA_FILE": put(t, filepath.Join(t.TempDir(), "people.crt"), w.people.PEM())})
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // repeatable on purpose
	served := 0
	for _, group := range []string{"classic-some", "classic-all", "constrained-some", "nobody"} {
		pair, err := w.people.Client("caller-of-"+group, group)
		if err != nil {
			t.Fatal(err)
		}
		certificate, err := pair.TLS()
		if err != nil {
			t.Fatal(err)
		}
		direct, through := newDoor(t, w.Cluster.URL(), w.Cluster.CAFile(), certificate), newDoor(t, g.URL(), g.CAFile(), certificate)
		for _, headers := range append(fixedWishes(), randomWishes(random, 60)...) {
			wantCode, want, _ := direct.whoAmI(t.Context(), t, headers)
			gotCode, got, body := through.whoAmI(t.Context(), t, headers)
			delete(got.Extra, "kube-gatehouse.github.io/original-user")
			if len(got.Extra) == 0 {
				got.Extra = nil
			}
			switch {
			case wantCode == http.StatusCreated && gotCode != http.StatusCreated && stricter(headers):
			case (wantCode == http.StatusCreated) != (gotCode == http.StatusCreated):
				t.Errorf("%s with %v: %d through gatehouse, %d directly: %s", group, headers, gotCode, wantCode, body)
			case wantCode == http.StatusCreated:
				served++
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s with %v (-directly +through gatehouse):\n%s", group, headers, diff)
				}
			}
		}
	}
	if served < 60 {
		t.Errorf("only %d requests were served: the rows prove little", served)
	}
}

// stricter reports whether docs/divergences.md says that gatehouse refuses what
// kube-apiserver may serve.
func stricter(headers http.Header) bool {
	for name, values := range headers {
		switch {
		case slices.Contains(values, ""), slices.Contains(values, "system:masters"):
			return true
		case (name == "Impersonate-User" || name == "Impersonate-Uid") && len(values) > 1:
			return true
		case name == "Impersonate-Role":
			return true
		case strings.HasPrefix(name, "Impersonate-Extra-") && !strings.Contains(strings.ToLower(name), "%2f"):
			return true
		}
	}
	// gatehouse's account may name a ServiceAccount, and nothing beside it.
	user := headers.Get("Impersonate-User")
	return strings.HasPrefix(user, "system:node:") || strings.HasPrefix(user, "system:serviceaccount:") && len(headers) > 1
}

// wishes are values of each header, good and bad ones.
var wishes = map[string][]string{
	"Impersonate-User":                       {"carl", "dora", "eve", "system:admin", "system:anonymous", "system:serviceaccount:dev:builder", "system:serviceaccount:dev:other", "system:node:n1", "", "Zoë"},
	"Impersonate-Group":                      {"dev", "ops", "qa", "sre", "staff", "system:masters", "system:authenticated", "system:unauthenticated", "system:nodes", ""},
	"Impersonate-Uid":                        {"7", "8", ""},
	"Impersonate-Extra-Example.com%2fscopes": {"view", "edit", ""},
	"Impersonate-Extra-Plain":                {"v"},
	"Impersonate-Role":                       {"admin"},
}

func fixedWishes() []http.Header {
	var all []http.Header
	for _, user := range wishes["Impersonate-User"] {
		all = append(all, http.Header{"Impersonate-User": {user}})
	}
	return append(all,
		http.Header{},
		http.Header{"Impersonate-Group": {"dev"}},
		http.Header{"Impersonate-Uid": {"7"}},
		http.Header{"Impersonate-User": {"carl"}, "Impersonate-Group": {"dev"}},
		http.Header{"Impersonate-User": {"carl"}, "Impersonate-Group": {"dev", "ops", "qa", "sre"}},
		http.Header{"Impersonate-User": {"carl"}, "Impersonate-Group": {"dev", "dev"}},
		http.Header{"Impersonate-User": {"carl"}, "Impersonate-Group": {"system:authenticated"}},
		http.Header{"Impersonate-User": {"carl"}, "Impersonate-Group": {"system:unauthenticated"}},
		http.Header{"Impersonate-User": {"carl"}, "Impersonate-Uid": {"7"}, "Impersonate-Extra-Example.com%2fscopes": {"view"}},
		http.Header{"Impersonate-User": {"carl", "dora"}},
	)
}

func randomWishes(random *rand.Rand, n int) []http.Header {
	names := slices.Sorted(maps.Keys(wishes))
	var all []http.Header
	for range n {
		headers := http.Header{"Impersonate-User": {wishes["Impersonate-User"][random.IntN(3)]}}
		for range random.IntN(4) {
			name := names[random.IntN(len(names))]
			headers[name] = append(headers[name], wishes[name][random.IntN(len(wishes[name]))])
		}
		all = append(all, headers)
	}
	return all
}
