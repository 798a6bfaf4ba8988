package upstream

import (
	"context"
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

// Manifest returns the file that grants a mode's rights.
func (m Mode) Manifest() string {
	if m == ModeLegacy {
		return "deploy/rbac-legacy.yaml"
	}
	return "deploy/rbac.yaml"
}

// Needs are the rights that depend on the settings.
type Needs struct {
	// ExtraKeys are keys of extra that identities carry, besides the id of the
	// credential.
	ExtraKeys []string
	// Also are rights that are needed in every mode. Default: none.
	Also []Right
	// LegacyAlone says that the API server knows no constrained impersonation,
	// so that legacy rights, where there are any, are the ones that count.
	LegacyAlone bool
}

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
}

// Err returns an error that names what is missing, or nil.
func (r Rights) Err() error {
	if len(r.Missing) == 0 {
		return nil
	}
	names := make([]string, len(r.Missing))
	for i, right := range r.Missing {
		names[i] = right.String() + " (" + r.Grantor(right) + ")"
	}
	return fmt.Errorf("gatehouse's own account lacks: %s", strings.Join(names, "; "))
}

// Grantor says which manifest grants a right.
func (r Rights) Grantor(right Right) string {
	switch {
	case right == TokenReviews:
		return "deploy/rbac-token-review.yaml"
	case right.Resource == "userextras" && right.Subresource != credentialIDKey:
		return "an entry userextras/" + right.Subresource + " in the ClusterRole of " + r.Mode.Manifest()
	default:
		return r.Mode.Manifest()
	}
}

// TokenReviews is the right to ask whom a ServiceAccount token names.
var TokenReviews = Right{Verb: "create", Group: authenticationGroup, Resource: "tokenreviews"}

const (
	authenticationGroup = "authentication.k8s.io"
	// credentialIDKey is auth.CredentialIDKey, which every token with a `jti` and
	// every certificate brings.
	credentialIDKey = "authentication.kubernetes.io/credential-id"
)

// identityRights are what it takes to name a user, by verb; the legacy ones have
// users and groups in the core group.
func identityRights(verb, coreGroup string, extraKeys []string) []Right {
	rights := []Right{
		{Verb: verb, Group: coreGroup, Resource: "users"},
		{Verb: verb, Group: coreGroup, Resource: "groups"},
		{Verb: verb, Group: authenticationGroup, Resource: "uids"},
	}
	for _, key := range append([]string{credentialIDKey}, extraKeys...) {
		right := Right{Verb: verb, Group: authenticationGroup, Resource: "userextras", Subresource: key}
		if !slices.Contains(rights, right) {
			rights = append(rights, right)
		}
	}
	return rights
}

// doorRights are what may be asked in people's names, as deploy/rbac.yaml has it.
func doorRights() []Right {
	const verb = "impersonate-on:user-info:"
	var rights []Right
	for _, on := range []string{"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"} {
		rights = append(rights, Right{Verb: verb + on, Group: "*", Resource: "*"})
	}
	for _, on := range []string{"get", "head"} {
		rights = append(rights, Right{Verb: verb + on, Path: "*"})
	}
	return rights
}

// excessRights are none of gatehouse's business.
func excessRights() []Right {
	return []Right{
		{Verb: "*", Group: "*", Resource: "*"},
		{Verb: "get", Resource: "secrets"},
		{Verb: "create", Resource: "pods"},
		{Verb: "escalate", Group: "rbac.authorization.k8s.io", Resource: "clusterroles"},
	}
}

// Rights asks the API server what our own account may do. An error means that
// it did not answer every question.
func (t *Target) Rights(ctx context.Context, needs Needs) (Rights, error) {
	constrained := identityRights("impersonate:user-info", authenticationGroup, needs.ExtraKeys)
	legacy := identityRights("impersonate", "", needs.ExtraKeys)
	door, excess := doorRights(), excessRights()
	allowed, err := t.allowedAll(ctx, slices.Concat(constrained, legacy, door, excess, needs.Also))
	if err != nil {
		return Rights{}, err
	}
	held := func(r Right) bool { return allowed[r] }
	lacking := func(list []Right) []Right { return slices.DeleteFunc(slices.Clone(list), held) }

	rights := Rights{Mode: ModeNone, Missing: constrained}
	if needs.LegacyAlone {
		rights.Missing = legacy
	}
	hasConstrained := slices.ContainsFunc(constrained, held) || slices.ContainsFunc(door, held)
	hasLegacy := held(legacy[0]) || held(legacy[1]) // users and groups alone are in another API group
	switch {
	case hasConstrained && !(needs.LegacyAlone && hasLegacy):
		rights.Mode, rights.Fallback, rights.Missing, rights.Narrow = ModeConstrained, hasLegacy, lacking(constrained), lacking(door)
		if len(rights.Narrow) == len(door) { // a door through which nothing goes is not meant
			rights.Missing, rights.Narrow = append(rights.Missing, door...), nil
		}
	case hasLegacy:
		rights.Mode, rights.Missing = ModeLegacy, lacking(legacy)
	}
	rights.Missing = append(rights.Missing, lacking(needs.Also)...)
	rights.Excess = slices.DeleteFunc(excess, func(r Right) bool { return !held(r) })
	return rights, nil
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
