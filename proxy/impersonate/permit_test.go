package impersonate_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// cluster is a Reviewer with some rights for everybody, written as "verb
// resource.group/subresource namespace/name".
type cluster struct {
	mu     sync.Mutex
	rights []string
	broken string // the right about which nothing can be asked
	asked  []string
	users  []*auth.User
}

func (c *cluster) Allowed(ctx context.Context, user *auth.User, a impersonate.Attributes) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	question := fmt.Sprintf("%s %s.%s/%s %s/%s%s", a.Verb, a.Resource, a.Group, a.Subresource, a.Namespace, a.Name, a.Path)
	c.asked, c.users = append(c.asked, question), append(c.users, user)
	if question == c.broken {
		return false, errors.New("no answer")
	}
	return slices.Contains(c.rights, question), nil
}

var listPods = impersonate.Attributes{Verb: "list", Version: "v1", Resource: "pods", Namespace: "dev"}

// Rights of the tests.
const (
	onList     = "impersonate-on:user-info:list pods./ dev/"
	infoAlice  = "impersonate:user-info users.authentication.k8s.io/ /alice"
	infoDev    = "impersonate:user-info groups.authentication.k8s.io/ /dev"
	classic    = "impersonate users./ /alice"
	classicDev = "impersonate groups./ /dev"
	onListSA   = "impersonate-on:serviceaccount:list pods./ dev/"
	infoSA     = "impersonate:serviceaccount serviceaccounts.authentication.k8s.io/ ci/builder"
	classicSA  = "impersonate serviceaccounts./ ci/builder"
	builder    = "system:serviceaccount:ci:builder"
)

// Promise: whoever acts as another user passes exactly the checks that
// kube-apiserver would make of him, or is refused; and a check without an answer
// lets nobody pass.
func TestPermits(t *testing.T) {
	devs := auth.User{Name: "alice", Groups: []string{"dev"}}
	everything := auth.User{Name: "alice", UID: "7", Groups: []string{"dev"}, Extra: map[string][]string{"example.com/k": {"v"}}}
	many := auth.User{Name: "alice", Groups: []string{"a", "b", "c", "d"}}
	for name, tt := range map[string]struct {
		wanted auth.User
		rights []string
		broken string
		mode   impersonate.Mode // empty: refused
		failed bool             // because there was no answer
	}{
		"nothing":                 {wanted: auth.User{Name: "alice"}},
		"classic":                 {wanted: auth.User{Name: "alice"}, rights: []string{classic}, mode: "legacy"},
		"classic, with a group":   {wanted: devs, rights: []string{classic, classicDev}, mode: "legacy"},
		"classic, group missing":  {wanted: devs, rights: []string{classic}},
		"constrained":             {wanted: auth.User{Name: "alice"}, rights: []string{onList, infoAlice}, mode: "user-info"},
		"constrained, not on it":  {wanted: auth.User{Name: "alice"}, rights: []string{infoAlice}},
		"constrained, not him":    {wanted: auth.User{Name: "alice"}, rights: []string{onList}},
		"halves of both":          {wanted: devs, rights: []string{onList, infoAlice, classicDev}},
		"constrained and classic": {wanted: devs, rights: []string{onList, infoAlice, infoDev, classic, classicDev}, mode: "user-info"},
		"everything": {wanted: everything, mode: "user-info", rights: []string{onList, infoAlice, infoDev,
			"impersonate:user-info uids.authentication.k8s.io/ /7", "impersonate:user-info userextras.authentication.k8s.io/example.com/k /v"}},
		"everything but the uid": {wanted: everything, rights: []string{onList, infoAlice, infoDev,
			"impersonate:user-info userextras.authentication.k8s.io/example.com/k /v"}},
		"everything but the extra": {wanted: everything, rights: []string{onList, infoAlice, infoDev, "impersonate:user-info uids.authentication.k8s.io/ /7"}},
		"an extra that cannot be constrained": {wanted: auth.User{Name: "alice", Extra: map[string][]string{"under_score/k": {"v"}}},
			rights: []string{onList, infoAlice, "impersonate:user-info userextras.authentication.k8s.io/under_score/k /v"}},
		"the same, classic": {wanted: auth.User{Name: "alice", Extra: map[string][]string{"under_score/k": {"v"}}},
			rights: []string{classic, "impersonate userextras.authentication.k8s.io/under_score/k /v"}, mode: "legacy"},
		"many groups at once": {wanted: many, rights: []string{onList, infoAlice, "impersonate:user-info groups.authentication.k8s.io/ /*"}, mode: "user-info"},
		"many groups, one missing": {wanted: many, rights: []string{onList, infoAlice, "impersonate:user-info groups.authentication.k8s.io/ /a",
			"impersonate:user-info groups.authentication.k8s.io/ /b", "impersonate:user-info groups.authentication.k8s.io/ /c"}},
		"many groups have no classic star": {wanted: many, rights: []string{classic, "impersonate groups./ /*"}},
		"a ServiceAccount":                 {wanted: auth.User{Name: builder}, rights: []string{onListSA, infoSA}, mode: "serviceaccount"},
		"a ServiceAccount, classic":        {wanted: auth.User{Name: builder}, rights: []string{classicSA}, mode: "legacy"},
		"a ServiceAccount as user":         {wanted: auth.User{Name: builder}, rights: []string{"impersonate users./ /" + builder, onList, "impersonate:user-info users.authentication.k8s.io/ /" + builder}},
		"a ServiceAccount with groups":     {wanted: auth.User{Name: builder, Groups: []string{"dev"}}, rights: []string{onListSA, infoSA, classicDev}},
		"no answer":                        {wanted: auth.User{Name: "alice"}, rights: []string{classic}, broken: classic, failed: true},
		"no answer, allowed elsewhere":     {wanted: auth.User{Name: "alice"}, rights: []string{classic}, broken: onList, mode: "legacy"},
		"no answer, denied elsewhere":      {wanted: auth.User{Name: "alice"}, broken: onList, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := &cluster{rights: tt.rights, broken: tt.broken}
			caller := &auth.User{Name: "bob", UID: "b", Groups: []string{"admins"}, Extra: map[string][]string{"example.com/x": {"y"}}}
			mode, err := impersonate.NewPermits(c).Check(t.Context(), caller, &tt.wanted, listPods)
			if mode != tt.mode || (err == nil) != (tt.mode != "") || tt.mode == "" && errors.Is(err, impersonate.ErrDenied) == tt.failed {
				t.Errorf("mode %q, %v; asked:\n%q", mode, err, c.asked)
			}
			want := &auth.User{Name: "bob", UID: "b", Groups: []string{"admins", "system:authenticated"}, Extra: caller.Extra}
			for _, user := range c.users {
				if diff := cmp.Diff(want, user); diff != "" {
					t.Fatalf("asked about (-want +got):\n%s", diff)
				}
			}
		})
	}
}

// Promise: what was allowed is not asked again for ten seconds, for the same
// caller and the same question alone; what was denied is.
func TestPermitsRemember(t *testing.T) {
	c := &cluster{rights: []string{classic}}
	permits := impersonate.NewPermits(c)
	check := func(caller *auth.User, wanted string, questions int, allowed bool) {
		t.Helper()
		c.asked = nil
		_, err := permits.Check(t.Context(), caller, &auth.User{Name: wanted}, listPods)
		if (err == nil) != allowed || len(c.asked) != questions {
			t.Errorf("%s as %s: %v, asked %q", caller.Name, wanted, err, c.asked)
		}
	}
	bob, carol := &auth.User{Name: "bob"}, &auth.User{Name: "carol"}
	bobInGroup := &auth.User{Name: "bob", Groups: []string{"g"}}
	check(bob, "alice", 2, true)        // the constrained mode is not allowed
	check(bob, "alice", 0, true)        // the mode is remembered, and the answer
	check(bobInGroup, "alice", 1, true) // another identity
	check(carol, "alice", 2, true)
	check(bob, "root", 2, false)
	check(bob, "root", 2, false)
}

// Promise: a check is made of the caller with the groups that the API server sees
// him in: that of everybody who is authenticated, unless he is in the other one.
func TestPermitsGroups(t *testing.T) {
	for name, tt := range map[string]struct{ caller, asked auth.User }{
		"a person":        {auth.User{Name: "bob"}, auth.User{Name: "bob", Groups: []string{"system:authenticated"}}},
		"in it already":   {auth.User{Name: "bob", Groups: []string{"system:authenticated", "g"}}, auth.User{Name: "bob", Groups: []string{"system:authenticated", "g"}}},
		"anonymous":       {auth.User{Name: "system:anonymous"}, auth.User{Name: "system:anonymous"}},
		"unauthenticated": {auth.User{Name: "bob", Groups: []string{"system:unauthenticated"}}, auth.User{Name: "bob", Groups: []string{"system:unauthenticated"}}},
	} {
		c := &cluster{}
		if _, err := impersonate.NewPermits(c).Check(t.Context(), &tt.caller, &auth.User{Name: "alice"}, listPods); !errors.Is(err, impersonate.ErrDenied) || len(c.users) == 0 {
			t.Fatalf("%s: %v, asked %q", name, err, c.asked)
		}
		if diff := cmp.Diff(&tt.asked, c.users[0]); diff != "" {
			t.Errorf("%s: asked about (-want +got):\n%s", name, diff)
		}
	}
}
