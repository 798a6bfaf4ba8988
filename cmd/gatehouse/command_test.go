package main

import (
	"encoding/json"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A command line that makes no sense ends with exit code 2, says why, and where
// help is.
func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"srve", `gatehouse: unknown command "srve"`},
		{"serve now", `gatehouse: unexpected argument "now"`},
		{"check now", `gatehouse: unexpected argument "now"`},
		{"version now", `gatehouse: unexpected argument "now"`},
		{"serve --listen-address=:1", "gatehouse: unknown flag: --listen-address"},
		{"--verbose", "gatehouse: unknown flag: --verbose"},
		{"version -o yaml", `gatehouse: unknown output "yaml": json is the one there is`},
	} {
		code, stdout, stderr := once(t, nil, strings.Fields(test.args)...)
		if want := test.want + "\nRun `gatehouse --help`.\n"; code != exitUsage || stdout != "" || stderr != want {
			t.Errorf("gatehouse %s: exit code %d, %q, %q; want 2 and %q", test.args, code, stdout, stderr, want)
		}
	}
}

// version prints the version, commit, Go version and platform, as a line or as
// JSON.
func TestVersion(t *testing.T) {
	want := currentBuild()
	if want.Version == "" || want.Commit == "" || want.Go != runtime.Version() || want.Platform != runtime.GOOS+"/"+runtime.GOARCH {
		t.Errorf("incomplete: %+v", want)
	}
	code, stdout, _ := once(t, nil, "version")
	if line := "gatehouse " + want.Version + " (commit " + want.Commit + ", " + want.Go + ", " + want.Platform + ")\n"; code != exitOK || stdout != line {
		t.Errorf("exit code %d, %q; want 0 and %q", code, stdout, line)
	}
	code, stdout, _ = once(t, nil, "version", "-o", "json")
	var got map[string]string
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitOK {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	if diff := cmp.Diff(map[string]string{"version": want.Version, "commit": want.Commit, "go": want.Go, "platform": want.Platform}, got); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

// Every command has an example in its help, and serve lists every setting with
// its default.
func TestHelp(t *testing.T) {
	commands := []string{""}
	for _, command := range newRoot(nil).Commands() {
		commands = append(commands, command.Name())
	}
	for _, command := range commands {
		code, stdout, stderr := once(t, nil, strings.Fields(command+" --help")...)
		if code != exitOK || stderr != "" || !strings.Contains(stdout, "\nExamples:\n  ") || !strings.Contains(stdout, "gatehouse "+command) {
			t.Errorf("gatehouse %s --help: exit code %d, without an example:\n%s%s", command, code, stdout, stderr)
		}
	}
	_, stdout, _ := once(t, nil, "serve", "--help")
	for _, v := range variables() {
		line := "  " + envPrefix + v.name
		if v.preset != "" {
			line += " (default " + v.preset + ")"
		}
		if !strings.Contains(stdout, line+"\n") {
			t.Errorf("gatehouse serve --help lacks %q", line)
		}
	}
}

// Completion scripts exist for the shells that kubectl has them for, and the
// words that they ask for are the commands.
func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, stdout, stderr := once(t, nil, "completion", shell); code != exitOK || !strings.Contains(stdout, "gatehouse") {
			t.Errorf("completion %s: exit code %d: %s", shell, code, stderr)
		}
	}
	code, stdout, _ := once(t, nil, "__complete", "")
	for _, command := range []string{"serve", "check", "version"} {
		if code != exitOK || !strings.Contains(stdout, command+"\t") {
			t.Errorf("exit code %d; %s is not offered:\n%s", code, command, stdout)
		}
	}
}
