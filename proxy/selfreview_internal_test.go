package proxy

import (
	"encoding/json"
	"net/http"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
)

// Promise: whatever bytes somebody asks with, the API server is asked about the
// namespace for which the answer is narrowed, or no namespace is known.
func FuzzPrepare(f *testing.F) {
	for _, body := range []string{`{"spec":{"namespace":"dev"}}`, `{"spec":{"Namespace":"a","namespace":"b"}}`, "k8s\x00\x0a\x04\x0a\x02v1\x12\x07\x12\x05\x0a\x03dev", `{"spec":{"namespace":"\ud800<"}}`, "[]", ""} {
		f.Add("application/json", []byte(body))
		f.Add("application/vnd.kubernetes.protobuf", []byte(body))
	}
	narrow, err := scope.Parse("namespaces=dev")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		review := &selfReview{kind: rulesReview, scope: narrow, kinds: newRequestKinds()}
		header := http.Header{"Content-Type": {contentType}}
		sent := review.prepare(header, body)
		if review.namespace == "" {
			return
		}
		var asked authorizationv1.SelfSubjectRulesReview
		if err := json.Unmarshal(sent, &asked); err != nil || header.Get("Content-Type") != "application/json" || asked.Spec.Namespace != review.namespace {
			t.Fatalf("%q of %q makes %q of %q, %v", body, contentType, sent, review.namespace, err)
		}
	})
}

// Promise: whatever the API server answers, what is passed on claims nothing that
// the scope denies.
func FuzzNarrowed(f *testing.F) {
	f.Add([]byte(`{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"resourceAttributes":{"verb":"get","resource":"secrets"}},"status":{"allowed":true}}`))
	f.Add([]byte(`{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{"nonResourceAttributes":{"path":"/x","verb":"post"}},"status":{"allowed":true}}`))
	f.Add([]byte("{\n  \"kind\":\"SelfSubjectAccessReview\"}"))
	narrow, err := scope.Parse("read-only no-secrets")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		review := &selfReview{kind: accessReview, scope: narrow, kinds: newRequestKinds()}
		got, err := review.narrowed(body)
		if err != nil {
			return
		}
		var answer authorizationv1.SelfSubjectAccessReview
		if err := json.Unmarshal(got, &answer); err != nil {
			return // no client can read it either
		}
		about := answer.Spec.ResourceAttributes
		if answer.Status.Allowed && about != nil && (about.Resource == "secrets" || about.Verb == "delete") {
			t.Fatalf("%q makes %q", body, got)
		}
	})
}
