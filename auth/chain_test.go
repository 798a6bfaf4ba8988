package auth_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// fixed is an Authenticator with one answer.
type fixed struct {
	name string
	err  error
}

func (f fixed) Authenticate(*http.Request) (*auth.Identity, error) {
	if f.err != nil {
		return nil, f.err
	}
	return &auth.Identity{User: auth.User{Name: f.name}}, nil
}

// Promise: of several good credentials the first wins, and a bad one is never
// hidden by a good one.
func TestChains(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	none := fixed{err: auth.ErrNotMine}
	bad := fixed{err: auth.Refuse(auth.KindOIDC, auth.Expired, "")}
	a, b := fixed{name: "a"}, fixed{name: "b"}
	for _, tt := range []struct {
		name  string
		chain auth.Authenticator
		want  string // user, "bad" or "none"
	}{
		{"ranked, first", auth.Ranked(a, b), "a"},
		{"ranked, second", auth.Ranked(none, b), "b"},
		{"ranked, none", auth.Ranked(none, none), "none"},
		{"ranked, bad behind good", auth.Ranked(a, bad), "bad"},
		{"ranked, bad before good", auth.Ranked(bad, b), "bad"},
		{"any, first", auth.Any(a, bad), "a"},
		{"any, bad", auth.Any(none, bad, b), "bad"},
		{"any, none", auth.Any(none), "none"},
	} {
		id, err := tt.chain.Authenticate(r)
		got := "bad"
		switch {
		case err == nil:
			got = id.Name
		case errors.Is(err, auth.ErrNotMine):
			got = "none"
		}
		if got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// Promise: only the paths that were named need no credential, byte for byte.
func TestAnonymous(t *testing.T) {
	for _, tt := range []struct {
		anonymous auth.Anonymous
		path      string
		want      bool
	}{
		{auth.Anonymous{}, "/version", false},
		{auth.Anonymous{Paths: []string{"/version"}}, "/version", false},
		{auth.Anonymous{Enabled: true}, "/api", true},
		{auth.Anonymous{Enabled: true, Paths: []string{"/version"}}, "/version", true},
		{auth.Anonymous{Enabled: true, Paths: []string{"/version"}}, "/version/", false},
		{auth.Anonymous{Enabled: true, Paths: []string{"/version"}}, "/api/../version", false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.URL.Path = tt.path
		id, err := tt.anonymous.Authenticate(r)
		if got := err == nil; got != tt.want {
			t.Errorf("%+v, %s: %v", tt.anonymous, tt.path, err)
		}
		if err != nil {
			continue
		}
		if err := (auth.NamePolicy{}).Check(id.Kind, &id.User); err != nil {
			t.Errorf("the anonymous user is refused: %v", err)
		}
		id.Groups = append(id.Groups, "system:masters")
		if err := (auth.NamePolicy{}).Check(id.Kind, &id.User); err == nil {
			t.Error("an anonymous user with another group passes")
		}
	}
}
