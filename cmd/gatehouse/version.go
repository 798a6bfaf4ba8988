package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// Set by the build: -ldflags "-X main.version=v1.2.3 -X main.commit=<hash>".
var version, commit string

// build says what this binary was made of.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// currentBuild takes from the Go toolchain what the build did not set.
func currentBuild() build {
	b := build{Version: version, Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Version == "" {
		b.Version = info.Main.Version
	}
	if ok && b.Commit == "" {
		for _, setting := range info.Settings {
			if setting.Key == "vcs.revision" {
				b.Commit = setting.Value
			}
		}
	}
	if b.Version == "" {
		b.Version = "(devel)"
	}
	if b.Commit == "" {
		b.Commit = "unknown"
	}
	return b
}

func newVersion() *cobra.Command {
	var output string
	command := &cobra.Command{
		Use:     "version",
		Short:   "Print the version, commit, Go version and platform",
		Example: "  gatehouse version\n  gatehouse version -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := currentBuild()
			switch output {
			case "json":
				encoder := json.NewEncoder(cmd.OutOrStdout())
				encoder.SetIndent("", "  ")
				return encoder.Encode(b)
			case "":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "gatehouse %s (commit %s, %s, %s)\n", b.Version, b.Commit, b.Go, b.Platform)
				return err
			default:
				return usageError{fmt.Errorf("unknown output %q: json is the one there is", output)}
			}
		},
	}
	command.Flags().StringVarP(&output, "output", "o", "", "json, or nothing for a line of text")
	return command
}
