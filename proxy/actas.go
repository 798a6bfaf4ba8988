package proxy

import (
	"errors"
	"maps"
	"net/http"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// modePassed is what metrics and the log call an impersonation that the API
// server itself decides about: that of a ServiceAccount's own token.
const modePassed = "passed"

// actAs decides whom the request is for if the caller asks to be somebody else,
// as `kubectl --as` does. It returns the answer that refuses, or nil.
func (p *Proxy) actAs(x *exchange, r *http.Request) *answer {
	if impersonate.Asked(r.Header) == "" {
		return nil
	}
	if p.cfg.Permits == nil {
		return &noImpersonate
	}
	wanted, err := impersonate.Wanted(r.Header)
	switch {
	case err != nil:
		return &badImpersonation
	case (auth.NamePolicy{}).CheckWire(x.identity.Kind, wanted) != nil || bringsOurs(wanted):
		return &badImpersonation
	}
	if x.identity.Kind == auth.KindServiceAccount {
		x.as, x.mode = wanted, modePassed
		return nil
	}
	if impersonate.Impossible(wanted) {
		return &neverAs
	}
	mode, err := p.cfg.Permits.Check(r.Context(), &x.identity.User, wanted, p.kinds.attributes(r, x.kind))
	switch {
	case errors.Is(err, impersonate.ErrDenied):
		p.metrics.actedAs("", "denied")
		x.denied = wanted
		return &mayNotActAs
	case err != nil:
		p.metrics.actedAs("", "failed")
		p.cfg.Log.Error("whether a caller may act as another user could not be asked", "audit_id", x.id, "error", err)
		return &cannotTell
	}
	p.metrics.actedAs(string(mode), "allowed")
	x.as, x.mode = withOriginal(wanted, x.identity.Name), string(mode)
	return nil
}

// bringsOurs reports whether a caller asks for an extra that only gatehouse may
// set.
func bringsOurs(u *auth.User) bool {
	for key := range u.Extra {
		if strings.HasPrefix(key, impersonate.OwnExtraPrefix) {
			return true
		}
	}
	return false
}

// withOriginal adds who acts as u to its extra, for the audit log of the API
// server. A ServiceAccount has none: constrained impersonation takes its name
// alone.
func withOriginal(u *auth.User, original string) *auth.User {
	if impersonate.IsServiceAccount(u.Name) {
		return u
	}
	with := *u
	with.Extra = maps.Clone(u.Extra)
	if with.Extra == nil {
		with.Extra = map[string][]string{}
	}
	with.Extra[impersonate.OriginalUserKey] = []string{original}
	return &with
}

// attributes are what kube-apiserver would ask its authorizer about r (v1.37,
// pkg/endpoints/filters/authorization.go). Here, unlike in of, the query counts:
// its caller is known.
func (k requestKinds) attributes(r *http.Request, kind requestKind) impersonate.Attributes {
	info := kind.info
	if info == nil {
		return impersonate.Attributes{Verb: strings.ToLower(r.Method), Path: r.URL.Path}
	}
	var options internalversion.ListOptions
	// Where the query cannot be read the resolver would log it.
	if internalversionscheme.ParameterCodec.DecodeParameters(r.URL.Query(), metav1.SchemeGroupVersion, &options) == nil {
		if whole, err := k.resolver.NewRequestInfo(&http.Request{Method: r.Method, URL: r.URL}); err == nil {
			info = whole
		}
	}
	if !info.IsResourceRequest {
		return impersonate.Attributes{Verb: info.Verb, Path: info.Path}
	}
	return impersonate.Attributes{
		Verb: info.Verb, Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource, Subresource: info.Subresource,
		Namespace: info.Namespace, Name: info.Name, FieldSelector: info.FieldSelector, LabelSelector: info.LabelSelector,
	}
}
