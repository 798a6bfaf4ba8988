// Package migrate answers: which settings of gatehouse mean what the flags of
// another authenticating proxy, or of kube-apiserver, mean, and where do they
// not mean the same?
//
// It reads a command line, a manifest with one in it, or Helm values, and knows
// every flag: each is translated, or named with the reason why there is nothing
// to translate it to. It asks nobody, and repeats no secret.
package migrate

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Prefix begins the name of every setting.
const Prefix = "GATEHOUSE_"

// DefaultConfigPath is where the manifest in the documentation mounts the
// AuthenticationConfiguration.
const DefaultConfigPath = "/etc/gatehouse/authentication.yaml"

// Options say how to read.
type Options struct {
	// From is one of Sources, or empty: it is found out, or an error.
	From string
	// ConfigPath is where gatehouse will find an AuthenticationConfiguration, if
	// one has to be made. Default: DefaultConfigPath.
	ConfigPath string
	// ReadFile reads a file that a flag names and whose content is needed.
	// Default: os.ReadFile.
	ReadFile func(path string) ([]byte, error)
	// Chart says that gatehouse's own Helm chart will install the result: it has
	// Values, and its Notes are about them.
	Chart bool
}

func (o Options) withDefaults() Options {
	if o.ConfigPath == "" {
		o.ConfigPath = DefaultConfigPath
	}
	if o.ReadFile == nil {
		o.ReadFile = os.ReadFile
	}
	return o
}

// Setting is one environment variable, with Prefix.
type Setting struct{ Name, Value string }

// Kinds of Note, in the order in which they are told.
const (
	Kept    = "note"     // it means the same, which may surprise
	Differs = "differs"  // gatehouse behaves in another way
	LeftOut = "left out" // it has no counterpart
	ToDo    = "to do"    // for the operator
)

// Note is one sentence or more about the translation.
type Note struct{ Kind, Text string }

func (n Note) String() string { return n.Kind + ": " + n.Text }

// Result is what a command line comes to.
type Result struct {
	From     string // one of Sources
	Settings []Setting
	// Config is an AuthenticationConfiguration, which one of Settings names; empty
	// if none has to be made.
	Config []byte
	// Values are those of gatehouse's chart that make it these Settings, as YAML;
	// empty without Options.Chart. Where files are, the chart decides.
	Values []byte
	Notes  []Note
}

// Words translates a command line that was split into words already.
func Words(words []string, o Options) (*Result, error) {
	o = o.withDefaults()
	line, err := commandOf(words, "", o.From)
	if err != nil {
		return nil, err
	}
	return translate(line, o)
}

// Text translates a command line, as a shell would split it, a manifest or list
// of manifests in YAML or JSON, a list of arguments, or Helm values.
func Text(content []byte, o Options) (*Result, error) {
	o = o.withDefaults()
	if strings.TrimSpace(string(content)) == "" {
		return nil, errors.New("there is nothing to read")
	}
	docs, isYAML := documents(content)
	if !isYAML {
		words, err := splitWords(string(content))
		if err != nil {
			return nil, err
		}
		return Words(words, o)
	}
	line, err := docs.command(o)
	if err != nil {
		return nil, err
	}
	return translate(line, o)
}

// translate does the work for every source.
func translate(line command, o Options) (*Result, error) {
	t := &translation{command: line, Options: o, certificates: map[string]string{}}
	var err error
	if t.flags, err = parse(line.args, flagsOf(line.from)); err != nil {
		return nil, err
	}
	for _, note := range line.notes {
		t.note(note.Kind, "%s", note.Text)
	}
	switch line.from {
	case KubeAPIServer:
		err = t.kubeAPIServer()
	case KubeRBACProxy:
		err = t.kubeRBACProxy()
	case AzadKubeProxy:
		err = t.azadKubeProxy()
	default:
		err = t.kubeOIDCProxy()
	}
	if err != nil {
		return nil, err
	}
	return t.result()
}

// translation is one command line on its way.
type translation struct {
	command
	Options
	flags    *flagSet
	settings []Setting
	files    []string // that gatehouse must find where the settings say
	issuers  []issuer // at most one comes of flags
	config   []byte   // an AuthenticationConfiguration that is there already
	notes    []Note
	// certificates are the Secrets of the serving certificate's files, by their key.
	certificates map[string]string
}

func (t *translation) note(kind, format string, args ...any) {
	t.notes = append(t.notes, Note{kind, fmt.Sprintf(format, args...)})
}

// set adds a setting, unless value is empty.
func (t *translation) set(variable, value string) {
	if value != "" {
		t.settings = append(t.settings, Setting{Prefix + variable, value})
	}
}

// setFile adds a setting that names a file.
func (t *translation) setFile(variable, path string) {
	if path != "" {
		t.set(variable, path)
		if !t.inChart { // which has its own way to say where files come from
			t.files = append(t.files, path)
		}
	}
}

// result puts everything in order.
func (t *translation) result() (*Result, error) {
	if err := t.addIssuers(); err != nil {
		return nil, err
	}
	var values []byte
	var err error
	if t.Chart {
		values, err = t.values()
	} else {
		t.addToDo()
	}
	if err != nil {
		return nil, err
	}
	order := []string{Kept, Differs, LeftOut, ToDo}
	slices.SortStableFunc(t.notes, func(a, b Note) int { return slices.Index(order, a.Kind) - slices.Index(order, b.Kind) })
	return &Result{From: t.from, Settings: t.settings, Config: t.config, Values: values, Notes: t.notes}, nil
}

// addToDo says what no translation can do.
func (t *translation) addToDo() {
	if !t.has("TLS_CERT_FILE") {
		t.note(ToDo, "GATEHOUSE_TLS_CERT_FILE and GATEHOUSE_TLS_KEY_FILE are required: gatehouse makes no certificate for itself.")
	}
	if len(t.config) > 0 {
		t.note(ToDo, "put what -o authentication-config prints where GATEHOUSE_AUTHENTICATION_CONFIG says.")
	}
	if len(t.files) > 0 {
		t.note(ToDo, "let gatehouse find these files: %s.", strings.Join(t.files, ", "))
	}
	t.note(ToDo, "gatehouse needs an account of its own at the API server: `gatehouse rbac` prints it, with the least rights for these settings. `gatehouse check --connect` tries all of it.")
}

func (t *translation) has(variable string) bool {
	return slices.ContainsFunc(t.settings, func(s Setting) bool { return s.Name == Prefix+variable })
}
