package scope

import (
	"slices"
	"strings"
)

// All stands in a Request's verb, group, resource or subresource for everything
// that could be there, as in RBAC's rules. All resources are all subresources too.
const All = "*"

// Request is what a scope is asked about, as kube-apiserver's RequestInfo tells
// it (k8s.io/apiserver v0.37, pkg/endpoints/request).
type Request struct {
	// OfResource says that it is about a resource, and not about Path alone.
	OfResource bool
	// Verb is that of a request about a resource, or the HTTP method in lower case.
	Verb                                    string
	Group, Resource, Subresource, Namespace string
	Path                                    string
	// Upgrades says that it asks for a connection that goes both ways.
	Upgrades bool
	// Unclear says that nobody can be sure what it is about.
	Unclear bool
}

// Denial says why a scope does not allow something.
type Denial struct {
	// Word is the one that does not allow it.
	Word string
	// Credentials says that it is not allowed by any word, because it would make
	// a credential that no word narrows.
	Credentials bool
}

// Denies returns why s does not allow r, or nil. Where r has All, s must allow
// everything for which that stands.
//
// Some things every scope allows, because clients do nothing without them and
// nothing is gained by them: to discover the API, and to ask what oneself is and
// may do. What makes a credential, or is unclear, no scope allows.
func (s Scope) Denies(r Request) *Denial {
	if s.Unlimited() {
		return nil
	}
	if r.Unclear {
		return &Denial{Word: s.words[0].text}
	}
	if r.asksAboutItself() || r.discovers() {
		return nil
	}
	if r.makesCredentials() {
		return &Denial{Word: s.words[0].text, Credentials: true}
	}
	for _, w := range s.words {
		if !w.allows(r) {
			return &Denial{Word: w.text}
		}
	}
	return nil
}

// DeniesImpersonation returns why a request may not be made as another user, or
// nil.
func (s Scope) DeniesImpersonation() *Denial {
	for _, w := range s.words {
		if w.name == noImpersonation {
			return &Denial{Word: w.text}
		}
	}
	return nil
}

func (w word) allows(r Request) bool {
	switch w.name {
	case readOnly:
		if !r.OfResource {
			return (r.Verb == "get" || r.Verb == "head") && !r.connects()
		}
		return (r.Verb == "get" || r.Verb == "list" || r.Verb == "watch") && !r.connects()
	case noSecrets:
		return !r.OfResource || !mayBe(r.Resource, "secrets")
	case noExec:
		return !r.connects() && !(r.OfResource && r.mayHave("ephemeralcontainers"))
	case noImpersonation:
		// No request has these verbs. People ask whether they have the right; whether
		// a request is made as somebody else, DeniesImpersonation is asked.
		return !r.OfResource || r.Verb != All && !strings.HasPrefix(r.Verb, "impersonate")
	case namespaces:
		return r.OfResource && slices.Contains(w.values, r.Namespace)
	case groups:
		return r.OfResource && slices.Contains(w.values, groupName(r.Group))
	case resources:
		return r.OfResource && slices.ContainsFunc(w.values, func(value string) bool { return names(value, r) })
	case verbs:
		return slices.Contains(w.values, r.Verb)
	default:
		return false
	}
}

// mayBe reports whether value is what pattern says, or among all that it stands for.
func mayBe(pattern, value string) bool { return pattern == value || pattern == All }

// mayHave reports whether sub is the subresource that r is about, or among them.
func (r Request) mayHave(sub string) bool {
	return mayBe(r.Subresource, sub) || r.Resource == All && r.Subresource == ""
}

func groupName(group string) string {
	if group == "" {
		return CoreGroup
	}
	return group
}

// names reports whether a value of resources= names what r is about. One without
// a group is that resource of any group.
func names(value string, r Request) bool {
	name, sub, _ := strings.Cut(value, "/")
	resource, group, grouped := strings.Cut(name, ".")
	if resource != r.Resource || grouped && group != r.Group {
		return false
	}
	return sub == r.Subresource || sub == "*" && r.Subresource != ""
}

// connecting are the subresources by which somebody runs something in a pod, or
// talks to a pod, a service or a node.
var connecting = [...]string{"exec", "attach", "portforward", "proxy"}

// connects reports whether r goes through the API server to something else. An
// exec over WebSocket has the verb get. Other API servers have more names for it,
// such as the console of a virtual machine: what goes both ways connects, unless it
// is one of the two that may come over WebSocket too and only read.
func (r Request) connects() bool {
	if r.Upgrades && !(r.OfResource && (r.Verb == "watch" || r.Subresource == "log")) {
		return true
	}
	return r.OfResource && (slices.ContainsFunc(connecting[:], r.mayHave) || mayBe(r.Verb, "proxy"))
}

// makesCredentials reports whether r would make a credential, or have one made:
// the token of a ServiceAccount, or a certificate.
func (r Request) makesCredentials() bool {
	if !r.OfResource || r.Verb == "get" || r.Verb == "list" || r.Verb == "watch" {
		return false
	}
	return mayBe(r.Group, "") && mayBe(r.Resource, "serviceaccounts") && r.mayHave("token") ||
		mayBe(r.Group, "certificates.k8s.io")
}

// asksAboutItself reports whether r asks who its caller is and what he may do.
// That has the verb create, and creates nothing.
func (r Request) asksAboutItself() bool {
	if !r.OfResource || r.Verb != "create" || r.Subresource != "" {
		return false
	}
	switch r.Group + "/" + r.Resource {
	case "authentication.k8s.io/selfsubjectreviews", "authorization.k8s.io/selfsubjectaccessreviews",
		"authorization.k8s.io/selfsubjectrulesreviews":
		return true
	}
	return false
}

// discovery are the paths by which clients learn what an API server has. Below
// those that end with a slash everything is.
var discovery = [...]string{"/api", "/api/", "/apis", "/apis/", "/openapi/", "/version", "/version/"}

// discovers reports whether r learns what the API server has. Every API server
// tells that to everybody who is signed in (the ClusterRole system:discovery).
func (r Request) discovers() bool {
	if r.OfResource || r.Upgrades || r.Verb != "get" && r.Verb != "head" {
		return false
	}
	for _, path := range discovery {
		if r.Path == path || strings.HasSuffix(path, "/") && strings.HasPrefix(r.Path, path) {
			return true
		}
	}
	return false
}
