package chart_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/util/jsonpath"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/helm"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

// What the chart is installed as where a test does not say otherwise.
const (
	release   = "gatehouse"
	namespace = "gatehouse"
)

// chart is the chart in deploy/, and the helm that renders it.
type chart struct {
	helm       *kubectl.Kubectl
	helmBinary string
	deploy     string // the folder
	dir        string // the chart in it

	rendered *sync.Map // of arguments and values, to a func() (objects, error)
}

// open finds the chart and helm, or skips the test where there is no helm.
func open(t *testing.T) chart {
	t.Helper()
	if !helm.CanRun() {
		t.Skip("helm is built for linux/amd64 alone")
	}
	source, err := build.ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	binary, err := helm.Binary(t.Context(), helm.Four, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	h, err := kubectl.New(binary, os.DevNull, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	deploy := filepath.Join(filepath.Dir(source), "deploy")
	return chart{h, binary, deploy, filepath.Join(deploy, "chart", "gatehouse"), &sync.Map{}}
}

// object is one that is applied.
type object map[string]any

func (o object) kind() string { return o["kind"].(string) }

func (o object) metadata() map[string]any { return o["metadata"].(map[string]any) }

func (o object) name() string { return o["kind"].(string) + "/" + o.metadata()["name"].(string) }

// objects are those of one rendering, or of a file.
type objects []object

// parse reads the documents of a stream, but for empty ones.
func parse(stream string) (objects, error) {
	var all objects
	for decoder := yaml.NewYAMLOrJSONDecoder(strings.NewReader(stream), 4096); ; {
		var o object
		err := decoder.Decode(&o)
		switch {
		case errors.Is(err, io.EOF):
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%w in:\n%s", err, stream)
		case len(o) > 0:
			all = append(all, o)
		}
	}
}

// find returns the object that is called KIND/NAME, or nil.
func (all objects) find(name string) object {
	for _, o := range all {
		if o.name() == name {
			return o
		}
	}
	return nil
}

// values are what a user writes into a file for helm.
type values map[string]any

// set returns v with value at a path such as oidc.issuerURL. v is changed.
func (v values) set(path string, value any) values {
	at := map[string]any(v)
	names := strings.Split(path, ".")
	for _, name := range names[:len(names)-1] {
		next, ok := at[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[name] = next
		}
		at = next
	}
	at[names[len(names)-1]] = value
	return v
}

// with makes values of paths and what stands there, in turn.
func with(pairs ...any) values {
	v := values{}
	for i := 0; i < len(pairs); i += 2 {
		v.set(pairs[i].(string), pairs[i+1])
	}
	return v
}

// render renders the chart with v, as `helm template` does with more arguments. The
// same is rendered once, and shared: nobody may change it.
func (c chart) render(ctx context.Context, v values, more ...string) (objects, error) {
	b, err := sigsyaml.Marshal(v)
	if err != nil {
		return nil, err
	}
	args := append([]string{"template", release, c.dir, "--namespace", namespace, "--kube-version", build.KubernetesVersion, "--values", "-"}, more...)
	once, _ := c.rendered.LoadOrStore(fmt.Sprintf("%q %s", more, b), sync.OnceValues(func() (objects, error) {
		stream, err := c.helm.Must(ctx, string(b), args...)
		if err != nil {
			return nil, err
		}
		return parse(stream)
	}))
	return once.(func() (objects, error))()
}

// mustRender is render for values that are good.
func (c chart) mustRender(t *testing.T, v values, more ...string) objects {
	t.Helper()
	all, err := c.render(t.Context(), v, more...)
	if err != nil {
		t.Fatalf("%v: %v", v, err)
	}
	return all
}

// at returns what stands at a JSONPath of o, or nil if nothing does.
func (o object) at(t *testing.T, path string) any {
	t.Helper()
	if o == nil {
		return nil
	}
	p := jsonpath.New(path).AllowMissingKeys(true)
	if err := p.Parse("{" + path + "}"); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	results, err := p.FindResults(map[string]any(o))
	if err != nil || len(results) == 0 || len(results[0]) == 0 {
		return nil // an index beyond the end is an error
	}
	return results[0][0].Interface()
}
