package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// noArguments refuses arguments with a sentence, and does not say them again: one
// could be a token.
func noArguments(sentence string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > 0 {
			return usageError{errors.New(sentence)}
		}
		return nil
	}
}

// quietFlagFault says what is wrong with a flag without what stands there: it
// could be a token that took the place of a flag.
func quietFlagFault(command *cobra.Command) func(*cobra.Command, error) error {
	return func(_ *cobra.Command, err error) error {
		if value, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
			return usageError{fmt.Errorf("--%s: it cannot be read", value.GetFlag().Name)}
		}
		if missing, ok := errors.AsType[*pflag.ValueRequiredError](err); ok {
			return usageError{fmt.Errorf("--%s needs a value", missing.GetFlag().Name)}
		}
		var names []string
		command.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" {
				names = append(names, "--"+f.Name)
			}
		})
		last := len(names) - 1
		return usageError{fmt.Errorf("unknown flag: there are %s and %s", strings.Join(names[:last], ", "), names[last])}
	}
}
