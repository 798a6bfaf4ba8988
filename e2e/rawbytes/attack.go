package rawbytes

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
)

// Want is what a case may lead to. The zero value allows nothing.
type Want struct {
	// Codes are the refusals that are right; nothing may arrive then.
	Codes []int
	// Served, if set, may be served, and is exactly whom the API server sees.
	Served *Identity
	// Library: the refusal may be the HTTP library's, made before gatehouse
	// sees a request, so it need not be a Status.
	Library bool
	// Dropped: the connection or stream may end without an answer.
	Dropped bool
	// Cut: the fault is after the header, so the request may have set out as
	// Served before the refusal; its body then ends short. Its target is unique.
	Cut bool
	// Status is the answer when Served is; default 200, or 101 on an upgrade.
	Status int
	// From is the client's address upstream when Served is; default 127.0.0.1.
	From string
	// Target is the request target upstream when Served is; default the same.
	Target string
}

func (w Want) from() string {
	if w.From == "" {
		return "127.0.0.1"
	}
	return w.From
}

// Case is one row of a table.
type Case struct {
	Name    string
	Request Request
	Want    Want
	OnH2    *Want     // HTTP/2 has its own rule; default Want
	On      []Carrier // default all
	// Also judges what arrived, when something did.
	Also func(Record) []string
	// Reply judges the answer.
	Reply func(*Answer) []string
}

// Target is a proxy under attack, with the fake API server behind it.
type Target struct {
	Addr    string
	Roots   *x509.CertPool
	Up      *Upstream
	Secrets *Secrets
	LogFrom func(n int) string // default: no log
	seen    int
	cut     []string // targets of the cases with Want.Cut
}

// Try runs the case and returns what is wrong, nil if nothing. It must not run
// twice at once on one target: what arrives is told apart by time.
func (t *Target) Try(c Carrier, k Case) ([]string, error) {
	want := k.Want
	if c == H2 && k.OnH2 != nil {
		want = *k.OnH2
	}
	mark := t.Up.Mark()
	a, err := c.Exchange(t.Addr, t.Roots, k.Request)
	if err != nil {
		return nil, err
	}
	recs := t.Up.Since(mark)
	if want.Cut {
		t.cut = append(t.cut, k.Request.Target)
	}
	// What an earlier case cut off may arrive during this one.
	recs = slices.DeleteFunc(recs, func(r Record) bool { return r.Target != k.Request.Target && slices.Contains(t.cut, r.Target) })
	out := t.judge(c, k.Request, want, a, recs)
	for _, r := range recs {
		if k.Also != nil {
			out = append(out, k.Also(r)...)
		}
	}
	if k.Reply != nil {
		out = append(out, k.Reply(a)...)
	}
	return append(out, t.Leaks(a, recs)...), nil
}

func (t *Target) judge(c Carrier, req Request, want Want, a *Answer, recs []Record) []string {
	var out []string
	ok := want.Status
	if ok == 0 {
		ok = 200
		if c == WebSocket || c == SPDY {
			ok = 101
		}
	}
	switch {
	case want.Served != nil && a.Status == ok:
		if len(recs) != 1 {
			out = append(out, fmt.Sprintf("answered %d with %d requests upstream", a.Status, len(recs)))
		}
		out = append(out, t.arrived(recs, want, req)...)
	case slices.Contains(want.Codes, a.Status):
		out = append(out, t.refusedWith(recs, want)...)
		if !want.Library {
			out = append(out, OwnAnswer(a, req.Method == "HEAD")...)
		}
	case a.Status == 0 && want.Dropped:
		out = append(out, t.refusedWith(recs, want)...)
	default:
		out = append(out, fmt.Sprintf("answered %d (%v) %.200q; want served=%v or %v", a.Status, a.Err, a.Body, want.Served != nil, want.Codes))
		out = append(out, t.refusedWith(recs, want)...)
	}
	for _, f := range a.Faults {
		out = append(out, "ambiguous answer: "+f)
	}
	return out
}

func (t *Target) refusedWith(recs []Record, want Want) []string {
	var out []string
	for _, r := range recs {
		if want.Cut {
			out = append(out, t.Up.Arrived(r.uncut(), *want.Served, want.from())...)
			continue
		}
		out = append(out, fmt.Sprintf("O3: refused, yet upstream saw %s %q with %+.300v", r.Method, r.Target, r.Fields))
	}
	return out
}

func (t *Target) arrived(recs []Record, want Want, req Request) []string {
	var out []string
	target := want.Target
	if target == "" {
		target = req.Target
	}
	for _, r := range recs {
		out = append(out, t.Up.Arrived(r, *want.Served, want.from())...)
		if r.Target != target || r.Method != req.method() {
			out = append(out, fmt.Sprintf("upstream saw %s %q, want %s %q", r.Method, r.Target, req.method(), target))
		}
		if string(r.Body) != req.Body {
			out = append(out, fmt.Sprintf("upstream saw the body %.80q, want %.80q", r.Body, req.Body))
		}
	}
	return out
}

// Leaks asks the oracles that hold for every case whatever it expects: nothing
// ran as the proxy, and no secret is in the answer, the log or a header that
// arrived.
func (t *Target) Leaks(a *Answer, recs []Record) []string {
	var out []string
	if a != nil {
		if strings.Contains(string(a.Body), ExecutedAsProxy) {
			out = append(out, "O1: "+ExecutedAsProxy)
		}
		out = append(out, t.Secrets.Leaks("an answer", a.Text())...)
	}
	for _, r := range recs {
		if id, bad := Impersonated(r.Fields); id == nil && !bad && t.Up.caller(&r) == ownAccount {
			out = append(out, fmt.Sprintf("O1: no identity on %s %q upstream: %s", r.Method, r.Target, ExecutedAsProxy))
		}
		for _, f := range append(slices.Clone(r.Fields), r.Trailers...) {
			if !strings.EqualFold(f.Name, "Authorization") {
				out = append(out, t.Secrets.Leaks("an upstream header", f.Name+": "+f.Value)...)
			}
		}
	}
	if t.LogFrom != nil {
		log := t.LogFrom(t.seen)
		t.seen += len(log)
		out = append(out, t.Secrets.Leaks("the log", log)...)
		if at := strings.Index(log, "DATA RACE"); at >= 0 {
			out = append(out, "data race in gatehouse: "+log[at:])
		}
	}
	return out
}
