package upstream_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

const credentialID = "userextras/authentication.kubernetes.io/credential-id"

// usual are the needs of most settings, and constrained and legacy what grants
// them, as `verb group/resource/subresource` or `verb path`.
var (
	usual       = upstream.Needs{Users: true, Groups: true, UIDs: true, ExtraKeys: []string{"authentication.kubernetes.io/credential-id"}}
	constrained = []string{
		"impersonate:user-info authentication.k8s.io/users", "impersonate:user-info authentication.k8s.io/groups",
		"impersonate:user-info authentication.k8s.io/uids", "impersonate:user-info authentication.k8s.io/" + credentialID,
		"impersonate-on:user-info:get */*", "impersonate-on:user-info:list */*", "impersonate-on:user-info:watch */*",
		"impersonate-on:user-info:create */*", "impersonate-on:user-info:update */*", "impersonate-on:user-info:patch */*",
		"impersonate-on:user-info:delete */*", "impersonate-on:user-info:deletecollection */*",
		"impersonate-on:user-info:get *", "impersonate-on:user-info:head *",
	}
	legacy = []string{
		"impersonate /users", "impersonate /groups",
		"impersonate authentication.k8s.io/uids", "impersonate authentication.k8s.io/" + credentialID,
	}
)

// needing returns the usual needs, changed.
func needing(change func(*upstream.Needs)) upstream.Needs {
	needs := usual
	needs.ExtraKeys = slices.Clone(usual.ExtraKeys)
	change(&needs)
	return needs
}

// without returns rights but for one.
func without(rights []string, one string) []string {
	if !slices.Contains(rights, one) {
		panic("no such right: " + one)
	}
	return slices.DeleteFunc(slices.Clone(rights), func(r string) bool { return r == one })
}

// newReviewer is an API server that answers SelfSubjectAccessReviews in their
// wire form (k8s.io/api v0.37, authorization/v1; looked at on a real one).
func newReviewer(t *testing.T, granted ...string) *upstream.Target {
	t.Helper()
	return newReviewerOf(t, func() []string { return granted })
}

// newReviewerOf is newReviewer with rights that change.
func newReviewerOf(t *testing.T, now func() []string) *upstream.Target {
	t.Helper()
	return newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != http.MethodPost || r.URL.Path != "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" ||
			r.Header.Get("Content-Type") != "application/json" || r.Header.Get("Authorization") != "Bearer our-own" {
			http.Error(w, "what is this?", http.StatusBadRequest)
			return
		}
		var review struct {
			APIVersion, Kind string
			Spec             struct {
				ResourceAttributes    *struct{ Namespace, Verb, Group, Resource, Subresource, Name string }
				NonResourceAttributes *struct{ Path, Verb string }
			}
		}
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&review); err != nil || review.APIVersion != "authorization.k8s.io/v1" || review.Kind != "SelfSubjectAccessReview" {
			http.Error(w, "what is this?", http.StatusBadRequest)
			return
		}
		var right string
		granted := now()
		if a := review.Spec.ResourceAttributes; a != nil {
			right = strings.TrimSuffix(a.Verb+" "+a.Group+"/"+a.Resource+"/"+a.Subresource, "/")
		} else {
			right = review.Spec.NonResourceAttributes.Verb + " " + review.Spec.NonResourceAttributes.Path
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_, _ = fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","metadata":{},"spec":%s,"status":{"allowed":%t}}`,
			`{}`, slices.Contains(granted, right) || slices.Contains(granted, "* */*"))
	})
}

// newTarget returns a target that answer stands behind.
func newTarget(t *testing.T, answer http.HandlerFunc) *upstream.Target {
	t.Helper()
	ca, err := authtest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := pair.TLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(answer)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.crt"), string(ca.PEM()))
	file := write(t, filepath.Join(dir, "kubeconfig"), fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority: ca.crt}}]
users: [{name: u, user: {token: our-own}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
`, server.URL))
	target, err := upstream.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(target.Close)
	return target
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// names writes rights for a comparison.
func names(rights []upstream.Right) (list []string) {
	for _, right := range rights {
		list = append(list, right.String())
	}
	return list
}

// Promise: the rights of our own account are told as the API server says them:
// which mode, which right is missing, which are too many.
func TestRights(t *testing.T) {
	t.Parallel()
	type verdict struct {
		Mode                    upstream.Mode
		Fallback                bool
		Missing, Narrow, Excess []string
	}
	legacyNames := []string{
		"impersonate users", "impersonate groups", "impersonate uids.authentication.k8s.io",
		"impersonate userextras.authentication.k8s.io/authentication.kubernetes.io/credential-id",
	}
	lacksUIDs := "impersonate:user-info uids.authentication.k8s.io"
	for name, test := range map[string]struct {
		granted []string
		needs   upstream.Needs
		want    verdict
	}{
		"constrained": {granted: constrained, want: verdict{Mode: upstream.ModeConstrained}},
		"legacy":      {granted: legacy, want: verdict{Mode: upstream.ModeLegacy}},
		"nothing": {granted: nil, want: verdict{Mode: upstream.ModeNone, Missing: []string{
			"impersonate:user-info users.authentication.k8s.io", "impersonate:user-info groups.authentication.k8s.io", lacksUIDs,
			"impersonate:user-info userextras.authentication.k8s.io/authentication.kubernetes.io/credential-id",
		}}},
		"one right missing": {
			granted: without(constrained, "impersonate:user-info authentication.k8s.io/uids"),
			want:    verdict{Mode: upstream.ModeConstrained, Missing: []string{lacksUIDs}},
		},
		"legacy, one right missing": {
			granted: without(legacy, "impersonate authentication.k8s.io/uids"),
			want:    verdict{Mode: upstream.ModeLegacy, Missing: []string{"impersonate uids.authentication.k8s.io"}},
		},
		"a narrower door": {
			granted: without(constrained, "impersonate-on:user-info:delete */*"),
			want:    verdict{Mode: upstream.ModeConstrained, Narrow: []string{"impersonate-on:user-info:delete *.*"}},
		},
		"both": {granted: slices.Concat(constrained, legacy), want: verdict{Mode: upstream.ModeConstrained, Fallback: true}},
		"an extra of the settings": {
			granted: constrained, needs: needing(func(n *upstream.Needs) { n.ExtraKeys = append(n.ExtraKeys, "example.com/team") }),
			want: verdict{Mode: upstream.ModeConstrained, Missing: []string{"impersonate:user-info userextras.authentication.k8s.io/example.com/team"}},
		},
		"another right of the settings": {
			granted: constrained, needs: needing(func(n *upstream.Needs) { n.TokenReviews = true }),
			want: verdict{Mode: upstream.ModeConstrained, Missing: []string{"create tokenreviews.authentication.k8s.io"}},
		},
		"both, on an old API server": {
			granted: slices.Concat(constrained, legacy), needs: needing(func(n *upstream.Needs) { n.LegacyAlone = true }), want: verdict{Mode: upstream.ModeLegacy},
		},
		"constrained alone, on an old API server": {
			granted: constrained, needs: needing(func(n *upstream.Needs) { n.LegacyAlone = true }),
			want: verdict{Mode: upstream.ModeConstrained, Missing: legacyNames},
		},
		"nothing, on an old API server": {needs: needing(func(n *upstream.Needs) { n.LegacyAlone = true }), want: verdict{Mode: upstream.ModeNone, Missing: legacyNames}},
		"too much": {
			granted: append(slices.Clone(constrained), "get /secrets"),
			want:    verdict{Mode: upstream.ModeConstrained, Excess: []string{"get secrets"}},
		},
		"everything": {granted: []string{"* */*"}, want: verdict{
			Mode: upstream.ModeConstrained, Fallback: true,
			Excess: []string{"* *.*", "get secrets", "create pods", "escalate clusterroles.rbac.authorization.k8s.io"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if !test.needs.Users {
				test.needs = usual
			}
			rights, err := newReviewer(t, test.granted...).Rights(t.Context(), test.needs)
			if err != nil {
				t.Fatal(err)
			}
			got := verdict{rights.Mode, rights.Fallback, names(rights.Missing), names(rights.Narrow), names(rights.Excess)}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("rights (-want +got):\n%s", diff)
			}
			if err := rights.Err(); (err != nil) != (len(test.want.Missing) > 0) || err != nil && !strings.Contains(err.Error(), test.want.Missing[0]) {
				t.Errorf("error %v", err)
			}
		})
	}
}

// A door that lets nothing through is a fault, not a narrow one.
func TestClosedDoor(t *testing.T) {
	t.Parallel()
	rights, err := newReviewer(t, constrained[:4]...).Rights(t.Context(), usual)
	if err != nil || len(rights.Missing) != 10 || rights.Narrow != nil || rights.Mode != upstream.ModeConstrained {
		t.Errorf("%v, %+v", err, rights)
	}
}

// Promise: what is no answer is never taken for a right, or for the lack of one.
func TestRightsWithoutAnswer(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		code       int
		body, want string
	}{
		"own credential": {401, `{"kind":"Status"}`, "does not accept gatehouse's own credential (401)"},
		"forbidden":      {403, `{"kind":"Status"}`, "may not ask this (403)"},
		"broken":         {500, ``, "status 500"},
		"redirected":     {302, ``, "status 302"},
		"another kind":   {201, `{"kind":"SubjectAccessReview","status":{"allowed":true}}`, "no SelfSubjectAccessReview"},
		"no status":      {201, `{"kind":"SelfSubjectAccessReview"}`, "no SelfSubjectAccessReview"},
		"no JSON":        {201, `<html>`, "not the JSON"},
		"endless":        {201, strings.Repeat(" ", 1<<20+1), "more than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := newTarget(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", "https://127.0.0.1:1/")
				w.WriteHeader(test.code)
				_, _ = io.WriteString(w, test.body)
			})
			if _, err := target.Rights(t.Context(), usual); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := newReviewer(t).Rights(ctx, usual); err == nil {
		t.Error("no error of a question that was never asked")
	}
}

// Version and our own name are read as the API server writes them.
func TestVersionAndSelf(t *testing.T) {
	t.Parallel()
	target := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && r.URL.Path == "/version":
			_, _ = io.WriteString(w, `{"major":"1","minor":"35+","gitVersion":"v1.35.2-eks-1"}`)
		case r.Method == http.MethodPost && r.URL.Path == "/apis/authentication.k8s.io/v1/selfsubjectreviews":
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"kind":"SelfSubjectReview","status":{"userInfo":{"username":"system:serviceaccount:g:g","groups":["x"]}}}`)
		}
	})
	version, err := target.Version(t.Context())
	if want := (upstream.Version{Git: "v1.35.2-eks-1", Major: 1, Minor: 35}); err != nil || version != want {
		t.Errorf("%v, %+v", err, version)
	}
	if self, err := target.WhoAmI(t.Context()); err != nil || self != "system:serviceaccount:g:g" {
		t.Errorf("%v, %q", err, self)
	}
	for v, want := range map[upstream.Version][2]bool{
		{Major: 1, Minor: 36}: {true, false}, {Major: 2}: {true, false}, {Major: 1, Minor: 35}: {true, true}, {Major: 1, Minor: 9}: {}, {}: {},
	} {
		if can, gated := v.Constrained(); can != want[0] || gated != want[1] {
			t.Errorf("%+v: constrained %t, gated %t", v, can, gated)
		}
	}
}
