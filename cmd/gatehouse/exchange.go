package main

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/kube-gatehouse/gatehouse/cmd/exchange"
)

// What exchange prints.
const (
	outputToken          = "token"
	outputJSON           = "json"
	outputKubeconfig     = "kubeconfig"
	outputExecCredential = "exec-credential"
)

func exchangeOutputs() []string {
	return []string{outputToken, outputJSON, outputKubeconfig, outputExecCredential}
}

// exchangeTimeout is how long the exchange may take, and another process that
// exchanges the same.
const exchangeTimeout = 30 * time.Second

// exchangeOptions are the flags of the command exchange.
type exchangeOptions struct {
	server, ca                 string
	tokenFile, tokenEnv        string
	github                     bool
	githubAudience             string
	tokenType, actorFile       string
	scopes, audiences          []string
	account                    string
	lifetime, timeout          time.Duration
	output, cacheDir           string
	noCache                    bool
	clusterServer, clusterCA   string
	contextName, namespaceName string
}

const exchangeText = `Exchange a token for another one at the exchange of a gatehouse (RFC 8693): for a session
token of gatehouse's own, which --scope can narrow, or for a ServiceAccount's.

The token is read from a file (- is standard input), such as a projected volume's, from an
environment variable, such as one of GitLab's id_tokens, or asked for at GitHub, in a job
of GitHub Actions. It is never an argument: arguments can be seen by others.

-o token prints the new token and nothing else, -o json the answer of the exchange, and
-o exec-credential what kubectl wants of an exec plugin. -o kubeconfig asks nobody, and prints
a kubeconfig without a secret, which has kubectl run this command by itself.

Processes that ask for the same at the same time exchange once: the new token is kept in the
folder gatehouse/exchange of the user's cache, in files that the user alone can read. It is
given out again while it has 5 minutes of life left, or half of its life if that is less, and
only for the same flags and the same subject: another person's token in the same file is
exchanged anew, and so is one with other claims. After a revocation, remove that folder.

HTTPS_PROXY and NO_PROXY are honored. Exits 0 if a token was printed, 1 if the exchange
refused or did not answer, and 2 if the command line or what was read makes no sense.`

func newExchange(environ map[string]string) *cobra.Command {
	var o exchangeOptions
	command := &cobra.Command{
		Use:   "exchange --server URL (--token-file FILE | --token-env NAME | --github)",
		Short: "Exchange a token for a narrower one, or for a ServiceAccount's",
		Long:  exchangeText,
		Example: "  # an hour for an agent, read-only\n" +
			"  gatehouse exchange --server https://gatehouse.example.com:8444 --token-file - --scope read-only --for 1h < token\n\n" +
			"  # a ServiceAccount's token for Vault, in a job of GitHub Actions\n" +
			"  gatehouse exchange --server https://gatehouse.example.com:8444 --github \\\n" +
			"    --service-account shop/deployer --audience vault\n\n" +
			"  # a kubeconfig for a job of GitLab CI\n" +
			"  gatehouse exchange --server https://gatehouse.example.com:8444 --token-env KUBE_TOKEN \\\n" +
			"    -o kubeconfig --cluster-server https://gatehouse.example.com > kubeconfig",
		Args: noArguments("exchange takes no token as an argument, where others can see it: use --token-file, --token-env or --github"),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, environ) },
	}
	o.addFlags(command.Flags())
	command.SetFlagErrorFunc(quietFlagFault(command))
	for flag, words := range map[string][]string{"output": exchangeOutputs(), "subject-token-type": exchange.TokenTypes()} {
		// The flag exists, so that this cannot fail.
		_ = command.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
	_ = command.RegisterFlagCompletionFunc("scope", cobra.FixedCompletions(scopeWords(), cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace))
	for _, flag := range []string{"server", "token-env", "github-audience", "audience", "service-account", "for", "timeout", "cluster-server", "name", "namespace"} {
		_ = command.RegisterFlagCompletionFunc(flag, cobra.NoFileCompletions)
	}
	_ = command.MarkFlagDirname("cache-dir")
	command.ValidArgsFunction = cobra.NoFileCompletions
	return command
}

// scopeWords are the words of docs/scopes.md, for the shell to complete. Which are
// known is up to the exchange.
func scopeWords() []string {
	return []string{"read-only", "no-secrets", "no-exec", "no-impersonation", "namespaces=", "groups=", "resources=", "verbs="}
}

func (o *exchangeOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.server, "server", "", "URL of the exchange, which is GATEHOUSE_EXCHANGE_URL to the letter; required")
	flags.StringVar(&o.ca, "certificate-authority", "", "file of the CA certificates, as PEM, of the exchange's serving certificate (default: those that the machine trusts)")
	flags.StringVar(&o.tokenFile, "token-file", "", "file that holds the token to exchange; - is standard input")
	flags.StringVar(&o.tokenEnv, "token-env", "", "environment variable that holds the token to exchange")
	flags.BoolVar(&o.github, "github", false, "exchange the ID token of this job of GitHub Actions, which needs the permission id-token: write")
	flags.StringVar(&o.githubAudience, "github-audience", "", "audience of the ID token that is asked for at GitHub (default: the URL of --server)")
	flags.StringVar(&o.tokenType, "subject-token-type", "", strings.Join(exchange.TokenTypes(), ", ")+" (default: jwt for a token of three parts, else access_token)")
	flags.StringVar(&o.actorFile, "actor-token-file", "", "file that holds the token of who acts for the subject")
	flags.StringArrayVar(&o.scopes, "scope", nil, "what the session token may be used for; may be repeated, or hold several words")
	flags.StringArrayVar(&o.audiences, "audience", nil, "whom a ServiceAccount's token is for; may be repeated")
	flags.StringVar(&o.account, "service-account", "", "NAMESPACE/NAME: ask for a token of this ServiceAccount, which the cluster must allow the subject")
	flags.DurationVar(&o.lifetime, "for", 0, "how long the new token should live at most, such as 1h (default: as long as the exchange allows)")
	flags.StringVarP(&o.output, "output", "o", outputToken, strings.Join(exchangeOutputs(), ", "))
	flags.DurationVar(&o.timeout, "timeout", exchangeTimeout, "how long the exchange may take, and another process that exchanges the same")
	flags.StringVar(&o.cacheDir, "cache-dir", "", "folder of tokens that are given out again (default: gatehouse/exchange in the user's cache)")
	flags.BoolVar(&o.noCache, "no-cache", false, "neither look for a token in the cache nor keep the new one")
	flags.StringVar(&o.clusterServer, "cluster-server", "", "with -o kubeconfig: URL of gatehouse as kubectl reaches it")
	flags.StringVar(&o.clusterCA, "cluster-certificate-authority", "", "with -o kubeconfig: file of the CA certificates of gatehouse's serving certificate, to be written into the kubeconfig")
	flags.StringVar(&o.contextName, "name", "", "with -o kubeconfig: name of the cluster, user and context (default: the host of --cluster-server)")
	flags.StringVar(&o.namespaceName, "namespace", "", "with -o kubeconfig: namespace of the context")
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)
)

// check judges the flags by themselves and together. What it says repeats no
// value: a token could stand anywhere.
func (o *exchangeOptions) check() error {
	sources := 0
	for _, chosen := range []bool{o.tokenFile != "", o.tokenEnv != "", o.github} {
		if chosen {
			sources++
		}
	}
	switch {
	case o.server == "":
		return errors.New("--server is required: the URL of the exchange")
	case sources == 0:
		return errors.New("say where the token is: --token-file FILE (- is standard input), --token-env NAME, or --github")
	case sources > 1:
		return errors.New("choose one of --token-file, --token-env and --github")
	case o.githubAudience != "" && !o.github:
		return errors.New("--github-audience belongs to --github")
	case !slices.Contains(exchangeOutputs(), o.output):
		return fmt.Errorf("unknown output: there are %s", strings.Join(exchangeOutputs(), ", "))
	case o.tokenType != "" && !slices.Contains(exchange.TokenTypes(), o.tokenType):
		return fmt.Errorf("unknown --subject-token-type: there are %s", strings.Join(exchange.TokenTypes(), ", "))
	case o.tokenEnv != "" && !variableName.MatchString(o.tokenEnv):
		return errors.New("--token-env: it is the name of a variable, not a token")
	case o.lifetime < 0 || o.lifetime%time.Second != 0:
		return errors.New("--for: it is a time in whole seconds, such as 1h or 900s")
	case o.timeout <= 0:
		return errors.New("--timeout must be longer than nothing")
	case o.noCache && o.cacheDir != "":
		return errors.New("choose one of --cache-dir and --no-cache")
	}
	if err := o.checkWanted(); err != nil {
		return err
	}
	if err := o.checkKubeconfig(); err != nil {
		return err
	}
	return checkPublic(slices.Concat([]string{
		o.server, o.ca, o.tokenFile, o.tokenEnv, o.githubAudience, o.actorFile, o.account, o.cacheDir,
		o.clusterServer, o.clusterCA, o.contextName, o.namespaceName,
	}, o.scopes, o.audiences))
}

// checkWanted judges what is asked for.
func (o *exchangeOptions) checkWanted() error {
	if o.account != "" {
		namespace, name, found := strings.Cut(o.account, "/")
		switch {
		case !found || !dnsLabel.MatchString(namespace) || !dnsSubdomain.MatchString(name):
			return errors.New("--service-account: it is not of the form NAMESPACE/NAME")
		case len(o.audiences) == 0:
			return errors.New("--audience is needed with --service-account: whom the token is for, and nobody else takes it")
		case o.actorFile != "":
			return errors.New("--actor-token-file is for session tokens: nobody can act in a ServiceAccount's")
		case len(o.scopes) > 0:
			return errors.New("--scope is for session tokens: what a ServiceAccount's token may do is up to the cluster")
		}
	}
	for _, scope := range o.scopes { // RFC 6749 section 3.3
		if strings.TrimSpace(scope) == "" || strings.ContainsFunc(scope, func(c rune) bool { return c < ' ' || c > '~' || c == '"' || c == '\\' }) {
			return errors.New("--scope: it holds no word, or characters that no scope has")
		}
	}
	if slices.Contains(o.audiences, "") {
		return errors.New("--audience: it is empty")
	}
	return nil
}

func (o *exchangeOptions) checkKubeconfig() error {
	if o.output != outputKubeconfig {
		if o.clusterServer != "" || o.clusterCA != "" || o.contextName != "" || o.namespaceName != "" {
			return errors.New("--cluster-server, --cluster-certificate-authority, --name and --namespace belong to -o kubeconfig")
		}
		return nil
	}
	if o.tokenFile == "-" {
		return errors.New("-o kubeconfig: kubectl has no token on its standard input: name a file or a variable")
	}
	return checkServer("--cluster-server", o.clusterServer)
}
