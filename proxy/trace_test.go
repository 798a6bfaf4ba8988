package proxy_test

import (
	"net/http"
	"strings"
	"testing"
)

const (
	traceCanary  = "0af7651916cd43dd8448eb211c80319c"
	traceparent  = "00-" + traceCanary + "-b7ad6b7169203331-01"
	traceZeroed  = "00-00000000000000000000000000000000-b7ad6b7169203331-01"
	parentZeroed = "00-" + traceCanary + "-0000000000000000-01"
)

// Promise: the trace of a request finds its log line, by a header that W3C Trace
// Context calls well formed and by no other, and the header arrives as it came.
func TestTraceIsLogged(t *testing.T) {
	for _, tt := range []struct {
		name   string
		values []string
		logged bool
	}{
		{"well formed", []string{traceparent}, true},
		{"a later version with more fields", []string{"cc" + traceparent[2:] + "-what-the-future-will-be-like"}, true},
		{"a later version as long as the first", []string{"cc" + traceparent[2:]}, true},
		{"none", nil, false},
		{"empty", []string{""}, false},
		{"two", []string{traceparent, traceparent}, false},
		{"the version that there is not", []string{"ff" + traceparent[2:]}, false},
		{"more fields than version 00 has", []string{traceparent + "-more"}, false},
		{"a later version with more and no dash", []string{"cc" + traceparent[2:] + "more"}, false},
		{"upper case", []string{strings.ToUpper(traceparent)}, false},
		{"an id of zeros", []string{traceZeroed}, false},
		{"a parent of zeros", []string{parentZeroed}, false},
		{"too short", []string{traceparent[:54]}, false},
		{"other letters", []string{strings.Replace(traceparent, "0af7", "0xf7", 1)}, false},
		{"dashes elsewhere", []string{strings.ReplaceAll(traceparent, "-", "0")}, false},
		{"a version that is none", []string{"x0" + traceparent[2:]}, false},
		{"flags that are none", []string{traceparent[:53] + "0x"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var arrived []string
			g := newGate(t, 2, func(_ http.ResponseWriter, r *http.Request) { arrived = r.Header["Traceparent"] })
			r := g.request(http.MethodGet, "/api/v1/pods", "alice")
			r.Header["Traceparent"] = tt.values
			resp, err := g.client(2).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if err := g.proxy.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
			if strings.Join(arrived, "|") != strings.Join(tt.values, "|") {
				t.Errorf("the API server got %q, want %q", arrived, tt.values)
			}
			line := g.requestLines()[0]
			if got, logged := line["trace_id"]; logged != tt.logged || logged && got != traceCanary {
				t.Errorf("trace_id is %v, want it logged: %t", got, tt.logged)
			}
		})
	}
}
