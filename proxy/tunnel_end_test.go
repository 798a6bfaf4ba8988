package proxy

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// broken takes nothing.
type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, syscall.EPIPE }

// In the package itself for its clock: half a minute passes.
//
// Promise: a connection that the API server has closed is not kept for a caller
// who does not leave, and one of which it has ended a half is.
func TestDeadTunnelEnds(t *testing.T) {
	for name, row := range map[string]struct {
		to   io.Writer
		said io.Reader
		ends bool
	}{
		"takes nothing":  {broken{}, strings.NewReader(""), true},
		"reset":          {io.Discard, failing{syscall.ECONNRESET}, true},
		"a half is open": {io.Discard, strings.NewReader(""), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var hungUp atomic.Bool
				tunnel := &tunnel{
					streamBody: streamBody{ReadCloser: io.NopCloser(row.said), ctx: t.Context()},
					w:          row.to, hangUp: func() { hungUp.Store(true) },
				}
				if n, err := tunnel.Write([]byte("more")); n != 4 || err != nil {
					t.Errorf("write: %d, %v", n, err)
				}
				if _, err := tunnel.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
					t.Errorf("read: %v", err)
				}
				time.Sleep(lastRead - time.Second)
				synctest.Wait()
				if hungUp.Load() {
					t.Error("the caller has no time to read")
				}
				time.Sleep(2 * time.Second)
				synctest.Wait()
				if hungUp.Load() != row.ends {
					t.Errorf("hung up: %t", hungUp.Load())
				}
			})
		})
	}
}

// failing cannot be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
