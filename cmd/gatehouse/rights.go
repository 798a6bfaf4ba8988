package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"
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
	missing atomic.Pointer[error] // nil, or of nil, while nothing is known to be missing

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
	case len(w.checks()) > 0, w.doubted.Load():
		return now.Sub(w.asked) >= rightsEvery
	default:
		return false
	}
}

// askRights asks the API server, if it is time to, what our account may do, as
// check --connect does.
func (h *health) askRights(ctx context.Context) {
	w, target := &h.rights, h.parts.upstream.Target()
	if !w.due(target, time.Now()) {
		return
	}
	w.target, w.asked = target, time.Now()
	w.doubted.Store(false)
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var missing error
	for _, found := range askUpstream(ctx, target, h.parts.needs()) {
		switch {
		case found.state != stateFail:
		case found.subject != subjectRights || strings.HasPrefix(found.text, cannotBeTold):
			w.doubt() // what is known stays until it can be told
			return
		default:
			missing = errors.Join(missing, errors.New(found.text))
		}
	}
	w.note(missing, h.parts.log)
}

// note keeps what is missing, and logs it when it changes.
func (w *rightsWatch) note(missing error, log *slog.Logger) {
	last := w.missing.Swap(&missing)
	switch {
	case missing != nil && (last == nil || *last == nil || (*last).Error() != missing.Error()):
		log.Error("gatehouse's own account lacks rights", "error", missing)
	case missing == nil && last != nil && *last != nil:
		log.Info("gatehouse's own account has every right that it needs")
	}
}

// checks are the line of /readyz, where there is something to say. It leaves the
// replica as it is: whoever narrows the account to some people has rights missing
// that nobody needs, and a replica that is taken out mends nothing.
func (w *rightsWatch) checks() []serve.Check {
	if err := w.missing.Load(); err != nil && *err != nil {
		return []serve.Check{{Name: "rights", Err: *err, Degraded: true}}
	}
	return nil
}
