package oracle_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	kubetokenfile "k8s.io/apiserver/pkg/authentication/token/tokenfile"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/tokenfile"
)

// tokenFile is one row of testdata/tokenfile.yaml. Differs is the topic of its
// row in docs/divergences.md.
type tokenFile struct {
	File       string                `json:"file"`
	Ask        map[string]*tokenUser `json:"ask"`
	Unreadable bool                  `json:"unreadable"`
	verdict
}

type tokenUser struct {
	Name   string   `json:"name"`
	UID    string   `json:"uid"`
	Groups []string `json:"groups"`
}

// Promise: a token file gives the users that it gives in kube-apiserver, or is
// refused for a reason that the documentation names.
func TestTokenFile(t *testing.T) {
	documented := documentedTopics(t)
	for i, f := range readCorpus[tokenFile](t, "testdata/tokenfile.yaml", nil) {
		t.Run(fmt.Sprintf("%d %q", i+1, f.File), func(t *testing.T) {
			if f.Differs != "" && !slices.Contains(documented, f.Differs) {
				t.Errorf("docs/divergences.md has no row %q", f.Differs)
			}
			judgeTokenFile(t, f)
		})
	}
}

func judgeTokenFile(t *testing.T, f tokenFile) {
	t.Helper()
	want, wantErr := referenceTokenFile(t, f)
	if f.Unreadable != (wantErr != nil) {
		t.Errorf("the row is wrong about kube-apiserver: %v", wantErr)
	}
	for token, user := range f.Ask {
		if diff := cmp.Diff(user, want[token]); diff != "" && wantErr == nil {
			t.Errorf("the row is wrong about kube-apiserver and the token %q (-row +kube-apiserver):\n%s", token, diff)
		}
	}
	got, gotErr := gatehouseTokenFile(t, f)
	same := (wantErr == nil) == (gotErr == nil) && cmp.Equal(want, got)
	count.add(func() {
		count.rows++
		switch {
		case same:
			count.same++
		default:
			count.divergent["token file: "+f.Differs]++
		}
	})
	switch {
	case same && f.verdict == verdict{}:
	case same:
		t.Errorf("there is no difference any more: take %q away", f.Differs)
	case f.Differs != "" && wantErr == nil && (gotErr != nil || strings.HasPrefix(f.File, "sha256:") || cmp.Equal(withoutEmptyColumn(want), got)):
	default:
		t.Errorf("kube-apiserver %v %v\ngatehouse      %v %v", want, wantErr, got, gotErr)
	}
}

// withoutEmptyColumn returns users with no groups where an empty fourth column
// gave them the group "".
func withoutEmptyColumn(users map[string]*tokenUser) map[string]*tokenUser {
	out := maps.Clone(users)
	for token, user := range out {
		if user != nil && slices.Equal(user.Groups, []string{""}) {
			out[token] = &tokenUser{Name: user.Name, UID: user.UID}
		}
	}
	return out
}

func referenceTokenFile(t *testing.T, f tokenFile) (map[string]*tokenUser, error) {
	t.Helper()
	file, err := os.CreateTemp("", "oracle-*.csv") // of the test, 10,000 would be removed at its end
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString(f.File); err != nil {
		t.Fatal(err)
	}
	table, err := kubetokenfile.NewCSV(file.Name())
	if err != nil {
		return nil, err
	}
	users := map[string]*tokenUser{}
	for token := range f.Ask {
		users[token] = nil
		response, ok, err := table.AuthenticateToken(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			u := referenceUser(response.User)
			users[token] = &tokenUser{u.Name, u.UID, slices.Clip(u.Groups)}
		}
	}
	return users, nil
}

func gatehouseTokenFile(t *testing.T, f tokenFile) (map[string]*tokenUser, error) {
	t.Helper()
	table, err := tokenfile.Parse([]byte(f.File), auth.NamePolicy{})
	if err != nil {
		return nil, err
	}
	users := map[string]*tokenUser{}
	for token := range f.Ask {
		users[token] = nil
		if id, err := table.AuthenticateToken(t.Context(), token); err == nil {
			users[token] = &tokenUser{id.Name, id.UID, id.Groups}
		}
	}
	return users, nil
}
