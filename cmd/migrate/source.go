package migrate

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Where flags come from. The forks of kube-oidc-proxy differ; KubeOIDCProxy is
// any of them.
const (
	KubeAPIServer = "kube-apiserver"
	KubeOIDCProxy = "kube-oidc-proxy"
	Jetstack      = "jetstack/kube-oidc-proxy"
	Tremolo       = "TremoloSecurity/kube-oidc-proxy"
	RafPe         = "RafPe/kube-oidc-proxy"
	KubeRBACProxy = "kube-rbac-proxy"
	AzadKubeProxy = "azad-kube-proxy"
)

// Sources returns what Options.From may be.
func Sources() []string {
	return []string{KubeAPIServer, KubeOIDCProxy, Jetstack, Tremolo, RafPe, KubeRBACProxy, AzadKubeProxy}
}

// command is a command line, and what else was found out about it.
type command struct {
	from  string
	args  []string // without the program
	notes []Note
	// mounts are what the container has mounted that the command line is of; nil if
	// it is none's.
	mounts *mounts
	// secret is where the client secret of azad-kube-proxy comes from, if a variable
	// of the container says so.
	secret origin
	// ca are CA certificates of the issuer, config an AuthenticationConfiguration,
	// if they are not in mounts.
	ca, config []byte
	// inChart says that the flags are those of a Helm chart, whose port is that of
	// gatehouse.
	inChart bool
	// pods are the values of the chart that gatehouse's own has too.
	pods map[string]any
	// providers are the issuers beside the one of the flags.
	providers []provider
}

// program returns which source a program's name, with or without its path, is.
func program(word string) string {
	switch base := path.Base(word); base {
	case KubeAPIServer, KubeOIDCProxy, KubeRBACProxy, AzadKubeProxy:
		return base
	}
	return ""
}

// imageOf returns which source a container's image is.
func imageOf(image string) string {
	name, _, _ := strings.Cut(image, "@")
	if at := strings.LastIndex(name, ":"); at > strings.LastIndex(name, "/") {
		name = name[:at]
	}
	switch base := program(name); {
	case base != KubeOIDCProxy:
		return base
	case strings.Contains(name, "/jetstack/"):
		return Jetstack
	case strings.Contains(strings.ToLower(name), "tremolosecurity/"):
		return Tremolo
	case strings.Contains(strings.ToLower(name), "rafpe/"):
		return RafPe
	default:
		return KubeOIDCProxy
	}
}

// commandOf finds the flags among words, and whose they are: by their program, by
// image, if that is known, or by what the operator said.
func commandOf(words []string, image, said string) (command, error) {
	line := command{from: said, args: words}
	found := imageOf(image)
	if i := slices.IndexFunc(words, func(w string) bool { return program(w) != "" }); i >= 0 && !strings.HasPrefix(words[0], "-") {
		line.args = words[i+1:]
		if found == "" {
			found = program(words[i])
		}
	} else if len(words) > 0 && isK3s(words[0]) {
		line.args, found = k3sArgs(words[1:]), KubeAPIServer
	}
	switch {
	case said != "" && !slices.Contains(Sources(), said):
		return line, fmt.Errorf("--from %q: it is none of %s", said, strings.Join(Sources(), ", "))
	case said == "" && found == "" && image != "":
		return line, fmt.Errorf("neither image nor command is one of %s: say by --from whose flags they are", strings.Join(Sources(), ", "))
	case said == "" && found == "":
		return line, errors.New("the flags do not say whose they are, and kube-apiserver and kube-oidc-proxy mean different things by the same: say it by --from")
	case said == "":
		line.from = found
	case found != "" && family(found) != family(said):
		return line, fmt.Errorf("--from %s: the flags are those of %s", said, family(found))
	case said == family(said) && found != "":
		line.from = found // which may say which fork it is
	}
	if len(line.args) == 0 {
		return line, fmt.Errorf("there are no flags of %s", line.from)
	}
	return line, nil
}

// family returns the program, whatever its fork.
func family(from string) string { return path.Base(from) }

func isK3s(word string) bool { return slices.Contains([]string{"k3s", "rke2"}, path.Base(word)) }

// k3sArgs returns the flags that k3s and RKE2 hand on to kube-apiserver.
func k3sArgs(words []string) []string {
	var args []string
	for i, word := range words {
		name, value, found := strings.Cut(word, "=")
		if strings.TrimLeft(name, "-") != "kube-apiserver-arg" {
			continue
		}
		if !found && i+1 < len(words) {
			value = words[i+1]
		}
		args = append(args, "--"+value)
	}
	return args
}
