package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// order is what a Remote asks for: one of these, or to close everything.
type order struct {
	Plan  *Plan
	Watch *Watching
	Await bool
	// EventBytes is how long each event is, for the first Watch.
	EventBytes int64
}

// reply is the answer to an order.
type reply struct {
	Result  Result
	Arrival Arrival
	Error   string
}

// eventTimeout limits how long an event may take to reach every watch.
const eventTimeout = 30 * time.Second

// Serve does what comes in as JSON, one after the other, and answers each. It
// returns when in ends.
func (g *Generator) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	defer g.Close()
	orders, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var o order
		if err := orders.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an order: %w", err)
		}
		a, err := g.do(ctx, o)
		if err != nil {
			a.Error = err.Error()
		}
		if err := replies.Encode(a); err != nil {
			return fmt.Errorf("answer an order: %w", err)
		}
	}
}

func (g *Generator) do(ctx context.Context, o order) (a reply, err error) {
	switch {
	case o.Plan != nil:
		a.Result, err = g.Run(ctx, *o.Plan)
	case o.Watch != nil:
		if g.watches == nil {
			g.watches = newWatches(o.EventBytes)
		}
		err = g.watches.add(ctx, g, *o.Watch)
	case o.Await && g.watches == nil:
		err = errors.New("there are no watches")
	case o.Await:
		ctx, cancel := context.WithTimeout(ctx, eventTimeout)
		defer cancel()
		a.Arrival, err = g.watches.await(ctx)
	default:
		g.Close()
	}
	return a, err
}

// Remote is a Generator in another process, which runs its Serve.
type Remote struct {
	orders  *json.Encoder
	replies *json.Decoder
}

// NewRemote speaks to a Generator that reads from in and answers to out.
func NewRemote(in io.Writer, out io.Reader) *Remote {
	return &Remote{json.NewEncoder(in), json.NewDecoder(out)}
}

// Run is [Generator.Run].
func (r *Remote) Run(p Plan) (Result, error) {
	a, err := r.ask(order{Plan: &p})
	return a.Result, err
}

// Watch opens watches, beside those that are open, and returns when each
// had its first event. eventBytes is how long each event is.
func (r *Remote) Watch(p Watching, eventBytes int64) error {
	_, err := r.ask(order{Watch: &p, EventBytes: eventBytes})
	return err
}

// Await waits until an event has come to every watch, and says when.
func (r *Remote) Await() (Arrival, error) {
	a, err := r.ask(order{Await: true})
	return a.Arrival, err
}

// Close closes all connections, not the generator.
func (r *Remote) Close() error {
	_, err := r.ask(order{})
	return err
}

func (r *Remote) ask(o order) (reply, error) {
	if err := r.orders.Encode(o); err != nil {
		return reply{}, fmt.Errorf("ask the generator of load: %w", err)
	}
	var a reply
	if err := r.replies.Decode(&a); err != nil {
		return reply{}, fmt.Errorf("hear from the generator of load: %w", err)
	}
	if a.Error != "" {
		return reply{}, errors.New(a.Error)
	}
	return a, nil
}
