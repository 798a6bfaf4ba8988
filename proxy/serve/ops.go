package serve

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Check is one line of /readyz.
type Check struct {
	Name string
	// Err is why the check does not pass; nil if it does.
	Err error
	// Degraded says that a failure of this check alone leaves others to be
	// served, so that it is shown but does not make the whole not ready.
	Degraded bool
}

// Ops returns the handler of the ops port: /livez, /readyz and /metrics. checks
// is asked at each /readyz.
func Ops(checks func() []Check, gatherer prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		text(w, http.StatusOK, "ok\n")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		code, report := readiness(checks())
		if code == http.StatusOK && !r.URL.Query().Has("verbose") {
			report = "ok\n"
		}
		text(w, code, report)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(gatherer, promhttp.HandlerOpts{}))
	return mux
}

// readiness writes a report in the form of kube-apiserver's /readyz.
func readiness(checks []Check) (code int, report string) {
	var b strings.Builder
	failed, degraded := false, false
	for _, c := range checks {
		switch {
		case c.Err == nil:
			fmt.Fprintf(&b, "[+]%s ok\n", c.Name)
		case c.Degraded:
			degraded = true
			fmt.Fprintf(&b, "[!]%s degraded: %s\n", c.Name, oneLine(c.Err))
		default:
			failed = true
			fmt.Fprintf(&b, "[-]%s failed: %s\n", c.Name, oneLine(c.Err))
		}
	}
	switch {
	case failed:
		return http.StatusServiceUnavailable, b.String() + "readyz check failed\n"
	case degraded:
		return http.StatusOK, b.String() + "readyz check passed, degraded\n"
	default:
		return http.StatusOK, b.String() + "readyz check passed\n"
	}
}

func oneLine(err error) string { return strings.ReplaceAll(err.Error(), "\n", "; ") }

func text(w http.ResponseWriter, code int, body string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache, no-store")
	w.WriteHeader(code)
	// The prober may have gone.
	_, _ = w.Write([]byte(body))
}

// OpsServer returns a server for the ops port with its limits.
func OpsServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       DefaultLimits().IdleTime,
		MaxHeaderBytes:    64 << 10,
	}
}
