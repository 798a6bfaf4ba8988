package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth"
)

// What people have at hand is forgiven: the word Bearer, one newline, and what
// an exec plugin prints. Anything that could be two things is not.
func TestCleanToken(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"a.b.c":          "a.b.c",
		"a.b.c\n":        "a.b.c",
		"a.b.c\r\n":      "a.b.c",
		"Bearer a.b.c\n": "a.b.c",
		"bearer a.b.c":   "a.b.c",
		`{"kind":"ExecCredential","apiVersion":"client.authentication.k8s.io/v1","status":{"token":"a.b.c"}}` + "\n": "a.b.c",
	} {
		if got, err := cleanToken([]byte(given)); err != nil || got != want {
			t.Errorf("%q: %q, %v", given, got, err)
		}
	}
	for given, want := range map[string]string{
		"":                                       "no token was given",
		"\n":                                     "no token was given",
		"Bearer ":                                "no token was given",
		"  \n":                                   "no token was given",
		"secret1\nsecret2\n":                     "more than one token",
		"secret1 secret2":                        "more than one token",
		" secret1":                               "white space",
		"secret1\n\n":                            "white space",
		"Basic secret1":                          "more than one token",
		`{"secret1":1}`:                          "no ExecCredential",
		`{"status":"secret1"}`:                   "no ExecCredential",
		"-----BEGIN CERTIFICATE-----\nsecret1\n": "use --certificate",
	} {
		_, err := cleanToken([]byte(given))
		if _, usage := errors.AsType[usageError](err); !usage || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %q", given, err, want)
		}
	}
}

// At a terminal, Enter ends the token, whatever its length, and the keys that
// people correct themselves with do what they do everywhere.
func TestReadLine(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", auth.MaxTokenBytes)
	for given, want := range map[string]string{
		"abc\rdef":     "abc",
		"abc\n":        "abc",
		"abd\x7fc\r":   "abc",
		"\x7fabc\r":    "abc",
		"xyz\x15abc\r": "abc",
		"abc\x04":      "abc",
		"abc":          "abc",
		long + "\r":    long,
	} {
		if line, err := readLine(strings.NewReader(given)); err != nil || string(line) != want {
			t.Errorf("%.20q: %.20q, %v", given, line, err)
		}
	}
	if _, err := readLine(strings.NewReader("abc\x03")); !errors.Is(err, errInterrupted) {
		t.Errorf("an interrupt: %v", err)
	}
}

// A pipe that nobody writes to does not outlast an interrupt.
func TestReadTokenInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := readToken(ctx, "", blocked{ctx: t.Context()}, nil); !errors.Is(err, errInterrupted) {
		t.Errorf("%v", err)
	}
}

// blocked is a reader from which nothing comes until the test ends.
type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// What others wrote reaches a terminal as text: no control character, no change
// of direction, nothing that cannot be seen.
func TestShown(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"alice@example.com":   "alice@example.com",
		"Zoë 漢字":              "Zoë 漢字",
		"a `b` \"c\"":         "a `b` \"c\"",
		"":                    `""`,
		`"quoted"`:            `"\"quoted\""`,
		" a":                  `" a"`,
		"\x1b[31mred":         `"\x1b[31mred"`,
		"a\nVerdict accepted": `"a\nVerdict accepted"`,
		"\u202egnp.exe":       `"\u202egnp.exe"`,
		"a\u0085b":            `"a\u0085b"`,
		"a\xffb":              `"a\xffb"`,
		"a\u00a0b":            `"a\u00a0b"`,
	} {
		if got := shown(given); got != want {
			t.Errorf("%q: %s, want %s", given, got, want)
		}
	}
	var b strings.Builder
	if err := writeJSON(&b, []string{"\x1b\u202e\u0085\x7f <é>", "\U000E0001"}); err != nil || b.String() != "[\n  \"\\u001b\\u202e\\u0085\\u007f <é>\",\n  \"\\udb40\\udc01\"\n]\n" {
		t.Errorf("%v %q", err, b.String())
	}
}
