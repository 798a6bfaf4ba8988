package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kube-gatehouse/gatehouse/auth/authconfig"
	"github.com/kube-gatehouse/gatehouse/cmd/migrate"
)

type migrateOptions struct {
	from, output, configPath, root string
}

// What migrate prints.
const (
	outputEnv    = "env"
	outputConfig = "authentication-config"
	outputValues = "values"
)

// migrateOutputs are all of it.
func migrateOutputs() []string { return []string{outputEnv, outputConfig, outputValues} }

// maxFlags is how much migrate reads.
const maxFlags = 16 << 20

func newMigrate() *cobra.Command {
	var o migrateOptions
	command := &cobra.Command{
		Use:   "migrate [FILE] [-- FLAGS]",
		Short: "Turn the flags of another proxy, or of kube-apiserver, into settings",
		Long: "Print the settings that mean what the flags of kube-oidc-proxy, kube-rbac-proxy,\n" +
			"azad-kube-proxy or kube-apiserver mean, as lines for an env file, or as values for\n" +
			"gatehouse's Helm chart. They are read from behind --, from a file, or from standard input: a\n" +
			"command line; a Pod, Deployment or the like, in YAML or JSON, with the Secrets that it needs\n" +
			"beside it; kubeadm's ClusterConfiguration; k3s server with its --kube-apiserver-arg; or the\n" +
			"Helm values of kube-oidc-proxy, of jetstack, TremoloSecurity or RafPe.\n\n" +
			"On standard error stands, for each flag that has no counterpart, why, and what will behave\n" +
			"differently. An unknown flag is an error. Nothing is asked or changed, and no secret printed.\n\n" +
			"Where variables cannot say it all, GATEHOUSE_AUTHENTICATION_CONFIG names a file, which\n" +
			"-o authentication-config prints. The values of -o values hold that file.\n\n" +
			"Exits 2 if what was read makes no sense.",
		Example: "  gatehouse migrate -- kube-oidc-proxy --oidc-issuer-url=https://login.example.com --oidc-client-id=kubernetes\n" +
			"  gatehouse migrate /etc/kubernetes/manifests/kube-apiserver.yaml > gatehouse.env\n" +
			"  helm get manifest kube-oidc-proxy | gatehouse migrate\n" +
			"  helm get values --all kube-oidc-proxy | gatehouse migrate -o authentication-config > authentication.yaml\n" +
			"  helm get manifest kube-oidc-proxy | gatehouse migrate -o values > values.yaml",
		Args: cobra.ArbitraryArgs,
		RunE: o.run,
	}
	flags := command.Flags()
	flags.StringVar(&o.from, "from", "", "whose flags they are, if they do not say so: "+strings.Join(migrate.Sources(), ", "))
	flags.StringVarP(&o.output, "output", "o", outputEnv, outputEnv+", "+outputConfig+" for the file that GATEHOUSE_AUTHENTICATION_CONFIG names, or "+outputValues+" for gatehouse's Helm chart")
	flags.StringVar(&o.configPath, "config-path", migrate.DefaultConfigPath, "where gatehouse will find that file")
	flags.StringVar(&o.root, "root", "", "folder that stands for / where a file that a flag names has to be read")
	// The flags exist, so that this cannot fail.
	_ = command.RegisterFlagCompletionFunc("from", cobra.FixedCompletions(migrate.Sources(), cobra.ShellCompDirectiveNoFileComp))
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(migrateOutputs(), cobra.ShellCompDirectiveNoFileComp))
	return command
}

func (o *migrateOptions) run(cmd *cobra.Command, args []string) error {
	if !slices.Contains(migrateOutputs(), o.output) {
		return usageError{fmt.Errorf("unknown output %q: there are %s", o.output, strings.Join(migrateOutputs(), ", "))}
	}
	result, err := o.translate(cmd, args)
	if err != nil {
		return err
	}
	if err := accepted(result); err != nil {
		return usageError{err}
	}
	if o.output == outputConfig {
		if len(result.Config) == 0 {
			return usageError{errors.New("these settings need no file: without -o " + outputConfig + " they are printed")}
		}
		_, err = cmd.OutOrStdout().Write(result.Config)
		return err
	}
	for _, note := range result.Notes {
		fmt.Fprintln(cmd.ErrOrStderr(), note)
	}
	if o.output == outputValues {
		_, err = cmd.OutOrStdout().Write(result.Values)
		return err
	}
	return printSettings(cmd.OutOrStdout(), result.Settings)
}

// printSettings writes settings as an env file, in the order of docs/settings.md.
func printSettings(w io.Writer, settings []migrate.Setting) error {
	sorted, all := slices.Clone(settings), variables()
	place := func(s migrate.Setting) int {
		return slices.IndexFunc(all, func(v variable) bool { return envPrefix+v.name == s.Name })
	}
	slices.SortStableFunc(sorted, func(a, b migrate.Setting) int { return place(a) - place(b) })
	for _, setting := range sorted {
		if _, err := fmt.Fprintf(w, "%s=%s\n", setting.Name, setting.Value); err != nil {
			return err
		}
	}
	return nil
}

// translate reads the flags from where args say.
func (o *migrateOptions) translate(cmd *cobra.Command, args []string) (*migrate.Result, error) {
	options := migrate.Options{From: o.from, ConfigPath: o.configPath, Chart: o.output == outputValues, ReadFile: func(path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(o.root, path))
	}}
	files, words := args, []string(nil)
	if dash := cmd.ArgsLenAtDash(); dash >= 0 {
		files, words = args[:dash], args[dash:]
	}
	var result *migrate.Result
	var err error
	switch {
	case len(files) > 1 || len(files) == 1 && len(words) > 0:
		return nil, usageError{errors.New("give one file, or flags behind --")}
	case len(words) > 0:
		result, err = migrate.Words(words, options)
	case len(files) == 0 && isTerminal(cmd.InOrStdin()):
		return nil, usageError{errors.New("give a file, pipe the flags in, or write them behind --")}
	default:
		var content []byte
		if content, err = readFlags(cmd.InOrStdin(), files); err != nil {
			return nil, err
		}
		result, err = migrate.Text(content, options)
	}
	if err != nil {
		return nil, usageError{err}
	}
	return result, nil
}

func isTerminal(r io.Reader) bool {
	file, ok := r.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// readFlags reads the file, or standard input if there is none or it is -.
func readFlags(stdin io.Reader, files []string) ([]byte, error) {
	if len(files) == 1 && files[0] != "-" {
		file, err := os.Open(files[0])
		if err != nil {
			return nil, fmt.Errorf("read the flags: %w", err)
		}
		defer file.Close()
		stdin = file
	}
	content, err := io.ReadAll(io.LimitReader(stdin, maxFlags+1))
	if err != nil {
		return nil, fmt.Errorf("read the flags: %w", err)
	}
	if len(content) > maxFlags {
		return nil, fmt.Errorf("read the flags: there are more than %d bytes", maxFlags)
	}
	return content, nil
}

// accepted judges what was made as check does, as far as that needs no file but
// the one that was made.
func accepted(result *migrate.Result) error {
	environ := map[string]string{}
	for _, setting := range result.Settings {
		environ[setting.Name] = setting.Value
	}
	if _, ok := environ[envPrefix+"AUDIT_LOG_PATH"]; ok {
		environ[envPrefix+"AUDIT_LOG_PATH"] = "-" // its folder is where gatehouse will run, not here
	}
	var f faults
	parseSettings(environ, &f)
	if len(result.Config) > 0 {
		_, err := authconfig.Parse(result.Config, nil)
		f.addAll("AUTHENTICATION_CONFIG", err)
	}
	if err := f.err(); err != nil {
		return fmt.Errorf("gatehouse cannot do what the flags ask for: %w", err)
	}
	return nil
}
