package streaming_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/e2e/cluster"
	"github.com/kube-gatehouse/gatehouse/e2e/gatehouse"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/pki"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
	"github.com/kube-gatehouse/gatehouse/e2e/rawbytes"
	"github.com/kube-gatehouse/gatehouse/e2e/stage"
)

// testForbidden: who may not is told so by the API server, in its own words, and
// nothing reaches the node.
func (s *suite) testForbidden(t *testing.T) {
	before := len(s.Cluster.Node().Sessions())
	for name, args := range map[string][]string{
		"exec":        {"exec", "-n", "dev", "shell", "--", "true"},
		"attach":      {"attach", "-n", "dev", "shell"},
		"portforward": {"port-forward", "-n", "dev", "pod/shell", ":80"},
	} {
		for _, over := range []string{webSocket, spdy} {
			t.Run(name+" "+over, func(t *testing.T) {
				p := s.person("viewers")
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				r, err := s.kubectl(t, s.gate, p, over).Run(ctx, args...)
				if err != nil {
					t.Fatal(err)
				}
				want := fmt.Sprintf(`pods "shell" is forbidden: User "%s@example.com" cannot create resource "pods/%s" in API group "" in the namespace "dev"`, p.name, name)
				if r.OK() || !strings.Contains(r.Stderr, want) {
					t.Errorf("got %+v, want %q", r, want)
				}
				s.passed.add(cell{"forbidden: " + name, builtKubectl, over})
			})
		}
	}
	if open := s.Cluster.Node().Sessions(); len(open) > before {
		t.Errorf("open on the node: %q", open)
	}
}

// streams are the exec and port-forward streams that are open on the node. The
// API server itself (1.37) leaves the node's side of an attach by WebSocket open
// when its client leaves, until the container prints something.
func (s *suite) streams() []string {
	return slices.DeleteFunc(s.Cluster.Node().Sessions(), func(path string) bool { return strings.HasPrefix(path, "/attach/") })
}

// testRevoked: when a token is revoked, so are its streams: the client's end
// closes, and the node's. The audit log has them from their start, and at their
// end, as the API server's has.
func (s *suite) testRevoked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "revoked.yaml")
	entries := "revoked:\n"
	revoke := func(entry string) {
		entries += entry
		if err := pki.WriteFile(file, []byte(entries)); err != nil {
			t.Fatal(err)
		}
	}
	revoke("- jti: nobody\n")
	record := filepath.Join(t.TempDir(), "audit.log")
	g := s.startGatehouse(t, map[string]string{
		"GATEHOUSE_REVOCATION_FILE":   file,
		"GATEHOUSE_AUDIT_POLICY_FILE": s.Cluster.AuditPolicyFile(), "GATEHOUSE_AUDIT_LOG_PATH": record,
	})
	for _, over := range []string{webSocket, spdy} {
		for verb, open := range map[string]func(context.Context, *testing.T, *kubectl.Kubectl) func() error{
			"exec": s.openExec, "port-forward": s.openForward,
		} {
			t.Run(verb+" "+over, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				p, jti := s.revocable()
				ended := open(ctx, t, s.kubectl(t, g, p, over))
				if open := s.streams(); len(open) != 1 {
					t.Fatalf("open on the node: %q, want one", open)
				}
				s.awaitStages(ctx, t, record, p, auditv1.StageResponseStarted)
				revoke("- jti: " + jti + "\n")
				if err := ended(); err != nil {
					t.Error(err)
				}
				s.awaitNoSession(ctx, t)
				if _, err := g.AwaitLog(ctx, p.name+"@example.com", `"ended":"revoked"`); err != nil {
					t.Error(err)
				}
				last := s.awaitStages(ctx, t, record, p, auditv1.StageResponseStarted, auditv1.StageResponseComplete)
				if last.Annotations["kube-gatehouse.github.io/ended"] != "revoked" || last.ResponseStatus.Code != http.StatusSwitchingProtocols {
					t.Errorf("recorded at its end: %+v", last)
				}
				s.passed.add(cell{"ends when revoked: " + verb, builtKubectl, over})
			})
		}
	}
}

// awaitStages waits until gatehouse and the API server have recorded these stages of
// the one stream of p, under one id, and returns gatehouse's last event of it.
func (s *suite) awaitStages(ctx context.Context, t *testing.T, record string, p person, stages ...auditv1.Stage) auditv1.Event {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		events, err := cluster.ReadAuditLog(record)
		if err != nil {
			t.Fatal(err)
		}
		ours := slices.DeleteFunc(events, func(e auditv1.Event) bool {
			return e.User.Username != p.name+"@example.com" || e.ObjectRef == nil || e.ObjectRef.Subresource == ""
		})
		theirs, err := s.Cluster.AuditEvents()
		if err != nil {
			t.Fatal(err)
		}
		theirs = slices.DeleteFunc(theirs, func(e auditv1.Event) bool { return len(ours) == 0 || e.AuditID != ours[0].AuditID })
		if slices.Equal(stagesOf(ours), stages) && slices.Equal(stagesOf(theirs), stages) {
			return ours[len(ours)-1]
		}
		select {
		case <-ctx.Done():
			t.Fatalf("recorded are %v, and by the API server %v, want %v", stagesOf(ours), stagesOf(theirs), stages)
		case <-ticker.C:
		}
	}
}

func stagesOf(events []auditv1.Event) []auditv1.Stage {
	var stages []auditv1.Stage
	for _, e := range events {
		stages = append(stages, e.Stage)
	}
	return stages
}

// revocable is a person whose token has an id.
func (s *suite) revocable() (p person, jti string) {
	p = s.person("developers")
	jti = "token-of-" + p.name
	claims := stage.Person(p.name, "developers")
	claims["jti"] = jti
	p.token = s.Issuer.Token(claims)
	return p, jti
}

// openExec returns when a command runs; the returned function waits for its end.
func (s *suite) openExec(ctx context.Context, t *testing.T, k *kubectl.Kubectl) func() error {
	t.Helper()
	typed, keyboard := newKeyboard(t)
	var shown proc.Lines
	process, err := k.StartStreams(ctx, kubectl.Streams{In: typed, Out: &shown, Err: &shown},
		"exec", "-i", "-n", "dev", "shell", "-c", "main", "--", "cat")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(keyboard, "there\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := shown.Await(ctx, process.Done(), func(line string) bool { return line == "there" }); err != nil {
		t.Fatalf("%v; shown: %q", err, shown.All())
	}
	return func() error {
		code, err := process.Wait(ctx)
		t.Logf("kubectl exec ended with code %d and %v, shown: %q", code, err, shown.All())
		return err
	}
}

// openForward returns when bytes have passed; the returned function waits for the
// end of the connection.
func (s *suite) openForward(ctx context.Context, t *testing.T, k *kubectl.Kubectl) func() error {
	t.Helper()
	port := echoOnce(ctx, t)
	address, _ := forwarded(ctx, t, k, port)
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "there"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, len("there"))); err != nil {
		t.Fatal(err)
	}
	return func() error { return closed(ctx, conn) }
}

func (s *suite) awaitNoSession(ctx context.Context, t *testing.T) {
	t.Helper()
	for tick := time.NewTicker(20 * time.Millisecond); len(s.streams()) > 0; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("still open on the node: %q", s.streams())
		}
	}
}

// testExtendedConnect: WebSocket is not offered over HTTP/2, and whoever asks for
// it nevertheless is refused on that stream alone: the connection goes on.
func (s *suite) testExtendedConnect(t *testing.T) {
	conn := s.dialH2(t, s.gate)
	if conn.Settings[8] != 0 { // RFC 8441: SETTINGS_ENABLE_CONNECT_PROTOCOL
		t.Error("extended CONNECT is offered")
	}
	p := s.person("developers")
	const path = "/api/v1/namespaces/dev/pods/shell/exec?command=true&stdout=true&container=main"
	bearer := rawbytes.Field{Name: "authorization", Value: "Bearer " + p.token}
	for name, r := range map[string]rawbytes.Request{
		"extended CONNECT": {Method: "CONNECT", Target: path, Fields: rawbytes.Fields{
			bearer, {Name: ":protocol", Value: "websocket"}, {Name: "sec-websocket-version", Value: "13"},
			{Name: "sec-websocket-protocol", Value: "v5.channel.k8s.io"},
		}},
		"Upgrade": {Method: "GET", Target: path, Fields: rawbytes.Fields{
			bearer, {Name: "upgrade", Value: "websocket"}, {Name: "sec-websocket-version", Value: "13"},
		}},
	} {
		a, err := conn.Exchange(r)
		if err != nil {
			t.Fatal(err)
		}
		if a.Err == nil && a.Status < 400 {
			t.Errorf("%s: got %+v, want a refusal", name, a)
		}
		after, err := conn.Exchange(rawbytes.Request{Target: "/version", Fields: rawbytes.Fields{bearer}})
		if err != nil || after.Err != nil || after.Status != 200 {
			t.Errorf("%s: afterwards the connection answers %+v, %v", name, after, err)
		}
	}
	if open := s.streams(); len(open) > 0 {
		t.Errorf("open on the node: %q", open)
	}
	forbidden := slices.ContainsFunc(s.gate.Logs(), func(line string) bool {
		return strings.Contains(line, p.name) && strings.Contains(line, `"status":101`)
	})
	if forbidden {
		t.Error("gatehouse switched protocols")
	}
}

func (s *suite) dialH2(t *testing.T, g *gatehouse.Instance) *rawbytes.H2Conn {
	t.Helper()
	authority, err := os.ReadFile(g.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	conn, err := rawbytes.DialH2(strings.TrimPrefix(g.URL(), "https://"), roots)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}
