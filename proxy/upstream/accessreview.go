package upstream

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

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

// versionTime is how long the API server's version is believed.
const versionTime = time.Minute

// AccessReviewer is an [impersonate.Reviewer] that asks the Target in use.
type AccessReviewer struct {
	live *Live
	now  func() time.Time

	mu    sync.Mutex
	known knownVersion
}

// knownVersion says until when a Target is known to have constrained
// impersonation, or not to.
type knownVersion struct {
	target      *Target
	until       time.Time
	constrained bool
}

// NewAccessReviewer returns an AccessReviewer.
func NewAccessReviewer(live *Live) *AccessReviewer {
	return &AccessReviewer{live: live, now: time.Now}
}

// Allowed reports whether the API server lets user do what a says. The verbs of
// constrained impersonation mean nothing to an API server without it, so there
// they allow nothing, though rules with the verb "*" hold them.
func (r *AccessReviewer) Allowed(ctx context.Context, user *auth.User, a impersonate.Attributes) (bool, error) {
	target := r.live.Target()
	if strings.HasPrefix(a.Verb, "impersonate:") || strings.HasPrefix(a.Verb, "impersonate-on:") {
		if constrained, err := r.constrained(ctx, target); err != nil || !constrained {
			return false, err
		}
	}
	spec := accessSpec{User: user.Name, UID: user.UID, Groups: user.Groups, Extra: user.Extra}
	if a.Path != "" {
		spec.NonResource = &pathAttributes{Path: a.Path, Verb: a.Verb}
	} else {
		spec.Resource = &resourceAttributes{
			Namespace: a.Namespace, Verb: a.Verb, Group: a.Group, Version: a.Version, Resource: a.Resource,
			Subresource: a.Subresource, Name: a.Name, FieldSelector: raw(a.FieldSelector), LabelSelector: raw(a.LabelSelector),
		}
	}
	allowed, err := target.review(ctx, "SubjectAccessReview", spec)
	if err != nil {
		return false, fmt.Errorf("ask whether the caller may %s: %w", a.Verb, err)
	}
	return allowed, nil
}

// constrained reports whether target has constrained impersonation. That of 1.35
// stands behind a feature gate that cannot be asked about, and counts as none.
func (r *AccessReviewer) constrained(ctx context.Context, target *Target) (bool, error) {
	r.mu.Lock()
	known := r.known
	r.mu.Unlock()
	if known.target == target && r.now().Before(known.until) {
		return known.constrained, nil
	}
	version, err := target.Version(ctx)
	if err != nil {
		return false, fmt.Errorf("ask the API server for its version: %w", err)
	}
	can, gated := version.Constrained()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known = knownVersion{target, r.now().Add(versionTime), can && !gated}
	return r.known.constrained, nil
}

func raw(selector string) *rawSelector {
	if selector == "" {
		return nil
	}
	return &rawSelector{selector}
}
