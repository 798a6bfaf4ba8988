package faults_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/e2e/pki"
)

// mount is a directory of files as the kubelet mounts a Secret: each file is a
// link into ..data, which is a link to the directory of the present version.
type mount struct {
	dir     string
	version int
}

func newMount(t *testing.T, files map[string]string) *mount {
	t.Helper()
	m := &mount{dir: filepath.Join(t.TempDir(), "mount")}
	if err := os.Mkdir(m.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	m.swap(t, files)
	for name := range files {
		if err := os.Symlink(filepath.Join("..data", name), m.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

func (m *mount) path(name string) string { return filepath.Join(m.dir, name) }

// swap puts other files in place in one step, as the kubelet does.
func (m *mount) swap(t *testing.T, files map[string]string) {
	t.Helper()
	old := fmt.Sprintf("..version-%d", m.version)
	m.version++
	next := fmt.Sprintf("..version-%d", m.version)
	if err := os.Mkdir(m.path(next), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := pki.WriteFile(filepath.Join(m.path(next), name), []byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(next, m.path("..data_tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(m.path("..data_tmp"), m.path("..data")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.path(old)); err != nil {
		t.Fatal(err)
	}
}

// truncate leaves only the first half of these files, as a writer does that
// stopped there.
func (m *mount) truncate(t *testing.T, files map[string]string) {
	t.Helper()
	halves := map[string]string{}
	for name, content := range files {
		halves[name] = content[:len(content)/2]
	}
	m.overwrite(t, halves)
}

// overwrite writes files in place.
func (m *mount) overwrite(t *testing.T, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if err := os.WriteFile(m.path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// The pieces in which trickle writes, and the pause between two.
const (
	pieces     = 20
	pieceEvery = 5 * time.Millisecond
)

// trickle writes files in place and piece by piece, all at the same time.
func (m *mount) trickle(t *testing.T, files map[string]string) {
	t.Helper()
	tick := time.NewTicker(pieceEvery)
	defer tick.Stop()
	for i := 1; i <= pieces; i++ {
		begun := map[string]string{}
		for name, content := range files {
			begun[name] = content[:len(content)*i/pieces]
		}
		m.overwrite(t, begun)
		<-tick.C
	}
}

// only returns those of files whose names are given.
func only(files map[string]string, names ...string) map[string]string {
	kept := map[string]string{}
	for _, name := range names {
		kept[name] = files[name]
	}
	return kept
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(content))
}
