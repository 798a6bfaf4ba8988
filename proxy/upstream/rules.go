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
	// AccessReviews says that the API server is asked what people may do, even if
	// nobody may ask to be somebody else.
	AccessReviews bool
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
	var more []string
	if n.Impersonation {
		n.Users, n.Groups, n.UIDs = true, true, true // whoever is asked for may have them
		more = []string{originalUserKey}
	}
	n.ExtraKeys = sorted(n.ExtraKeys, more) // the order of issuers makes no difference
	return n
}

// Rule is one rule of a ClusterRole: every verb on every resource of every group,
// or on every path.
type Rule struct {
	Why                             string // for a comment
	Groups, Resources, Paths, Verbs []string
}

// Rights returns what r grants, one by one.
func (r *Rule) Rights() []Right {
	var rights []Right
	add := func(right Right) {
		for _, right.Verb = range r.Verbs {
			rights = append(rights, right)
		}
	}
	for _, path := range r.Paths {
		add(Right{Path: path})
	}
	for _, group := range r.Groups {
		for _, name := range r.Resources {
			right := Right{Group: group}
			right.Resource, right.Subresource, _ = strings.Cut(name, "/")
			add(right)
		}
	}
	return rights
}

func rightsOf(rules []Rule) (all []Right) {
	for i := range rules {
		all = append(all, rules[i].Rights()...)
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
	needs := n.complete()
	rules := needs.identityRules(mode)
	if mode == ModeConstrained {
		rules = append(rules, needs.doorRules(&door)...)
	}
	return append(rules, needs.reviewRules()...)
}

// identityRules are what it takes to name a user.
func (n *Needs) identityRules(mode Mode) []Rule {
	if !n.Users {
		return nil
	}
	who, more := []string{"users"}, []string(nil)
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
		rules := []Rule{{Why: why, Groups: inCore, Resources: who, Verbs: legacyVerb}}
		if len(more) > 0 {
			rules = append(rules, Rule{Groups: inAuthentication, Resources: more, Verbs: legacyVerb})
		}
		return rules
	}
	rules := []Rule{{Why: why, Groups: inAuthentication, Resources: append(who, more...), Verbs: constrainedVerb}}
	if n.Impersonation {
		rules = append(rules, namingAccounts...)
	}
	return rules
}

// Parts of rules.
var (
	inCore           = []string{""}
	inAuthentication = []string{authenticationGroup}
	inAuthorization  = []string{authorizationGroup}
	anything         = []string{"*"}
	legacyVerb       = []string{"impersonate"}
	constrainedVerb  = []string{"impersonate:user-info"}
	createVerb       = []string{"create"}
	readVerbs        = []string{"get", "list", "watch"}
	pathVerbs        = []string{"get", "head"}
)

// What stands in a ClusterRole, or does not.
var (
	namingAccounts = []Rule{{
		Why:    "ServiceAccounts, whom people may ask to be (--as).",
		Groups: inAuthentication, Resources: []string{"serviceaccounts"}, Verbs: []string{"impersonate:serviceaccount"},
	}}
	accessReviews = []Rule{{
		Why:    "Whether somebody may be, or act for, somebody else is asked of the API server.",
		Groups: inAuthorization, Resources: []string{"subjectaccessreviews"}, Verbs: createVerb,
	}}
	tokenReviews = []Rule{{
		Why:    "Whom a ServiceAccount's token names is asked of the API server.",
		Groups: inAuthentication, Resources: []string{"tokenreviews"}, Verbs: createVerb,
	}}
)

// reviewRules are what gatehouse asks the API server as itself.
func (n *Needs) reviewRules() []Rule {
	var rules []Rule
	if n.Impersonation || n.AccessReviews {
		rules = append(rules, accessReviews...)
	}
	if n.TokenReviews {
		rules = append(rules, tokenReviews...)
	}
	return rules
}

// on returns the constrained verbs of requests in the names of one kind of user.
func on(kind string, verbs []string) []string {
	constrained := make([]string, len(verbs))
	for i, verb := range verbs {
		constrained[i] = "impersonate-on:" + kind + ":" + verb
	}
	return constrained
}

// doorRules are what may be asked in people's names.
func (n *Needs) doorRules(door *Door) []Rule {
	if !n.Users {
		return nil
	}
	template := openDoor
	if door.ReadOnly {
		template = readingDoor
	}
	rules := through(template, "user-info", door.Groups)
	if n.Impersonation {
		rules = append(rules, through(template, "serviceaccount", door.Groups)...)
	}
	return rules
}

// through makes a door of a template, for requests in the names of one kind of
// user, with more groups in the rule that has several.
func through(template []Rule, kind string, more []string) []Rule {
	rules := slices.Clone(template)
	for i := range rules {
		rule := &rules[i]
		rule.Verbs = on(kind, rule.Verbs)
		if len(rule.Groups) > 1 {
			rule.Groups = sorted(rule.Groups, more)
		}
	}
	return rules
}

// sorted returns what is in either list, once.
func sorted(list, more []string) []string {
	all := slices.Concat(list, more)
	slices.Sort(all)
	return slices.Compact(all)
}

// openDoor lets everything through. The verbs are those of requests.
var openDoor = []Rule{{
	Why:    "What may be asked in their name: everything, for the cluster's own RBAC\ndecides about each person. Take verbs away to make a narrower door.",
	Groups: anything, Resources: anything,
	Verbs: []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
}, {
	Paths: anything, Verbs: pathVerbs,
}}

// readingDoor lets reading through alone, and what kubectl asks about oneself.
// The verbs are those of requests; the rule of several groups takes more.
var readingDoor = []Rule{{
	Why: "What may be asked in their name: reading. In the core group every resource is\n" +
		"named, for an exec, an attach, a port-forward and a proxied request can be a GET,\n" +
		"which is get to RBAC: with a * they would pass.",
	Groups: inCore, Resources: readableCore, Verbs: readVerbs,
}, {
	Groups: readableGroups, Resources: anything, Verbs: readVerbs,
}, {
	Why:    "kubectl auth whoami and kubectl auth can-i ask by creating these; nothing is kept.",
	Groups: inAuthentication, Resources: []string{"selfsubjectreviews"}, Verbs: createVerb,
}, {
	Groups: inAuthorization, Resources: []string{"selfsubjectaccessreviews", "selfsubjectrulesreviews"}, Verbs: createVerb,
}, {
	Paths: anything, Verbs: pathVerbs,
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
