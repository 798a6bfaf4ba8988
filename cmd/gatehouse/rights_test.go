package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/upstream"
)

const accessReviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

// rights is what an API server says of our own account: everything, until it is
// told otherwise.
type rights struct {
	mu   sync.Mutex
	may  func(body string) bool // nil: everything
	code int                    // of every answer, if not 0
}

func (r *rights) set(code int, may func(body string) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.code, r.may = code, may
}

func (r *rights) answer(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil || r.code != 0 {
		w.WriteHeader(r.code)
		return
	}
	w.WriteHeader(http.StatusCreated)
	_, _ = fmt.Fprintf(w, `{"kind":"SelfSubjectAccessReview","status":{"allowed":%t}}`, r.may == nil || r.may(string(body)))
}

// but is what an account may that has the constrained rights, all but those whose
// review holds text.
func but(text string) func(string) bool {
	return func(body string) bool { return constrainedOnly(body) && !strings.Contains(body, text) }
}

const mayNobody = "[-]rights failed: gatehouse's own account lacks: impersonate:user-info users.authentication.k8s.io"

// Promise: without the right to name users, which is needed to serve anybody, a
// replica is not ready and says which right is missing and what grants it; it
// recovers by itself when the right is granted. Each change is logged once.
func TestMissingUserRight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.upstream.rights.set(0, but(`"users"`))
	p := w.start(t, nil)
	p.awaitReady(t, http.StatusServiceUnavailable, mayNobody+"; apply what `gatehouse rbac` prints\n")
	p.awaitMetric(t, "gatehouse_rights_missing 1", `gatehouse_rights_rule_missing{rule="users"} 1`, `gatehouse_rights_rule_missing{rule="groups"} 0`,
		"gatehouse_rights_checked_timestamp_seconds 1")
	w.upstream.rights.set(0, nil)
	p.awaitReady(t, http.StatusOK, "[+]rights ok\n")
	p.awaitMetric(t, "gatehouse_rights_missing 0", `gatehouse_rights_rule_missing{rule="users"} 0`)
	text := p.log.text()
	for _, message := range []string{"gatehouse's own account lacks rights", "gatehouse's own account has every right that it needs"} {
		if n := strings.Count(text, message); n != 1 {
			t.Errorf("%q was logged %d times:\n%s", message, n, text)
		}
	}
	mustNotHold(t, "the log", text)
}

// awaitMetric returns once /metrics holds each of lines.
func (p *process) awaitMetric(t *testing.T, lines ...string) {
	t.Helper()
	var metrics string
	eventually(t, func() bool {
		_, metrics = p.opsGet(t, "/metrics")
		for _, line := range lines {
			if !strings.Contains(metrics, "\n"+line) {
				return false
			}
		}
		return true
	}, func() string { return metrics })
}

// Promise: a right without which some are turned away, and others served, leaves
// the replica ready, degraded.
func TestMissingRightOfSome(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		settings     func(*world) map[string]string
		lacking      string
		code         int
		report, rule string
	}{
		"uid": {
			lacking: `"uids"`, code: http.StatusOK, rule: "uids",
			report: "[!]rights degraded: gatehouse's own account lacks: impersonate:user-info uids.authentication.k8s.io;",
		},
		"extra": {
			settings: func(w *world) map[string]string {
				return map[string]string{"AUTHENTICATION_CONFIG": w.writeConfig(t, "v1", "", w.jwt(w.newIssuer(t), celMapping))}
			},
			lacking: `"example.com/tenant"`, code: http.StatusOK, rule: "extra",
			report: "[!]rights degraded: gatehouse's own account lacks: impersonate:user-info userextras.authentication.k8s.io/example.com/tenant;",
		},
		"token reviews": {
			settings: func(*world) map[string]string { return map[string]string{"TOKEN_REVIEW": "true"} },
			lacking:  `"tokenreviews"`, code: http.StatusOK, rule: "token_reviews",
			report: "[!]rights degraded: gatehouse's own account lacks: create tokenreviews.authentication.k8s.io;",
		},
		"token reviews, with nobody else to serve": {
			settings: func(*world) map[string]string {
				return map[string]string{"TOKEN_REVIEW": "true", "TOKEN_AUTH_FILE": ""}
			},
			lacking: `"tokenreviews"`, code: http.StatusServiceUnavailable, rule: "token_reviews",
			report: "[-]rights failed: gatehouse's own account lacks: create tokenreviews.authentication.k8s.io;",
		},
		"what may be asked": {
			lacking: `impersonate-on:`, code: http.StatusOK, rule: "requests",
			report: "[!]rights degraded: gatehouse's own account lacks: impersonate-on:user-info:get *.*, ",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.upstream.rights.set(0, func(body string) bool { return !strings.Contains(body, test.lacking) })
			var settings map[string]string
			if test.settings != nil {
				settings = test.settings(w)
			}
			p := w.start(t, settings)
			p.awaitReady(t, test.code, test.report)
			p.awaitMetric(t, `gatehouse_rights_rule_missing{rule="`+test.rule+`"} 1`)
		})
	}
}

// Promise: an API server that cannot be asked is no verdict on the rights: the
// last one stays, good or bad, and without any a replica is ready that may have
// them.
func TestRightsCannotBeTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.upstream.rights.set(http.StatusForbidden, nil)
	p := w.start(t, nil)
	p.awaitReady(t, http.StatusOK, "[!]rights degraded: cannot be told: ask whether we may ")
	if _, metrics := p.opsGet(t, "/metrics"); strings.Contains(metrics, "gatehouse_rights_") {
		t.Error("there is a metric of rights that nobody knows")
	}
	w.upstream.rights.set(0, but(`"users"`))
	p.awaitReady(t, http.StatusServiceUnavailable, mayNobody)
	w.upstream.rights.set(http.StatusInternalServerError, nil)
	w.write(t, "tokens.csv", anaToken+",ana,1\n") // any change has the rights asked about
	p.log.awaitMessage(t, "the API server does not tell gatehouse's own rights; the last verdict stays")
	if code, report := p.opsGet(t, "/readyz?verbose"); code != http.StatusServiceUnavailable || !strings.Contains(report, mayNobody) {
		t.Errorf("the last verdict is gone: %d %s", code, report)
	}
}

// Another credential, or another API server, has its rights asked about at once.
func TestRightsOfNewCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.start(t, nil)
	p.awaitReady(t, http.StatusOK, "[+]rights ok\n")
	w.review(t, reviewer{version: "36", ready: http.StatusOK, may: nothing})
	p.awaitReady(t, http.StatusServiceUnavailable, mayNobody+", ")
}

// The legacy rights do on an old API server, the constrained ones do not, and the
// line says which to apply.
func TestRightsOnOldAPIServer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.review(t, reviewer{version: "34", ready: http.StatusOK, may: constrainedOnly})
	p := w.start(t, map[string]string{"IMPERSONATION": "false"})
	p.awaitReady(t, http.StatusServiceUnavailable, "[-]rights failed: gatehouse's own account lacks: impersonate users, impersonate groups, impersonate uids.authentication.k8s.io; apply what `gatehouse rbac --legacy --namespace g --service-account g` prints\n")
	w.review(t, reviewer{version: "34", ready: http.StatusOK, may: legacyOnly})
	p.awaitReady(t, http.StatusOK, "[+]rights ok\n")
}

// Promise: before the first look a replica is not ready; one that ended without a
// verdict, however, does not keep it from being ready.
func TestRightsLine(t *testing.T) {
	t.Parallel()
	var o ownRights
	if check := o.check(); check.Err == nil || check.Degraded {
		t.Errorf("before the first look: %+v", check)
	}
	for _, err := range []error{upstream.StatusError(http.StatusForbidden), context.DeadlineExceeded, errors.New("connection refused")} {
		o.current.Store(&rightsState{err: err})
		if check := o.check(); check.Err == nil || !check.Degraded {
			t.Errorf("%v: %+v", err, check)
		}
	}
	o.current.Store(&rightsState{err: errors.New("gone"), verdict: &upstream.Rights{}})
	if check := o.check(); check.Err != nil {
		t.Errorf("a good verdict, and no later one: %+v", check)
	}
}

// Promise: refusals of the API server to our account have it asked about our
// rights, however many there are, once in a while.
func TestRefusalsRaiseADoubt(t *testing.T) {
	t.Parallel()
	h := &health{parts: &parts{rightsStale: make(chan struct{}, 1)}}
	for range 3 {
		h.doubtRights()
	}
	<-h.parts.rightsStale
	h.doubtRights()
	select {
	case <-h.parts.rightsStale:
		t.Error("it is asked again at once")
	default:
	}
	h.rights.doubted.Add(-int64(rightsPause))
	h.doubtRights()
	<-h.parts.rightsStale
}
