package upstream_test

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// granted returns the rights of rules in the form of newReviewer.
func granted(rules []upstream.Rule) (list []string) {
	for _, rule := range rules {
		for _, r := range rule.Rights() {
			if r.Path != "" {
				list = append(list, r.Verb+" "+r.Path)
			} else {
				list = append(list, strings.TrimSuffix(r.Verb+" "+r.Group+"/"+r.Resource+"/"+r.Subresource, "/"))
			}
		}
	}
	return list
}

// Promise: what is printed is what is checked: an account with exactly the rules
// of some needs lacks nothing, in either mode, and each right that is taken away
// is noticed.
func TestRulesSuffice(t *testing.T) {
	t.Parallel()
	for name, needs := range map[string]upstream.Needs{
		"usual":         usual,
		"users alone":   {Users: true},
		"reviews alone": {TokenReviews: true},
		"impersonation": {Impersonation: true},
		"everything": needing(func(n *upstream.Needs) {
			n.Impersonation, n.TokenReviews, n.ExtraKeys = true, true, append(n.ExtraKeys, "example.com/a/b", "example.com/team", "example.com/team")
		}),
	} {
		for _, mode := range []upstream.Mode{upstream.ModeConstrained, upstream.ModeLegacy} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				t.Parallel()
				all := granted(needs.Rules(mode, upstream.Door{}))
				var held atomic.Pointer[[]string]
				target := newReviewerOf(t, func() []string { return *held.Load() })
				for i := -1; i < len(all); i++ {
					but := slices.Clone(all)
					if i >= 0 {
						but = slices.Delete(but, i, i+1)
					}
					held.Store(&but)
					rights, err := target.Rights(t.Context(), needs)
					if err != nil {
						t.Fatal(err)
					}
					if noticed := len(rights.Missing)+len(rights.Narrow) > 0; noticed != (i >= 0) || len(rights.Excess) > 0 || rights.Fallback {
						t.Errorf("without %d of %q: %+v", i, all, rights)
					}
				}
			})
		}
	}
}

// Promise: with --as there are the rights for it, and without it none of them.
func TestRulesForImpersonation(t *testing.T) {
	t.Parallel()
	with := needing(func(n *upstream.Needs) { n.Impersonation = true })
	for mode, more := range map[upstream.Mode][]string{
		upstream.ModeConstrained: {
			"create authorization.k8s.io/subjectaccessreviews", "impersonate:user-info authentication.k8s.io/userextras/kube-gatehouse.github.io/original-user",
			"impersonate:serviceaccount authentication.k8s.io/serviceaccounts",
			"impersonate-on:serviceaccount:get */*", "impersonate-on:serviceaccount:list */*", "impersonate-on:serviceaccount:watch */*",
			"impersonate-on:serviceaccount:create */*", "impersonate-on:serviceaccount:update */*", "impersonate-on:serviceaccount:patch */*",
			"impersonate-on:serviceaccount:delete */*", "impersonate-on:serviceaccount:deletecollection */*",
			"impersonate-on:serviceaccount:get *", "impersonate-on:serviceaccount:head *",
		},
		upstream.ModeLegacy: {
			"create authorization.k8s.io/subjectaccessreviews", "impersonate authentication.k8s.io/userextras/kube-gatehouse.github.io/original-user",
			"impersonate /serviceaccounts",
		},
	} {
		base := granted(usual.Rules(mode, upstream.Door{}))
		want, got := append(base, more...), granted(with.Rules(mode, upstream.Door{}))
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", mode, diff)
		}
	}
}

// A read-only door is a narrow one: nothing is missing, and what does not pass is
// writing.
func TestReadOnlyIsNarrow(t *testing.T) {
	t.Parallel()
	rights, err := newReviewer(t, granted(usual.Rules(upstream.ModeConstrained, upstream.Door{ReadOnly: true}))...).Rights(t.Context(), usual)
	if err != nil || len(rights.Missing) > 0 || !rights.CanName {
		t.Fatalf("%v, %+v", err, rights)
	}
	want := []string{
		"impersonate-on:user-info:create *.*", "impersonate-on:user-info:update *.*", "impersonate-on:user-info:patch *.*",
		"impersonate-on:user-info:delete *.*", "impersonate-on:user-info:deletecollection *.*",
	}
	if diff := cmp.Diff(want, names(rights.Narrow)); diff != "" {
		t.Errorf("narrow (-want +got):\n%s", diff)
	}
}

// Promise: the name of the rule of any right is one of a closed set.
func TestRuleNames(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	needs := needing(func(n *upstream.Needs) {
		n.Impersonation, n.TokenReviews, n.ExtraKeys = true, true, append(n.ExtraKeys, "users")
	})
	for _, mode := range []upstream.Mode{upstream.ModeConstrained, upstream.ModeLegacy} {
		for _, rule := range needs.Rules(mode, upstream.Door{}) {
			for _, right := range rule.Rights() {
				if seen[right.Rule()] = true; !slices.Contains(upstream.RuleNames(), right.Rule()) {
					t.Errorf("%s: %q is no rule name", right, right.Rule())
				}
			}
		}
	}
	if len(seen) != len(upstream.RuleNames()) {
		t.Errorf("seen %v of %v", seen, upstream.RuleNames())
	}
}

// OwnRights goes by the version: an API server that is too old for constrained
// impersonation is one where only the legacy rights count, and one that does not
// tell its version may have either.
func TestOwnRights(t *testing.T) {
	t.Parallel()
	rights, err := newReviewer(t, constrained...).OwnRights(t.Context(), usual) // it does not know /version
	if err != nil || len(rights.Missing) > 0 || rights.Mode != upstream.ModeConstrained {
		t.Errorf("%v, %+v", err, rights)
	}
	old := newTarget(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/version" {
			_, _ = io.WriteString(w, `{"major":"1","minor":"34","gitVersion":"v1.34.1"}`)
			return
		}
		_, _ = io.WriteString(w, `{"kind":"SelfSubjectAccessReview","status":{"allowed":true}}`)
	})
	if rights, err = old.OwnRights(t.Context(), usual); err != nil || rights.Mode != upstream.ModeLegacy {
		t.Errorf("%v, %+v", err, rights)
	}
}
