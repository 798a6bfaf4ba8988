package upstream_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// newAccessReviewer is an API server of a version, "" for one that does not tell
// it, that lets everybody do everything. seen are the reviews it was asked for.
func newAccessReviewer(t *testing.T, minor string) (reviewer *upstream.AccessReviewer, seen *[]map[string]any) {
	t.Helper()
	seen = &[]map[string]any{}
	target := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/version" && minor != "":
			_, _ = fmt.Fprintf(w, `{"major":"1","minor":%q,"gitVersion":"v1.%s.0"}`, minor, minor)
		case r.URL.Path == "/apis/authorization.k8s.io/v1/subjectaccessreviews":
			var review struct{ Spec map[string]any }
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				t.Error(err)
			}
			*seen = append(*seen, review.Spec)
			w.WriteHeader(http.StatusCreated)
			_, _ = fmt.Fprint(w, `{"kind":"SubjectAccessReview","status":{"allowed":true}}`)
		default:
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	var live upstream.Live
	live.Swap(target)
	return upstream.NewAccessReviewer(&live), seen
}

// Promise: a rule with the verb "*" lets nobody act as another by constrained
// impersonation where the API server does not have that.
func TestConstrainedVerbsNeedTheirVersion(t *testing.T) {
	for _, tt := range []struct {
		minor   string
		allowed bool
		failed  bool
	}{{"37", true, false}, {"36+", true, false}, {"35", false, false}, {"30", false, false}, {"", false, true}} {
		reviewer, seen := newAccessReviewer(t, tt.minor)
		for _, verb := range []string{"impersonate:user-info", "impersonate-on:user-info:list", "impersonate:serviceaccount"} {
			allowed, err := reviewer.Allowed(t.Context(), &auth.User{Name: "bob"}, impersonate.Attributes{Verb: verb, Resource: "pods"})
			if allowed != tt.allowed || (err != nil) != tt.failed {
				t.Errorf("1.%s, %s: %t, %v", tt.minor, verb, allowed, err)
			}
		}
		if (len(*seen) > 0) != tt.allowed {
			t.Errorf("1.%s: asked %v", tt.minor, *seen)
		}
		if allowed, err := reviewer.Allowed(t.Context(), &auth.User{Name: "bob"}, impersonate.Attributes{Verb: "impersonate", Resource: "users", Name: "alice"}); err != nil || !allowed {
			t.Errorf("1.%s: the classic verb: %t, %v", tt.minor, allowed, err)
		}
	}
}

// Promise: an access review carries the whole identity of the caller and every
// attribute of the question.
func TestAccessReviewIsWhole(t *testing.T) {
	reviewer, seen := newAccessReviewer(t, "37")
	bob := &auth.User{Name: "bob", UID: "7", Groups: []string{"dev", "ops"}, Extra: map[string][]string{"example.com/k": {"v", "w"}}}
	for _, question := range []impersonate.Attributes{
		{Verb: "list", Group: "apps", Version: "v1", Resource: "deployments", Subresource: "scale", Namespace: "dev", Name: "web", FieldSelector: "a=b", LabelSelector: "c in (d)"},
		{Verb: "get", Path: "/metrics"},
	} {
		if _, err := reviewer.Allowed(t.Context(), bob, question); err != nil {
			t.Fatal(err)
		}
	}
	who := func(more map[string]any) map[string]any {
		more["user"], more["uid"], more["groups"] = "bob", "7", []any{"dev", "ops"}
		more["extra"] = map[string]any{"example.com/k": []any{"v", "w"}}
		return more
	}
	want := []map[string]any{
		who(map[string]any{"resourceAttributes": map[string]any{
			"verb": "list", "group": "apps", "version": "v1", "resource": "deployments", "subresource": "scale", "namespace": "dev", "name": "web",
			"fieldSelector": map[string]any{"rawSelector": "a=b"}, "labelSelector": map[string]any{"rawSelector": "c in (d)"},
		}}),
		who(map[string]any{"nonResourceAttributes": map[string]any{"verb": "get", "path": "/metrics"}}),
	}
	if diff := cmp.Diff(want, *seen); diff != "" {
		t.Errorf("asked (-want +got):\n%s", diff)
	}
}
