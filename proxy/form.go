package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// methods are those that kube-apiserver serves.
var methods = [...]string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
	http.MethodPatch, http.MethodDelete, http.MethodOptions,
}

// The protocols that Kubernetes streams by.
const (
	webSocket = "websocket"
	spdy      = "SPDY/3.1"
)

// checkForm judges what can be judged without knowing who asks. It returns the
// protocol that the request upgrades to, or "", or else the answer that refuses
// it.
func checkForm(r *http.Request) (protocol string, fault *answer) {
	if !slices.Contains(methods[:], r.Method) {
		return "", &badMethod
	}
	// The path must arrive at the API server byte for byte, so that both judge
	// the same one: a form that Go would write in another way is refused, and
	// so are absolute-form, which carries a host of its own, and `*`.
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if strings.ContainsFunc(r.RequestURI, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return "", &badTarget // HTTP/2 lets through what would end a request line
	}
	if !strings.HasPrefix(path, "/") || r.URL.Host != "" || r.URL.Opaque != "" || r.URL.EscapedPath() != path {
		return "", &badTarget
	}
	if expect := r.Header["Expect"]; len(expect) > 1 || len(expect) == 1 && !strings.EqualFold(expect[0], "100-continue") {
		return "", &badExpectation
	}
	return upgradeProtocol(r)
}

// fromAnotherSite reports whether a browser says that a page of another site
// makes the request. A browser shows a client certificate for such a page too,
// without its person knowing.
func fromAnotherSite(r *http.Request) bool {
	for _, site := range r.Header["Sec-Fetch-Site"] {
		if site != "same-origin" && site != "none" {
			return true
		}
	}
	for _, origin := range r.Header["Origin"] {
		if u, err := url.Parse(origin); err != nil || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	return false
}

// equalASCIIFold is strings.EqualFold without the letters beyond ASCII that fold
// into it: no other server takes those for the same.
func equalASCIIFold(s, ascii string) bool {
	return len(s) == len(ascii) && strings.EqualFold(s, ascii)
}

// hasDotSegment reports whether a path, decoded, has a segment that some server
// takes for "here" or "one up". Behind an API server whose URL has a path of its
// own, such a path would lead to what stands beside it.
func hasDotSegment(path string) bool {
	for segment := range strings.FieldsFuncSeq(path, func(c rune) bool { return c == '/' || c == '\\' }) {
		if name, _, _ := strings.Cut(segment, ";"); name == "." || name == ".." {
			return true
		}
	}
	return false
}

// upgradeProtocol returns the protocol that r upgrades to. An Upgrade header
// that names anything else than one of the two is refused even where it could
// be ignored, so that no hop behind takes it up.
func upgradeProtocol(r *http.Request) (string, *answer) {
	values := r.Header["Upgrade"]
	if len(values) == 0 {
		return "", nil
	}
	var protocol string
	switch {
	case len(values) > 1:
		return "", &badUpgrade
	case equalASCIIFold(values[0], webSocket):
		protocol = webSocket
	case equalASCIIFold(values[0], spdy):
		protocol = spdy
	default:
		return "", &badUpgrade
	}
	if !httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") {
		return "", nil // RFC 9110 section 7.8: not asked of this hop
	}
	return protocol, nil
}
