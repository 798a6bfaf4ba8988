package auth_test

import (
	"errors"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: reserved names pass only in identities that the API server vouches
// for, or that nobody asked for, and there only the identity's own.
func TestOwnReservedNames(t *testing.T) {
	const builder, all = "system:serviceaccount:ci:builder", "system:serviceaccounts"
	for _, tt := range []struct {
		name   string
		kind   auth.Kind
		user   auth.User
		passes bool
	}{
		{"a ServiceAccount", auth.KindServiceAccount, auth.User{Name: builder, Groups: []string{all, all + ":ci", "system:authenticated"}}, true},
		{"its name by another credential", auth.KindOIDC, auth.User{Name: builder}, false},
		{"its group by another credential", auth.KindClientCert, auth.User{Name: "a", Groups: []string{all}}, false},
		{"the group of another namespace", auth.KindServiceAccount, auth.User{Name: builder, Groups: []string{all + ":kube-system"}}, false},
		{"masters", auth.KindServiceAccount, auth.User{Name: builder, Groups: []string{"system:masters"}}, false},
		{"a node", auth.KindServiceAccount, auth.User{Name: "system:node:n1", Groups: []string{all}}, false},
		{"no namespace", auth.KindServiceAccount, auth.User{Name: "system:serviceaccount::builder"}, false},
		{"one part too many", auth.KindServiceAccount, auth.User{Name: builder + ":x"}, false},
		{"anonymous", auth.KindAnonymous, auth.User{Name: "system:anonymous", Groups: []string{"system:unauthenticated"}}, true},
		{"anonymous, and more", auth.KindAnonymous, auth.User{Name: "system:anonymous", Groups: []string{"system:masters"}}, false},
	} {
		if err := (auth.NamePolicy{}).Check(tt.kind, &tt.user); (err == nil) != tt.passes {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// Promise: the parts of a ServiceAccount's name are told as kube-apiserver tells
// them.
func TestSplitServiceAccount(t *testing.T) {
	for name, want := range map[string]bool{
		"system:serviceaccount:ci:builder":    true,
		"system:serviceaccount:ci:build.er-1": true,
		"system:serviceaccount:c.i:builder":   false,
		"system:serviceaccount:ci:":           false,
		"system:serviceaccount:ci:Builder":    false,
		"system:serviceaccount:ci:-b":         false,
		"system:serviceaccount:ci:b..c":       false,
		"system:serviceaccount:ci":            false,
		"serviceaccount:ci:builder":           false,
	} {
		if _, _, ok := auth.SplitServiceAccount(name); ok != want {
			t.Errorf("%s: %t, want %t", name, ok, want)
		}
	}
	if namespace, name, _ := auth.SplitServiceAccount("system:serviceaccount:ci:builder"); namespace != "ci" || name != "builder" {
		t.Errorf("told %q and %q", namespace, name)
	}
}

// Promise: each credential of a request is checked by itself, the one that does
// not name the user too.
func TestChecked(t *testing.T) {
	denied := auth.Refuse(auth.KindOIDC, auth.Revoked, "")
	deny := func(id *auth.Identity) error {
		if id.Name == "mallory" {
			return denied
		}
		return nil
	}
	for _, tt := range []struct{ first, second, want string }{
		{"alice", "bob", "alice"},
		{"alice", "mallory", ""},
		{"mallory", "alice", ""},
		{"alice", "", "alice"},
		{"", "alice", "alice"},
		{"", "mallory", ""},
	} {
		chain := auth.Ranked(auth.Checked(named(tt.first), deny), auth.Checked(named(tt.second), deny))
		id, err := chain.Authenticate(nil)
		switch {
		case tt.want == "" && !errors.Is(err, denied):
			t.Errorf("%v: %v, %v", tt, id, err)
		case tt.want != "" && (err != nil || id.Name != tt.want):
			t.Errorf("%v: %v, %v", tt, id, err)
		}
	}
}

// named is an Authenticator that knows one user, or nobody.
func named(name string) auth.Authenticator {
	if name == "" {
		return fixed{err: auth.ErrNotMine}
	}
	return fixed{name: name}
}
