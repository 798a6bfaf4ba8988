// Command gatehouse is an authenticating proxy in front of a Kubernetes API
// server: it exchanges the credential that a caller has for the identity that
// the cluster knows, and forwards the request with impersonation headers.
//
// Settings come from GATEHOUSE_* environment variables, listed in
// docs/settings.md and by `gatehouse serve --help`.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// Exit codes.
const (
	exitOK    = 0
	exitFault = 1 // something did not work
	exitUsage = 2 // the command line makes no sense
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	// A second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	// client-go logs there. The logger is one for the whole process.
	klog.SetSlogLogger(newLog(environment(os.Environ()), os.Stderr))
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}

// run is main with its surroundings as arguments. It returns the exit code.
func run(ctx context.Context, args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(environment(environ))
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	if errors.Is(err, errSaid) {
		return exitFault
	}
	if usage, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(stderr, "gatehouse: %v\nRun `gatehouse --help`.\n", usage)
		return exitUsage
	}
	fmt.Fprintf(stderr, "gatehouse: %v\n", err)
	return exitFault
}

// usageError says that the command line makes no sense.
type usageError struct{ error }

// errSaid is the error of a command that has said itself what is wrong.
var errSaid = errors.New("said already")

func newRoot(environ map[string]string) *cobra.Command {
	root := &cobra.Command{
		Use:   "gatehouse",
		Short: "The front door of a Kubernetes cluster for any identity",
		Long: "gatehouse stands in front of a Kubernetes API server. It checks who a caller is, by an\n" +
			"OIDC ID token or a static token, and forwards the request as that user.",
		Example:       "  gatehouse check --connect\n  gatehouse serve\n  gatehouse explain < token\n  gatehouse rbac | kubectl apply -f -",
		SilenceErrors: true,
		SilenceUsage:  true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unknown command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newServe(environ), newCheck(environ), newExplain(environ), newRBAC(environ), newKubeconfig(environ), newMigrate(), newExchange(environ), newVersion())
	for _, command := range root.Commands() {
		if command.Args != nil {
			continue
		}
		command.Args = func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Errorf("unexpected argument %q", args[0])}
			}
			return nil
		}
	}
	return root
}

// environment turns os.Environ's form into a map.
func environment(environ []string) map[string]string {
	m := make(map[string]string, len(environ))
	for _, entry := range environ {
		if name, value, found := strings.Cut(entry, "="); found {
			m[name] = value
		}
	}
	return m
}
