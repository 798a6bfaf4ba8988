package audit

import (
	"net/url"
	"strings"
)

const (
	maxURI       = 4096
	maxUserAgent = 1024 // kube-apiserver's (v1.37, pkg/audit/request.go)
	maxField     = 512
	cut          = "...TRUNCATED" // kube-apiserver's
)

// requestURI returns the path and the known parameters of u as they came, and how
// many parameters were left out. all leaves out every one: what answers through
// the API server has its own.
func requestURI(u *url.URL, all bool) (uri string, leftOut int) {
	uri = u.EscapedPath()
	if uri == "" {
		uri = "/"
	}
	separator := "?"
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		switch {
		case pair == "":
		case all || !isKnown(pair):
			leftOut++
		default:
			if len(uri) < maxURI { // the rest is cut anyway
				uri += separator + pair
				separator = "&"
			}
		}
	}
	return bounded(uri, maxURI), leftOut
}

// isKnown reports whether a parameter is recorded: one that the API server itself
// reads, and that says how it was asked. The command of an exec is none of them,
// nor anything that is not known here: either may hold a secret. The name is not
// decoded: nobody who means the API server encodes one of these.
func isKnown(pair string) bool {
	switch name, _, _ := strings.Cut(pair, "="); name {
	case
		// What is asked for, and how (apimachinery v0.37, pkg/apis/meta/v1).
		"allowWatchBookmarks", "continue", "dryRun", "fieldManager", "fieldSelector", "fieldValidation", "force",
		"gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential", "labelSelector", "limit",
		"orphanDependents", "pretty", "propagationPolicy", "resourceVersion", "resourceVersionMatch",
		"sendInitialEvents", "timeout", "timeoutSeconds", "watch",
		// Logs, exec, attach and port-forward (api v0.37, core/v1).
		"container", "follow", "insecureSkipTLSVerifyBackend", "limitBytes", "ports", "previous", "sinceSeconds",
		"sinceTime", "stderr", "stdin", "stdout", "stream", "tailLines", "timestamps", "tty",
		// The API server's own paths.
		"exclude", "hash", "seconds", "verbose":
		return true
	}
	return false
}

// bounded cuts what a caller chose to limit bytes.
func bounded(s string, limit int) string {
	if len(s) > limit {
		return s[:limit] + cut
	}
	return s
}
