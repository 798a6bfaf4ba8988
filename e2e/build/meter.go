package build

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// plainEvery is how often a line is printed when the output is no terminal.
const plainEvery = 15 * time.Second

// meter turns what `go build -v` prints, one package a line as it is compiled,
// into one line of progress: redrawn in place on a terminal, else a new line
// now and then.
type meter struct {
	out      io.Writer
	terminal bool
	total    int
	mains    map[string]string
	started  time.Time
	stop     chan struct{}
	stopped  chan struct{}

	mu       sync.Mutex
	partial  []byte
	compiled int
	linking  []string
	other    []string
}

// newMeter starts to report on out until finish is called. Total is how many
// packages there are; mains are those that are linked once they are compiled.
func newMeter(out io.Writer, total int, mains map[string]string) *meter {
	m := &meter{
		out: out, terminal: IsTerminal(out), total: total, mains: mains,
		started: time.Now(), stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go m.report()
	return m
}

// Write takes the standard error of go build.
func (m *meter) Write(b []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.partial = append(m.partial, b...)
	for {
		i := bytes.IndexByte(m.partial, '\n')
		if i < 0 {
			return len(b), nil
		}
		m.line(string(m.partial[:i]))
		m.partial = m.partial[i+1:]
	}
}

func (m *meter) line(s string) {
	if s == "" || strings.ContainsAny(s, " #:\t") {
		m.other = append(m.other, s) // not a package: a download or a fault
		return
	}
	m.compiled++
	if name, ok := m.mains[s]; ok {
		m.linking = append(m.linking, name)
		slices.Sort(m.linking)
	}
}

// messages returns what go build printed beside package names.
func (m *meter) messages() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(append(m.other, string(m.partial)), "\n")
}

// finish stops the reports and, on a terminal, ends the line.
func (m *meter) finish(ok bool) {
	close(m.stop)
	<-m.stopped
	if !m.terminal {
		return
	}
	if ok {
		fmt.Fprint(m.out, "\r\x1b[K")
	} else {
		fmt.Fprintln(m.out)
	}
}

func (m *meter) report() {
	defer close(m.stopped)
	every := plainEvery
	if m.terminal {
		every = 200 * time.Millisecond
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-m.stop:
			return
		case <-tick.C:
			if m.terminal {
				fmt.Fprintf(m.out, "\r\x1b[K%s", m.status())
			} else {
				fmt.Fprintln(m.out, m.status())
			}
		}
	}
}

// status is the present line, at most 79 columns wide.
func (m *meter) status() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	elapsed := time.Since(m.started).Round(time.Second)
	s := fmt.Sprintf("  compiled %d of %d packages, %s", m.compiled, m.total, elapsed)
	if len(m.linking) == len(m.mains) {
		s = fmt.Sprintf("  linking, %s", elapsed)
	} else if len(m.linking) > 0 {
		s += "; linking " + strings.Join(m.linking, ", ")
	}
	if len(s) > 79 {
		s = s[:76] + "..."
	}
	return s
}

// IsTerminal reports whether w is a terminal.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
