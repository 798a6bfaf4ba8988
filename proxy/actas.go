package proxy

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	internalversionscheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/endpoints/request"

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
	case (auth.NamePolicy{}).CheckWire(x.identity.Kind, wanted) != nil || auth.OwnExtra(wanted) != "":
		return &badImpersonation
	case !canBeAskedAbout(r):
		return &badQuestion
	}
	if refused := p.asOurselves(wanted.Name); refused != nil {
		return refused
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
		x.denied, x.notAs = wanted, shownOf(r.Header)(wanted.Name)
		return &mayNotActAs
	case err != nil:
		p.metrics.actedAs("", "failed")
		p.cfg.Log.Error("whether a caller may act as another user could not be asked", "audit_id", x.id, "error", err)
		return &cannotTell
	}
	p.metrics.actedAs(string(mode), "allowed")
	x.as, x.mode = withOriginal(wanted, x.identity), string(mode)
	return nil
}

// asOurselves refuses the name of gatehouse's own account, whatever the cluster's
// rules: no request may run as gatehouse. While that name is not known, no
// ServiceAccount's may be asked for.
func (p *Proxy) asOurselves(wanted string) *answer {
	switch self := p.cfg.Self(); {
	case wanted == self:
		return &neverAs
	case self == "" && impersonate.IsServiceAccount(wanted):
		return &cannotTell
	}
	return nil
}

// maxParameters is how many parameters the query of a request may have for which
// somebody acts as another: net/url reads none where there are more than 10,000,
// in the versions of Go that have that limit.
const maxParameters = 1000

// canBeAskedAbout reports whether an access review can name what r is about, so
// that the API server reads it in the same way: JSON holds nothing but UTF-8.
func canBeAskedAbout(r *http.Request) bool {
	if !utf8.ValidString(r.URL.Path) || strings.Count(r.URL.RawQuery, "&") >= maxParameters {
		return false
	}
	query := r.URL.Query()
	for _, name := range [...]string{"fieldSelector", "labelSelector"} {
		if values := query[name]; len(values) > 0 && !utf8.ValidString(values[0]) {
			return false
		}
	}
	return true
}

// withOriginal adds who acts as u to its extra, for the audit log of the API
// server. A ServiceAccount has none: constrained impersonation takes its name
// alone.
func withOriginal(u *auth.User, original *auth.Identity) *auth.User {
	if impersonate.IsServiceAccount(u.Name) {
		return u
	}
	with := withOwn(u, original)
	if with == u {
		with = withExtra(u)
	}
	with.Extra[impersonate.OriginalUserKey] = []string{original.Name}
	return with
}

// withOwn adds to the extra of u what a credential is narrowed to, and who acts
// by it, for the audit log and for whoever asks who he is. It is u itself of a
// credential that has neither.
func withOwn(u *auth.User, of *auth.Identity) *auth.User {
	if of.Scope.Unlimited() && len(of.Actors) == 0 {
		return u
	}
	with := withExtra(u)
	if !of.Scope.Unlimited() {
		with.Extra[impersonate.ScopeKey] = of.Scope.Words()
	}
	if len(of.Actors) > 0 {
		with.Extra[impersonate.ActorKey] = of.Actors
	}
	return with
}

// withExtra returns a copy of u whose extra can be added to.
func withExtra(u *auth.User) *auth.User {
	with := *u
	with.Extra = maps.Clone(u.Extra)
	if with.Extra == nil {
		with.Extra = map[string][]string{}
	}
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
	info = k.withQuery(r, info)
	if !info.IsResourceRequest {
		return impersonate.Attributes{Verb: info.Verb, Path: info.Path}
	}
	return impersonate.Attributes{
		Verb: info.Verb, Group: info.APIGroup, Version: info.APIVersion, Resource: info.Resource, Subresource: info.Subresource,
		Namespace: info.Namespace, Name: info.Name, FieldSelector: info.FieldSelector, LabelSelector: info.LabelSelector,
	}
}

// withQuery returns info with what the query of r says. A query that cannot be
// read the resolver would log; of that it takes the selectors alone, as they are,
// besides the watch that info knows of.
func (k requestKinds) withQuery(r *http.Request, info *request.RequestInfo) *request.RequestInfo {
	query := r.URL.Query()
	var options internalversion.ListOptions
	if internalversionscheme.ParameterCodec.DecodeParameters(query, metav1.SchemeGroupVersion, &options) == nil {
		if whole, err := k.resolver.NewRequestInfo(&http.Request{Method: r.Method, URL: r.URL}); err == nil {
			return whole
		}
		return info
	}
	byPath, err := k.resolver.NewRequestInfo(&http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path}})
	if err != nil || byPath.Verb != "list" && byPath.Verb != "deletecollection" { // the old paths of watches have no selectors
		return info
	}
	with := *info
	with.FieldSelector, with.LabelSelector = query.Get("fieldSelector"), query.Get("labelSelector")
	return &with
}
