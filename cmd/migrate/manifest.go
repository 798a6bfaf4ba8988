package migrate

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// input is what was read as YAML.
type input struct {
	objects []*object
	values  *helmValues // of a chart; nil if it is something else
	args    []string    // a bare list of arguments
	fault   error       // of a document that could not be read
}

// object is a Kubernetes object, as far as a command line may stand in it.
type object struct {
	Kind     string `yaml:"kind"`
	Metadata struct {
		Name string `yaml:"name"`
	} `yaml:"metadata"`
	Items []*object `yaml:"items"` // of a List
	Spec  struct {
		podSpec  `yaml:",inline"`
		Template struct {
			Spec podSpec `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
	Data       map[string]string `yaml:"data"`
	StringData map[string]string `yaml:"stringData"`
	APIServer  struct {
		ExtraArgs yaml.Node `yaml:"extraArgs"`
	} `yaml:"apiServer"` // of kubeadm's ClusterConfiguration
}

type podSpec struct {
	Containers []*container `yaml:"containers"`
	Volumes    []volume     `yaml:"volumes"`
}

type volume struct {
	Name      string           `yaml:"name"`
	Secret    volumeSource     `yaml:"secret"`
	ConfigMap configMapedFiles `yaml:"configMap"`
}

type volumeSource struct {
	SecretName string    `yaml:"secretName"`
	Items      []keyPath `yaml:"items"`
}

type configMapedFiles struct {
	Name  string    `yaml:"name"`
	Items []keyPath `yaml:"items"`
}

type keyPath struct {
	Key  string `yaml:"key"`
	Path string `yaml:"path"`
}

type container struct {
	Name    string   `yaml:"name"`
	Image   string   `yaml:"image"`
	Command []string `yaml:"command"`
	Args    []string `yaml:"args"`
	Env     []envVar `yaml:"env"`
	EnvFrom []struct {
		Prefix       string `yaml:"prefix"`
		SecretRef    keyRef `yaml:"secretRef"`
		ConfigMapRef keyRef `yaml:"configMapRef"`
	} `yaml:"envFrom"`
	VolumeMounts []volumeMount `yaml:"volumeMounts"`
}

type volumeMount struct {
	Name      string `yaml:"name"`
	MountPath string `yaml:"mountPath"`
	SubPath   string `yaml:"subPath"`
}

type envVar struct {
	Name      string  `yaml:"name"`
	Value     *string `yaml:"value"`
	ValueFrom struct {
		SecretKeyRef    keyRef `yaml:"secretKeyRef"`
		ConfigMapKeyRef keyRef `yaml:"configMapKeyRef"`
	} `yaml:"valueFrom"`
}

type keyRef struct {
	Name string `yaml:"name"`
	Key  string `yaml:"key"`
}

// documents reads content as YAML, or says that it is none of the kinds that are
// known: a command line may look like YAML.
func documents(content []byte) (in input, ok bool) {
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var node yaml.Node
		if err := decoder.Decode(&node); errors.Is(err, io.EOF) {
			return in, ok
		} else if err != nil {
			in.fault = errors.New("what follows the first objects is no YAML")
			return in, ok && len(in.objects) > 0
		}
		one := &object{}
		switch err := node.Decode(one); {
		case err == nil && one.Kind != "":
			in.objects, ok = append(in.objects, one), true
		case one.Kind != "":
			in.fault, ok = fmt.Errorf("the %s %s is not of the form that Kubernetes takes", one.Kind, one.Metadata.Name), true
		case node.Decode(&in.args) == nil && len(in.args) > 0:
			ok = true
		default:
			if values := valuesOf(&node); values != nil {
				in.values, ok = values, true
			}
		}
	}
}

// command finds the one command line in what was read.
func (in *input) command(o Options) (command, error) {
	switch {
	case in.fault != nil:
		return command{}, in.fault
	case in.values != nil:
		return in.values.command(o)
	case len(in.args) > 0:
		return commandOf(in.args, "", o.From)
	}
	objects := flatten(in.objects)
	var kinds []string
	var found []command
	var fault error
	for _, one := range objects {
		kinds = append(kinds, one.Kind)
		if one.Kind == "ClusterConfiguration" {
			args, err := one.kubeadmArgs()
			if err != nil {
				return command{}, err
			}
			line, err := commandOf(append([]string{KubeAPIServer}, args...), "", o.From)
			return line, err
		}
		for _, pod := range []*podSpec{&one.Spec.podSpec, &one.Spec.Template.Spec} {
			for _, c := range pod.Containers {
				if c == nil {
					continue
				}
				line, err := c.commandLine(pod, objects, o)
				switch {
				case err == nil:
					found = append(found, line)
				case fault == nil:
					fault = fmt.Errorf("%s %s, container %s: %w", one.Kind, one.Metadata.Name, c.Name, err)
				}
			}
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return command{}, errors.New("there are several command lines: give one object, or say whose flags are meant by --from")
	case fault != nil:
		return command{}, fault
	}
	slices.Sort(kinds)
	return command{}, fmt.Errorf("there is no container in %s", strings.Join(slices.Compact(kinds), ", "))
}

// flatten returns objects and what Lists among them hold.
func flatten(objects []*object) []*object {
	var all []*object
	for _, one := range objects {
		if one != nil { // YAML has null
			all = append(append(all, one), flatten(one.Items)...)
		}
	}
	return all
}

// kubeadmArgs returns apiServer.extraArgs, a map, or a list since v1beta4.
func (o *object) kubeadmArgs() ([]string, error) {
	node := o.APIServer.ExtraArgs
	var args []string
	var named []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	}
	if node.Decode(&named) == nil {
		for _, arg := range named {
			args = append(args, "--"+arg.Name+"="+arg.Value)
		}
		return args, nil
	}
	if node.Kind != yaml.MappingNode {
		return nil, errors.New("ClusterConfiguration: there is no apiServer.extraArgs")
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		args = append(args, "--"+node.Content[i].Value+"="+node.Content[i+1].Value)
	}
	return args, nil
}

// commandLine returns the command line of c, if it is that of a source.
func (c *container) commandLine(pod *podSpec, objects []*object, o Options) (command, error) {
	given, secret, err := c.azadVariables(objects)
	if err != nil {
		return command{}, err
	}
	words := slices.Concat(c.Command, given, c.Args)
	if len(c.Command) > 2 && strings.HasSuffix(c.Command[0], "sh") && c.Command[1] == "-c" {
		script, err := splitWords(c.Command[2])
		if err != nil {
			return command{}, err
		}
		words = append(script, c.Args...)
	}
	if len(c.Command) == 0 && imageOf(c.Image) != "" {
		words = append([]string{family(imageOf(c.Image))}, words...)
	}
	line, err := commandOf(words, c.Image, o.From)
	if err != nil {
		return line, err
	}
	if line.args, err = c.expand(line.args, objects); err != nil {
		return line, err
	}
	line.mounts, line.secret = &mounts{c, pod, objects}, secret
	return line, nil
}

// expand puts in the values of variables, $(NAME), as the kubelet does.
func (c *container) expand(args []string, objects []*object) ([]string, error) {
	values := map[string]string{}
	missing := map[string]string{}
	all, _ := c.allVariables(objects) // an argument whose variable is missing is refused
	for _, v := range all {
		secret, config := v.ValueFrom.SecretKeyRef, v.ValueFrom.ConfigMapKeyRef
		switch {
		case v.Value != nil:
			values[v.Name], _ = expandOne(*v.Value, values)
		case secret.Name != "":
			if value, ok := dataOf(objects, "Secret", secret.Name)[secret.Key]; ok {
				values[v.Name] = value
			} else {
				missing[v.Name] = fmt.Sprintf("key %s of the Secret %s", secret.Key, secret.Name)
			}
		case config.Name != "":
			if value, ok := dataOf(objects, "ConfigMap", config.Name)[config.Key]; ok {
				values[v.Name] = value
			} else {
				missing[v.Name] = fmt.Sprintf("key %s of the ConfigMap %s", config.Key, config.Name)
			}
		}
	}
	expanded := make([]string, len(args))
	for i, arg := range args {
		var unknown string
		if expanded[i], unknown = expandOne(arg, values); unknown != "" {
			flag, _, _ := strings.Cut(arg, "=")
			if from := missing[unknown]; from != "" {
				return nil, fmt.Errorf("%s is in %s, which is not in the input: add it, as `helm get manifest` prints it", flag, from)
			}
		}
	}
	return expanded, nil
}

// allVariables returns the variables of c, those of envFrom written as single ones,
// and the Secret or ConfigMap of an envFrom that is not in the input.
func (c *container) allVariables(objects []*object) (all []envVar, missing string) {
	for _, from := range c.EnvFrom {
		kind, name := "Secret", from.SecretRef.Name
		if from.ConfigMapRef.Name != "" {
			kind, name = "ConfigMap", from.ConfigMapRef.Name
		}
		data := dataOf(objects, kind, name)
		if len(data) == 0 {
			missing = kind + " " + name
		}
		for _, key := range slices.Sorted(maps.Keys(data)) {
			v := envVar{Name: from.Prefix + key}
			if kind == "Secret" {
				v.ValueFrom.SecretKeyRef = keyRef{name, key}
			} else {
				v.ValueFrom.ConfigMapKeyRef = keyRef{name, key}
			}
			all = append(all, v)
		}
	}
	return append(all, c.Env...), missing // an env goes before an envFrom
}

// expandOne returns s with the values of variables, and the first that is not
// known, which stays as it is.
func expandOne(s string, values map[string]string) (expanded, unknown string) {
	var b strings.Builder
	for {
		at := strings.IndexByte(s, '$')
		if at < 0 || at+1 == len(s) {
			return b.String() + s, unknown
		}
		b.WriteString(s[:at])
		s = s[at:]
		end := strings.IndexByte(s, ')')
		switch {
		case s[1] == '$':
			b.WriteByte('$')
			s = s[2:]
		case s[1] == '(' && end > 0:
			value, ok := values[s[2:end]]
			if !ok {
				value, unknown = s[:end+1], s[2:end]
			}
			b.WriteString(value)
			s = s[end+1:]
		default:
			b.WriteByte('$')
			s = s[1:]
		}
	}
}

// dataOf returns what a Secret or ConfigMap holds.
func dataOf(objects []*object, kind, name string) map[string]string {
	data := map[string]string{}
	for _, one := range objects {
		if one.Kind != kind || one.Metadata.Name != name {
			continue
		}
		for key, value := range one.Data {
			if kind == "Secret" {
				if decoded, err := base64.StdEncoding.DecodeString(value); err == nil {
					value = string(decoded)
				}
			}
			data[key] = value
		}
		for key, value := range one.StringData {
			data[key] = value
		}
	}
	return data
}
