package main

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
)

// kubeconfigFile is a kubeconfig with one cluster, user and context. The same
// values give the same bytes.
type kubeconfigFile struct {
	name, server, namespace string
	ca                      []byte // PEM
	// One of these.
	plugin            *execPlugin
	tokenFile         string
	certFile, keyFile string
}

// complete names k after its server, which a flag names, unless it has a name, and
// puts in the CA certificates of the file that another flag names.
func (k *kubeconfigFile) complete(serverFlag, caFlag, caFile string) (err error) {
	if k.name == "" {
		u, err := url.Parse(k.server)
		if err != nil {
			return fmt.Errorf("read %s: %w", serverFlag, err)
		}
		k.name = u.Hostname()
	}
	k.ca, err = certificatesOf(caFlag, caFile)
	return err
}

// execPlugin is a command that prints an ExecCredential.
type execPlugin struct {
	command, hint string
	args          []string
	clusterInfo   bool
	neverAsks     bool // it needs nobody at a terminal
}

// String writes all of k.
func (k kubeconfigFile) String() string {
	var b strings.Builder
	name := scalar(k.name)
	fmt.Fprintf(&b, `# There is no secret in here: everybody may have it.
apiVersion: v1
kind: Config
clusters:
  - name: %s
    cluster:
      server: %s
`, name, scalar(k.server))
	if len(k.ca) > 0 {
		fmt.Fprintf(&b, "      certificate-authority-data: %s\n", base64.StdEncoding.EncodeToString(k.ca))
	}
	fmt.Fprintf(&b, "users:\n  - name: %s\n    user:\n", name)
	switch {
	case k.tokenFile != "":
		fmt.Fprintf(&b, "      tokenFile: %s\n", scalar(k.tokenFile))
	case k.certFile != "":
		fmt.Fprintf(&b, "      client-certificate: %s\n      client-key: %s\n", scalar(k.certFile), scalar(k.keyFile))
	default:
		k.plugin.write(&b)
	}
	fmt.Fprintf(&b, "contexts:\n  - name: %s\n    context:\n      cluster: %s\n      user: %s\n", name, name, name)
	if k.namespace != "" {
		fmt.Fprintf(&b, "      namespace: %s\n", scalar(k.namespace))
	}
	fmt.Fprintf(&b, "current-context: %s\n", name)
	return b.String()
}

func (p *execPlugin) write(b *strings.Builder) {
	fmt.Fprintf(b, "      exec:\n        apiVersion: client.authentication.k8s.io/v1\n        command: %s\n", scalar(p.command))
	if len(p.args) > 0 {
		b.WriteString("        args:\n")
		for _, arg := range p.args {
			b.WriteString("          - " + scalar(arg) + "\n")
		}
	}
	mode := "IfAvailable"
	if p.neverAsks {
		mode = "Never"
	}
	b.WriteString("        interactiveMode: " + mode + "\n")
	if p.clusterInfo {
		b.WriteString("        provideClusterInfo: true\n")
	}
	if p.hint != "" {
		b.WriteString("        installHint: " + scalar(p.hint) + "\n")
	}
}
