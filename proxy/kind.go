package proxy

import (
	"net/http"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// requestKind is what a request is to Kubernetes, told by the API server's own
// rules. It serves logs, metrics and draining; no right depends on it.
type requestKind struct {
	info  *request.RequestInfo // nil if the path makes no sense to the API server
	verb  string               // one of verbs
	watch bool
}

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

func (k requestKinds) of(r *http.Request) requestKind {
	kind := requestKind{verb: "other"}
	info, err := k.resolver.NewRequestInfo(r)
	if err != nil {
		return kind
	}
	kind.info = info
	switch {
	case r.Header["Upgrade"] != nil:
		kind.verb = "connect"
	case k.known.Has(info.Verb):
		kind.verb = info.Verb
	}
	kind.watch = info.Verb == "watch"
	return kind
}
