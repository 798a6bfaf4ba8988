package wire

import (
	"net/http"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Names translates names of headers from how they are on the wire, without
// capitals, to how http.Header has them, and back. It is read by any number of
// goroutines.
type Names struct{ canonical, lower map[string]string }

// NewNames returns Names that know those that are usual, and make the others anew
// each time: what strangers send fills nothing.
func NewNames() *Names {
	n := &Names{canonical: make(map[string]string, len(usual)), lower: make(map[string]string, len(usual))}
	for _, name := range usual {
		lower := strings.ToLower(name)
		n.canonical[lower], n.lower[name] = name, lower
	}
	return n
}

// usual are the names that API servers and their clients use.
var usual = [...]string{
	"Accept", "Accept-Encoding", "Accept-Language", "Age", "Allow", "Audit-Id", "Authorization", "Cache-Control",
	"Connection", "Content-Disposition", "Content-Encoding", "Content-Length", "Content-Type", "Cookie", "Date", "Etag",
	"Expect", "Expires", "Forwarded", "Host", "If-Match", "If-Modified-Since", "If-None-Match", "Impersonate-Group",
	"Impersonate-Uid", "Impersonate-User", "Kubectl-Command", "Kubectl-Session", "Last-Modified", "Link", "Location",
	"Origin", "Pragma", "Range", "Referer", "Retry-After", "Sec-Fetch-Site", "Server", "Set-Cookie",
	"Strict-Transport-Security", "Te", "Traceparent", "Tracestate", "Trailer", "Transfer-Encoding", "Upgrade",
	"User-Agent", "Vary", "Via", "Warning", "Www-Authenticate", "X-Content-Type-Options", "X-Forwarded-For",
	"X-Forwarded-Host", "X-Forwarded-Proto", "X-Frame-Options", "X-Kubernetes-Pf-Flowschema-Uid",
	"X-Kubernetes-Pf-Prioritylevel-Uid", "X-Real-Ip", "X-Request-Id", "X-Stream-Protocol-Version",
}

// Canonical returns the name that http.Header has for one on the wire.
func (n *Names) Canonical(lower string) string {
	if canonical, ok := n.canonical[lower]; ok {
		return canonical
	}
	return http.CanonicalHeaderKey(lower)
}

// Lower returns a header's name as it is on the wire, if it is one.
func (n *Names) Lower(name string) (lower string, ok bool) {
	if lower, ok := n.lower[name]; ok {
		return lower, true
	}
	if !httpguts.ValidHeaderFieldName(name) {
		return "", false
	}
	return strings.ToLower(name), true
}

// ValidName is the rule for names on the wire, which have no capitals (RFC 9113
// section 8.2.1).
func ValidName(name string) bool {
	if name == "" {
		return false
	}
	for i := range len(name) {
		if c := name[i]; !httpguts.IsTokenRune(rune(c)) || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}
