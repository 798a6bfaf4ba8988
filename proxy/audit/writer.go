package audit

import (
	"bytes"
	"encoding/json"
	"time"
)

const (
	batchSize = 256 << 10   // bytes that are written at once
	tellEvery = time.Minute // how often the log hears of losses at most
)

// writer makes lines of events. It belongs to one goroutine.
type writer struct {
	trail *Trail
	lines bytes.Buffer
	count int // of lines

	told   time.Time // when the log last heard of losses
	failed int       // since then
	err    error     // why the last of them were
}

// add makes a line of an event.
func (w *writer) add(q queued) {
	w.trail.bytes.Add(-int64(q.size))
	before := w.lines.Len()
	if err := json.NewEncoder(&w.lines).Encode(q.event); err != nil {
		w.lines.Truncate(before)
		w.fail(1, err)
		return
	}
	w.count++
}

// flush writes the lines, with those of what waits.
func (w *writer) flush(queue <-chan queued) {
	for more := true; more; {
		for w.lines.Len() < batchSize && more {
			select {
			case q := <-queue:
				w.add(q)
			default:
				more = false
			}
		}
		w.write()
	}
	w.tell(false)
}

// write writes the lines, and forgets them.
func (w *writer) write() {
	if w.count == 0 {
		return
	}
	n, err := w.trail.out.write(w.lines.Bytes())
	whole := w.count
	if err != nil {
		whole = bytes.Count(w.lines.Bytes()[:n], []byte{'\n'})
		w.fail(w.count-whole, err)
	}
	w.trail.written.Add(float64(whole))
	w.lines.Reset()
	w.count = 0
}

func (w *writer) fail(events int, err error) {
	w.trail.failed.Add(float64(events))
	w.failed, w.err = w.failed+events, err
}

// tell logs what was lost, now and then, or at the end.
func (w *writer) tell(last bool) {
	if w.failed == 0 && w.trail.lost.Load() == 0 || !last && time.Since(w.told) < tellEvery {
		return
	}
	attrs := []any{"dropped", w.trail.lost.Swap(0), "failed", w.failed}
	if w.err != nil {
		attrs = append(attrs, "error", w.err)
	}
	w.trail.log.Error("audit events were lost", attrs...)
	w.told, w.failed, w.err = time.Now(), 0, nil
}
