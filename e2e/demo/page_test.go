package main

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestRow: a row is aligned, long texts go on in their own column, and there is
// no colour where the output is no terminal.
func TestRow(t *testing.T) {
	var out bytes.Buffer
	p := newPage(&out)
	p.shown = 20
	p.row(row{who: "alice", command: "kubectl get pods"}, "one two three four five six", 1500*time.Millisecond, true)
	p.row(row{who: "bob", command: "kubectl delete pod"}, "no", time.Millisecond, false)
	want := " ✓ alice      kubectl get pods                                one two three four    1.50s\n" +
		"                                                              five six\n" +
		" ✗ bob        kubectl delete pod                              no                    0.00s\n"
	if got := out.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestWrap: lines break at spaces, and within a word only if it is too long.
func TestWrap(t *testing.T) {
	for _, row := range []struct {
		text string
		want []string
	}{
		{"", []string{""}},
		{"short", []string{"short"}},
		{"ab cde f", []string{"ab cde", "f"}},
		{"abcdefghij k", []string{"abcdef", "ghij k"}},
		{"a\nb", []string{"a b"}},
		{"ü✓✓✓✓✓ ü", []string{"ü✓✓✓✓✓", "ü"}},
	} {
		if got := wrap(row.text, 6); !slices.Equal(got, row.want) {
			t.Errorf("wrap(%q): got %q, want %q", row.text, got, row.want)
		}
	}
}

// TestQuote: the commands to try can be pasted whatever the path looks like.
func TestQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/tmp/kubectl": "/tmp/kubectl",
		"/a b/kubectl": "'/a b/kubectl'",
		"/it's":        `'/it'\''s'`,
	} {
		if got := quote(path); got != want {
			t.Errorf("quote(%q): got %s, want %s", path, got, want)
		}
	}
}

// TestPlay: a failed row is counted and shown with its reason, and the tour
// goes on; the end of the context ends it.
func TestPlay(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	rows := []row{
		{"alice", "first", func(context.Context, *set) (string, error) { return "fine", nil }},
		{"bob", "second", func(context.Context, *set) (string, error) { return "", errors.New("went wrong") }},
		{"bob", "third", func(context.Context, *set) (string, error) { return "fine again", nil }},
	}
	failed, err := newPage(&out).play(ctx, nil, []section{{"title", rows}})
	if failed != 1 || err != nil || !strings.Contains(out.String(), "2 passed, 1 failed") ||
		!strings.Contains(out.String(), "went wrong") || !strings.Contains(out.String(), "fine again") {
		t.Errorf("got %d failed, %v and\n%s", failed, err, out.String())
	}
	cancel()
	if _, err := newPage(&out).play(ctx, nil, []section{{"title", rows}}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end of its context: got %v", err)
	}
}
