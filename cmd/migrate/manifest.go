package migrate

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// input is what was read as YAML.
type input struct {
	objects []*object
	values  *helmValues // of a chart; nil if it is something else
	args    []string    // a bare list of arguments
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
	Volumes    []struct {
		Name      string           `yaml:"name"`
		Secret    volumeSource     `yaml:"secret"`
		ConfigMap configMapedFiles `yaml:"configMap"`
	} `yaml:"volumes"`
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
	Name         string   `yaml:"name"`
	Image        string   `yaml:"image"`
	Command      []string `yaml:"command"`
	Args         []string `yaml:"args"`
	Env          []envVar `yaml:"env"`
	VolumeMounts []struct {
		Name      string `yaml:"name"`
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
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
			return in, ok && len(in.objects) > 0
		}
		one := &object{}
		switch err := node.Decode(one); {
		case err == nil && one.Kind != "":
			in.objects, ok = append(in.objects, one), true
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
	words := slices.Concat(c.Command, c.Args)
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
	line.files = c.mounted(pod, objects)
	return line, nil
}

// expand puts in the values of variables, $(NAME), as the kubelet does.
func (c *container) expand(args []string, objects []*object) ([]string, error) {
	values := map[string]string{}
	missing := map[string]string{}
	for _, v := range c.Env {
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

// mounted returns the files that c finds in volumes whose objects are there.
func (c *container) mounted(pod *podSpec, objects []*object) map[string][]byte {
	files := map[string][]byte{}
	for _, mount := range c.VolumeMounts {
		for _, volume := range pod.Volumes {
			if volume.Name != mount.Name {
				continue
			}
			data, items := dataOf(objects, "Secret", volume.Secret.SecretName), volume.Secret.Items
			if volume.ConfigMap.Name != "" {
				data, items = dataOf(objects, "ConfigMap", volume.ConfigMap.Name), volume.ConfigMap.Items
			}
			if len(items) == 0 {
				for key := range data {
					items = append(items, keyPath{key, key})
				}
			}
			for _, item := range items {
				if content, ok := data[item.Key]; ok {
					files[path.Join(mount.MountPath, item.Path)] = []byte(content)
				}
			}
		}
	}
	return files
}
