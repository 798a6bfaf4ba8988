package streaming_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	utilexec "k8s.io/client-go/util/exec"

	"github.com/kube-gatehouse/gatehouse/e2e/build"
)

const clientGo = "client-go"

// testClientGo is client-go's remotecommand: what programs in Go use.
func (s *suite) testClientGo(t *testing.T) {
	for _, over := range []string{webSocket, spdy} {
		for verb, test := range map[string]func(context.Context, *testing.T, executorOf){
			"exec":                  goExec,
			"exec -it, resized":     goTerminal,
			"exec, 100 MB each way": s.goBig,
		} {
			s.do(t, cell{verb, clientGo + " " + strings.Replace(build.KubernetesVersion, "v1", "v0", 1), over}, `"subresource":"exec"`, func(t *testing.T, p person) {
				ctx, cancel := context.WithTimeout(t.Context(), bigLimit)
				defer cancel()
				test(ctx, t, s.executors(p, over))
			})
		}
	}
}

// executorOf returns what runs a command, with these streams in the query.
type executorOf func(t *testing.T, command []string, streams ...string) remotecommand.Executor

func (s *suite) executors(p person, over string) executorOf {
	config := &rest.Config{Host: s.gate.URL(), BearerToken: p.token, TLSClientConfig: rest.TLSClientConfig{CAFile: s.gate.CAFile()}}
	return func(t *testing.T, command []string, streams ...string) remotecommand.Executor {
		t.Helper()
		u, err := url.Parse(s.gate.URL() + "/api/v1/namespaces/dev/pods/shell/exec")
		if err != nil {
			t.Fatal(err)
		}
		query := url.Values{"container": {"main"}, "command": command}
		for _, stream := range streams {
			query.Set(stream, "true")
		}
		u.RawQuery = query.Encode()
		var executor remotecommand.Executor
		if over == webSocket {
			executor, err = remotecommand.NewWebSocketExecutor(config, http.MethodGet, u.String())
		} else {
			executor, err = remotecommand.NewSPDYExecutor(config, http.MethodPost, u)
		}
		if err != nil {
			t.Fatal(err)
		}
		return executor
	}
}

func goExec(ctx context.Context, t *testing.T, executor executorOf) {
	var out, errOut bytes.Buffer
	err := executor(t, []string{"sh", "-c", "cat; echo oops >&2; exit 7"}, "stdin", "stdout", "stderr").
		StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: strings.NewReader("hello\n"), Stdout: &out, Stderr: &errOut})
	exit, ok := errors.AsType[utilexec.CodeExitError](err)
	if !ok || exit.Code != 7 || out.String() != "hello\n" || errOut.String() != "oops\n" {
		t.Errorf("got %v, %q and %q", err, out.String(), errOut.String())
	}
}

// sizes are the terminal's, one after the other.
type sizes chan remotecommand.TerminalSize

func (s sizes) Next() *remotecommand.TerminalSize {
	if size, ok := <-s; ok {
		return &size
	}
	return nil
}

func goTerminal(ctx context.Context, t *testing.T, executor executorOf) {
	typed, keyboard := io.Pipe()
	defer keyboard.Close()
	size := make(sizes, 2)
	defer close(size)
	size <- remotecommand.TerminalSize{Width: 100, Height: 40}
	shown, ended := newScreen(), make(chan error, 1)
	go func() {
		ended <- executor(t, []string{"sh", "-c", resizes}, "stdin", "stdout", "tty").
			StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: typed, Stdout: shown, Tty: true, TerminalSizeQueue: size})
		close(shown.ended)
	}()
	shown.await(ctx, t, "40 100")
	size <- remotecommand.TerminalSize{Width: 132, Height: 50}
	shown.await(ctx, t, "50 132")
	if _, err := io.WriteString(keyboard, "typed\n"); err != nil {
		t.Fatal(err)
	}
	shown.await(ctx, t, "got typed")
	err := <-ended
	if exit, ok := errors.AsType[utilexec.CodeExitError](err); !ok || exit.Code != 3 {
		t.Errorf("got %v, want exit code 3", err)
	}
}

func (s *suite) goBig(ctx context.Context, t *testing.T, executor executorOf) {
	sent := newSource(100 << 20)
	received := newSinkFor(sent)
	command, tell := s.catUntilTold(ctx, t)
	ended := make(chan error, 1)
	go func() {
		ended <- executor(t, command, "stdin", "stdout").
			StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: sent, Stdout: received})
	}()
	select {
	case <-received.full:
		tell()
	case err := <-ended:
		t.Fatalf("it ended with %v after %d bytes", err, received.n)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if err := same(sent, received); err != nil {
		t.Error(err)
	}
}
