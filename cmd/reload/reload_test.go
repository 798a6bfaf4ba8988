package reload_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kube-gatehouse/gatehouse/cmd/reload"
)

// fixture is a watcher of one source, whose content is good unless it begins
// with "bad".
type fixture struct {
	watcher  *reload.Watcher
	registry *prometheus.Registry
	log      bytes.Buffer
	files    []string // what Load returns
	inEffect []string // the contents of files that took effect last
	needs    string   // a file without which Load fails
	loads    int
}

func newFixture(t *testing.T, files ...string) *fixture {
	t.Helper()
	f := &fixture{registry: prometheus.NewRegistry(), files: files}
	var err error
	f.watcher, err = reload.New(time.Hour, f.registry, slog.New(slog.NewTextHandler(&f.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) source() reload.Source {
	return reload.Source{Name: "thing", Files: f.files, Load: f.load}
}

func (f *fixture) load() ([]string, error) {
	f.loads++
	var contents []string
	for _, file := range f.files {
		content, err := os.ReadFile(file)
		if err != nil {
			return f.files, err
		}
		if strings.HasPrefix(string(content), "bad") {
			return f.files, errors.New("content is " + string(content))
		}
		contents = append(contents, string(content))
	}
	if f.needs != "" {
		if _, err := os.Stat(f.needs); err != nil {
			return f.files, err
		}
	}
	f.inEffect = contents
	return f.files, nil
}

// expect compares what is in effect, and how often files were loaded.
func (f *fixture) expect(t *testing.T, loads int, inEffect ...string) {
	t.Helper()
	if f.loads != loads {
		t.Errorf("%d loads, want %d", f.loads, loads)
	}
	f.expectInEffect(t, inEffect...)
}

func (f *fixture) expectInEffect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(f.inEffect, want) {
		t.Errorf("%q in effect, want %q", f.inEffect, want)
	}
}

// metric returns the value of a series of the source.
func (f *fixture) metric(t *testing.T, name, result string) float64 {
	t.Helper()
	families, err := f.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			labels := map[string]string{}
			for _, pair := range m.GetLabel() {
				labels[pair.GetName()] = pair.GetValue()
			}
			if family.GetName() == name && labels["source"] == "thing" && labels["result"] == result {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no series %s with result %q", name, result)
	return 0
}

func write(t *testing.T, path, content string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A change of content takes effect at the next look. Without one nothing is
// loaded, not even when the file was written anew.
func TestContentChange(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "one")
	f := newFixture(t, file)
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, 1, "one")
	f.watcher.Look()
	write(t, file, "one")
	f.watcher.Look()
	f.expect(t, 1, "one")
	write(t, file, "two")
	f.watcher.Look()
	f.watcher.Look()
	f.expect(t, 2, "two")
	if n := f.metric(t, "gatehouse_reloads_total", "success"); n != 1 {
		t.Errorf("%v reloads counted, want 1: the first load is none", n)
	}
}

// Kubernetes changes a mounted volume by swapping the symbolic link ..data: the
// path of the file and the link it is stay the same.
func TestSymlinkSwap(t *testing.T) {
	dir := t.TempDir()
	for version, content := range map[string]string{"..v1": "one", "..v2": "two"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, version, "f"), content)
	}
	link := func(target, name string) {
		t.Helper()
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	link("..v1", "..data")
	link("..data/f", "f")
	f := newFixture(t, filepath.Join(dir, "f"))
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, 1, "one")
	link("..v2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	f.watcher.Look()
	f.expect(t, 2, "two")
}

// A source that could not be loaded for want of a file that only its content
// names is loaded as soon as that file is there, though nothing watched it.
func TestMissingFileAppears(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "f"), "one")
	f := newFixture(t, file)
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	f.needs = filepath.Join(dir, "other")
	write(t, file, "two")
	for range 3 {
		f.watcher.Look()
		f.expectInEffect(t, "one")
	}
	if n := strings.Count(f.log.String(), "changed files are bad"); n != 1 {
		t.Errorf("%d failures logged, want 1:\n%s", n, &f.log)
	}
	write(t, f.needs, "")
	f.watcher.Look()
	f.expectInEffect(t, "two")
}

// Bad content leaves the last good one in effect, shows in the metrics, and is
// logged once for each content. Good content ends that, the former one too.
func TestBadContent(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "one")
	f := newFixture(t, file)
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	for i, content := range []string{"bad", "bad again"} {
		write(t, file, content)
		f.watcher.Look()
		f.watcher.Look()
		f.expectInEffect(t, "one")
		if n := f.metric(t, "gatehouse_reloads_total", "failure"); n != float64(i+1) {
			t.Errorf("%v failures counted, want %d", n, i+1)
		}
		if n := strings.Count(f.log.String(), "changed files are bad"); n != i+1 || !strings.Contains(f.log.String(), "content is "+content) {
			t.Errorf("%d failures logged, want %d:\n%s", n, i+1, &f.log)
		}
		if good := f.metric(t, "gatehouse_reload_last_successful", ""); good != 0 {
			t.Errorf("last_successful is %v, want 0", good)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	f.watcher.Look()
	f.expectInEffect(t, "one")
	write(t, file, "two")
	f.watcher.Look()
	f.expectInEffect(t, "two")
	write(t, file, "bad once more")
	f.watcher.Look()
	write(t, file, "two")
	f.watcher.Look()
	loads := f.loads
	f.watcher.Look()
	f.expect(t, loads, "two")
	if good := f.metric(t, "gatehouse_reload_last_successful", ""); good != 1 {
		t.Errorf("last_successful is %v, want 1", good)
	}
	if at := f.metric(t, "gatehouse_reload_last_success_timestamp_seconds", ""); time.Since(time.Unix(int64(at), 0)) > time.Minute {
		t.Errorf("the last success was at %v", at)
	}
}

// A source that is bad at first is an error of Add, and is watched all the same.
func TestBadAtFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	f := newFixture(t, file)
	if err := f.watcher.Add(f.source()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that the file does not exist", err)
	}
	if good := f.metric(t, "gatehouse_reload_last_successful", ""); good != 0 {
		t.Errorf("last_successful is %v, want 0", good)
	}
	write(t, file, "one")
	f.watcher.Look()
	f.expect(t, 2, "one")
}

// What could not be loaded is tried again though its own files are the same:
// what was missing may be a file that only their content names.
func TestMissingBehindTheFile(t *testing.T) {
	dir := t.TempDir()
	file, behind := write(t, filepath.Join(dir, "f"), "one"), filepath.Join(dir, "behind")
	f := newFixture(t, file)
	source := f.source()
	source.Load = func() ([]string, error) {
		if _, err := os.Stat(behind); err != nil {
			return f.files, err
		}
		return f.load()
	}
	if err := f.watcher.Add(source); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want that a file does not exist", err)
	}
	f.watcher.Look()
	if f.log.Len() > 0 {
		t.Errorf("the same failure was logged again:\n%s", &f.log)
	}
	write(t, behind, "")
	f.watcher.Look()
	f.watcher.Look()
	f.expect(t, 1, "one")
}

// Load may name other files than before: those are watched from then on, and
// the old ones are not.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	first, second := write(t, filepath.Join(dir, "first"), "one"), write(t, filepath.Join(dir, "second"), "uno")
	f := newFixture(t, first)
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	f.files = []string{second}
	write(t, first, "now see the second")
	f.watcher.Look()
	f.expect(t, 3, "uno") // twice, so that no change of the second is missed
	write(t, first, "of no interest any more")
	f.watcher.Look()
	f.expect(t, 3, "uno")
	write(t, second, "due")
	f.watcher.Look()
	f.expect(t, 4, "due")
}

// A file that changes while it is being loaded is loaded again at the next look.
func TestChangeWhileLoading(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "one")
	f := newFixture(t, file)
	source := f.source()
	source.Load = func() ([]string, error) {
		files, err := f.load()
		if f.loads == 1 {
			write(t, file, "two")
		}
		return files, err
	}
	if err := f.watcher.Add(source); err != nil {
		t.Fatal(err)
	}
	f.expect(t, 1, "one")
	f.watcher.Look()
	f.expect(t, 2, "two")
}

// A source that another one made to be reconsidered is loaded without a change
// of its own files.
func TestReconsider(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "one")
	f := newFixture(t)
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	f.expect(t, 1)
	f.files = []string{file}
	f.watcher.Look()
	f.expect(t, 1)
	f.watcher.Reconsider("something else")
	f.watcher.Look()
	f.expect(t, 1)
	f.watcher.Reconsider("thing")
	f.watcher.Look()
	f.expect(t, 3, "one")
}

// Run looks by itself, and ends with its context. The pause that gatehouse uses
// keeps the promise of 10 seconds.
func TestRun(t *testing.T) {
	if reload.Every > 3*time.Second {
		t.Errorf("files are looked at every %s: three looks do not fit into 10s", reload.Every)
	}
	file := write(t, filepath.Join(t.TempDir(), "f"), "one")
	watcher, err := reload.New(time.Millisecond, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	loaded := make(chan string, 2)
	err = watcher.Add(reload.Source{Name: "thing", Files: []string{file}, Load: func() ([]string, error) {
		content, err := os.ReadFile(file)
		if len(content) > 0 { // writing a file empties it first
			loaded <- string(content)
		}
		return []string{file}, err
	}})
	if err != nil {
		t.Fatal(err)
	}
	<-loaded
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watcher.Run(ctx)
	}()
	write(t, file, "two")
	if got := <-loaded; got != "two" {
		t.Errorf("%q was loaded, want two", got)
	}
	cancel()
	<-ended
}

// Two watchers cannot share one registry: the second one says so.
func TestMetricsTaken(t *testing.T) {
	registry := prometheus.NewRegistry()
	if _, err := reload.New(time.Hour, registry, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := reload.New(time.Hour, registry, nil); err == nil {
		t.Error("no error")
	}
}

// Promise: a file that is being written is not loaded before it stays as it is.
func TestUnfinishedFile(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "f"), "one")
	f := newFixture(t, file)
	if err := f.watcher.Add(f.source()); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"t", "tw", "two"} {
		write(t, file, content)
		f.watcher.LookOnce()
		f.expect(t, 1, "one")
	}
	f.watcher.LookOnce()
	f.expect(t, 2, "two")
}
