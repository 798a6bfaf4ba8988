package load

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
)

// Watching says which watches to open, over HTTP/2. All fields are required.
type Watching struct {
	Address, Path, Token string
	// Connections are opened beside those of Watchings before, with Streams
	// watches on each.
	Connections, Streams int
}

// Arrival says when an event came to the watches.
type Arrival struct {
	Watches           int
	First, Half, Last time.Time
}

// watches are open watches, which read what comes.
type watches struct {
	eventBytes int64

	mu       sync.Mutex
	arrivals []time.Time // of the event that is awaited
	open     int
	err      error
	changed  chan struct{} // has room for one

	conns []*client2
	done  sync.WaitGroup
}

func newWatches(eventBytes int64) *watches {
	return &watches{eventBytes: eventBytes, changed: make(chan struct{}, 1)}
}

// add opens more watches, several connections at a time, and returns when each
// watch had its first event.
func (w *watches) add(ctx context.Context, g *Generator, p Watching) error {
	clients := make([]*client2, p.Connections)
	errs := make([]error, p.Connections)
	turn := make(chan struct{}, parallel)
	var wait sync.WaitGroup
	for i := range clients {
		wait.Go(func() {
			turn <- struct{}{}
			defer func() { <-turn }()
			clients[i], errs[i] = w.connect(ctx, g, p)
		})
	}
	wait.Wait()
	for i, c := range clients {
		if errs[i] != nil {
			return fmt.Errorf("open watches: %w", errs[i])
		}
		w.mu.Lock()
		w.open += p.Streams
		w.mu.Unlock()
		w.conns = append(w.conns, c)
		w.done.Go(func() { w.read(c) })
	}
	return nil
}

// connect opens one connection with its watches.
func (w *watches) connect(ctx context.Context, g *Generator, p Watching) (*client2, error) {
	conn, err := g.dial(ctx, p.Address, HTTP2)
	if err != nil {
		return nil, err
	}
	c, err := newClient2(conn, Plan{Path: p.Path, Address: p.Address}, p.Token)
	if err == nil {
		err = c.openWatches(p.Streams, w.eventBytes)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

// openWatches begins n requests, one after the other, and awaits the first event
// of each.
func (c *client2) openWatches(n int, eventBytes int64) error {
	if err := c.conn.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return err
	}
	for range n {
		if err := c.request(); err != nil {
			return err
		}
		s := c.streams[c.next-2]
		for s.got < eventBytes {
			frame, err := c.framer.ReadFrame()
			if err != nil {
				return fmt.Errorf("read an answer: %w", err)
			}
			if err := c.control(frame); err != nil {
				return err
			}
			if frame.Header().StreamID != c.next-2 {
				continue // of the connection: no other watch has an event now
			}
			if err := c.take(s, frame); err != nil {
				return err
			}
			if isMessage(frame) && frame.Header().Flags.Has(http2.FlagDataEndStream) {
				return errors.New("a watch ended at once")
			}
		}
	}
	return c.conn.SetDeadline(time.Time{})
}

// read takes events in until the connection is closed.
func (w *watches) read(c *client2) {
	for {
		frame, err := c.framer.ReadFrame()
		if err == nil {
			err = c.control(frame)
		}
		if err != nil {
			w.fail(err)
			return
		}
		s := c.streams[frame.Header().StreamID]
		if s == nil {
			continue
		}
		before := s.got / w.eventBytes
		if err := c.take(s, frame); err != nil {
			w.fail(err)
			return
		}
		if isMessage(frame) && frame.Header().Flags.Has(http2.FlagDataEndStream) {
			w.fail(errors.New("a watch ended"))
			return
		}
		if s.got/w.eventBytes > before {
			w.arrived(time.Now())
		}
	}
}

func (w *watches) arrived(now time.Time) {
	w.mu.Lock()
	w.arrivals = append(w.arrivals, now)
	all := len(w.arrivals) >= w.open
	w.mu.Unlock()
	if all {
		w.signal()
	}
}

func (w *watches) fail(err error) {
	w.mu.Lock()
	if w.err == nil {
		w.err = err
	}
	w.mu.Unlock()
	w.signal()
}

func (w *watches) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// await waits until an event has come to every watch.
func (w *watches) await(ctx context.Context) (Arrival, error) {
	for {
		w.mu.Lock()
		arrivals, open, err := w.arrivals, w.open, w.err
		if err == nil && len(arrivals) >= open {
			w.arrivals = nil
		}
		w.mu.Unlock()
		if err != nil {
			return Arrival{}, fmt.Errorf("watch: %w", err)
		}
		if len(arrivals) >= open {
			slices.SortFunc(arrivals, time.Time.Compare)
			return Arrival{Watches: open, First: arrivals[0], Half: arrivals[len(arrivals)/2], Last: arrivals[len(arrivals)-1]}, nil
		}
		select {
		case <-w.changed:
		case <-ctx.Done():
			return Arrival{}, fmt.Errorf("await an event: %d of %d watches have it: %w", len(arrivals), open, ctx.Err())
		}
	}
}

// close ends all watches.
func (w *watches) close() {
	for _, c := range w.conns {
		_ = c.close() // nothing is lost with it
	}
	w.done.Wait()
}
