package main

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// defaultAccount is the name of gatehouse's ServiceAccount and of its namespace.
const defaultAccount = "gatehouse"

type rbacOptions struct {
	legacy, readOnly   bool
	apiGroups          string // separated by commas
	namespace, account string
}

func newRBAC(environ map[string]string) *cobra.Command {
	var o rbacOptions
	command := &cobra.Command{
		Use:   "rbac",
		Short: "Print the least rights that the settings need, to be applied",
		Long: "Print a ServiceAccount for gatehouse with the least rights that the present settings need: a\n" +
			"Namespace, a ServiceAccount, a ClusterRole and its binding. Nothing is asked or changed.\n\n" +
			"The rights are constrained impersonation, which Kubernetes has from 1.36 on. With them the\n" +
			"account can read and change nothing itself, and the API server refuses it the group\n" +
			"system:masters, nodes and, unless people may ask to be one, ServiceAccounts.\n\n" +
			"The settings are those of serve. Of the files that they name, only those that say who may\n" +
			"sign in by ID tokens must be there; a line on standard error names the others that are not.\n" +
			"Print and apply again after a change: serve says in /readyz?verbose what is missing.",
		Example: "  gatehouse rbac | kubectl apply -f -\n\n" +
			"  # with the settings of the Deployment\n" +
			"  kubectl exec -n gatehouse deploy/gatehouse -- /gatehouse rbac | kubectl diff -f -\n\n" +
			"  # nobody can change anything through this gatehouse, whatever their roles\n" +
			"  gatehouse rbac --read-only --api-groups example.com | kubectl apply -f -\n\n" +
			"  # before Kubernetes 1.36\n" +
			"  gatehouse rbac --legacy | kubectl apply -f -",
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, environ) },
	}
	flags := command.Flags()
	flags.BoolVar(&o.legacy, "legacy", false, "the verb impersonate, for Kubernetes before 1.36: the account may name anybody")
	flags.BoolVar(&o.readOnly, "read-only", false, "let reading through alone; no exec, attach, port-forward or proxy either")
	flags.StringVar(&o.apiGroups, "api-groups", "", "with --read-only: API groups, of custom resources, that can be read too, separated by commas")
	flags.StringVar(&o.namespace, "namespace", defaultAccount, "namespace of the ServiceAccount")
	flags.StringVar(&o.account, "service-account", defaultAccount, "name of the ServiceAccount")
	command.ValidArgsFunction = cobra.NoFileCompletions
	return command
}

func (o rbacOptions) run(cmd *cobra.Command, environ map[string]string) error {
	if err := o.check(); err != nil {
		return usageError{err}
	}
	p, notes, err := loadForRights(environ)
	if err != nil {
		return err
	}
	for _, note := range notes {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: %v; rbac does without it\n", note)
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), o.manifest(p))
	return err
}

func (o rbacOptions) check() error {
	switch {
	case o.legacy && o.readOnly:
		return errors.New("--read-only needs constrained impersonation: with --legacy there is no telling what may be asked in people's names")
	case o.apiGroups != "" && !o.readOnly:
		return errors.New("--api-groups needs --read-only: without it every API group can be reached")
	}
	if faults := validation.IsDNS1123Label(o.namespace); len(faults) > 0 {
		return fmt.Errorf("--namespace %q: %s", o.namespace, strings.Join(faults, "; "))
	}
	if faults := validation.IsDNS1123Subdomain(o.account); len(faults) > 0 {
		return fmt.Errorf("--service-account %q: %s", o.account, strings.Join(faults, "; "))
	}
	for _, group := range o.groups() { // a * would let the core group through, and with it an exec
		if faults := validation.IsDNS1123Subdomain(group); len(faults) > 0 {
			return fmt.Errorf("--api-groups %q: %s", group, strings.Join(faults, "; "))
		}
	}
	return nil
}

func (o rbacOptions) groups() []string {
	if o.apiGroups == "" {
		return nil
	}
	return strings.Split(o.apiGroups, ",")
}

// manifest writes what these options print for p.
func (o rbacOptions) manifest(p *parts) string {
	mode := upstream.ModeConstrained
	if o.legacy {
		mode = upstream.ModeLegacy
	}
	return manifest{
		heading:   o.heading(p),
		namespace: o.namespace, account: o.account,
		rules: p.needs().Rules(mode, upstream.Door{ReadOnly: o.readOnly, Groups: o.groups()}),
	}.String()
}

// command is the command line that prints the same.
func (o rbacOptions) command() string {
	command := "gatehouse rbac"
	for _, flag := range []struct {
		text string
		set  bool
	}{
		{"--legacy", o.legacy}, {"--read-only", o.readOnly}, {"--api-groups " + o.apiGroups, o.apiGroups != ""},
		{"--namespace " + o.namespace, o.namespace != defaultAccount}, {"--service-account " + o.account, o.account != defaultAccount},
	} {
		if flag.set {
			command += " " + flag.text
		}
	}
	return command
}

// heading is the comment at the top.
func (o rbacOptions) heading(p *parts) string {
	heading := "gatehouse's own account and rights, as `" + o.command() + "` prints them for the settings\n"
	for _, name := range p.settings.deciding() {
		heading += "  " + envPrefix + name + "\n"
	}
	switch {
	case !p.needs().Users:
		return heading + passingOn
	case o.legacy:
		return heading + warningOfLegacy
	case o.readOnly:
		return heading + aboutConstrained + aboutReadOnly
	default:
		return heading + aboutConstrained
	}
}

// What the heading says of the rights.
const (
	passingOn = `
The account names nobody: its callers' own tokens go on to the API server.`
	warningOfLegacy = `
For Kubernetes before 1.36, where impersonation cannot be constrained: with it,
gatehouse may name any user and group, system:masters too, so that its token is
worth as much as an administrator's. gatehouse refuses reserved names itself. From
1.36 on replace it by what is printed without --legacy. Never have both: beside
constrained rights the API server falls back to these silently.`
	aboutConstrained = `
For Kubernetes 1.36 and later: constrained impersonation. With it alone, the account
can read and change nothing itself; it can only say for whom a request is. The API
server refuses it the group system:masters and nodes; gatehouse refuses every other
reserved name itself, unless the cluster's rules let the caller act so (--as).
Whoever steals the account's token can still name any other user and group,
administrators among them: guard the namespace as you guard those.`
	aboutReadOnly = `

Reading alone passes, whatever people's roles are.`
)

// deciding are the variables that are set, or on, of those on which rights depend.
func (s settings) deciding() []string {
	var set []string
	for _, v := range []struct {
		name string
		set  bool
	}{
		{"IMPERSONATION", s.Impersonation}, {"OIDC_ISSUER_URL", s.OIDC.configured()}, {"AUTHENTICATION_CONFIG", s.AuthenticationConfig != ""},
		{"TOKEN_AUTH_FILE", s.TokenAuthFile != ""}, {"CLIENT_CA_FILE", s.ClientCAFile != ""}, {"TOKEN_REVIEW", s.TokenReview},
	} {
		if v.set {
			set = append(set, v.name)
		}
	}
	return set
}

// loadForRights reads the settings and all files. What is wrong with files on
// which no right depends is a note.
func loadForRights(environ map[string]string) (p *parts, notes []error, err error) {
	return loadWithout(environ, append(slices.Clone(servingVariables),
		"TOKEN_AUTH_FILE", "CLIENT_CA_FILE", "CLIENT_CRL_FILE", "REVOCATION_FILE", "SESSION_KEY_DIR"))
}

// servingVariables are those by which nobody is judged.
var servingVariables = []string{"TLS_CERT_FILE", "TLS_KEY_FILE", "KUBECONFIG"}

// loadWithout reads the settings and all files. What is wrong with some variables
// is a note.
func loadWithout(environ map[string]string, variables []string) (p *parts, notes []error, err error) {
	var all, f faults
	s := parseSettings(environ, &all)
	p = assemble(s, slog.New(slog.DiscardHandler), &all)
	for _, one := range all {
		placed, ok := errors.AsType[fault](one)
		if ok && slices.Contains(variables, placed.variable) {
			notes = append(notes, one)
		} else {
			f = append(f, one)
		}
	}
	return p, notes, f.err()
}
