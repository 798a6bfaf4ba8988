// Package kubeconfig writes kubeconfig files: one cluster, and a context for
// each user.
package kubeconfig

import (
	"fmt"

	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"sigs.k8s.io/yaml"
)

// User is one person or program with the credential it presents. Name also
// names the context.
type User struct {
	Name string
	// Namespace is the context's default. Default: none.
	Namespace string
	// One of these, or none: a token, a file that holds one, a client pair, or a
	// credential plugin: the path of a program that prints one.
	Token             string
	TokenFile         string
	CertFile, KeyFile string
	Plugin            string
}

// File is what Write writes. The first user's context is the current one.
type File struct {
	Cluster string
	Server  string
	CAFile  string
	Users   []User
}

// Write puts the kubeconfig at path, readable by its owner alone.
func (f File) Write(path string) error {
	doc := document{APIVersion: "v1", Kind: "Config"}
	doc.Clusters = []namedCluster{{f.Cluster, cluster{f.Server, f.CAFile}}}
	for _, u := range f.Users {
		doc.Users = append(doc.Users, namedUser{u.Name, user{u.Token, u.TokenFile, u.CertFile, u.KeyFile, pluginOf(u.Plugin)}})
		doc.Contexts = append(doc.Contexts, namedContext{u.Name, kubeContext{f.Cluster, u.Name, u.Namespace}})
	}
	if len(f.Users) > 0 {
		doc.CurrentContext = f.Users[0].Name
	}
	b, err := yaml.Marshal(doc)
	if err != nil {
		return fmt.Errorf("write kubeconfig %s: %w", path, err)
	}
	return pki.WriteFile(path, b)
}

type document struct {
	APIVersion     string         `json:"apiVersion"`
	Kind           string         `json:"kind"`
	CurrentContext string         `json:"current-context"`
	Clusters       []namedCluster `json:"clusters"`
	Contexts       []namedContext `json:"contexts"`
	Users          []namedUser    `json:"users"`
}

type namedCluster struct {
	Name    string  `json:"name"`
	Cluster cluster `json:"cluster"`
}

type cluster struct {
	Server string `json:"server"`
	CAFile string `json:"certificate-authority,omitempty"`
}

type namedContext struct {
	Name    string      `json:"name"`
	Context kubeContext `json:"context"`
}

type kubeContext struct {
	Cluster   string `json:"cluster"`
	User      string `json:"user"`
	Namespace string `json:"namespace,omitempty"`
}

type namedUser struct {
	Name string `json:"name"`
	User user   `json:"user"`
}

// pluginOf is how kubectl and client libraries find a plugin.
func pluginOf(path string) *plugin {
	if path == "" {
		return nil
	}
	return &plugin{"client.authentication.k8s.io/v1", path, "Never"}
}

type plugin struct {
	APIVersion      string `json:"apiVersion"`
	Command         string `json:"command"`
	InteractiveMode string `json:"interactiveMode"`
}

type user struct {
	Token     string `json:"token,omitempty"`
	TokenFile string `json:"tokenFile,omitempty"`
	CertFile  string `json:"client-certificate,omitempty"`
	KeyFile   string `json:"client-key,omitempty"`

	Plugin *plugin `json:"exec,omitempty"`
}
