package upstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Right is one thing that an account may be allowed to do: to a resource, or to
// a path that is none.
type Right struct {
	Verb, Group, Resource, Subresource string
	Path                               string
}

// String writes r as `kubectl auth can-i` takes it.
func (r Right) String() string {
	if r.Path != "" {
		return fmt.Sprintf("%s path %s", r.Verb, r.Path)
	}
	name := r.Resource
	if r.Group != "" {
		name += "." + r.Group
	}
	if r.Subresource != "" {
		name += "/" + r.Subresource
	}
	return r.Verb + " " + name
}

// Mode is how an account may say for whom a request is.
type Mode string

// The modes.
const (
	ModeNone        Mode = "none"
	ModeConstrained Mode = "constrained" // Kubernetes 1.36 and later
	ModeLegacy      Mode = "legacy"      // the verb impersonate
)

// Rights is what our own account may do, as the API server says.
type Rights struct {
	Mode Mode
	// Missing are needed, and not there: some requests, or all, are refused.
	Missing []Right
	// Narrow are missing too, but that makes a narrower door, which may be meant:
	// nobody can do this through us.
	Narrow []Right
	// Fallback says that the account has constrained rights and the legacy
	// ones: where the former do not suffice, the API server uses the latter.
	Fallback bool
	// Excess are rights that are not needed, and that a thief of our credential
	// would have.
	Excess []Right
	// CanName says that the account may name users, so that somebody can be
	// served by impersonation.
	CanName bool
	// Grant is the mode whose rights should be granted.
	Grant Mode
	// Self is the account's user name, if it is known.
	Self string
}

// Command returns the command that prints a manifest with the rights that r
// should have, for the same account.
func (r Rights) Command() string {
	command := "gatehouse rbac"
	if r.Grant == ModeLegacy {
		command += " --legacy"
	}
	// Another manifest would be for an account that nobody uses.
	account, ok := strings.CutPrefix(r.Self, "system:serviceaccount:")
	if namespace, name, found := strings.Cut(account, ":"); ok && found && account != "gatehouse:gatehouse" {
		command += " --namespace " + namespace + " --service-account " + name
	}
	return command
}

// Err returns an error that names what is missing and what grants it, or nil.
func (r Rights) Err() error {
	if len(r.Missing) == 0 {
		return nil
	}
	names := make([]string, len(r.Missing))
	for i, right := range r.Missing {
		names[i] = right.String()
	}
	return fmt.Errorf("gatehouse's own account lacks: %s; apply what `%s` prints", strings.Join(names, ", "), r.Command())
}

// Lacks reports whether right is missing.
func (r Rights) Lacks(right Right) bool { return slices.Contains(r.Missing, right) }

// TokenReviews is the right to ask whom a ServiceAccount token names.
var TokenReviews = Right{Verb: "create", Group: authenticationGroup, Resource: "tokenreviews"}

// excessRights are none of gatehouse's business.
func excessRights() []Right {
	return []Right{
		{Verb: "*", Group: "*", Resource: "*"},
		{Verb: "get", Resource: "secrets"},
		{Verb: "create", Resource: "pods"},
		{Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
	}
}

// OwnRights asks the API server for its version, and then what our own account
// may do. An error means that it did not answer every question.
func (t *Target) OwnRights(ctx context.Context, needs Needs) (Rights, error) {
	version, err := t.Version(ctx)
	if _, answered := errors.AsType[StatusError](err); err != nil && !answered {
		return Rights{}, fmt.Errorf("ask for the version: %w", err)
	}
	needs.LegacyAlone = version.LegacyAlone()
	rights, err := t.Rights(ctx, needs)
	if err == nil && len(rights.Missing) > 0 {
		rights.Self, _ = t.WhoAmI(ctx) // for the command alone
	}
	return rights, err
}

// Rights asks the API server what our own account may do. An error means that
// it did not answer every question.
func (t *Target) Rights(ctx context.Context, needs Needs) (Rights, error) {
	needs = needs.complete()
	constrained, legacy := rightsOf(needs.identityRules(ModeConstrained)), rightsOf(needs.identityRules(ModeLegacy))
	door, also, excess := rightsOf(needs.doorRules(&Door{})), rightsOf(needs.reviewRules()), excessRights()
	allowed, err := t.allowedAll(ctx, slices.Concat(constrained, legacy, door, readingSample(), also, excess))
	if err != nil {
		return Rights{}, err
	}
	held := func(r Right) bool { return allowed[r] }
	lacking := func(list []Right) []Right { return slices.DeleteFunc(slices.Clone(list), held) }

	rights := Rights{Mode: ModeNone, Grant: ModeConstrained, Missing: constrained}
	if needs.LegacyAlone {
		rights.Grant, rights.Missing = ModeLegacy, legacy
	}
	hasConstrained := slices.ContainsFunc(constrained, held) || slices.ContainsFunc(door, held)
	// The other legacy rights are in the API group of the constrained ones.
	hasLegacy := slices.ContainsFunc(legacy, func(r Right) bool { return r.Group == "" && held(r) })
	switch {
	case hasConstrained && needs.LegacyAlone && !hasLegacy:
		rights.Mode = ModeConstrained // and all of them are worth nothing there
	case hasConstrained && !needs.LegacyAlone:
		rights.Mode, rights.Fallback, rights.Missing = ModeConstrained, hasLegacy, lacking(constrained)
		if rights.Narrow = narrow(door, held); len(rights.Narrow) == len(door) { // nothing goes through, which is not meant
			rights.Missing, rights.Narrow = append(rights.Missing, door...), nil
		}
		rights.CanName = held(constrained[0])
	case hasLegacy:
		rights.Mode, rights.Grant, rights.Missing = ModeLegacy, ModeLegacy, lacking(legacy)
		rights.CanName = held(legacy[0])
	}
	rights.Missing = append(rights.Missing, lacking(also)...)
	rights.Excess = slices.DeleteFunc(excess, func(r Right) bool { return !held(r) })
	return rights, nil
}

// readingSample stands for the door that lets reading alone through: too long to
// ask about each of its resources.
func readingSample() []Right {
	sample := Rule{Groups: inCore, Resources: []string{"pods"}, Verbs: on("user-info", readVerbs)}
	return sample.Rights()
}

// narrow returns what of door is not held. Reading counts as held if it is for
// what stands for all of it.
func narrow(door []Right, held func(Right) bool) []Right {
	return slices.DeleteFunc(slices.Clone(door), func(r Right) bool {
		return held(r) || r.Path == "" && slices.ContainsFunc(readingSample(), func(sample Right) bool {
			return sample.Verb == r.Verb && held(sample)
		})
	})
}

// maxQuestions is how many are asked at a time.
const maxQuestions = 8

// allowedAll asks about each of rights.
func (t *Target) allowedAll(ctx context.Context, rights []Right) (map[Right]bool, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex
	var wait sync.WaitGroup
	var first error
	answers := make(map[Right]bool, len(rights))
	turn := make(chan struct{}, maxQuestions)
	for _, right := range rights {
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			allowed, err := t.Allowed(ctx, right)
			mu.Lock()
			defer mu.Unlock()
			answers[right] = allowed
			if err != nil && first == nil {
				first = fmt.Errorf("ask whether we may %s: %w", right, err)
				cancel() // the others would meet the same
			}
		})
	}
	wait.Wait()
	return answers, first
}

// Allowed asks the API server, by SelfSubjectAccessReview, whether our own
// account has a right, in every namespace and on every name.
func (t *Target) Allowed(ctx context.Context, right Right) (bool, error) {
	spec := accessSpec{}
	if right.Path != "" {
		spec.NonResource = &pathAttributes{Path: right.Path, Verb: right.Verb}
	} else {
		spec.Resource = &resourceAttributes{
			Verb: right.Verb, Group: right.Group, Resource: right.Resource, Subresource: right.Subresource,
		}
	}
	return t.review(ctx, "SelfSubjectAccessReview", spec)
}
