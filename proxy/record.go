package proxy

import (
	"net/http"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kube-gatehouse/gatehouse/proxy/audit"
)

// beginRecord asks the audit policy about a request whose credential was judged,
// once.
func (p *Proxy) beginRecord(x *exchange, r *http.Request) {
	if p.cfg.Audit == nil || x.judged {
		return
	}
	x.judged = true
	request := audit.Request{
		ID: x.id, Received: x.start, Method: strings.ToLower(r.Method), URL: r.URL,
		UserAgent: r.UserAgent(), Client: x.client, Info: x.kind.info,
	}
	if x.identity != nil {
		request.User = &x.identity.User
		// It names what is asked for, as a path does: kube-apiserver's rules go by it.
		if request.Info != nil && strings.Contains(r.URL.RawQuery, "fieldSelector") {
			request.Info = p.kinds.withQuery(r, request.Info)
		}
	}
	x.entry = p.cfg.Audit.Begin(request, p.cfg.Now())
}

// recordStart records that the answer of a request that may go on for long began.
func (p *Proxy) recordStart(x *exchange, status int) {
	if x.entry == nil || !x.kind.stream {
		return
	}
	o := outcome(x, p.cfg.Now())
	o.Status = metav1.Status{Code: int32(status)}
	x.entry.Started(o)
}

// endRecord records how a request ended, those that were refused before anybody
// was signed in too.
func (p *Proxy) endRecord(x *exchange, r *http.Request) {
	if p.beginRecord(x, r); x.entry == nil {
		return
	}
	o := outcome(x, p.cfg.Now())
	if x.panicked {
		x.entry.Panicked(o)
		return
	}
	x.entry.Complete(o)
}

// outcome is what is known of x at now.
func outcome(x *exchange, now time.Time) audit.Outcome {
	o := audit.Outcome{Time: now, As: x.as, Annotations: annotations(x), Status: metav1.Status{Code: int32(x.writer.status)}}
	if x.said != nil && x.said.code == x.writer.status {
		o.Status = metav1.Status{
			Status: metav1.StatusFailure, Code: int32(x.said.code), Reason: x.said.reason, Message: string(x.said.message),
		}
	}
	return o
}

// annotations are what gatehouse knows of x and kube-apiserver has no field for.
func annotations(x *exchange) map[string]string {
	all := map[string]string{}
	if x.identity != nil {
		audit.NoteCredential(all, x.identity)
		all[audit.Scope], all[audit.Actor] = x.identity.Scope.String(), strings.Join(x.identity.Actors, ",")
	}
	if x.refusal != nil {
		all[audit.Credential], all[audit.Refused] = string(x.refusal.Kind), string(x.refusal.Reason)
	}
	if x.denied != nil {
		all[audit.NotAs] = x.notAs
	}
	if x.ended != nil {
		all[audit.Ended] = x.ended.label
	}
	if x.aborted {
		all[audit.Aborted] = "true"
	}
	all[audit.Rejected], all[audit.AsMode], all[audit.OutOfScope] = x.rejected, x.mode, x.outOfScope
	for key, value := range all {
		if value == "" {
			delete(all, key)
		}
	}
	return all
}
