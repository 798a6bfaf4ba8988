// Package audit answers: how do requests get on the record?
//
// The record is what kube-apiserver writes: events of audit.k8s.io/v1, one JSON
// object a line, chosen by a [Policy] in kube-apiserver's own format, which its
// own code applies. It holds what the API server cannot know: who was refused at
// the door, by which credential somebody came in, and from where.
//
// No request waits for its record. Events wait in a buffer with bounds, for one
// goroutine that writes them; what does not fit in is dropped, and counted.
package audit

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	internal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

const (
	maxQueued = 10000    // events that wait, as kube-apiserver's default is
	maxBytes  = 32 << 20 // about what they may hold
	// fixedSize is about what an event holds besides its longest texts.
	fixedSize = 2048
)

// Stdout is the path that stands for standard output.
const Stdout = "-"

// Config is what a [Trail] is made of.
type Config struct {
	// Path is the file to write to, or [Stdout].
	Path string
	// Metrics gets the count of events. Default: nobody does.
	Metrics prometheus.Registerer
	// Log hears now and then that events were lost. Default: discarded.
	Log *slog.Logger
}

// Trail records requests.
type Trail struct {
	policy atomic.Pointer[Policy]
	out    output
	log    *slog.Logger

	written, dropped, failed prometheus.Counter
	lost                     atomic.Int64 // dropped since the log said so

	queue  chan queued
	bytes  atomic.Int64 // of what waits
	ending sync.RWMutex
	ended  bool // nobody writes any more; of ending
}

// queued is an event that waits to be written.
type queued struct {
	event *auditv1.Event
	size  int
}

// New returns a Trail. It records nothing before it has a policy, and writes
// nothing before [Trail.Open] and [Trail.Run].
func New(cfg Config) (*Trail, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	events := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "gatehouse_audit_events_total",
		Help: "Audit events, by what became of them: written, dropped (the buffer was full) or failed (they could not be written).",
	}, []string{"outcome"})
	if cfg.Metrics != nil {
		if err := cfg.Metrics.Register(events); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return &Trail{
		out: output{path: cfg.Path}, log: cfg.Log, queue: make(chan queued, maxQueued),
		written: events.WithLabelValues("written"), dropped: events.WithLabelValues("dropped"), failed: events.WithLabelValues("failed"),
	}, nil
}

// SetPolicy puts a policy into effect, for the requests that come from now on.
func (t *Trail) SetPolicy(p *Policy) { t.policy.Store(p) }

// Open opens the file, or takes stdout if that is the path.
func (t *Trail) Open(stdout io.Writer) error { return t.out.open(stdout) }

// Begin asks the policy about a request, and records that it was received. It
// returns nil if nothing of it is to be recorded.
func (t *Trail) Begin(r Request, now time.Time) *Entry {
	policy := t.policy.Load()
	if policy == nil {
		return nil
	}
	attributes := r.attributes()
	level, omit := policy.judge(attributes)
	if level == internal.LevelNone {
		return nil
	}
	e := &Entry{trail: t, omit: omit, event: r.event(level, attributes)}
	if r.User != nil { // as kube-apiserver has it: a refusal is one event
		e.record(internal.StageRequestReceived, Outcome{Time: now, Status: metav1.Status{}})
	}
	return e
}

// put lets an event wait, or drops it.
func (t *Trail) put(q queued) {
	t.ending.RLock()
	defer t.ending.RUnlock()
	if !t.ended && t.bytes.Add(int64(q.size)) <= maxBytes {
		select {
		case t.queue <- q:
			return
		default:
		}
	}
	if !t.ended {
		t.bytes.Add(-int64(q.size))
	}
	t.dropped.Inc()
	t.lost.Add(1)
}

// Run writes until ctx ends, and then what still waits. It is called once.
func (t *Trail) Run(ctx context.Context) {
	w := writer{trail: t}
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case q := <-t.queue:
			w.add(q)
			w.flush(t.queue)
		}
	}
	t.ending.Lock()
	t.ended = true
	t.ending.Unlock()
	w.flush(t.queue)
	w.tell(true)
	t.out.close()
}
