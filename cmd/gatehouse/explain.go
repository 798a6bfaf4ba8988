package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/oidc"
	"github.com/kube-gatehouse/gatehouse/proxy"
)

type explainOptions struct {
	tokenFile, certificate, output string
	timeout                        time.Duration
}

func newExplain(environ map[string]string) *cobra.Command {
	var o explainOptions
	command := &cobra.Command{
		Use:   "explain [-]",
		Short: "Say whom a token or certificate names, or which rule refuses it",
		Long: "Judge a token as serve would, with the same settings, files and code, and say which issuer it\n" +
			"belongs to, how each part of the identity was made of its claims, or which rule refused it.\n" +
			"The token is read from standard input, or from a file, never from an argument: arguments can\n" +
			"be seen by others. It may stand behind the word Bearer, or in what an exec plugin prints.\n" +
			"Neither the token nor its signature is printed, but its claims are.\n\n" +
			"The issuer is asked for its keys, and, with GATEHOUSE_TOKEN_REVIEW, the API server about a\n" +
			"ServiceAccount's token; nobody else is asked. Settings for serving alone may be missing: where\n" +
			"they are, a line on standard error says so.\n\n" +
			"Exits 0 if the credential is accepted, 1 if it is refused or that cannot be told, and 2 if the\n" +
			"command line or what was read makes no sense.",
		Example: "  gatehouse explain < token\n" +
			"  kubelogin get-token --oidc-issuer-url=https://login.example.com --oidc-client-id=kubernetes | gatehouse explain\n" +
			"  gatehouse explain --token-file token -o json\n" +
			"  gatehouse explain --certificate client.crt",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) == 1 && args[0] == "-" {
				return nil
			}
			return usageError{errors.New("explain takes no token as an argument, where others can see it: pipe it in, or use --token-file")}
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, environ) },
	}
	command.SetFlagErrorFunc(quietFlagFault(command))
	flags := command.Flags()
	flags.StringVar(&o.tokenFile, "token-file", "", "file that holds the token; - is standard input")
	flags.StringVar(&o.certificate, "certificate", "", "file of a client certificate, with its intermediates, to explain in place of a token")
	flags.StringVarP(&o.output, "output", "o", "", "json, or nothing for a page for people")
	flags.DurationVar(&o.timeout, "timeout", connectTimeout, "how long the issuer may take")
	// The flag exists, so that this cannot fail.
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	command.ValidArgsFunction = cobra.NoFileCompletions
	return command
}

func (o explainOptions) run(cmd *cobra.Command, environ map[string]string) error {
	switch {
	case o.output != "" && o.output != "json":
		return usageError{errors.New("unknown output: json is the one there is")}
	case o.certificate != "" && (o.tokenFile != "" || cmd.Flags().NArg() > 0):
		return usageError{errors.New("give a token or a certificate, not both")}
	case o.timeout <= 0:
		return usageError{errors.New("--timeout must be longer than nothing")}
	}
	p, notes, err := loadToExplain(environ)
	if err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %v; explain does without it\n", note)
	}
	var credential presented
	if o.certificate != "" {
		credential.chain, err = readChain(o.certificate)
	} else {
		credential.token, err = readToken(cmd.Context(), o.tokenFile, cmd.InOrStdin(), cmd.ErrOrStderr())
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), o.timeout)
	defer cancel()
	e, err := p.explain(ctx, credential, newProgress(cmd.ErrOrStderr(), o.timeout))
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = writeJSON(cmd.OutOrStdout(), e)
	} else {
		err = e.write(cmd.OutOrStdout())
	}
	if err != nil {
		return err
	}
	if !e.Accepted {
		return errSaid
	}
	return nil
}

// loadToExplain reads the settings and all files. What is wrong with those by
// which nobody is judged is a note: who looks into a refusal need not have the
// serving key.
func loadToExplain(environ map[string]string) (p *parts, notes []error, err error) {
	return loadWithout(environ, servingVariables)
}

// explain judges a credential by the authenticators and the name policy that
// serve has, and says how the verdict came about.
func (p *parts) explain(ctx context.Context, c presented, progress *progress) (*explanation, error) {
	e := &explanation{now: time.Now()}
	if auth.IsBearerToken(c.token) { // else it is refused before anybody looks into it
		p.prepare(ctx, c.token, e, progress)
	}
	r, err := c.request(ctx)
	if err != nil {
		return nil, err
	}
	var identity *auth.Identity
	if c.chain != nil && p.settings.ClientCAFile == "" {
		err = auth.Refuse(auth.KindClientCert, auth.NoCredential,
			"client certificates are not asked for: GATEHOUSE_CLIENT_CA_FILE is not set")
	} else {
		identity, err = proxy.Identify(p.authenticator(), p.names, r)
	}
	e.setVerdict(identity, err)
	switch {
	case c.chain != nil:
		p.addCertificateTo(e, c.chain, identity)
	default:
		p.addToken(ctx, e, c.token, identity)
	}
	return e, nil
}

// prepare gets what serve has at hand to judge a token: the keys of the issuer
// that it names, or else the name of gatehouse's own account, without which no
// ServiceAccount's token is accepted.
func (p *parts) prepare(ctx context.Context, token string, e *explanation, progress *progress) {
	var issuer *oidc.Issuer
	if router := p.issuers.router(); router != nil {
		issuer = router.Owner(token)
	}
	target := p.upstream.Target()
	switch {
	case issuer != nil:
		p.fetchKeys(ctx, issuer, e, progress)
	case p.accounts != nil && target != nil:
		progress.during("asking the API server for the name of gatehouse's own account", func() {
			if err := p.self.learn(ctx, target); err != nil {
				e.note("The API server was asked for the name of gatehouse's own account: %v.", err)
			}
		})
	case p.accounts != nil:
		e.note("Without the kubeconfig, no ServiceAccount token can be judged.")
	}
}

func (p *parts) fetchKeys(ctx context.Context, issuer *oidc.Issuer, e *explanation, progress *progress) {
	var err error
	progress.during("asking "+issuer.URL()+" for its keys", func() { err = issuer.Fetch(ctx) })
	keys, from := issuer.Keys()
	e.Issuer = &explainedIssuer{URL: issuer.URL(), Configured: p.placeOf(issuer), Keys: len(keys), KeysURL: from}
	switch {
	case err != nil && ctx.Err() != nil:
		e.Issuer.Fault = "no answer within the time of --timeout"
	case err != nil:
		e.Issuer.Fault = err.Error()
	}
}
