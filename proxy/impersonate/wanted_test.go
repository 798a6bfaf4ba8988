package impersonate_test

import (
	"net/http"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/proxy/impersonate"
)

// Promise: the headers of impersonation are read as kube-apiserver reads them,
// and whatever it would overlook is an error: nobody who asks to be somebody is
// served as himself.
func TestWanted(t *testing.T) {
	for name, tt := range map[string]struct {
		in   http.Header
		want *auth.User // nil: an error
	}{
		"a user": {http.Header{"Impersonate-User": {"alice"}}, &auth.User{Name: "alice"}},
		"everything": {http.Header{
			"Impersonate-User": {"alice"}, "Impersonate-Uid": {"1"}, "Impersonate-Group": {"dev", "ops"},
			"Impersonate-Extra-Example.com%2fscopes": {"view", "edit"}, "Accept": {"*/*"},
		}, &auth.User{Name: "alice", UID: "1", Groups: []string{"dev", "ops"}, Extra: map[string][]string{"example.com/scopes": {"view", "edit"}}}},
		"an extra with a broken escape": {http.Header{"Impersonate-User": {"a"}, "Impersonate-Extra-Bad%zz": {"v"}},
			&auth.User{Name: "a", Extra: map[string][]string{"bad%zz": {"v"}}}},

		"a group alone":        {http.Header{"Impersonate-Group": {"system:masters"}}, nil},
		"a uid alone":          {http.Header{"Impersonate-Uid": {"1"}}, nil},
		"an extra alone":       {http.Header{"Impersonate-Extra-K": {"v"}}, nil},
		"an empty user":        {http.Header{"Impersonate-User": {""}}, nil},
		"an empty user, more":  {http.Header{"Impersonate-User": {""}, "Impersonate-Group": {"g"}}, nil},
		"two users":            {http.Header{"Impersonate-User": {"alice", "bob"}}, nil},
		"two uids":             {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Uid": {"1", "2"}}, nil},
		"an empty group":       {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Group": {"g", ""}}, nil},
		"an empty extra":       {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Extra-K": {""}}, nil},
		"no extra key":         {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Extra-": {"v"}}, nil},
		"an unknown suffix":    {http.Header{"Impersonate-User": {"alice"}, "Impersonate-Role": {"admin"}}, nil},
		"an underscore":        {http.Header{"Impersonate_user": {"alice"}}, nil},
		"another case":         {http.Header{"Impersonate-User": {"alice"}, "impersonate-user": {"bob"}}, nil},
		"256 groups":           {http.Header{"Impersonate-User": {"a"}, "Impersonate-Group": slices.Repeat([]string{"g"}, 256)}, &auth.User{Name: "a", Groups: slices.Repeat([]string{"g"}, 256)}},
		"256 groups, an extra": {http.Header{"Impersonate-User": {"a"}, "Impersonate-Group": slices.Repeat([]string{"g"}, 256), "Impersonate-Extra-E%2fk": {"v"}}, nil},
		"257 extra":            {http.Header{"Impersonate-User": {"a"}, "Impersonate-Extra-E%2fk": slices.Repeat([]string{"v"}, 257)}, nil},
		"no value":             {http.Header{"Impersonate-User": {}}, nil},
	} {
		got, err := impersonate.Wanted(tt.in)
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		if diff := cmp.Diff(tt.want, got); err == nil && diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Promise: whatever headers come, they are a user that can be written back as
// exactly those headers, or an error; there is no third.
func FuzzWanted(f *testing.F) {
	f.Add("alice", "7", "dev", "Example.com%2fscopes", "view")
	f.Add("system:serviceaccount:ci:builder", "", "", "", "")
	f.Add("", "1", "system:masters", "K", "")
	f.Add("a\x00b", " ", "g ", "%zz", "\xff")
	f.Fuzz(func(t *testing.T, user, uid, group, key, value string) {
		in := http.Header{"Impersonate-User": {user}}
		if uid != "" {
			in["Impersonate-Uid"] = []string{uid}
		}
		if group != "" {
			in["Impersonate-Group"] = []string{group}
		}
		if key != "" {
			in[http.CanonicalHeaderKey("Impersonate-Extra-"+key)] = []string{value}
		}
		wanted, err := impersonate.Wanted(in)
		if err != nil {
			return
		}
		if wanted.Name != user || wanted.UID != uid || len(wanted.Groups) > 1 || len(wanted.Extra) > 1 {
			t.Fatalf("%v gives %+v", in, wanted)
		}
		if (auth.NamePolicy{}).CheckWire(auth.KindOIDC, wanted) != nil {
			return
		}
		out, err := impersonate.Header(impersonate.Request{In: http.Header{}, User: wanted, Authorization: "Bearer own"})
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", wanted, err)
		}
		again, err := impersonate.Wanted(onlyImpersonation(out))
		if err != nil {
			t.Fatalf("%v, written as %v, cannot be read: %v", in, out, err)
		}
		if diff := cmp.Diff(withoutAuthenticated(wanted), again); diff != "" {
			t.Fatalf("%v comes back as (-want +got):\n%s", in, diff)
		}
	})
}

func onlyImpersonation(h http.Header) http.Header {
	found := http.Header{}
	for name, values := range h {
		if impersonate.Asked(http.Header{name: values}) != "" {
			found[name] = values
		}
	}
	return found
}

// withoutAuthenticated returns u without the group that the API server adds.
func withoutAuthenticated(u *auth.User) *auth.User {
	if len(u.Groups) == 1 && u.Groups[0] == auth.AuthenticatedGroup {
		without := *u
		without.Groups = nil
		return &without
	}
	return u
}
