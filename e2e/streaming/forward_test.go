package streaming_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/kubeconfig"
	"github.com/kube-gatehouse/gatehouse/e2e/kubectl"
	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// inPod is a server on a port of the machine, which is one of every pod here. It
// reads all that a client sends, up to the end of that half of the connection,
// and only then answers with as much.
type inPod struct {
	port     string
	received chan *sink
	answered *source
}

func listenInPod(t *testing.T, size int64) *inPod {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	s := &inPod{port: port, received: make(chan *sink, 1), answered: newSource(size)}
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return // nobody came
		}
		defer conn.Close()
		received := newSink()
		_, _ = io.Copy(received, conn)
		s.received <- received
		_, _ = io.Copy(conn, s.answered)
	}()
	return s
}

// forwarded starts kubectl port-forward to a port and returns the address here.
func forwarded(ctx context.Context, t *testing.T, k *kubectl.Kubectl, port string) (address string, running *kubectl.Running) {
	t.Helper()
	running, err := k.Start(ctx, "port-forward", "-n", "dev", "pod/shell", "--address=127.0.0.1", ":"+port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Stop() })
	line, err := running.AwaitLine(ctx, "Forwarding from 127.0.0.1:")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(line)[2], running
}

// portForward: 32 MB there, the end of that half, and then 32 MB back.
func (s *suite) portForward(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), bigLimit)
	defer cancel()
	server := listenInPod(t, 32<<20)
	address, running := forwarded(ctx, t, k, server.port)
	sent, received := newSource(32<<20), newSink()
	if err := talk(ctx, address, sent, received); err != nil {
		t.Fatal(err)
	}
	select {
	case arrived := <-server.received:
		if err := same(sent, arrived); err != nil {
			t.Errorf("there: %v", err)
		}
	case <-ctx.Done():
		t.Fatal("the end of what was sent did not arrive")
	}
	if err := same(server.answered, received); err != nil {
		t.Errorf("back: %v", err)
	}
	running.Stop()
}

// talk sends all, ends that half of the connection, and receives all.
func talk(ctx context.Context, address string, sent io.Reader, received io.Writer) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := io.Copy(conn, sent); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if _, err := io.Copy(received, conn); err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

// proxied starts kubectl proxy, which lets everything through, and returns its URL.
func proxied(ctx context.Context, t *testing.T, k *kubectl.Kubectl) string {
	t.Helper()
	running, err := k.Start(ctx, "proxy", "--port=0", "--reject-paths=^$")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { running.Stop() })
	line, err := running.AwaitLine(ctx, "Starting to serve on ")
	if err != nil {
		t.Fatal(err)
	}
	return "http://" + strings.TrimPrefix(line, "Starting to serve on ")
}

// proxyExec: a kubectl without a credential runs a command through a kubectl
// proxy that has one.
func (s *suite) proxyExec(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	file := kubeconfig.File{Cluster: "proxy", Server: proxied(ctx, t, k), Users: []kubeconfig.User{{Name: "nobody"}}}
	if err := file.Write(path); err != nil {
		t.Fatal(err)
	}
	s.exec(t, k.WithKubeconfig(path))
}

// proxyWatch: an event passes kubectl proxy at once.
func (s *suite) proxyWatch(t *testing.T, k *kubectl.Kubectl) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	url := proxied(ctx, t, k) + "/api/v1/namespaces/dev/configmaps?watch=1"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var events proc.Lines
	go func() { _, _ = io.Copy(&events, resp.Body) }() // until it is closed
	s.awaitEvent(ctx, t, func(name string) error {
		_, err := events.Await(ctx, nil, func(line string) bool { return strings.Contains(line, `"name":"`+name+`"`) })
		return err
	})
}

// closed fails unless a connection ends soon, from the other side.
func closed(ctx context.Context, conn net.Conn) error {
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetReadDeadline(deadline)
	}
	_, err := io.Copy(io.Discard, conn)
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return errors.New("the connection stays open")
	}
	return nil
}

// echoOnce sends back what the first sends who connects to the port that it returns.
func echoOnce(ctx context.Context, t *testing.T) (port string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		if conn, err := listener.Accept(); err == nil {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	}()
	_, port, _ = net.SplitHostPort(listener.Addr().String())
	return port
}
