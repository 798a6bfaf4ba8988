package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for an event before it gives up.
const patience = 20 * time.Second

// process is one `gatehouse serve` inside the test.
type process struct {
	client       *http.Client // HTTP/2
	roots        *x509.CertPool
	address, ops string
	log          *logLines
	stdout       *logLines
	stop         context.CancelFunc // stands for SIGTERM
	done         chan struct{}
	code         int // once done is closed
}

// start runs gatehouse with these settings, and returns once it serves.
func (w *world) start(t *testing.T, settings map[string]string) *process {
	t.Helper()
	p := w.launch(t, settings, func(line string) bool { return field(line, "msg") == "serving" })
	serving := p.log.await(t, "the line serving", func(line string) bool { return field(line, "msg") == "serving" })
	p.address, p.ops = field(serving, "address"), field(serving, "ops_address")
	return p
}

// launch runs gatehouse, and returns once it has logged a line that begun
// accepts. The process has ended when the test does.
func (w *world) launch(t *testing.T, settings map[string]string, begun func(line string) bool) *process {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &process{client: w.newClient(t, true), roots: w.ca.Pool(), log: newLogLines(), stdout: newLogLines(), stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		defer p.log.close()
		defer p.stdout.close()
		p.code = run(ctx, []string{"serve"}, w.environ(settings), strings.NewReader(""), p.stdout, p.log)
	}()
	t.Cleanup(func() {
		p.client.CloseIdleConnections() // else the server waits a second for them
		stop()
		p.wait(t)
	})
	p.log.await(t, "the start", begun)
	return p
}

// wait returns the exit code.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatal("gatehouse has not ended")
	}
	return p.code
}

// once runs a command that ends by itself.
func once(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return onceWith(t, "", environ, args...)
}

// onceWith is once with something on its standard input.
func onceWith(t *testing.T, stdin string, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out, errs bytes.Buffer
	code = run(ctx, args, environ, strings.NewReader(stdin), &out, &errs)
	if ctx.Err() != nil {
		t.Fatalf("gatehouse %s did not end by itself", strings.Join(args, " "))
	}
	return code, out.String(), errs.String()
}

// opsGet asks the ops port.
func (p *process) opsGet(t *testing.T, path string) (code int, body string) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + p.ops + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(content)
}

// awaitReady returns once /readyz answers code with a report that holds want.
func (p *process) awaitReady(t *testing.T, code int, want string) {
	t.Helper()
	var got int
	var report string
	eventually(t, func() bool {
		got, report = p.opsGet(t, "/readyz?verbose")
		return got == code && strings.Contains(report, want)
	}, func() string { return "/readyz: " + report })
}

// eventually asks again until good, for states that announce themselves to
// nobody. seen says what was there instead.
func eventually(t *testing.T, good func() bool, seen func() string) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	end := time.After(patience)
	for !good() {
		select {
		case <-ticker.C:
		case <-end:
			t.Fatalf("waited %s in vain; last: %s", patience, seen())
		}
	}
}

// logLines is a stream of log lines that can be waited for.
type logLines struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	ended   bool
	changed chan struct{} // closed at the next change
}

func newLogLines() *logLines { return &logLines{changed: make(chan struct{})} }

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			break
		}
		l.lines, l.partial = append(l.lines, string(line)), rest
	}
	close(l.changed)
	l.changed = make(chan struct{})
	return len(p), nil
}

func (l *logLines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *logLines) snapshot() (lines []string, ended bool, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines), l.ended, l.changed
}

func (l *logLines) text() string {
	lines, _, _ := l.snapshot()
	return strings.Join(lines, "\n")
}

// await returns the first line that match accepts, as soon as there is one.
func (l *logLines) await(t *testing.T, what string, match func(line string) bool) string {
	t.Helper()
	end := time.After(patience)
	for {
		lines, ended, changed := l.snapshot()
		if i := slices.IndexFunc(lines, match); i >= 0 {
			return lines[i]
		}
		if ended {
			t.Fatalf("gatehouse ended before %s; it wrote:\n%s", what, l.text())
		}
		select {
		case <-changed:
		case <-end:
			t.Fatalf("waited %s in vain for %s; gatehouse wrote:\n%s", patience, what, l.text())
		}
	}
}

// awaitMessage returns the first line with this message.
func (l *logLines) awaitMessage(t *testing.T, message string) string {
	t.Helper()
	return l.await(t, message, func(line string) bool { return field(line, "msg") == message })
}

// field returns a string member of a line in JSON, or "".
func field(line, name string) string {
	var members map[string]any
	if json.Unmarshal([]byte(line), &members) != nil {
		return ""
	}
	text, _ := members[name].(string)
	return text
}

// logTime returns when a line was logged.
func logTime(t *testing.T, line string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, field(line, "time"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}
