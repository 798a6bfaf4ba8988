package proxy

import (
	"net/http"
	"strings"

	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/kube-gatehouse/gatehouse/auth/scope"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// withinScope returns the answer that refuses what the scope of the caller's
// token does not allow, or nil. It knows the request by the API server's own
// rules. What the cluster's rules allow is asked later, and beside it.
func (p *Proxy) withinScope(x *exchange, r *http.Request) *answer {
	if x.identity.Scope.Unlimited() {
		return nil
	}
	asked := scopeRequest(r.URL.Path, x.kind.info)
	asked.Upgrades = r.Header["Upgrade"] != nil
	asked.Unclear = asked.Unclear || saysOtherwise(r.Method, asked)
	denial := x.identity.Scope.Denies(asked)
	if denial == nil && impersonate.Asked(r.Header) != "" {
		denial = x.identity.Scope.DeniesImpersonation()
	}
	if denial == nil {
		return nil
	}
	x.outOfScope = denial.Word
	return outOfScope(denial)
}

// saysOtherwise reports whether the path gives a request a verb that only reads,
// and its method does not: as the old paths of watches do. kube-apiserver serves no
// such request, and one that it passes on to another server could change something.
func saysOtherwise(method string, asked scope.Request) bool {
	reads := asked.Verb == "get" || asked.Verb == "list" || asked.Verb == "watch"
	return asked.OfResource && reads && method != http.MethodGet && method != http.MethodHead
}

// scopeRequest is what a request with this path is about, of which info is nil if
// it makes no sense to the API server. That, and a path which two readers could
// understand in two ways, is unclear.
func scopeRequest(path string, info *request.RequestInfo) scope.Request {
	if info == nil || strings.Contains(path, "//") || hasDotSegment(path) {
		return scope.Request{Unclear: true}
	}
	return scope.Request{
		OfResource: info.IsResourceRequest, Verb: info.Verb, Group: info.APIGroup,
		Resource: info.Resource, Subresource: info.Subresource, Namespace: info.Namespace, Path: info.Path,
	}
}
