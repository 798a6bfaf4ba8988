package scope

import (
	"cmp"
	"slices"
	"strings"
)

// Rule is something that somebody may do with resources, as a
// SelfSubjectRulesReview lists it (k8s.io/api v0.37, authorization/v1). Each may
// hold All; a resource may be written as pods/log and */scale too. No names are
// all names.
type Rule struct{ Verbs, Groups, Resources, Names []string }

// PathRule is something that somebody may do with paths. One that ends with a *
// stands for everything that begins so.
type PathRule struct{ Verbs, Paths []string }

// maxQuestions bounds what a list of rules may cost: whoever may write roles can
// write long ones. A rule of a cluster's administrator takes some 3000.
const maxQuestions = 100_000

// Narrowing makes of somebody's rules those that a scope leaves. It never leaves
// what the scope denies, and may leave less than it allows.
type Narrowing struct {
	scope     Scope
	namespace string
	questions int
	lost      bool
}

// Narrow returns the Narrowing of rules about a namespace, or about one that is
// not known if that is empty.
func (s Scope) Narrow(namespace string) *Narrowing { return &Narrowing{scope: s, namespace: namespace} }

// Incomplete reports whether something is allowed that could not be written as
// rules, and so is in none of those that were left.
func (n *Narrowing) Incomplete() bool { return n.lost }

// allows reports whether the scope allows q, and everything for which it stands.
func (n *Narrowing) allows(q Question) bool {
	if n.questions++; n.questions > maxQuestions {
		n.lost = true
		return false
	}
	q.Namespace = n.namespace
	return n.scope.Denies(q.Request()) == nil
}

// grant is what is left for one resource.
type grant struct {
	group, resource string
	verbs, names    []string
}

// Rule returns what is left of rule: if that has not changed rule itself, else
// rules that say less, or none.
func (n *Narrowing) Rule(rule Rule) (left []Rule, changed bool) {
	if n.questions > maxQuestions || len(rule.Groups)*len(rule.Resources)*len(rule.Verbs) > maxQuestions {
		n.lost = true
		return nil, true
	}
	verbs := rule.Verbs
	if slices.Contains(verbs, All) {
		verbs = unrepeated(slices.Concat(verbs, Verbs())) // what is left if it may not be All
	}
	var grants []grant
	for _, group := range rule.Groups {
		for _, resource := range rule.Resources {
			one := n.resource(grant{group, resource, verbs, rule.Names})
			changed = changed || len(one) != 1 || !one[0].is(group, resource, rule)
			grants = append(grants, one...)
		}
	}
	if !changed {
		return []Rule{rule}, false
	}
	return merged(grants), true
}

// is reports whether g says of a group and a resource what rule does.
func (g grant) is(group, resource string, rule Rule) bool {
	return g.group == group && g.resource == resource && slices.Equal(g.names, rule.Names) &&
		(slices.Equal(g.verbs, rule.Verbs) || slices.Contains(g.verbs, All))
}

// resource returns what is left of g. The names of namespaces are looked at: a
// scope may allow some of them.
func (n *Narrowing) resource(g grant) []grant {
	if name, _, _ := strings.Cut(g.resource, "/"); name != "namespaces" || n.whole(g) {
		return n.named(g, "")
	}
	var left []grant
	if len(g.names) == 0 {
		left = n.named(g, "")
		g.names = []string{n.namespace}
	}
	for _, name := range g.names {
		if name != "" {
			left = append(left, n.named(grant{g.group, g.resource, g.verbs, []string{name}}, name)...)
		}
	}
	return left
}

// whole reports whether nothing of g is denied, whatever its names.
func (n *Narrowing) whole(g grant) bool {
	_, denied := n.verbs(g.verbs, Question{Group: g.group, Resource: g.resource})
	return len(denied) == 0
}

// named returns what is left of g for something with this name. Where a * stands
// for too much, what is known of it takes its place.
func (n *Narrowing) named(g grant, name string) (left []grant) {
	allowed, denied := n.verbs(g.verbs, Question{Group: g.group, Resource: g.resource, Name: name})
	if len(allowed) > 0 {
		left = append(left, grant{g.group, g.resource, allowed, g.names})
	}
	if len(denied) == 0 {
		return left
	}
	g.verbs = denied
	all, _, _ := strings.Cut(g.resource, "/")
	if all == All {
		for _, resource := range n.scope.resources(g.group, g.resource) {
			left = append(left, n.resource(grant{g.group, resource, denied, g.names})...)
		}
	}
	if g.group != All {
		return left
	}
	for _, group := range n.scope.groups() {
		if one := (grant{group, g.resource, denied, g.names}); all == All || mayHold(group, g.resource) {
			left = append(left, n.resource(one)...)
		} else if n.some(one, name) {
			n.lost = true
		}
	}
	return left
}

// some reports whether something of g is allowed.
func (n *Narrowing) some(g grant, name string) bool {
	allowed, _ := n.verbs(g.verbs, Question{Group: g.group, Resource: g.resource, Name: name})
	return len(allowed) > 0
}

// unheardOf is a verb, an API group and a resource that nobody names: what is
// allowed for it is allowed for more than can be listed.
const unheardOf = "unheard-of"

// verbs returns those that q may have, and those that it may not.
func (n *Narrowing) verbs(verbs []string, q Question) (allowed, denied []string) {
	if q.Verb = All; slices.Contains(verbs, All) && n.allows(q) {
		return []string{All}, nil
	}
	for _, verb := range verbs {
		q.Verb = verb
		switch {
		case verb == All:
			n.miss(unheardOf, q)
		case n.allows(q):
			allowed = append(allowed, verb)
			continue
		default:
			n.miss(verb, q)
		}
		denied = append(denied, verb)
	}
	return allowed, denied
}

// miss notes whether verb, which is denied for q as a whole or cannot be listed,
// is allowed for something of it that is not known.
func (n *Narrowing) miss(verb string, q Question) {
	all, sub, _ := strings.Cut(q.Resource, "/")
	if n.lost || verb != unheardOf && q.Group != All && all != All {
		return
	}
	names := []string{all}
	if all == All {
		names = append([]string{unheardOf}, n.scope.named()...)
	}
	q.Verb = verb
	if q.Group == All {
		q.Group = unheardOf
	}
	for _, name := range names {
		if q.Resource = name; sub != "" {
			name, _, _ = strings.Cut(name, "/")
			q.Resource = name + "/" + sub
		}
		if n.allows(q) {
			n.lost = true
			return
		}
	}
}

// groups returns the API groups that are known, or that s names.
func (s Scope) groups() []string {
	var all []string
	for _, g := range known {
		all = append(all, g.name)
	}
	for _, w := range s.words {
		for _, value := range w.values {
			switch w.name {
			case groups:
				if value == CoreGroup {
					value = ""
				}
				all = append(all, value)
			case resources:
				name, _, _ := strings.Cut(value, "/")
				if _, group, grouped := strings.Cut(name, "."); grouped {
					all = append(all, group)
				}
			}
		}
	}
	return unrepeated(all)
}

// named returns the resources that s names, without their API groups.
func (s Scope) named() []string {
	var all []string
	for _, w := range s.words {
		if w.name == resources {
			for _, value := range w.values {
				name, sub, _ := strings.Cut(value, "/")
				if name, _, _ = strings.Cut(name, "."); sub == "*" {
					sub = unheardOf
				}
				if sub != "" {
					name += "/" + sub
				}
				all = append(all, name)
			}
		}
	}
	return unrepeated(all)
}

// resources returns what is known in an API group of what pattern stands for: All,
// or a subresource of all. Where nothing is known, it is what s names.
func (s Scope) resources(group, pattern string) []string {
	all := s.named()
	if g := ofKubernetes(group); g != nil {
		all = g.names()
	}
	_, sub, ofSubresource := strings.Cut(pattern, "/")
	return unrepeated(slices.DeleteFunc(all, func(name string) bool {
		_, has, _ := strings.Cut(name, "/")
		return has == unheardOf || ofSubresource && has != sub
	}))
}

// merged returns rules that say what grants do, in few words.
func merged(grants []grant) []Rule {
	var rules []Rule
	for _, g := range grants {
		i := slices.IndexFunc(rules, func(r Rule) bool {
			return len(r.Groups) == 1 && r.Groups[0] == g.group && slices.Equal(r.Verbs, g.verbs) && slices.Equal(r.Names, g.names)
		})
		if i < 0 {
			rules = append(rules, Rule{g.verbs, []string{g.group}, []string{g.resource}, g.names})
		} else if !slices.Contains(rules[i].Resources, g.resource) {
			rules[i].Resources = append(rules[i].Resources, g.resource)
		}
	}
	return slices.Clip(rules)
}

// methods are those that a rule about paths can name.
var methods = [...]string{"get", "head", "post", "put", "patch", "delete", "options"}

// Path is Rule for one about paths.
func (n *Narrowing) Path(rule PathRule) (left []PathRule, changed bool) {
	if n.questions > maxQuestions || len(rule.Paths)*len(rule.Verbs) > maxQuestions {
		n.lost = true
		return nil, true
	}
	for _, path := range rule.Paths {
		verbs := n.onPath(rule.Verbs, path)
		changed = changed || !slices.Equal(verbs, rule.Verbs)
		if len(verbs) > 0 {
			left = addPath(left, verbs, path)
		}
		if begins, all := strings.CutSuffix(path, "*"); all && !slices.Equal(verbs, rule.Verbs) {
			for _, part := range discovery {
				if strings.HasSuffix(part, "/") {
					part += "*"
				}
				if !strings.HasPrefix(part, begins) {
					continue
				}
				more := slices.DeleteFunc(n.onPath(rule.Verbs, part), func(verb string) bool { return slices.Contains(verbs, verb) })
				if len(more) > 0 {
					left = addPath(left, more, part)
				}
			}
		}
	}
	if !changed {
		return []PathRule{rule}, false
	}
	return left, true
}

// onPath returns the verbs that are allowed on path.
func (n *Narrowing) onPath(verbs []string, path string) []string {
	var allowed []string
	allows := func(verb string) bool {
		if n.questions++; n.questions > maxQuestions {
			n.lost = true
			return false
		}
		return n.scope.Denies(Request{Verb: verb, Path: path}) == nil
	}
	for _, verb := range verbs {
		listed := []string{verb}
		if verb == All && !allows(All) {
			listed = methods[:]
		}
		for _, verb := range listed {
			if allows(verb) {
				allowed = append(allowed, verb)
			}
		}
	}
	return unrepeated(allowed)
}

func addPath(rules []PathRule, verbs []string, path string) []PathRule {
	i := slices.IndexFunc(rules, func(r PathRule) bool { return slices.Equal(r.Verbs, verbs) })
	if i < 0 {
		return append(rules, PathRule{verbs, []string{path}})
	}
	if !slices.Contains(rules[i].Paths, path) {
		rules[i].Paths = append(rules[i].Paths, path)
	}
	return rules
}

// unrepeated returns list without what stood in it before.
func unrepeated[T cmp.Ordered](list []T) []T {
	seen := make(map[T]bool, len(list))
	return slices.DeleteFunc(list, func(one T) bool {
		again := seen[one]
		seen[one] = true
		return again
	})
}
