package upstream

import (
	"slices"
	"strings"
)

// Needs are the rights that gatehouse's own account needs, in the terms of the
// settings. They are the one source of what `gatehouse rbac` prints and of what
// is checked. The zero value needs nothing.
type Needs struct {
	// Users says that people are named by impersonation; Groups and UIDs, that
	// they may have these.
	Users, Groups, UIDs bool
	// ExtraKeys are the keys of extra that they may carry.
	ExtraKeys []string
	// Impersonation says that people may ask to be somebody else (--as).
	Impersonation bool
	// TokenReviews says that the API server is asked whom a token names.
	TokenReviews bool
	// LegacyAlone says that the API server knows no constrained impersonation,
	// so that legacy rights, where there are any, are the ones that count.
	LegacyAlone bool
}

// originalUserKey is the extra that says who asked to be somebody else.
const originalUserKey = "kube-gatehouse.github.io/original-user"

// complete adds what follows from n.
func (n Needs) complete() Needs {
	if n.Impersonation {
		n.Users, n.Groups, n.UIDs = true, true, true // whoever is asked for may have them
		n.ExtraKeys = append(slices.Clone(n.ExtraKeys), originalUserKey)
	}
	keys := slices.Clone(n.ExtraKeys)
	slices.Sort(keys) // so that the order of issuers makes no difference
	n.ExtraKeys = slices.Compact(keys)
	return n
}

// Rule is one rule of a ClusterRole: every verb on every resource of every group,
// or on every path.
type Rule struct {
	Why                             string // for a comment
	Groups, Resources, Paths, Verbs []string
}

// Rights returns what r grants, one by one.
func (r Rule) Rights() []Right {
	var rights []Right
	for _, path := range r.Paths {
		for _, verb := range r.Verbs {
			rights = append(rights, Right{Verb: verb, Path: path})
		}
	}
	for _, group := range r.Groups {
		for _, name := range r.Resources {
			resource, subresource, _ := strings.Cut(name, "/")
			for _, verb := range r.Verbs {
				rights = append(rights, Right{Verb: verb, Group: group, Resource: resource, Subresource: subresource})
			}
		}
	}
	return rights
}

func rightsOf(rules []Rule) (all []Right) {
	for _, rule := range rules {
		all = append(all, rule.Rights()...)
	}
	return all
}

const (
	authenticationGroup = "authentication.k8s.io"
	authorizationGroup  = "authorization.k8s.io"
	// credentialIDKey is auth.CredentialIDKey, which every token with a `jti` and
	// every certificate brings.
	credentialIDKey = "authentication.kubernetes.io/credential-id"
)

// Door is what may be asked in people's names.
type Door struct {
	// ReadOnly lets reading through alone.
	ReadOnly bool
	// Groups are API groups that a read-only door lets through besides those of
	// Kubernetes. The core group cannot be given whole: in it, connecting to a
	// pod counts as reading.
	Groups []string
}

// Rules are the least rules that grant n in one mode.
func (n Needs) Rules(mode Mode, door Door) []Rule {
	n = n.complete()
	rules := n.identityRules(mode)
	if mode == ModeConstrained {
		rules = append(rules, n.doorRules(door)...)
	}
	return append(rules, n.reviewRules()...)
}

// identityRules are what it takes to name a user.
func (n Needs) identityRules(mode Mode) []Rule {
	if !n.Users {
		return nil
	}
	who, more := []string{"users"}, []string{}
	if n.Groups {
		who = append(who, "groups")
	}
	if n.UIDs {
		more = append(more, "uids")
	}
	for _, key := range n.ExtraKeys {
		more = append(more, "userextras/"+key)
	}
	const why = "Whom gatehouse may name."
	if mode == ModeLegacy {
		if n.Impersonation {
			who = append(who, "serviceaccounts")
		}
		rules := []Rule{{Why: why, Groups: []string{""}, Resources: who, Verbs: []string{"impersonate"}}}
		if len(more) > 0 {
			rules = append(rules, Rule{Groups: []string{authenticationGroup}, Resources: more, Verbs: []string{"impersonate"}})
		}
		return rules
	}
	rules := []Rule{{
		Why: why, Groups: []string{authenticationGroup}, Resources: append(who, more...), Verbs: []string{"impersonate:user-info"},
	}}
	if n.Impersonation {
		rules = append(rules, Rule{
			Why:    "ServiceAccounts, whom people may ask to be (--as).",
			Groups: []string{authenticationGroup}, Resources: []string{"serviceaccounts"}, Verbs: []string{"impersonate:serviceaccount"},
		})
	}
	return rules
}

// reviewRules are what gatehouse asks the API server as itself.
func (n Needs) reviewRules() []Rule {
	var rules []Rule
	if n.Impersonation {
		rules = append(rules, Rule{
			Why:    "Whether somebody may be somebody else is asked of the API server.",
			Groups: []string{authorizationGroup}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"},
		})
	}
	if n.TokenReviews {
		rules = append(rules, Rule{
			Why:    "Whom a ServiceAccount's token names is asked of the API server.",
			Groups: []string{authenticationGroup}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"},
		})
	}
	return rules
}

// The verbs of requests.
var (
	readVerbs  = []string{"get", "list", "watch"}
	pathVerbs  = []string{"get", "head"}
	createVerb = []string{"create"}
)

// on returns the constrained verbs of requests in the names of one kind of user.
func on(kind string, verbs []string) []string {
	constrained := make([]string, len(verbs))
	for i, verb := range verbs {
		constrained[i] = "impersonate-on:" + kind + ":" + verb
	}
	return constrained
}

// doorRules are what may be asked in people's names.
func (n Needs) doorRules(door Door) []Rule {
	if !n.Users {
		return nil
	}
	kinds := []string{"user-info"}
	if n.Impersonation {
		kinds = append(kinds, "serviceaccount")
	}
	template := openDoor
	if door.ReadOnly {
		template = readingDoor
	}
	var rules []Rule
	for _, kind := range kinds {
		for _, rule := range template {
			if len(rule.Groups) > 1 {
				rule.Groups = slices.Concat(rule.Groups, door.Groups)
				slices.Sort(rule.Groups)
				rule.Groups = slices.Compact(rule.Groups)
			}
			rule.Verbs = on(kind, rule.Verbs)
			rules = append(rules, rule)
		}
	}
	return rules
}

// openDoor lets everything through. The verbs are those of requests.
var openDoor = []Rule{{
	Why:    "What may be asked in their name: everything, for the cluster's own RBAC\ndecides about each person. Take verbs away to make a narrower door.",
	Groups: []string{"*"}, Resources: []string{"*"},
	Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
}, {
	Paths: []string{"*"}, Verbs: pathVerbs,
}}

// readingDoor lets reading through alone, and what kubectl asks about oneself.
// The verbs are those of requests; the rule of several groups takes more.
var readingDoor = []Rule{{
	Why: "What may be asked in their name: reading. In the core group every resource is\n" +
		"named, for an exec, an attach, a port-forward and a proxied request can be a GET,\n" +
		"which is get to RBAC: with a * they would pass.",
	Groups: []string{""}, Resources: readableCore, Verbs: readVerbs,
}, {
	Groups: readableGroups, Resources: []string{"*"}, Verbs: readVerbs,
}, {
	Why:    "kubectl auth whoami and kubectl auth can-i ask by creating these; nothing is kept.",
	Groups: []string{authenticationGroup}, Resources: []string{"selfsubjectreviews"}, Verbs: createVerb,
}, {
	Groups: []string{authorizationGroup}, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}, Verbs: createVerb,
}, {
	Paths: []string{"*"}, Verbs: pathVerbs,
}}

// What can be read of Kubernetes 1.37, but for what connects to something, and of
// metrics-server. The end-to-end tests compare this with a real API server.
var (
	readableCore = []string{
		"componentstatuses", "configmaps", "endpoints", "events", "limitranges", "namespaces", "nodes",
		"persistentvolumeclaims", "persistentvolumes", "pods", "pods/ephemeralcontainers", "pods/log", "pods/resize",
		"podtemplates", "replicationcontrollers", "resourcequotas", "secrets", "serviceaccounts", "services",
		"*/scale", "*/status",
	}
	readableGroups = []string{
		"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps", "autoscaling", "batch",
		"certificates.k8s.io", "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "flowcontrol.apiserver.k8s.io",
		"internal.apiserver.k8s.io", "metrics.k8s.io", "networking.k8s.io", "node.k8s.io", "policy",
		"rbac.authorization.k8s.io", "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io",
	}
)

// RuleNames are the values of [Right.Rule].
func RuleNames() []string {
	return []string{"users", "groups", "uids", "credential_id", "extra", "requests", "service_accounts", "subject_access_reviews", "token_reviews"}
}

// Rule returns the name, of a closed set, of what r belongs to: for a metric.
func (r Right) Rule() string {
	switch {
	case strings.HasPrefix(r.Verb, "impersonate-on:serviceaccount:"), r.Resource == "serviceaccounts":
		return "service_accounts"
	case strings.HasPrefix(r.Verb, "impersonate-on:"):
		return "requests"
	case r.Resource == "userextras" && r.Subresource == credentialIDKey:
		return "credential_id"
	case r.Resource == "userextras":
		return "extra"
	case r.Resource == "subjectaccessreviews":
		return "subject_access_reviews"
	case r.Resource == "tokenreviews":
		return "token_reviews"
	default:
		return r.Resource // users, groups, uids
	}
}
