package h2server_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/h2server"
)

// patience is how long a test waits for what must happen.
const patience = 30 * time.Second

// world is a server that serves a handler.
type world struct {
	*h2server.Server
	listener net.Listener
	served   sync.WaitGroup // connections
	log      journal
}

// journal is what the server logs.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// config is one whose times are longer than any test.
func config(handler http.HandlerFunc) h2server.Config {
	return h2server.Config{
		Handler: handler, HeaderBytes: 16 << 10, HeaderTime: time.Hour, IdleTime: time.Hour,
		Streams: 100, PingAfter: time.Hour, PingTimeout: time.Hour,
	}
}

// start serves until the test ends. Then the server has to be as if it had never
// been: no goroutine of it is left.
func start(t testing.TB, cfg h2server.Config) *world {
	t.Helper()
	w := new(world)
	cfg.Log = slog.New(slog.NewTextHandler(&w.log, nil))
	w.Server = h2server.New(cfg)
	var err error
	if w.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.served.Go(func() {
		for {
			conn, err := w.listener.Accept()
			if err != nil {
				return
			}
			w.served.Go(func() { w.Serve(ctx, conn, nil) })
		}
	})
	t.Cleanup(func() {
		_ = w.listener.Close()
		cancel()
		w.served.Wait()
		nothingLeft(t)
	})
	return w
}

// nothingLeft fails the test if a goroutine of a server does not end.
func nothingLeft(t testing.TB) {
	t.Helper()
	var left string
	for end := time.Now().Add(patience); time.Now().Before(end); runtime.Gosched() {
		if left = goroutines(); left == "" {
			return
		}
	}
	t.Errorf("left behind:\n%s", left)
}

// goroutines returns the stack of one of the server's, if there is any.
func goroutines() string {
	all := make([]byte, 64<<10)
	n := runtime.Stack(all, true)
	for n == len(all) { // it is cut
		all = make([]byte, 2*n)
		n = runtime.Stack(all, true)
	}
	all = all[:n]
	for _, one := range strings.Split(string(all), "\n\n") {
		if strings.Contains(one, "gatehouse/proxy/h2server.") {
			return one
		}
	}
	return ""
}

// await returns what comes.
func await[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(patience):
		t.Fatalf("%s: nothing happened", what)
		panic("unreachable")
	}
}

// memory returns how much is in use.
func memory() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools keep for a while
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
