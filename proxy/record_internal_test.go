package proxy

import (
	"net/http"
	"net/url"
	"testing"
)

// Promise: without an audit policy nothing is asked, and nothing allocated.
func TestNoRecordCostsNothing(t *testing.T) {
	p, x := &Proxy{}, &exchange{kind: requestKind{stream: true}}
	r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/version"}}
	if n := testing.AllocsPerRun(100, func() {
		p.beginRecord(x, r)
		p.recordStart(x, http.StatusOK)
		p.endRecord(x, r)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
