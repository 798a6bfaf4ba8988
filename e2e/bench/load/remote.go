package load

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// reply is the answer to a plan.
type reply struct {
	Result Result
	Error  string
}

// Serve runs the plans that come in as JSON, one after the other, and answers
// each. It returns when in ends.
func (g *Generator) Serve(ctx context.Context, in io.Reader, out io.Writer) error {
	defer g.Close()
	plans, replies := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var p Plan
		if err := plans.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a plan: %w", err)
		}
		var a reply
		if p.Address == "" {
			g.Close()
		} else if result, err := g.Run(ctx, p); err != nil {
			a.Error = err.Error()
		} else {
			a.Result = result
		}
		if err := replies.Encode(a); err != nil {
			return fmt.Errorf("answer a plan: %w", err)
		}
	}
}

// Remote is a Generator in another process, which reads its Serve.
type Remote struct {
	plans   *json.Encoder
	replies *json.Decoder
}

// NewRemote speaks to a Generator that reads plans from in and answers to out.
func NewRemote(in io.Writer, out io.Reader) *Remote {
	return &Remote{json.NewEncoder(in), json.NewDecoder(out)}
}

// Run is [Generator.Run].
func (r *Remote) Run(p Plan) (Result, error) { return r.ask(p) }

// Close closes the connections of all plans, not the generator.
func (r *Remote) Close() error {
	_, err := r.ask(Plan{})
	return err
}

func (r *Remote) ask(p Plan) (Result, error) {
	if err := r.plans.Encode(p); err != nil {
		return Result{}, fmt.Errorf("send a plan: %w", err)
	}
	var a reply
	if err := r.replies.Decode(&a); err != nil {
		return Result{}, fmt.Errorf("read what a plan came to: %w", err)
	}
	if a.Error != "" {
		return Result{}, errors.New(a.Error)
	}
	return a.Result, nil
}
