package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// exchangeHint is what kubectl says to those who do not have the command.
const exchangeHint = "The token is exchanged by gatehouse, which is not installed: put the command gatehouse on the PATH."

// printKubeconfig writes a kubeconfig whose user runs this command.
func (o *exchangeOptions) printKubeconfig(cmd *cobra.Command) error {
	file := kubeconfigFile{
		name: o.contextName, server: o.clusterServer, namespace: o.namespaceName,
		plugin: &execPlugin{command: "gatehouse", args: o.pluginArgs(), hint: exchangeHint, neverAsks: true},
	}
	if err := file.complete("--cluster-server", "--cluster-certificate-authority", o.clusterCA); err != nil {
		return err
	}
	_, err := fmt.Fprint(cmd.OutOrStdout(), file)
	return err
}

// pluginArgs returns the arguments by which kubectl gets what these flags ask
// for. Files are named from the root: kubectl runs anywhere.
func (o *exchangeOptions) pluginArgs() []string {
	args := []string{"exchange", "--output=" + outputExecCredential}
	add := func(flag, value string) {
		if value != "" {
			args = append(args, "--"+flag+"="+value)
		}
	}
	add("server", o.server)
	add("certificate-authority", absolute(o.ca))
	add("token-file", absolute(o.tokenFile))
	add("token-env", o.tokenEnv)
	if o.github {
		args = append(args, "--github")
	}
	add("github-audience", o.githubAudience)
	add("subject-token-type", o.tokenType)
	add("actor-token-file", absolute(o.actorFile))
	add("scope", o.scope())
	for _, audience := range o.audiences {
		add("audience", audience)
	}
	add("service-account", o.account)
	if o.lifetime > 0 {
		add("for", o.lifetime.String())
	}
	if o.timeout != exchangeTimeout {
		add("timeout", o.timeout.String())
	}
	add("cache-dir", absolute(o.cacheDir))
	if o.noCache {
		args = append(args, "--no-cache")
	}
	return args
}
