package auth_test

import (
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: an identity that the wire would change, that is blank or that is
// reserved is refused, in every field; nothing is repaired.
func TestNamePolicy(t *testing.T) {
	allowed := auth.NamePolicy{AllowedReserved: []string{"system:monitoring", "system:kube-scheduler"}}
	extra := func(key, value string) auth.User {
		return auth.User{Name: "u", Extra: map[string][]string{key: {value}}}
	}
	for _, tt := range []struct {
		name   string
		user   auth.User
		reason auth.Reason // empty: passes
	}{
		{"plain", auth.User{Name: "alice", UID: "1", Groups: []string{"dev", "ops team"}}, ""},
		{"issuer prefix", auth.User{Name: "https://issuer.example#alice"}, ""},
		{"UTF-8", auth.User{Name: "Zoë 東京", Groups: []string{"Ñandú"}}, ""},
		{"authenticated is tolerated", auth.User{Name: "a", Groups: []string{"system:authenticated"}}, ""},
		{"allowed group", auth.User{Name: "a", Groups: []string{"system:monitoring"}}, ""},
		{"allowed user", auth.User{Name: "system:kube-scheduler"}, ""},
		{"extra", extra("authentication.kubernetes.io/credential-id", "JTI=1"), ""},

		{"empty name", auth.User{}, auth.BadName},
		{"blank name", auth.User{Name: " "}, auth.BadName},
		{"leading space", auth.User{Name: " alice"}, auth.BadName},
		{"trailing space", auth.User{Name: "alice "}, auth.BadName},
		{"trailing tab", auth.User{Name: "alice\t"}, auth.BadName},
		{"inner tab", auth.User{Name: "al\tice"}, auth.BadName},
		{"no-break space", auth.User{Name: "alice\u00a0"}, auth.BadName},
		{"ideographic space", auth.User{Name: "\u3000alice"}, auth.BadName},
		{"newline", auth.User{Name: "alice\nImpersonate-Group: system:masters"}, auth.BadName},
		{"carriage return", auth.User{Name: "a\rb"}, auth.BadName},
		{"NUL", auth.User{Name: "a\x00b"}, auth.BadName},
		{"DEL", auth.User{Name: "a\x7fb"}, auth.BadName},
		{"C1 control", auth.User{Name: "a\u0085b"}, auth.BadName},
		{"broken UTF-8", auth.User{Name: "a\xffb"}, auth.BadName},
		{"replacement character", auth.User{Name: "a\ufffdb"}, auth.BadName},
		{"empty group", auth.User{Name: "a", Groups: []string{"g", ""}}, auth.BadName},
		{"untrimmed group", auth.User{Name: "a", Groups: []string{"g", " h"}}, auth.BadName},
		{"untrimmed uid", auth.User{Name: "a", UID: "1 "}, auth.BadName},
		{"extra value", extra("example.com/k", "a\nb"), auth.BadName},
		{"extra key without domain", extra("scopes", "x"), auth.BadName},
		{"extra key in upper case", extra("example.com/K", "x"), auth.BadName},
		{"extra key without name", extra("example.com/", "x"), auth.BadName},
		{"empty extra key", extra("", "x"), auth.BadName},

		{"reserved user", auth.User{Name: "system:admin"}, auth.ReservedName},
		{"reserved group", auth.User{Name: "a", Groups: []string{"system:masters"}}, auth.ReservedName},
		{"gatehouse's own extra", auth.User{Name: "a", Extra: map[string][]string{"kube-gatehouse.github.io/original-user": {"root"}}}, auth.ReservedName},
		{"an extra much like it", auth.User{Name: "a", Extra: map[string][]string{"kube-gatehouse.github.io.example/k": {"v"}}}, ""},
		{"reserved behind a space", auth.User{Name: "a", Groups: []string{" system:masters"}}, auth.BadName},
		{"kubeadm", auth.User{Name: "a", Groups: []string{"kubeadm:cluster-admins"}}, auth.ReservedName},
		{"node", auth.User{Name: "system:node:n1", Groups: []string{"system:nodes"}}, auth.ReservedName},
		{"anonymous", auth.User{Name: "system:anonymous"}, auth.ReservedName},
		{"unauthenticated", auth.User{Name: "a", Groups: []string{"system:unauthenticated"}}, auth.ReservedName},
		{"allowed by prefix only", auth.User{Name: "a", Groups: []string{"system:monitoring2"}}, auth.ReservedName},

		{"huge", auth.User{Name: "a", Groups: []string{strings.Repeat("g", auth.MaxIdentityBytes)}}, auth.IdentityTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := allowed.Check(auth.KindOIDC, &tt.user)
			switch {
			case tt.reason == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.reason != "" && err == nil:
				t.Errorf("passed, want %s", tt.reason)
			case tt.reason != "" && reasonOf(t, err) != tt.reason:
				t.Errorf("refused with %v, want %s", err, tt.reason)
			}
		})
	}
}

// Promise: what passes is valid UTF-8 that no HTTP version trims or rejects.
func FuzzNamePolicy(f *testing.F) {
	for _, seed := range []string{"alice", " a", "a ", "a\n", "\u00a0", "system:x", "é", "\xff"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, name, group string) {
		user := auth.User{Name: name, Groups: []string{group}}
		if (auth.NamePolicy{}).Check(auth.KindOIDC, &user) != nil {
			return
		}
		for _, value := range []string{name, group} {
			if strings.TrimSpace(value) != value || value == "" || strings.ContainsAny(value, "\r\n\x00\t") {
				t.Errorf("%q passed", value)
			}
		}
		if strings.HasPrefix(name, "system:") || strings.HasPrefix(group, "system:") && group != auth.AuthenticatedGroup {
			t.Errorf("%q, %q passed", name, group)
		}
	})
}
