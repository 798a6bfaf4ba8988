package build

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKubernetesVersion: the version that the cluster claims is the one that
// go.mod names.
func TestKubernetesVersion(t *testing.T) {
	out, err := goCommand(t.Context(), "", "list", "-m", "-f", "{{.Version}}", "k8s.io/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got != KubernetesVersion {
		t.Errorf("go.mod has k8s.io/kubernetes %s, the cluster claims %s", got, KubernetesVersion)
	}
}

// TestInputHash: the same inputs have the same cache entry.
func TestInputHash(t *testing.T) {
	source, err := ModuleDir(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first, err := inputHash(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	second, err := inputHash(t.Context(), source)
	if err != nil {
		t.Fatal(err)
	}
	if first != second || len(first) != 24 {
		t.Errorf("got %q, then %q", first, second)
	}
}

// TestPrune: what has long been unused leaves the cache, and nothing else.
func TestPrune(t *testing.T) {
	cache := t.TempDir()
	for _, name := range []string{"old", "used"} {
		if err := os.MkdirAll(filepath.Join(cache, name, "bin"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	longAgo := time.Now().Add(-2 * keepFor)
	if err := os.Chtimes(filepath.Join(cache, "old"), longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(filepath.Join(cache, "used"), longAgo, longAgo); err != nil {
		t.Fatal(err)
	}
	Touch(filepath.Join(cache, "used"))
	if err := prune(cache, time.Now().Add(-keepFor)); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(cache)
	if err != nil || len(left) != 1 || left[0].Name() != "used" {
		t.Errorf("left: %v and %v, want used alone", left, err)
	}
}

// TestLock: of two builders one waits for the other, and gives up with its
// context.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path, &said); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: got %v, want it to wait", err)
	}
	if !strings.Contains(said.String(), "waiting") {
		t.Errorf("it said %q, want it to say that it waits", said.String())
	}
	unlock()
	unlock, err = lock(t.Context(), path, io.Discard)
	if err != nil {
		t.Fatalf("lock after unlock: %v", err)
	}
	unlock()
}

// TestMeter: progress counts packages, names what is linked, and keeps what
// else go build says for the error.
func TestMeter(t *testing.T) {
	m := newMeter(io.Discard, 10, map[string]string{"example/cmd/a": "a", "example/cmd/b": "b"})
	defer m.finish(true)
	send := func(s string) {
		if _, err := io.WriteString(m, s); err != nil {
			t.Fatal(err)
		}
	}
	send("go: downloading example v1\nfmt\nexample/x")
	if got := m.status(); !strings.Contains(got, "compiled 1 of 10 packages") {
		t.Errorf("status: got %q", got)
	}
	send("\nexample/cmd/a\n")
	if got := m.status(); !strings.Contains(got, "compiled 3 of 10") || !strings.Contains(got, "linking a") {
		t.Errorf("status: got %q", got)
	}
	send("example/cmd/b\n# example/x\nx.go:1:1: broken\n")
	if got := m.status(); !strings.HasPrefix(got, "  linking, ") {
		t.Errorf("status: got %q", got)
	}
	if got := m.messages(); !strings.Contains(got, "downloading") || !strings.Contains(got, "x.go:1:1: broken") {
		t.Errorf("messages: got %q", got)
	}
}
