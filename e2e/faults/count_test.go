package faults_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// tally counts how what was asked ended. It is safe for many goroutines.
type tally struct {
	mu       sync.Mutex
	served   int64
	failed   int64
	failures []failure      // the first of them
	kinds    map[string]int // of the failures that were judged
	lost     int64
	losses   []string // the first of them
}

// failure is something that was asked for and not given.
type failure struct {
	began, ended time.Time
	what         string
	err          error
}

// keptExamples is how many failures and losses are kept in words.
const keptExamples = 10000

func (c *tally) serve() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.served++
}

// fail counts what may have failed rightly: judge tells.
func (c *tally) fail(f failure) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed++
	if len(c.failures) < keptExamples {
		c.failures = append(c.failures, f)
	}
}

// lose counts n things that could have been served and were not.
func (c *tally) lose(n int64, format string, a ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost += n
	if len(c.losses) < keptExamples {
		c.losses = append(c.losses, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, a...))
	}
}

// allow counts n failures that are known to be right.
func (c *tally) allow(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed += n
}

func (c *tally) failedSoFar() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed
}

func (c *tally) servedSoFar() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.served
}

// judge makes losses of those failures that allowed does not explain. It is
// called when nothing is under way any more.
func (c *tally) judge(allowed func(failure) bool) {
	c.mu.Lock()
	failures := c.failures
	c.failures = nil
	c.mu.Unlock()
	kinds := map[string]int{}
	for _, f := range failures {
		kinds[f.kind()]++
		if !allowed(f) {
			c.lose(1, "%s, asked at %s and answered at %s: %v", f.what,
				f.began.Format("15:04:05.000"), f.ended.Format("15:04:05.000"), f.err)
			c.allow(-1)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kinds = kinds
}

// kind is what failures of one cause have in common: what was asked, the last
// words, and of client-go the status.
func (f failure) kind() string {
	code, text := int32(0), f.err.Error()
	var status apierrors.APIStatus
	if errors.As(f.err, &status) {
		code = status.Status().Code
	}
	return fmt.Sprintf("%s %d %q", strings.Fields(f.what)[0], code, text[max(0, len(text)-40):])
}

// report adds the row of a test to the table, and fails the test if something
// was lost.
func (c *tally) report(t *testing.T, rows *table, r row) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	r.served, r.failed, r.lost = c.served, c.failed, c.lost
	if c.served == 0 {
		t.Error("nothing was served: the test shows nothing")
	}
	if c.lost > 0 {
		for _, loss := range c.losses[:min(20, len(c.losses))] {
			t.Log(loss)
		}
		t.Errorf("%s: %d served, %d failed as they may, %d lost", r.fault, c.served, c.failed, c.lost)
	}
	rows.add(r)
	if c.lost == 0 {
		t.Logf("%s: %d served, %d failed as they may %v, none lost", r.fault, c.served, c.failed, c.kinds)
	}
}

// more returns what fails until c has counted n more than now.
func (c *tally) more(n int64) func() error {
	want := c.servedSoFar() + n
	return func() error {
		if got := c.servedSoFar(); got < want {
			return fmt.Errorf("%d served, waiting for %d", got, want)
		}
		return nil
	}
}
