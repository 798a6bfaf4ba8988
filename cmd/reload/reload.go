// Package reload answers: when did a file change, and did the new content take
// effect?
//
// Files are read again every few seconds and compared by content. Kubernetes
// changes a mounted Secret by swapping a symbolic link, which file
// notifications miss or report twice.
package reload

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Every is how often files are looked at. A change takes effect when it is seen
// at two looks, well within the promised 10 seconds.
const Every = time.Second

// Source is what is made of one or several files.
type Source struct {
	// Name is the metric label, and names the source in the log.
	Name string
	// Files are the files to look at first. Of a directory the names of what is in
	// it count.
	Files []string
	// Load reads the files and puts what they say into effect, whole or not at
	// all. It returns the files to look at from now on, on an error too.
	Load func() (files []string, err error)
}

// Watcher reloads sources when their files change.
type Watcher struct {
	every   time.Duration
	log     *slog.Logger
	watched []*watched

	total *prometheus.CounterVec
	last  *prometheus.GaugeVec
	good  *prometheus.GaugeVec
}

type watched struct {
	Source
	digest [sha256.Size]byte // of the content that was last loaded
	seen   [sha256.Size]byte // of the content at the last look
	err    error             // what the last Load returned
}

// New returns a Watcher without sources that looks at files each time every has
// passed.
func New(every time.Duration, registerer prometheus.Registerer, log *slog.Logger) (*Watcher, error) {
	label := []string{"source"}
	w := &Watcher{
		every: every, log: log,
		total: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gatehouse_reloads_total",
			Help: "Reloads of files that changed while running, by source and result (success or failure).",
		}, []string{"source", "result"}),
		last: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_reload_last_success_timestamp_seconds",
			Help: "When the files of a source last took effect, in Unix time.",
		}, label),
		good: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "gatehouse_reload_last_successful",
			Help: "1 if the present content of a source's files is in effect, 0 if it is bad and the last good one is.",
		}, label),
	}
	for _, c := range []prometheus.Collector{w.total, w.last, w.good} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return w, nil
}

// Add loads s for the first time. The error is Load's; s is watched even then.
func (w *Watcher) Add(s Source) error {
	one := &watched{Source: s}
	w.watched = append(w.watched, one)
	for _, result := range []string{"success", "failure"} {
		w.total.WithLabelValues(s.Name, result)
	}
	return w.load(one)
}

// Reconsider makes the next look load the source of this name again, changed or
// not: what was made of another source's files may name other files for it. It
// may be called by the Load of that other source.
func (w *Watcher) Reconsider(name string) {
	for _, one := range w.watched {
		if one.Name == name {
			one.digest, one.seen = [sha256.Size]byte{}, digest(one.Files)
		}
	}
}

// Run looks at the files until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	ticker := time.NewTicker(w.every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, one := range w.watched {
				w.look(one)
			}
		}
	}
}

// look reloads one if its files changed, or if they could not be loaded last
// time: what was missing may be a file that only their content names. Files that
// are not as they were at the last look may still be written, and half of a token
// file is a token file: they are left to the next look. A failure is logged once
// for each content.
func (w *Watcher) look(one *watched) {
	before := one.seen
	one.seen = digest(one.Files)
	changed, last := one.seen != one.digest, one.err
	if !changed && last == nil || changed && one.seen != before {
		return
	}
	if err := w.load(one); err != nil {
		if changed || last.Error() != err.Error() {
			w.total.WithLabelValues(one.Name, "failure").Inc()
			w.log.Error("changed files are bad, the last good content stays in effect", "source", one.Name, "error", err)
		}
		return
	}
	w.total.WithLabelValues(one.Name, "success").Inc()
	w.log.Info("changed files took effect", "source", one.Name)
}

func (w *Watcher) load(one *watched) error {
	var err error
	// Once more if the content names other files than before, so that the
	// digest is always older than what was loaded: a file that changes in
	// between is found at the next look.
	for range 2 {
		before := digest(one.Files)
		var files []string
		files, err = one.Load()
		one.digest = before
		if slices.Equal(files, one.Files) {
			break
		}
		one.Files = files
	}
	one.err = err
	if err != nil {
		w.good.WithLabelValues(one.Name).Set(0)
		return err
	}
	w.good.WithLabelValues(one.Name).Set(1)
	w.last.WithLabelValues(one.Name).SetToCurrentTime()
	return nil
}

// digest returns a digest of the contents of files. A file that cannot be read
// has a content of its own.
func digest(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, file := range files {
		content, err := read(file)
		fmt.Fprintf(h, "%d:%s:%t:%d:", len(file), file, err == nil, len(content))
		h.Write(content)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// read returns the content of a file, or the names of what is in a directory.
func read(file string) ([]byte, error) {
	content, err := os.ReadFile(file)
	if err == nil {
		return content, nil
	}
	entries, dirErr := os.ReadDir(file)
	if dirErr != nil {
		return nil, err
	}
	for _, entry := range entries {
		content = fmt.Appendf(content, "%d:%s", len(entry.Name()), entry.Name())
	}
	return content, nil
}
