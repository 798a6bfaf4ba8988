package streaming_test

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
	"github.com/kube-gatehouse/gatehouse/e2e/stage/stagetest"
)

// The pod that people stream to, and who may debug it.
//
//go:embed testdata/pods.yaml
var pods []byte

const (
	// limit is how long a single step may take on a busy machine.
	limit = 30 * time.Second
	// bigLimit is the same for what moves 100 MB.
	bigLimit = 2 * time.Minute
)

// suite is the one real cluster with a node, and a gatehouse in front of it.
type suite struct {
	*stage.Stage
	gate   *gatehouse.Instance
	passed *table
	people atomic.Int64
}

// TestStreaming: each way of streaming that kubectl and other clients have
// passes gatehouse, byte for byte and at once.
func TestStreaming(t *testing.T) {
	s := start(t)
	t.Run("side by side", func(t *testing.T) {
		s.testKubectl(t)
		s.testOtherKubectls(t)
		s.testClientGo(t)
		s.testNode(t)
	})
	// These count what is open on the node.
	t.Run("forbidden", s.testForbidden)
	t.Run("revoked", s.testRevoked)
	t.Run("WebSocket over HTTP/2", s.testExtendedConnect)
	t.Run("table", s.testTable)
}

// start sets the stage and waits until the pods run.
func start(t *testing.T) *suite {
	t.Helper()
	race := stagetest.CanRace(t)
	s, err := stage.Start(t.Context(), stage.Config{
		Dir: t.TempDir(), Progress: t.Output(), Build: build.Options{Race: race},
		Cluster: cluster.Config{Node: true},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := s.Cluster.Apply(ctx, pods); err != nil {
		t.Fatal(err)
	}
	_, err = s.Cluster.Admin().Must(ctx, "", "wait", "-n", "dev", "--for=condition=Ready", "pod/shell", "--timeout=20s")
	if err != nil {
		t.Fatal(err)
	}
	suite := &suite{Stage: s, passed: &table{}}
	suite.gate = suite.startGatehouse(t, nil)
	return suite
}

// startGatehouse starts one with the stage's environment and what env adds. It
// must not have met a data race or panicked.
func (s *suite) startGatehouse(t *testing.T, env map[string]string) *gatehouse.Instance {
	t.Helper()
	all := s.Env()
	for name, value := range env {
		all[name] = value
	}
	g, err := s.Gatehouse(context.WithoutCancel(t.Context()), gatehouse.Config{}, all)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.StopAtEnd(t, g, nil)
	return g
}

// person is somebody with a token, whom nobody else is: the log tells what they
// did.
type person struct{ name, token string }

func (s *suite) person(groups ...string) person {
	name := fmt.Sprintf("person-%d", s.people.Add(1))
	return person{name, s.Issuer.Token(stage.Person(name, groups...))}
}

// cell is one of the table: what was done, with which client, over what.
type cell struct{ verb, client, over string }

// The columns of the table.
const (
	webSocket = "WebSocket"
	spdy      = "SPDY"
	http2     = "HTTP/2"
	http1     = "HTTP/1.1"
)

// logged is what gatehouse's log says of a request that went over this. Clients
// ask for WebSocket by GET, as it demands, and for SPDY by POST.
func logged(over string) []string {
	switch over {
	case webSocket:
		return []string{`"proto":"HTTP/1.1"`, `"method":"GET"`, `"status":101`}
	case spdy:
		return []string{`"proto":"HTTP/1.1"`, `"method":"POST"`, `"status":101`}
	case http2:
		return []string{`"proto":"HTTP/2.0"`, `"status":200`}
	default:
		return []string{`"proto":"HTTP/1.1"`, `"status":200`}
	}
}

// do runs one cell, beside others, as a developer of its own. request is what the
// log must say besides of the request that mattered, such as its subresource.
func (s *suite) do(t *testing.T, c cell, request string, test func(*testing.T, person)) {
	name := strings.Join([]string{c.client, c.verb, c.over}, " ")
	t.Run(strings.ReplaceAll(name, "/", " "), func(t *testing.T) {
		t.Parallel()
		p := s.person("developers", "debuggers")
		test(t, p)
		if t.Failed() {
			return
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		texts := append(logged(c.over), `"user":"`+p.name+`@example.com"`, request)
		if _, err := s.gate.AwaitLog(ctx, texts...); err != nil {
			t.Fatal(err)
		}
		s.passed.add(c)
	})
}

// kubectl returns one that goes through g as p, over this and nothing else.
func (s *suite) kubectl(t *testing.T, g *gatehouse.Instance, p person, over string) *kubectl.Kubectl {
	t.Helper()
	path, err := g.Kubeconfig(p.name, p.token)
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.Kubectl(path)
	if err != nil {
		t.Fatal(err)
	}
	return k.WithEnv(environment(over)...)
}

// environment has kubectl choose a protocol.
func environment(over string) []string {
	switch over {
	case webSocket:
		return []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=true", "KUBECTL_PORT_FORWARD_WEBSOCKETS=true"}
	case spdy:
		return []string{"KUBECTL_REMOTE_COMMAND_WEBSOCKETS=false", "KUBECTL_PORT_FORWARD_WEBSOCKETS=false"}
	case http1:
		return []string{"DISABLE_HTTP2=true"}
	default:
		return nil
	}
}
