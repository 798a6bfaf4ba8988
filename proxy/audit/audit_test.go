package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/kube-gatehouse/gatehouse/auth"
)

func newTrail(t *testing.T, path string, log *bytes.Buffer) *Trail {
	t.Helper()
	if log == nil {
		log = new(bytes.Buffer)
	}
	trail, err := New(Config{Path: path, Metrics: prometheus.NewRegistry(), Log: slog.New(slog.NewJSONHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse([]byte(head + "omitStages: [RequestReceived]\nrules: [{level: Metadata}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	trail.SetPolicy(p)
	return trail
}

// complete records one whole request.
func complete(trail *Trail, id string, o Outcome) {
	r := Request{ID: id, Method: "get", URL: &url.URL{Path: "/version"}, User: &auth.User{Name: "ana"}}
	trail.Begin(r, time.Time{}).Complete(o)
}

func (t *Trail) counts() [3]int {
	return [3]int{int(testutil.ToFloat64(t.written)), int(testutil.ToFloat64(t.dropped)), int(testutil.ToFloat64(t.failed))}
}

// runUntilWritten writes what waits, and ends the trail.
func runUntilWritten(trail *Trail) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	trail.Run(ctx)
}

// Promise: at the end everything that waits is written, and what comes later is
// counted as lost.
func TestEndWritesWhatWaits(t *testing.T) {
	var out bytes.Buffer
	trail := newTrail(t, Stdout, nil)
	if err := trail.Open(&out); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		complete(trail, strconv.Itoa(i), Outcome{})
	}
	runUntilWritten(trail)
	complete(trail, "late", Outcome{})
	if got := trail.counts(); got != [3]int{1000, 1, 0} {
		t.Errorf("written, dropped, failed: %v", got)
	}
	i := 0
	for line := range strings.Lines(out.String()) {
		var e auditv1.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil || string(e.AuditID) != strconv.Itoa(i) || e.Kind != "Event" {
			t.Fatalf("line %d: %s, %v", i, line, err)
		}
		i++
	}
	if i != 1000 || trail.bytes.Load() != 0 {
		t.Errorf("%d lines, want 1000; %d bytes still wait", i, trail.bytes.Load())
	}
}

// Promise: nobody waits for the record. What does not fit into the buffer, by
// number or by size, is dropped and counted, and the log hears of it.
func TestFullBufferDrops(t *testing.T) {
	for _, tt := range []struct {
		name string
		as   *auth.User
		fits int
	}{
		{"many", nil, maxQueued},
		{"large", &auth.User{Name: strings.Repeat("x", 1<<20)}, maxBytes >> 20},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var out, log bytes.Buffer
			trail := newTrail(t, Stdout, &log)
			if err := trail.Open(&out); err != nil {
				t.Fatal(err)
			}
			for range maxQueued + 1000 {
				complete(trail, "x", Outcome{As: tt.as})
			}
			runUntilWritten(trail)
			got := trail.counts()
			if got[0] > tt.fits || got[0] < tt.fits*9/10 || got[0]+got[1] != maxQueued+1000 || got[2] != 0 {
				t.Errorf("written, dropped, failed: %v; want about %d written", got, tt.fits)
			}
			if strings.Count(log.String(), "audit events were lost") != 1 {
				t.Errorf("the log says %s", log.String())
			}
		})
	}
}

// failing is a disk that is full now and then: it takes some bytes first.
type failing struct {
	bytes.Buffer
	takes int // bytes before the next failure; less than 0: all
}

func (f *failing) Write(p []byte) (int, error) {
	if f.takes < 0 {
		return f.Buffer.Write(p)
	}
	n, _ := f.Buffer.Write(p[:min(f.takes, len(p))])
	return n, errors.New("no space left on device")
}

// Promise: a write that fails loses its events and no later ones: a line that is
// not whole is not continued by the next. The log hears of it once a minute.
func TestFailedWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		trail := newTrail(t, Stdout, &log)
		out := &failing{takes: 10}
		if err := trail.Open(out); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { trail.Run(ctx) })
		say := func(id string, takes int) {
			synctest.Wait() // until the writer has nothing to do
			out.takes = takes
			complete(trail, id, Outcome{})
			synctest.Wait()
		}
		say("torn", 10)
		say("lost", 0)
		say("kept", -1)
		time.Sleep(tellEvery)
		say("later", -1)
		cancel()
		running.Wait()
		if got := trail.counts(); got != [3]int{2, 0, 2} {
			t.Errorf("written, dropped, failed: %v", got)
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[1], `"auditID":"kept"`) || !strings.Contains(lines[2], `"auditID":"later"`) {
			t.Errorf("written: %q", lines)
		}
		if said := strings.Count(log.String(), "no space left on device"); said != 2 {
			t.Errorf("the log heard of it %d times, want at once and a minute later:\n%s", said, log.String())
		}
	})
}

// Promise: a log file that was moved away is made anew, readable to nobody else,
// and nothing is lost.
func TestMovedFileIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.log")
	trail := newTrail(t, path, nil)
	if err := trail.Open(nil); err != nil {
		t.Fatal(err)
	}
	w := writer{trail: trail}
	say := func(id string) {
		complete(trail, id, Outcome{})
		trail.out.looked = time.Time{} // the last look was long ago
		w.flush(trail.queue)
	}
	say("first")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	say("second")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	say("third")
	say("fourth")
	for file, ids := range map[string][]string{path + ".1": {"first"}, path: {"third", "fourth"}} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Count(string(content), "\n"); got != len(ids) {
			t.Errorf("%s has %d lines, want %v", file, got, ids)
		}
		for _, id := range ids {
			if !strings.Contains(string(content), `"auditID":"`+id+`"`) {
				t.Errorf("%s has no %s", file, id)
			}
		}
		if at, err := os.Stat(file); err != nil || at.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, at.Mode(), err)
		}
	}
	if got := trail.counts(); got != [3]int{4, 0, 0} {
		t.Errorf("written, dropped, failed: %v", got)
	}
}

// Promise: what a caller chose is bounded in an event.
func TestEventIsBounded(t *testing.T) {
	var out bytes.Buffer
	trail := newTrail(t, Stdout, nil)
	if err := trail.Open(&out); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 1<<17)
	e := trail.Begin(Request{Method: long, URL: &url.URL{Path: "/" + long, RawQuery: "limit=" + long}, UserAgent: long}, time.Time{})
	e.Complete(Outcome{Annotations: map[string]string{NotAs: long}})
	runUntilWritten(trail)
	if out.Len() == 0 || out.Len() > 8<<10 {
		t.Errorf("an event of %d bytes", out.Len())
	}
	if got := strings.Count(out.String(), cut); got != 4 {
		t.Errorf("%d fields say that they were cut, want 4: %s", got, out.String())
	}
}
