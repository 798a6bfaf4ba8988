package main

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// kubeconfigOptions are the flags of the command kubeconfig.
type kubeconfigOptions struct {
	server, caFile, name, namespace string
	issuerURL, clientID, issuerCA   string
	scopes                          []string
	exec, installHint               string
	execArgs                        []string
	clusterInfo                     bool
	tokenFile, certFile, keyFile    string
}

func newKubeconfig(environ map[string]string) *cobra.Command {
	var o kubeconfigOptions
	command := &cobra.Command{
		Use:   "kubeconfig --server URL",
		Short: "Print a kubeconfig for people, without a secret in it",
		Long: "Print a kubeconfig for those who call this gatehouse. It holds no secret, so that one file is\n" +
			"for everybody. Nothing is asked or changed.\n\n" +
			"By default people sign in with kubelogin, the plugin behind `kubectl oidc-login`: issuer and\n" +
			"client id are those of the settings, or of the flags. Where the settings name the claims email\n" +
			"or profile, the scopes that bring them are asked for; what brings groups depends on the issuer.\n" +
			"--exec is another plugin, which gets the arguments of --exec-arg and no others. --token-file\n" +
			"and --client-certificate write down where the credential is on the caller's own machine; these\n" +
			"files are not read.",
		Example: "  # with the settings of the Deployment\n" +
			"  kubectl exec -n gatehouse deploy/gatehouse -- /gatehouse kubeconfig \\\n" +
			"    --server https://gatehouse.example.com > kubeconfig\n\n" +
			"  gatehouse kubeconfig --server https://gatehouse.example.com --ca-file ca.crt --name prod \\\n" +
			"    --oidc-issuer-url https://login.example.com --oidc-client-id kubernetes --oidc-extra-scope groups\n\n" +
			"  gatehouse kubeconfig --server https://gatehouse.example.com --exec aws-sso-token --exec-arg prod\n" +
			"  gatehouse kubeconfig --server https://gatehouse.example.com --token-file /var/run/secrets/robot/token",
		Args: noArguments("kubeconfig takes flags alone"),
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, environ) },
	}
	flags := command.Flags()
	flags.StringVar(&o.server, "server", "", "URL of gatehouse as its callers reach it; required")
	flags.StringVar(&o.caFile, "ca-file", "", "CA certificates, as PEM, of gatehouse's serving certificate, to be written into the kubeconfig; without it the caller's machine must trust them")
	flags.StringVar(&o.name, "name", "", "name of the cluster, user and context (default: the host of --server)")
	flags.StringVar(&o.namespace, "namespace", "", "namespace of the context")
	flags.StringVar(&o.issuerURL, "oidc-issuer-url", "", "issuer at which people sign in (default: that of the settings)")
	flags.StringVar(&o.clientID, "oidc-client-id", "", "client id that people sign in for (default: that of the settings)")
	flags.StringVar(&o.issuerCA, "oidc-ca-file", "", "CA certificates, as PEM, of the issuer, to be written into the kubeconfig (default: those of the settings)")
	flags.StringArrayVar(&o.scopes, "oidc-extra-scope", nil, "scope to ask for besides openid and those that the settings need; may be repeated")
	flags.StringVar(&o.exec, "exec", "", "another exec plugin: a command that prints an ExecCredential of client.authentication.k8s.io/v1")
	flags.StringArrayVar(&o.execArgs, "exec-arg", nil, "argument of the plugin, added to the others; may be repeated")
	flags.StringVar(&o.installHint, "install-hint", "", "what kubectl says to those who do not have the plugin of --exec")
	flags.BoolVar(&o.clusterInfo, "provide-cluster-info", false, "with --exec: tell the plugin of the cluster, in KUBERNETES_EXEC_INFO")
	flags.StringVar(&o.tokenFile, "token-file", "", "in place of a plugin: file on the caller's machine that holds a token")
	flags.StringVar(&o.certFile, "client-certificate", "", "in place of a plugin: file on the caller's machine that holds a client certificate; with --client-key")
	flags.StringVar(&o.keyFile, "client-key", "", "file on the caller's machine that holds the key of --client-certificate")
	command.ValidArgsFunction = cobra.NoFileCompletions
	return command
}

func (o kubeconfigOptions) run(cmd *cobra.Command, environ map[string]string) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	file := kubeconfigFile{name: o.name, server: o.server, namespace: o.namespace, tokenFile: o.tokenFile, certFile: o.certFile, keyFile: o.keyFile}
	err := file.complete("--server", "--ca-file", o.caFile)
	if err != nil {
		return err
	}
	switch {
	case o.tokenFile != "" || o.certFile != "":
	case o.exec != "":
		file.plugin = &execPlugin{command: o.exec, args: o.execArgs, hint: o.installHint, clusterInfo: o.clusterInfo}
	default:
		if file.plugin, err = o.kubelogin(environ); err != nil {
			return err
		}
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), file)
	return err
}

// check judges the flags by themselves and together.
func (o kubeconfigOptions) check() error {
	if err := checkServer("--server", o.server); err != nil {
		return err
	}
	oidc := o.issuerURL != "" || o.clientID != "" || o.issuerCA != "" || len(o.scopes) > 0
	kinds := 0
	for _, chosen := range []bool{o.tokenFile != "", o.certFile != "" || o.keyFile != "", o.exec != "", oidc} {
		if chosen {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		return errors.New("choose one credential: --token-file, --client-certificate, --exec, or the --oidc- flags")
	case (o.certFile == "") != (o.keyFile == ""):
		return errors.New("--client-certificate and --client-key belong together")
	case o.exec == "" && (o.installHint != "" || o.clusterInfo):
		return errors.New("--install-hint and --provide-cluster-info belong to --exec")
	case len(o.execArgs) > 0 && (o.tokenFile != "" || o.certFile != ""):
		return errors.New("--exec-arg belongs to a plugin: there is none beside --token-file and --client-certificate")
	}
	for _, arg := range o.execArgs {
		if secretFlag.MatchString(arg) && !strings.HasPrefix(arg, kubeloginAccessToken) {
			return errors.New("--exec-arg: one holds a secret, or asks for one to follow: everybody would have it with the kubeconfig. Let the plugin find it on the caller's machine")
		}
	}
	return checkPublic(slices.Concat([]string{o.server, o.name, o.namespace, o.issuerURL, o.clientID, o.exec, o.installHint, o.tokenFile, o.certFile, o.keyFile}, o.scopes, o.execArgs))
}

// checkServer judges the URL of a cluster that a flag gives.
func checkServer(flag, server string) error {
	u, err := url.Parse(server)
	switch {
	case server == "":
		return fmt.Errorf("%s is required: the URL of gatehouse as its callers reach it", flag)
	case err != nil || u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("%s: it is not a URL like https://gatehouse.example.com", flag)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%s: leave out user name, query and fragment", flag)
	}
	return nil
}

// checkPublic refuses what no file can hold as one line, and what is a secret by
// its form: a token in place of the file that holds it. It does not say it again.
func checkPublic(values []string) error {
	for _, value := range values {
		if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) {
			return errors.New("the value of a flag has control characters, or is not UTF-8")
		}
		if jwtShape.MatchString(value) || strings.Contains(value, "PRIVATE KEY") {
			return errors.New("the value of a flag is a secret: name the file that holds it")
		}
	}
	return nil
}

var (
	// secretFlag is a plugin's flag whose value is a secret.
	secretFlag = regexp.MustCompile(`(?i)^--?([a-z0-9-]*-)?(secret|password|passphrase|token|api-?key)(=|$)`)
	jwtShape   = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.`)
)

// kubeloginAccessToken is a flag of kubelogin that is on or off, whatever its name.
const kubeloginAccessToken = "--oidc-use-access-token"
