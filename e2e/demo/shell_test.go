package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"
)

// step is one thing that a document has its reader do in a shell, and what is
// printed then: nil if the document does not say.
type step struct {
	line    int // of the document
	command string
	want    []string
}

// document is what can be checked of a page: its steps in order, and what it says
// that the demo prints, which stands in blocks of the language text.
type document struct {
	steps   []step
	printed []string
}

// parse reads the fenced blocks of a page. In one with prompts, each line that
// begins with "$ " is a command, with what it prints below; another block is
// commands alone.
func parse(page string) document {
	var d document
	lines := strings.Split(page, "\n")
	for i := 0; i < len(lines); i++ {
		language, fence := strings.CutPrefix(lines[i], "```")
		if !fence {
			continue
		}
		begin := i + 1
		for i++; lines[i] != "```"; i++ { // a page without an end of its block panics
		}
		block := lines[begin:i]
		switch language {
		case "":
			d.steps = append(d.steps, stepsOf(block, begin+1)...)
		case "text":
			d.printed = append(d.printed, block...)
		}
	}
	return d
}

// stepsOf are those of one block, whose first line has this number.
func stepsOf(block []string, first int) []step {
	if !strings.Contains("\n"+strings.Join(block, "\n"), "\n$ ") {
		return []step{{first, strings.Join(block, "\n"), nil}}
	}
	var steps []step
	for i, line := range block {
		last := len(steps) - 1
		command, prompt := strings.CutPrefix(line, "$ ")
		switch {
		case prompt:
			steps = append(steps, step{first + i, command, nil})
		case strings.HasSuffix(steps[last].command, "\\") && steps[last].want == nil:
			steps[last].command += "\n" + line
		default:
			steps[last].want = append(steps[last].want, line)
		}
	}
	for i := range steps {
		steps[i].want = trimmed(steps[i].want)
	}
	return steps
}

// trimmed is without the empty lines around.
func trimmed(lines []string) []string {
	for len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// varying is what is another each time: its pattern, and what stands for it.
var varying = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`/tmp/gatehouse-demo-\d+`), "DIRECTORY"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`gatehouse-[0-9a-z]{7,10}-[0-9a-z]{5}\b`), "POD"},
	{regexp.MustCompile(`\b[A-Z][a-z]{2} [A-Z][a-z]{2} +\d+ [\d:]{8} \d{4}`), "DATE"},
	{regexp.MustCompile(`[A-Z][a-z]{2}, \d+ [A-Z][a-z]{2} \d{4} [\d:]{8} GMT`), "DATE"},
	{regexp.MustCompile(`audit-id: [-0-9a-f]{36}`), "audit-id: ID"},
	{regexp.MustCompile(`\d+ minutes ago`), "AGE ago"},
	{regexp.MustCompile(`\b(\d+m)?\d+s\b`), "AGE"},
	{regexp.MustCompile(`\b\d+m\b`), "AGE"},
	{regexp.MustCompile(`[ \t]+`), " "},
}

// settled is a line with names for what varies.
func settled(line string) string {
	for _, v := range varying {
		line = v.pattern.ReplaceAllString(line, v.name)
	}
	return strings.TrimSpace(line)
}

// agrees reports whether lines are what a document shows. A line "…" there stands
// for any number of lines.
func agrees(want, lines []string) bool {
	var pattern, text strings.Builder
	for _, line := range want {
		if chatter.MatchString(line) {
			continue
		}
		if line == "…" {
			pattern.WriteString("(?:.*\n)*")
			continue
		}
		pattern.WriteString(regexp.QuoteMeta(settled(line)) + "\n")
	}
	for _, line := range trimmed(lines) {
		text.WriteString(settled(line) + "\n")
	}
	return regexp.MustCompile("^(?:" + pattern.String() + ")$").MatchString(text.String())
}

// chatter is what a job in the background prints whenever it likes, or not at all on
// a machine without IPv6, and what the shell says when the job has ended.
var chatter = regexp.MustCompile(`^Handling connection for |^Forwarding from \[::1\]|Terminated +kubectl port-forward`)

// shell is one bash, as a reader of a document has it.
type shell struct {
	stdin io.Writer
	lines chan string // closed at its end
	steps int
}

// openShell starts a bash in dir, with a home of its own. It ends with the test.
func openShell(ctx context.Context, t *testing.T, dir string) *shell {
	t.Helper()
	ctx, cancel := context.WithCancel(ctx)
	cmd := exec.CommandContext(ctx, "bash", "--noprofile", "--norc", "-s")
	cmd.Dir, cmd.WaitDelay = dir, 10*time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "NO_PROXY=127.0.0.1,localhost"}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &shell{stdin: in, lines: make(chan string, 1000)}
	go func() {
		defer close(s.lines)
		for scanner := bufio.NewScanner(read); scanner.Scan(); {
			s.lines <- scanner.Text()
		}
	}()
	t.Cleanup(func() {
		_, _ = io.WriteString(in, "kill $(jobs -p) 2>/dev/null; exit\n") // it may have ended
		in.Close()
		_ = cmd.Wait() // its code is that of the last command
		cancel()
		write.Close()
	})
	return s
}

// run runs a command and returns what it printed and its exit code. Of a command
// in the background, that is what it has printed when ready says so.
func (s *shell) run(ctx context.Context, command string, ready func([]string) bool) ([]string, string, error) {
	s.steps++
	mark := fmt.Sprintf("--- step %d ended with ", s.steps)
	if _, err := fmt.Fprintf(s.stdin, "%s\nprintf '\\n%s%%d\\n' $?\n", command, mark); err != nil {
		return nil, "", fmt.Errorf("ask the shell: %w", err)
	}
	background := strings.HasSuffix(command, "&")
	var lines []string
	code := ""
	for code == "" || background && !ready(lines) {
		select {
		case <-ctx.Done():
			return lines, code, ctx.Err()
		case line, ok := <-s.lines:
			switch after, marked := strings.CutPrefix(line, mark); {
			case !ok:
				return lines, code, fmt.Errorf("the shell has ended")
			case marked:
				code = after
			case !chatter.MatchString(line):
				lines = append(lines, line)
			}
		}
	}
	return lines, code, nil
}

const (
	// stepTimeout is how long one step may take on a busy machine.
	stepTimeout = time.Minute
	// retryEvery is how often a step is done again that does not print yet what the
	// document shows: some things take seconds to be seen.
	retryEvery = 500 * time.Millisecond
)

// play does the steps in a shell, each until it prints what the document shows.
// replace makes a line of the document one of this run.
func (s *shell) play(ctx context.Context, t *testing.T, steps []step, replace *strings.Replacer) {
	t.Helper()
	for _, step := range steps {
		step.command = replace.Replace(step.command)
		for i, line := range step.want {
			step.want[i] = replace.Replace(line)
		}
		if err := s.do(ctx, step); err != nil {
			t.Fatalf("line %d: %s\n%v\nthe document shows\n%s", step.line, step.command, err, strings.Join(step.want, "\n"))
		}
	}
}

// do does one step. The error has what it printed at first: what was done may have
// gone by later.
func (s *shell) do(ctx context.Context, step step) error {
	ctx, cancel := context.WithTimeout(ctx, stepTimeout)
	defer cancel()
	first := ""
	for {
		lines, code, err := s.run(ctx, step.command, func(l []string) bool { return agrees(step.want, l) })
		printed := strings.Join(lines, "\n")
		switch {
		case err != nil:
			return fmt.Errorf("%w; it printed\n%s", err, printed)
		case step.want == nil && code != "0":
			return fmt.Errorf("exit code %s; it printed\n%s", code, printed)
		case step.want == nil || agrees(step.want, lines):
			return nil
		case first == "":
			first = printed
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it printed\n%s", first)
		case <-time.After(retryEvery):
		}
	}
}
