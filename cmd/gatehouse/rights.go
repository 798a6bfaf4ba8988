package main

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

// rightsEvery is the pause between questions about rights that are missing, or
// that may have been taken away.
const rightsEvery = 30 * time.Second

// rightsWatch knows which rights gatehouse's own account lacks, as the API server
// says when it is asked. What a 403 says is only a reason to ask.
type rightsWatch struct {
	doubted atomic.Bool           // a request was refused to our account
	missing atomic.Pointer[error] // nil while nothing is known to be missing

	// Of the one goroutine that asks:
	target *upstream.Target // that was asked
	asked  time.Time
}

// doubt has the API server asked again.
func (w *rightsWatch) doubt() { w.doubted.Store(true) }

// due reports whether target is to be asked now: once, and again while something
// is missing or after a refusal.
func (w *rightsWatch) due(target *upstream.Target, now time.Time) bool {
	switch {
	case w.target != target:
		return true
	case w.missing.Load() != nil, w.doubted.Load():
		return now.Sub(w.asked) >= rightsEvery
	default:
		return false
	}
}

// askRights asks the API server, if it is time to, what our account may do.
func (h *health) askRights(ctx context.Context) {
	w, target := &h.rights, h.parts.upstream.Target()
	if !w.due(target, time.Now()) {
		return
	}
	w.target, w.asked = target, time.Now()
	w.doubted.Store(false)
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	needs := h.parts.needs()
	if version, err := target.Version(ctx); err == nil && version.Major > 0 {
		can, _ := version.Constrained()
		needs.LegacyAlone = !can
	}
	rights, err := target.Rights(ctx, needs)
	if err != nil {
		h.parts.log.Debug("which rights gatehouse has cannot be asked", "error", err)
		w.doubt() // what is known stays until they can
		return
	}
	h.noteRights(rights)
}

// noteRights keeps what is missing, and logs it when it changes.
func (h *health) noteRights(rights upstream.Rights) {
	last := h.rights.missing.Load()
	err := rights.Err()
	if err == nil {
		h.rights.missing.Store(nil)
		if last != nil {
			h.parts.log.Info("gatehouse's own account has every right that it needs")
		}
		return
	}
	h.rights.missing.Store(&err)
	if last == nil || (*last).Error() != err.Error() {
		h.parts.log.Error("gatehouse's own account lacks rights", "error", err)
	}
}

// checks are the line of /readyz, where there is something to say. It leaves the
// replica as it is: whoever narrows the account to some people has rights missing
// that nobody needs, and a replica that is taken out mends nothing.
func (w *rightsWatch) checks() []serve.Check {
	if err := w.missing.Load(); err != nil {
		return []serve.Check{{Name: "rights", Err: *err, Degraded: true}}
	}
	return nil
}
