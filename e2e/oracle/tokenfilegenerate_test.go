package oracle_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// Promise: token files that nobody thought of give the same users, or are
// refused for a reason that the documentation names.
func TestGeneratedTokenFiles(t *testing.T) {
	forSeeds(t, func(seed uint64) { judgeGeneratedTokenFile(t, seed) })
}

// fileFaults are gatehouse's words for what it alone refuses, each with its row
// in docs/divergences.md.
var fileFaults = [][2]string{
	{"begins with a byte order mark", "byte order mark"},
	{"does not end in a newline", "no newline at the end"},
	{"stands on line", "the same token twice"},
	{"the token is empty", "empty token"},
	{"no client can send", "token that no client can send: white space, a comma"},
	{"64 hex digits", "token that begins with `sha256:`"},
	{"the user name is empty", "empty user name"},
	{"is reserved", "reserved names"},
	{"the user name begins or ends", "white space at an end of a name, group or uid"},
	{"the uid begins or ends", "white space at an end of a name, group or uid"},
	{"begins or ends with white space", "white space around a group, empty group"},
	{"is empty", "white space around a group, empty group"},
	{"holds a control character", "control characters, bytes that are not UTF-8, U+FFFD"},
	{"is not valid UTF-8", "control characters, bytes that are not UTF-8, U+FFFD"},
	{"holds U+FFFD", "control characters, bytes that are not UTF-8, U+FFFD"},
}

func judgeGeneratedTokenFile(t *testing.T, seed uint64) {
	t.Helper()
	g := &generator{rand.New(rand.NewPCG(seed, 3))}
	f := g.tokenFile()
	want, wantErr := referenceTokenFile(t, f)
	got, gotErr := gatehouseTokenFile(t, f)
	topic := ""
	switch {
	case wantErr != nil && gotErr != nil, wantErr == nil && gotErr == nil && cmp.Equal(want, got):
	case wantErr == nil && gotErr == nil && cmp.Equal(withoutEmptyColumn(want), got):
		topic = emptyColumn
	case wantErr == nil && gotErr != nil:
		for _, fault := range fileFaults {
			if topic == "" && strings.Contains(gotErr.Error(), fault[0]) {
				topic = fault[1]
			}
		}
		fallthrough
	default:
		if !slices.Contains(documentedTopics(t), topic) {
			t.Errorf("-oracle.seed=%d: %q\nkube-apiserver %v %v\ngatehouse      %v %v", seed, f.File, want, wantErr, got, gotErr)
		}
	}
	reference := answer{err: wantErr}
	if wantErr == nil {
		reference = answer{user: &auth.User{}}
	}
	count.drew(reference, topic)
}

// tokenFile draws a file, and asks for all that may be a token of it.
func (g *generator) tokenFile() tokenFile {
	var file strings.Builder
	f := tokenFile{Ask: map[string]*tokenUser{"": nil, "nobody": nil}}
	if g.chance(1, 60) {
		file.WriteString("\ufeff")
	}
	for i := range 1 + g.rand.IntN(3) {
		token := pick(g, []string{"a", "b", "c", "d", "e", "f", "#t", "a.b", "sha25", "T", "t=="}) + strings.Repeat("x", i*g.rand.IntN(2))
		if g.chance(1, 12) {
			token = pick(g, []string{"", " t", "t ", "t,u", "ż", "sha256:x", "SHA256:x", "t\tu"})
		}
		f.Ask[token], f.Ask[strings.TrimSpace(token)] = nil, nil
		columns := 3 + g.rand.IntN(3)
		if g.chance(1, 40) {
			columns = 2
		}
		cells := []string{token, g.cell(), g.cell(), g.groupCell(), g.cell()}[:columns]
		for j, cell := range cells {
			if j > 0 {
				file.WriteString(pick(g, []string{",", ",", ",", ",", ",", ",", ",", ",", ",", ",", ", "}))
			}
			file.WriteString(g.quoted(cell))
		}
		file.WriteString(pick(g, []string{"\n", "\n", "\n", "\n", "\n", "\r\n", "\n\n", "\n \n"}))
	}
	f.File = file.String()
	if g.chance(1, 20) {
		f.File = strings.TrimSuffix(f.File, "\n")
	}
	return f
}

func (g *generator) cell() string {
	if g.chance(1, 20) {
		return pick(g, []string{"", " a", "a ", "system:x", "a\nb", "a\x00", "\xff", "\ufffd", "a\u00a0"})
	}
	return pick(g, words)
}

func (g *generator) groupCell() string {
	var groups []string
	for range g.rand.IntN(4) {
		groups = append(groups, g.cell())
	}
	return strings.Join(groups, ",")
}

// quoted writes a cell as CSV has it, seldom not.
func (g *generator) quoted(cell string) string {
	switch {
	case g.chance(1, 60):
		return pick(g, []string{`"`, `a"b`, `"a"b`, `""`}) + cell
	case g.chance(1, 3) || strings.ContainsAny(cell, ",\"\n\r"):
		return `"` + strings.ReplaceAll(cell, `"`, `""`) + `"`
	}
	return cell
}
