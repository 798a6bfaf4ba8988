package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// connectTimeout is how long issuers and the API server may take to answer.
const connectTimeout = 30 * time.Second

func newCheck(environ map[string]string) *cobra.Command {
	var connect bool
	var timeout time.Duration
	command := &cobra.Command{
		Use:   "check",
		Short: "Read every setting and file, and report all faults",
		Long: "Read every setting and every file that the settings name, as serve would, and report all\n" +
			"faults at once. Nothing is started, and nobody is asked over the network.\n\n" +
			"With --connect, ask every issuer for its keys too, and the API server whether it is ready,\n" +
			"accepts gatehouse's own credential, and lets it say for whom a request is. All of it is\n" +
			"asked, even if a part fails; one line says what came of each.\n\n" +
			"Exits 1 on any fault.",
		Example: "  gatehouse check && gatehouse serve\n\n" +
			"  # in a pod of the Deployment\n" +
			"  kubectl exec -n gatehouse deploy/gatehouse -- /gatehouse check --connect",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !connect {
				return check(environ, cmd.OutOrStdout(), cmd.ErrOrStderr())
			}
			if timeout <= 0 {
				return usageError{fmt.Errorf("--timeout %s: it must be longer than nothing", timeout)}
			}
			return checkConnect(cmd.Context(), environ, timeout, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	command.Flags().BoolVar(&connect, "connect", false, "ask every issuer and the API server, over the network")
	command.Flags().DurationVar(&timeout, "timeout", connectTimeout, "with --connect: how long they may take")
	return command
}

// check reads everything, and asks nobody.
func check(environ map[string]string, stdout, stderr io.Writer) error {
	p, err := load(environ, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	for _, warning := range p.allWarnings() {
		fmt.Fprintf(stderr, "warning: %s\n", warning)
	}
	_, err = fmt.Fprintln(stdout, "The settings and all files are good.")
	return err
}

// allWarnings are the warnings of every file, in one order.
func (p *parts) allWarnings() []string {
	var all []string
	for _, source := range slices.Sorted(maps.Keys(p.warnings)) {
		all = append(all, p.warnings[source]...)
	}
	return all
}

// states of a line of check --connect.
const (
	stateOK   = "ok"
	stateWarn = "warn"
	stateFail = "FAIL"
)

// finding is one line of check --connect.
type finding struct{ state, subject, text string }

func (f finding) String() string {
	return fmt.Sprintf("%-5s %-11s %s", f.state, f.subject, phrase(f.text))
}

// checkConnect reads everything and asks everybody.
func checkConnect(ctx context.Context, environ map[string]string, timeout time.Duration, stdout, stderr io.Writer) error {
	p, err := load(environ, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	findings := []finding{{stateOK, "settings", "every setting and every file is good"}}
	for _, warning := range p.allWarnings() {
		findings = append(findings, finding{stateWarn, "settings", warning})
	}
	failed := false
	say := func(findings []finding) {
		for _, f := range findings {
			fmt.Fprintln(stdout, f)
			failed = failed || f.state == stateFail
		}
	}
	say(findings)
	for answer := range p.askAll(ctx, newProgress(stderr, timeout)) {
		say(<-answer)
	}
	if failed {
		return errSaid
	}
	return nil
}
