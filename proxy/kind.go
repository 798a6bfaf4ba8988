package proxy

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// requestKind is what a request is to Kubernetes, told by the API server's own
// rules. It serves logs, metrics and draining; no right depends on it.
type requestKind struct {
	info  *request.RequestInfo // nil if the path makes no sense to the API server
	verb  string               // one of verbs
	watch bool
	// stream says that the request may well go on without an end: the long
	// running ones of kube-apiserver (v1.37, pkg/server/config.go).
	stream bool
}

// proxied reports whether a pod, service or node answers through the API server.
func (k requestKind) proxied() bool { return k.info != nil && k.info.Subresource == "proxy" }

// streaming are the subresources of such requests.
var streaming = [...]string{"attach", "exec", "log", "portforward", "proxy"}

// verbs is the closed set of the metric label.
var verbs = [...]string{
	"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection", "connect", "other",
}

type requestKinds struct {
	resolver *request.RequestInfoFactory
	known    sets.Set[string]
}

func newRequestKinds() requestKinds {
	return requestKinds{
		resolver: &request.RequestInfoFactory{
			APIPrefixes:          sets.NewString("api", "apis"),
			GrouplessAPIPrefixes: sets.NewString("api"),
		},
		known: sets.New(verbs[:]...),
	}
}

// of never looks at more of the query than whether it asks for a watch: the
// resolver would parse all of it, at a stranger's expense, and log it.
func (k requestKinds) of(r *http.Request) requestKind {
	kind := requestKind{verb: "other"}
	info, err := k.resolver.NewRequestInfo(&http.Request{Method: r.Method, URL: &url.URL{Path: r.URL.Path}})
	if err != nil {
		return kind
	}
	if info.Verb == "list" && asksForWatch(r.URL.RawQuery) {
		info.Verb = "watch"
	}
	info.Parts = nil // a watch would hold it for hours
	kind.info = info
	switch {
	case r.Header["Upgrade"] != nil:
		kind.verb = "connect"
	case k.known.Has(info.Verb):
		kind.verb = info.Verb
	}
	kind.watch = info.Verb == "watch"
	kind.stream = kind.watch || kind.verb == "connect" || slices.Contains(streaming[:], info.Subresource)
	return kind
}

// asksForWatch reads the parameter watch as kube-apiserver does (apimachinery
// v0.37, pkg/runtime, Convert_Slice_string_To_bool): the first one counts, and
// means yes unless it is false or 0. What net/url cannot decode it does not see.
func asksForWatch(query string) bool {
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		// Most names are told apart without being decoded.
		if len(name) < len("watch") || len(name) > 3*len("watch") || strings.Contains(pair, ";") {
			continue
		}
		if name, err := url.QueryUnescape(name); err != nil || name != "watch" {
			continue
		}
		if value, err := url.QueryUnescape(value); err == nil {
			return !strings.EqualFold(value, "false") && value != "0"
		}
	}
	return false
}
