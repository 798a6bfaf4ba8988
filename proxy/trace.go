package proxy

import (
	"net/http"
	"strings"
)

// traceID returns the id of the trace that a request is part of, by its header
// traceparent (W3C Trace Context, section 3.2), or "" if it has none that is well
// formed. A caller chooses it: it finds log lines, and nothing rests on it.
func traceID(header http.Header) string {
	values := header["Traceparent"]
	if len(values) != 1 {
		return ""
	}
	const length = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	value := values[0]
	switch {
	case len(value) < length, value[2] != '-' || value[35] != '-' || value[52] != '-':
		return ""
	case strings.HasPrefix(value, "ff"): // no version
		return ""
	case strings.HasPrefix(value, "00") && len(value) > length:
		return ""
	case len(value) > length && value[length] != '-': // a later version may add fields
		return ""
	}
	version, trace, parent, flags := value[:2], value[3:35], value[36:52], value[53:length]
	if !isLowerHex(version) || !isLowerHex(flags) || !isID(trace) || !isID(parent) {
		return ""
	}
	return trace
}

// isID reports whether s can be an id: not all of it is zero.
func isID(s string) bool { return isLowerHex(s) && strings.Trim(s, "0") != "" }

func isLowerHex(s string) bool {
	return strings.Trim(s, "0123456789abcdef") == ""
}
