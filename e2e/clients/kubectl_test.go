package clients_test

import (
	"context"
	_ "embed"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
)

//go:embed testdata/web.yaml
var web string

// step is one command of a client, and what must be seen of it.
type step struct {
	// args are separated by spaces; what stands between single quotes is one.
	args  string
	stdin string
	// want must be in what it prints, on either stream.
	want string
	// code is how it must end.
	code int
	// loose says that want and how it ends are all that is compared: gatehouse
	// answers this itself, in its own words, or the client prints what differs
	// between any two runs.
	loose bool
}

// kubectlOperation is something that people do with kubectl.
type kubectlOperation struct {
	name string
	// since is the first minor version that has it.
	since int
	steps []step
	// run is instead of steps what more than commands are needed for.
	run func(context.Context, *kubectl.Kubectl) outcome
}

// changed is web with other values.
func changed(level string, replicas int) string {
	return strings.NewReplacer("level: low", "level: "+level, "replicas: 0", "replicas: "+strconv.Itoa(replicas)).Replace(web)
}

// kubectlOperations run one after the other, and build on each other.
func kubectlOperations() []kubectlOperation {
	return []kubectlOperation{
		{name: "version", steps: []step{{args: "version", want: "Server Version"}}},
		{name: "api-versions, api-resources", steps: []step{
			{args: "api-versions", want: "apps/v1"},
			{args: "api-resources -o name", want: "deployments.apps"},
		}},
		{name: "explain", steps: []step{{args: "explain deployment.spec.replicas", want: "replicas"}}},
		{name: "auth can-i", steps: []step{
			{args: "auth can-i create configmaps", want: "yes"},
			{args: "auth can-i delete nodes", want: "no", code: 1},
			{args: "auth can-i --list", want: "configmaps"},
		}},
		{name: "auth whoami", since: 27, steps: []step{{args: "auth whoami -o json", want: `"oidc:clients"`}}},
		{name: "apply", steps: []step{
			{args: "apply --dry-run=server -f -", stdin: web, want: "deployment.apps/web created (server dry run)"},
			{args: "apply -f -", stdin: web, want: "deployment.apps/web created"},
			{args: "apply -f -", stdin: changed("medium", 0), want: "configmap/settings configured"},
		}},
		{name: "diff", steps: []step{{args: "diff -f -", stdin: changed("high", 0), want: "+  level: high", code: 1, loose: true}}},
		{name: "apply --server-side", steps: []step{
			{args: "apply --server-side --field-manager=one --force-conflicts -f -", stdin: changed("one", 0), want: "serverside-applied"},
			{args: "apply --server-side --field-manager=two -f -", stdin: changed("two", 0), want: "conflict", code: 1},
			{args: "apply --server-side --field-manager=two --force-conflicts -f -", stdin: changed("two", 0), want: "serverside-applied"},
		}},
		{name: "get", steps: []step{
			{args: "get deployment,configmap", want: "deployment.apps/web"},
			{args: "get configmap settings -o yaml", want: "level: two"},
			{args: "get configmaps --chunk-size=1 -o name", want: "configmap/kube-root-ca.crt"},
			{args: "get configmap nothing", want: `configmaps "nothing" not found`, code: 1},
			{args: "get --raw /apis/apps/v1", want: "APIResourceList"},
		}},
		{name: "describe", steps: []step{{args: "describe configmap settings", want: "level"}}},
		{name: "create, label, annotate", steps: []step{
			{args: "create configmap made --from-literal=a=b", want: "configmap/made created"},
			{args: "create configmap made --from-literal=a=b", want: "already exists", code: 1},
			{args: "label configmap made tier=one", want: "labeled"},
			{args: "annotate configmap made why=test", want: "annotate"},
		}},
		{name: "patch", steps: []step{
			{args: `patch configmap made -p '{"data":{"a":"strategic"}}'`, want: "patched"},
			{args: `patch configmap made --type=merge -p '{"data":{"a":"merge"}}'`, want: "patched"},
			{args: `patch configmap made --type=json -p '[{"op":"replace","path":"/data/a","value":"json"}]'`, want: "patched"},
			{args: "get configmap made -o jsonpath={.data.a}", want: "json"},
		}},
		{name: "edit, replace", steps: []step{
			{args: "edit configmap settings", want: "configmap/settings edited"},
			{args: "replace -f -", stdin: changed("replaced", 0), want: "configmap/settings replaced"},
		}},
		{name: "scale, set, rollout", steps: []step{
			{args: "scale deployment web --replicas=1", want: "scaled"},
			{args: "set image deployment/web main=example.invalid/web:2", want: "image updated"},
			{args: "rollout history deployment/web", want: "REVISION"},
		}},
		{name: "logs", steps: []step{{args: "logs -n dev shell", want: "ready"}}},
		{name: "exec", steps: []step{
			{args: "exec -n dev shell -i -- sh -c 'cat; echo oops >&2; exit 7'", stdin: "hello\n", want: "hello", code: 7},
		}},
		{name: "--as", steps: []step{
			{args: "get roles", want: "forbidden", code: 1},
			{args: "get roles --as=devops-admin", want: "No resources found"},
			{args: "get roles --as=somebody", want: "Error from server (Forbidden): ", code: 1, loose: true},
		}},
		{name: "create token", since: 24, steps: []step{{args: "create token default", want: "eyJ"}}},
		{name: "wait", steps: []step{{args: "wait -n dev pod/shell --for=condition=Ready", want: "condition met"}}},
		{name: "get -w", run: runWatch},
		{name: "delete", steps: []step{
			{args: "delete configmap made settings", want: `configmap "settings" deleted`},
			{args: "delete deployment web --timeout=30s", want: "deleted"},
			{args: "get deployments", want: "No resources found"},
		}},
	}
}

// testKubectls is each version of kubectl, with the operations that it has.
func (s *suite) testKubectls(t *testing.T) {
	t.Parallel()
	for _, binary := range s.kubectlBinaries(t) {
		version, minor := s.kubectlVersion(t.Context(), t, binary)
		t.Run(version, func(t *testing.T) {
			a, b := s.pair(t, fmt.Sprintf("kubectl-%d", minor), binary)
			a, b = a.WithEnv(environment()...), b.WithEnv(environment()...)
			for _, o := range kubectlOperations() {
				c := cell{"kubectl", version, o.name}
				if minor < o.since {
					s.found.add(c, hasNot)
					continue
				}
				s.compare(t, c,
					func(ctx context.Context) outcome { return o.with(ctx, a) },
					func(ctx context.Context) outcome { return o.with(ctx, b) })
			}
		})
	}
}

// environment names the programs that kubectl starts.
func environment() []string {
	return []string{"KUBE_EDITOR=/bin/sed -i s/two/edited/", "KUBECTL_EXTERNAL_DIFF=/usr/bin/diff -u -N"}
}

// with is the operation by one kubectl.
func (o kubectlOperation) with(ctx context.Context, k *kubectl.Kubectl) outcome {
	if o.run != nil {
		return o.run(ctx, k)
	}
	return runSteps(ctx, k, o.steps)
}

// runSteps runs commands to the first that does not end as it should.
func runSteps(ctx context.Context, k *kubectl.Kubectl, steps []step) outcome {
	o := outcome{ok: true}
	for _, one := range steps {
		r, err := k.RunInput(ctx, one.stdin, words(one.args)...)
		if err != nil {
			return came(o.said, err)
		}
		if one.loose {
			r.Stdout, r.Stderr = "", one.essence(r)
		}
		o.said += fmt.Sprintf("$ %s\n%s%sexit code %d\n", one.args, r.Stdout, r.Stderr, r.Code)
		if r.Code != one.code || !strings.Contains(r.Stdout+r.Stderr, one.want) {
			o.ok, o.fault = false, lastLine(r.Stdout+r.Stderr)
			break
		}
	}
	return o
}

// essence is what must be in what was printed, or all of it.
func (s step) essence(r kubectl.Result) string {
	if strings.Contains(r.Stdout+r.Stderr, s.want) {
		return s.want
	}
	return r.Stdout + r.Stderr
}

// runWatch sees a change while it watches.
func runWatch(ctx context.Context, k *kubectl.Kubectl) outcome {
	w, err := k.Start(ctx, "get", "configmap", "settings", "-w", "-o", "custom-columns=NAME:.metadata.name,SEEN:.metadata.labels.seen")
	if err != nil {
		return came("", err)
	}
	defer w.Stop()
	_, err = w.AwaitLine(ctx, "<none>")
	if err == nil {
		_, err = k.Must(ctx, "", "label", "configmap", "settings", "seen=yes")
	}
	if err == nil {
		_, err = w.AwaitLine(ctx, "yes")
	}
	return came(w.Stop().Stdout, err)
}

// words splits a command at its spaces, but for those between single quotes.
func words(command string) []string {
	var all []string
	for i, part := range strings.Split(command, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}
