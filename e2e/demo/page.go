package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

// Columns of the table.
const (
	whoWidth     = 9
	commandWidth = 46
	timeWidth    = 6
	minShown     = 30
	defaultWidth = 120
	maxWidth     = 140
)

// page prints the tour for people: with colours on a terminal, plain elsewhere.
type page struct {
	out    io.Writer
	colour bool
	shown  int // width of the column of what a command showed
}

func newPage(out io.Writer) *page {
	p := &page{out: out, colour: build.IsTerminal(out) && os.Getenv("NO_COLOR") == ""}
	width := defaultWidth
	if f, ok := out.(*os.File); ok {
		if columns, _, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 {
			width = min(columns, maxWidth)
		}
	}
	p.shown = max(minShown, width-whoWidth-commandWidth-timeWidth-8)
	return p
}

// play runs the sections, row by row, and returns how many rows failed. The error
// is that of ctx.
func (p *page) play(ctx context.Context, t *set, sections []section) (failed int, err error) {
	rows, started := 0, time.Now()
	fmt.Fprintln(p.out, p.paint(grey, fmt.Sprintf("\n   %s  %s  %s %*s", pad("who", whoWidth), pad("command", commandWidth),
		pad("what it showed", p.shown), timeWidth, "time")))
	for _, s := range sections {
		fmt.Fprintf(p.out, "\n%s\n", p.paint(bold, s.title))
		for _, r := range s.rows {
			begun := time.Now()
			shown, rowErr := r.run(ctx, t)
			if err := ctx.Err(); err != nil {
				return failed, err
			}
			rows++
			if rowErr != nil {
				failed++
				shown = rowErr.Error()
			}
			p.row(r, shown, time.Since(begun), rowErr == nil)
		}
	}
	word := p.paint(green, fmt.Sprintf("%d passed", rows-failed))
	if failed > 0 {
		word += ", " + p.paint(red, fmt.Sprintf("%d failed", failed))
	} else {
		word += ", 0 failed"
	}
	fmt.Fprintf(p.out, "\n%s in %s\n", word, time.Since(started).Round(100*time.Millisecond))
	return failed, nil
}

// row prints one line, and more if a text does not fit.
func (p *page) row(r row, shown string, took time.Duration, ok bool) {
	mark := p.paint(green, "✓")
	if !ok {
		mark = p.paint(red, "✗")
	}
	command, what := wrap(r.command, commandWidth), wrap(shown, p.shown)
	who, elapsed := r.who, fmt.Sprintf("%*s", timeWidth, fmt.Sprintf("%.2fs", took.Seconds()))
	for i := range max(len(command), len(what)) {
		line := fmt.Sprintf(" %s %s  %s  %s %s", mark, pad(who, whoWidth), pad(at(command, i), commandWidth),
			p.shade(pad(at(what, i), p.shown), ok), p.paint(grey, elapsed))
		fmt.Fprintln(p.out, strings.TrimRight(line, " "))
		mark, who, elapsed = " ", "", ""
	}
}

func (p *page) shade(s string, ok bool) string {
	if ok {
		return s
	}
	return p.paint(red, s)
}

// invite says what one may try while the demo stays up in dir. more are lines of
// their own.
func (p *page) invite(t *set, dir, more string) {
	fmt.Fprintf(p.out, "\n%s\n", p.paint(bold, "Try it, in another terminal"))
	kubectl := quote(t.kubectlLink) + " --kubeconfig " + quote(t.config)
	fmt.Fprintf(p.out, "  %s --context alice get deployments\n", kubectl)
	fmt.Fprintf(p.out, "  %s --context bob delete deployment hello\n", kubectl)
	fmt.Fprintf(p.out, "\nThe documents call this directory DEMO:\n  DEMO=%s\n", quote(dir))
	fmt.Fprintf(p.out, "\nOther contexts: %s.\nHealth and metrics: %s/readyz?verbose %s/metrics\nToken exchange: %s\n",
		strings.Join([]string{robot, newcomer, heidi, ivan, builder, vault, grace, job, agent, late, forger, stranger, nobody}, ", "), t.gate.OpsURL(), t.gate.OpsURL(), t.gate.ExchangeURL())
	fmt.Fprint(p.out, more)
	fmt.Fprintln(p.out, "Ctrl-C ends everything and removes its files.")
}

// quote writes a path so that a shell takes it for one word.
func quote(path string) string {
	if !strings.ContainsAny(path, " \t'\"\\$`*?[]{}()<>|&;#~!") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

// The looks of a text on a terminal.
const (
	bold  = "1"
	red   = "31"
	green = "32"
	grey  = "90"
)

func (p *page) paint(look, s string) string {
	if !p.colour || strings.TrimSpace(s) == "" {
		return s
	}
	return "\x1b[" + look + "m" + s + "\x1b[0m"
}

// wrap breaks s at spaces into lines of at most width characters; a longer word
// is broken too.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		for utf8.RuneCountInString(word) > width {
			runes := []rune(word)
			if line != "" {
				lines, line = append(lines, line), ""
			}
			lines, word = append(lines, string(runes[:width])), string(runes[width:])
		}
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines, line = append(lines, line), word
		}
	}
	return append(lines, line)
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return ""
}
