package upstream

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// The JSON of a SubjectAccessReview and of a SelfSubjectAccessReview, which has
// no user (k8s.io/api v0.37, authorization/v1), as far as it is used.
type (
	accessReview struct {
		APIVersion string        `json:"apiVersion"`
		Kind       string        `json:"kind"`
		Spec       *accessSpec   `json:"spec,omitempty"`
		Status     *accessStatus `json:"status,omitempty"`
	}
	accessSpec struct {
		User        string              `json:"user,omitempty"`
		UID         string              `json:"uid,omitempty"`
		Groups      []string            `json:"groups,omitempty"`
		Extra       map[string][]string `json:"extra,omitempty"`
		Resource    *resourceAttributes `json:"resourceAttributes,omitempty"`
		NonResource *pathAttributes     `json:"nonResourceAttributes,omitempty"`
	}
	resourceAttributes struct {
		Namespace     string       `json:"namespace,omitempty"`
		Verb          string       `json:"verb"`
		Group         string       `json:"group,omitempty"`
		Version       string       `json:"version,omitempty"`
		Resource      string       `json:"resource"`
		Subresource   string       `json:"subresource,omitempty"`
		Name          string       `json:"name,omitempty"`
		FieldSelector *rawSelector `json:"fieldSelector,omitempty"`
		LabelSelector *rawSelector `json:"labelSelector,omitempty"`
	}
	rawSelector struct {
		Raw string `json:"rawSelector"`
	}
	pathAttributes struct {
		Path string `json:"path"`
		Verb string `json:"verb"`
	}
	accessStatus struct {
		Allowed bool `json:"allowed"`
	}
)

// review asks one question. An error means that there was no answer.
func (t *Target) review(ctx context.Context, kind string, spec accessSpec) (bool, error) {
	question := accessReview{APIVersion: "authorization.k8s.io/v1", Kind: kind, Spec: &spec}
	var answer accessReview
	path := "/apis/authorization.k8s.io/v1/" + strings.ToLower(kind) + "s"
	if err := t.call(ctx, http.MethodPost, path, question, &answer); err != nil {
		return false, err
	}
	if answer.Kind != kind || answer.Status == nil {
		return false, fmt.Errorf("the answer is no %s", kind)
	}
	return answer.Status.Allowed, nil
}

// AccessReviewer is an [impersonate.Reviewer] that asks the Target in use.
type AccessReviewer struct{ Live *Live }

// Allowed reports whether the API server lets user do what a says.
func (r AccessReviewer) Allowed(ctx context.Context, user *auth.User, a impersonate.Attributes) (bool, error) {
	spec := accessSpec{User: user.Name, UID: user.UID, Groups: user.Groups, Extra: user.Extra}
	if a.Path != "" {
		spec.NonResource = &pathAttributes{Path: a.Path, Verb: a.Verb}
	} else {
		spec.Resource = &resourceAttributes{
			Namespace: a.Namespace, Verb: a.Verb, Group: a.Group, Version: a.Version, Resource: a.Resource,
			Subresource: a.Subresource, Name: a.Name, FieldSelector: raw(a.FieldSelector), LabelSelector: raw(a.LabelSelector),
		}
	}
	allowed, err := r.Live.Target().review(ctx, "SubjectAccessReview", spec)
	if err != nil {
		return false, fmt.Errorf("ask whether the caller may %s: %w", a.Verb, err)
	}
	return allowed, nil
}

func raw(selector string) *rawSelector {
	if selector == "" {
		return nil
	}
	return &rawSelector{selector}
}
