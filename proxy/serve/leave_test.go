package serve_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// Promise: before a server that is told to end closes connections, it asks
// their clients to leave, each with an answer: who does loses no request.
func TestClientsAreAskedToLeave(t *testing.T) {
	for _, http2 := range []bool{true, false} {
		t.Run(fmt.Sprintf("HTTP/2 %t", http2), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f.address = listener.Addr().String()
			config, stopping := f.config(listener), make(chan struct{})
			config.Delay = 4 * time.Second
			config.OnStop = func() { close(stopping) }
			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- serve.Run(ctx, config) }()
			client := f.client(t, http2, &tls.Config{})
			if !f.getAgain(t, client) || f.getAgain(t, client) {
				t.Fatal("the first request made no connection, or the second one more")
			}
			stop()
			<-stopping
			if f.getAgain(t, client) {
				t.Error("the client was sent away at once, to where it came from")
			}
			for tick := time.Tick(10 * time.Millisecond); !f.getAgain(t, client); {
				<-tick
			}
			client.CloseIdleConnections()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

// getAgain asks once, and reports whether it took a new connection.
func (f *fixture) getAgain(t *testing.T, client *http.Client) (fresh bool) {
	t.Helper()
	trace := httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { fresh = !info.Reused }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), &trace), http.MethodGet, "https://"+f.address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Fatal(err)
	}
	return fresh
}
