package main

import (
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// Promise: what gatehouse's own account lacks stands in /readyz and in the log,
// from the start on, as the API server says when it is asked; the replica stays
// ready.
func TestMissingRightsAreShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.review(t, reviewer{version: "37", ready: 200, may: nothing})
	p := w.start(t, nil)
	p.awaitReady(t, http.StatusOK, "[!]rights degraded: the account may not say for whom a request is, so that every request will be refused: apply deploy/rbac.yaml\n")
	p.awaitReady(t, http.StatusOK, "readyz check passed, degraded\n")
	p.log.awaitMessage(t, "gatehouse's own account lacks rights")
}

// Without anything missing, /readyz has no line about rights.
func TestRightsThatAreThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var questions atomic.Int64
	w.review(t, reviewer{version: "37", ready: 200, may: func(body string) bool {
		questions.Add(1)
		return constrainedOnly(body)
	}})
	p := w.start(t, nil)
	eventually(t, func() bool { return questions.Load() > 20 }, func() string { return "it was not asked" })
	p.awaitReady(t, http.StatusOK, "[+]apiserver ok")
	if _, report := p.opsGet(t, "/readyz?verbose"); strings.Contains(report, "rights") || strings.Contains(p.log.text(), "lacks rights") {
		t.Errorf("with every right, /readyz says\n%s\nand the log\n%s", report, p.log.text())
	}
}

// The API server is asked about rights at first, and again while some are missing
// or after a 403 about our account, but not at every look.
func TestRightsAreAskedNowAndThen(t *testing.T) {
	t.Parallel()
	var w rightsWatch
	target, other := new(upstream.Target), new(upstream.Target)
	now := time.Now()
	due := func(when string, target *upstream.Target, after time.Duration, want bool) {
		t.Helper()
		if got := w.due(target, now.Add(after)); got != want {
			t.Errorf("%s: due %t, want %t", when, got, want)
		}
	}
	due("at first", target, 0, true)
	w.target, w.asked = target, now
	due("nothing is missing", target, time.Hour, false)
	due("another API server", other, 0, true)
	w.doubt()
	due("after a 403, too soon", target, 29*time.Second, false)
	due("after a 403", target, 30*time.Second, true)
	w.doubted.Store(false)
	lines := newLogLines()
	log := slog.New(slog.NewTextHandler(lines, nil))
	w.note(errors.New("one right"), log)
	w.note(errors.New("one right"), log)
	due("missing", target, 30*time.Second, true)
	w.note(nil, log)
	w.note(nil, log)
	due("granted", target, time.Hour, false)
	if text := lines.text(); strings.Count(text, "lacks rights") != 1 || strings.Count(text, "has every right") != 1 {
		t.Errorf("a change is not logged once:\n%s", text)
	}
}
