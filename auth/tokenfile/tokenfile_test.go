package tokenfile_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/tokenfile"
)

// Promise: a file that kube-apiserver loads, and that means what it says, gives
// the same users here.
func TestParseGood(t *testing.T) {
	hash := func(token string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(token))) }
	for _, tt := range []struct {
		name, content, token string
		want                 auth.User
	}{
		{"three columns", "secret,alice,1\n", "secret", auth.User{Name: "alice", UID: "1"}},
		{"one group", "secret,alice,1,dev\n", "secret", auth.User{Name: "alice", UID: "1", Groups: []string{"dev"}}},
		{"quoted groups", "secret,alice,1,\"dev,ops\"\n", "secret", auth.User{Name: "alice", UID: "1", Groups: []string{"dev", "ops"}}},
		{"empty group column", "secret,alice,1,\n", "secret", auth.User{Name: "alice", UID: "1"}},
		{"columns after the fourth are ignored", "secret,alice,1,dev,x,y\n", "secret", auth.User{Name: "alice", UID: "1", Groups: []string{"dev"}}},
		{"empty uid", "secret,alice,,dev\n", "secret", auth.User{Name: "alice", Groups: []string{"dev"}}},
		{"quoted token", "\"sec\"\"ret\",alice,1\n", `sec"ret`, auth.User{Name: "alice", UID: "1"}},
		{"CRLF", "other,bob,2\r\nsecret,alice,1,dev\r\n", "secret", auth.User{Name: "alice", UID: "1", Groups: []string{"dev"}}},
		{"empty lines", "\n\nsecret,alice,1\n\n", "secret", auth.User{Name: "alice", UID: "1"}},
		{"hash", hash("secret") + ",alice,1\n", "secret", auth.User{Name: "alice", UID: "1"}},
		{"hash in upper case", "sha256:" + strings.ToUpper(hash("secret")[7:]) + ",alice,1\n", "secret", auth.User{Name: "alice", UID: "1"}},
		{"name with a space inside", "secret,Alice Doe,1\n", "secret", auth.User{Name: "Alice Doe", UID: "1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table, err := tokenfile.Parse([]byte(tt.content), auth.NamePolicy{})
			if err != nil {
				t.Fatal(err)
			}
			id, err := table.AuthenticateToken(t.Context(), tt.token)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, id.User); diff != "" || id.Kind != auth.KindTokenFile {
				t.Errorf("kind %s, user (-want +got):\n%s", id.Kind, diff)
			}
		})
	}
}

// Promise: a file that could mean something else than it says is refused, with
// the line of every fault, and without a token in the message.
func TestParseBad(t *testing.T) {
	for _, tt := range []struct {
		name, content string
		want          []string // each in the error
	}{
		{"short row", "canary1,alice,1\ncanary2,bob\n", []string{"line 2: 2 columns"}},
		{"every fault at once", "canary1\n,alice,1\ncanary2,,1\n", []string{"line 1: 1 columns", "line 2: the token is empty", "line 3: the user name is empty"}},
		{"same token twice", "canary1,alice,1\ncanary2,carol,3\ncanary1,bob,2\n", []string{"line 3: the same token stands on line 1"}},
		{"token and its hash", "canary1,alice,1\n" + fmt.Sprintf("sha256:%x", sha256.Sum256([]byte("canary1"))) + ",bob,2\n", []string{"line 2: the same token stands on line 1"}},
		{"untrimmed group", "canary1,alice,1,\"dev, ops\"\n", []string{"line 1: group 2 of 2 begins or ends with white space"}},
		{"empty group", "canary1,alice,1,\"dev,,ops\"\n", []string{"line 1: group 2 of 3 is empty"}},
		{"untrimmed user", "canary1, alice,1\n", []string{"line 1: the user name begins or ends with white space"}},
		{"reserved group", "canary1,alice,1,system:masters\n", []string{`line 1: the group "system:masters" is reserved`, "GATEHOUSE_ALLOWED_RESERVED_NAMES"}},
		{"token with a space", "canary 1,alice,1\n", []string{"line 1: the token holds white space"}},
		{"bad hash", "sha256:canary1,alice,1\n", []string{"line 1: sha256:, in lower case, must be followed by the 64 hex digits"}},
		{"no newline at the end", "canary1,alice,1\ncanary2,bob,2,dev", []string{"line 2: the last line does not end in a newline"}},
		{"byte order mark", "\xef\xbb\xbfcanary1,alice,1\n", []string{"line 1: the file begins with a byte order mark"}},
		{"bare quote", "canary1,al\"ice,1\n", []string{"line 1: bare \""}},
		{"open quote", "canary1,alice,1\ncanary2,bob,2,\"dev\n", []string{"line 2", "\""}},
		{"line of a row after a quoted newline", "canary1,alice,1,\"a\nb\"\ncanary2\n", []string{"line 1: group 1 of 1 holds a control character", "line 3: 1 columns"}},
		{"lost quote", "canary1,alice,1,\"dev\ncanary2,bob,2,ops\"\n", []string{"line 1: group 1 of 4 holds a control character"}},
		{"hash with upper case prefix", fmt.Sprintf("SHA256:%x,alice,1\n", sha256.Sum256([]byte("canary1"))), []string{"line 1: sha256:, in lower case"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := tokenfile.Parse([]byte(tt.content), auth.NamePolicy{})
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q lacks %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("error %q holds a token", err)
			}
		})
	}
}

// Promise: reserved names pass where they are allowed, and an empty file is one
// that knows nobody.
func TestParseSettings(t *testing.T) {
	policy := auth.NamePolicy{AllowedReserved: []string{"system:masters"}}
	if _, err := tokenfile.Parse([]byte("secret,root,1,system:masters\n"), policy); err != nil {
		t.Errorf("allowed name: %v", err)
	}
	table, err := tokenfile.Parse(nil, auth.NamePolicy{})
	if err != nil || table.Len() != 0 {
		t.Errorf("empty file: %v, %v", table, err)
	}
}

// Promise: nothing but the token itself is the token: not its hash, not another
// spelling of it.
func TestOnlyTheToken(t *testing.T) {
	digest := fmt.Sprintf("%x", sha256.Sum256([]byte("secret")))
	table, err := tokenfile.Parse([]byte("sha256:"+digest+",alice,1\n"), auth.NamePolicy{})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"sha256:" + digest, digest, "Secret", "secret ", "", "secre"} {
		if _, err := table.AuthenticateToken(t.Context(), token); !errors.Is(err, auth.ErrNotMine) {
			t.Errorf("token %q: %v", token, err)
		}
	}
}

// Promise: no file, however broken, crashes the parser or yields an identity
// that could not be forwarded.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"secret,alice,1,\"dev,ops\"\n", "a,b\n", "\"", "a,\"b\nc\",d\n", "sha256:00,x,y\n", "\xef\xbb\xbfa,b,c\n", "a,b,c,\"d\"\"e\"\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		table, err := tokenfile.Parse(content, auth.NamePolicy{})
		if err != nil {
			return
		}
		token, _, _ := strings.Cut(string(content), ",")
		id, err := table.AuthenticateToken(t.Context(), token)
		if err != nil {
			return
		}
		if err := (auth.NamePolicy{}).Check(id.Kind, &id.User); err != nil {
			t.Errorf("%q gives %+v: %v", content, id.User, err)
		}
	})
}
