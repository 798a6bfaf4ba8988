package scope

import "strings"

// Question is what somebody asks who wants to know whether he may do something:
// the resourceAttributes of a SelfSubjectAccessReview (k8s.io/api v0.37,
// authorization/v1). All may stand in verb, group, resource and subresource.
type Question struct {
	Verb, Group, Resource, Subresource string
	// Namespace is empty for all namespaces, and for what is in none.
	Namespace string
	// Name is empty for all names.
	Name string
}

// Request returns the request that q is about. People, and kubectl, ask about
// things that are in no namespace as if they were in theirs.
func (q Question) Request() Request {
	if name, sub, joined := strings.Cut(q.Resource, "/"); joined && q.Subresource == "" {
		q.Resource, q.Subresource = name, sub // RBAC makes no difference
		if sub == "" {
			return Request{Unclear: true}
		}
	}
	if strings.Contains(q.Resource+q.Subresource, "/") {
		return Request{Unclear: true}
	}
	return Request{
		OfResource: true, Verb: q.Verb, Group: q.Group, Resource: q.Resource, Subresource: q.Subresource,
		Namespace: q.namespace(),
	}
}

// namespace returns the namespace that kube-apiserver's RequestInfo has of such a
// request: that of a namespace is its own name.
func (q Question) namespace() string {
	if q.Resource != "namespaces" || !mayBe(q.Group, "") {
		if ClusterWide(q.Group, q.Resource) {
			return ""
		}
		return q.Namespace
	}
	switch q.Verb {
	case "create", "list", "watch", "deletecollection", All:
		return ""
	}
	if q.Group == All && q.Name != q.Namespace { // other groups may have them too
		return ""
	}
	return q.Name
}
