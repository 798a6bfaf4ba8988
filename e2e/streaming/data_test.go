package streaming_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	mathrand "math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/kube-gatehouse/gatehouse/e2e/proc"
)

// source gives n bytes that cannot be guessed, and remembers their digest.
type source struct {
	io.Reader
	hash hash.Hash
	n    int64
}

func newSource(n int64) *source {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	s := &source{hash: sha256.New(), n: n}
	s.Reader = io.TeeReader(io.LimitReader(mathrand.NewChaCha8(seed), n), s.hash)
	return s
}

// sink takes bytes and remembers their digest and their number.
type sink struct {
	hash hash.Hash
	n    int64
	want int64         // how many there are to be, if that is known
	full chan struct{} // closed when they are there
}

func newSink() *sink { return &sink{hash: sha256.New()} }

// newSinkFor is a sink that tells when as much has come as sent has to give.
func newSinkFor(sent *source) *sink {
	return &sink{hash: sha256.New(), want: sent.n, full: make(chan struct{})}
}

func (s *sink) Write(b []byte) (int, error) {
	before := s.n
	s.n += int64(len(b))
	if s.full != nil && before < s.want && s.n >= s.want {
		close(s.full)
	}
	return s.hash.Write(b)
}

// same says how what was received differs from what was sent.
func same(sent *source, received *sink) error {
	if received.n != sent.n {
		return fmt.Errorf("%d bytes were sent and %d received", sent.n, received.n)
	}
	if !bytes.Equal(sent.hash.Sum(nil), received.hash.Sum(nil)) {
		return errors.New("what was received is not what was sent")
	}
	return nil
}

// screen is what a terminal shows.
type screen struct {
	proc.Lines
	ended chan struct{}
}

func newScreen() *screen { return &screen{ended: make(chan struct{})} }

// await waits until a line with this text is shown.
func (s *screen) await(ctx context.Context, t *testing.T, text string) {
	t.Helper()
	_, err := s.Await(ctx, s.ended, func(line string) bool { return strings.Contains(line, text) })
	if err != nil {
		t.Fatalf("await %q: %v; shown: %q", text, err, s.All())
	}
}

// newKeyboard is an input for a process that stays open until the test ends, and
// what it is typed on.
func newKeyboard(t *testing.T) (input, keyboard *os.File) {
	t.Helper()
	input, keyboard, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { input.Close(); keyboard.Close() })
	return input, keyboard
}
