package serve_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
	"github.com/kube-gatehouse/gatehouse/proxy/serve"
)

// fixture is a server on a free port.
type fixture struct {
	ca      *authtest.CA
	cert    *serve.Certificate
	address string
	log     *bytes.Buffer

	limits     serve.Limits
	handler    http.HandlerFunc // default: one that says which version of HTTP it was asked by
	onRejected func()
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	ca, err := authtest.NewCA("test")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	f := &fixture{ca: ca, log: new(bytes.Buffer)}
	f.cert = &serve.Certificate{CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key")}
	f.renew(t)
	if err := f.cert.Load(); err != nil {
		t.Fatal(err)
	}
	return f
}

// renew writes a new pair of files.
func (f *fixture) renew(t *testing.T) {
	t.Helper()
	pair, err := f.ca.Server("127.0.0.1", "gatehouse")
	if err != nil {
		t.Fatal(err)
	}
	f.write(t, f.cert.CertFile, pair.Cert)
	f.write(t, f.cert.KeyFile, pair.Key)
}

func (f *fixture) write(t *testing.T, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// config returns a Config for listener that ends at once.
func (f *fixture) config(listener net.Listener) serve.Config {
	handler := f.handler
	if handler == nil {
		handler = func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Proto) }
	}
	return serve.Config{
		Listener: listener, Certificate: f.cert, Handler: handler,
		Limits: f.limits, OnRejected: f.onRejected,
		Timeout: time.Minute,
		OnStop:  func() {}, OnDrain: func() {}, Wait: func(context.Context) error { return nil },
		Log: slog.New(slog.NewTextHandler(f.log, nil)),
	}
}

// start serves on a free port until the test ends.
func (f *fixture) start(t *testing.T) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve.Run(ctx, f.config(listener)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// client returns one of HTTP/2 or HTTP/1.1.
func (f *fixture) client(t *testing.T, http2 bool, config *tls.Config) *http.Client {
	t.Helper()
	config.RootCAs = f.ca.Pool()
	transport := &http.Transport{TLSClientConfig: config, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get returns the body, and the serial of the certificate that was shown.
func (f *fixture) get(t *testing.T, client *http.Client) (body, serial string) {
	t.Helper()
	resp, err := client.Get("https://" + f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(content), resp.TLS.PeerCertificates[0].SerialNumber.String()
}

// Both versions of HTTP are served.
func TestProtocols(t *testing.T) {
	f := newFixture(t)
	f.start(t)
	for http2, want := range map[bool]string{true: "HTTP/2.0", false: "HTTP/1.1"} {
		if got, _ := f.get(t, f.client(t, http2, &tls.Config{})); got != want {
			t.Errorf("served by %s, want %s", got, want)
		}
	}
}

// A certificate that is renewed is shown at the handshakes that follow, while
// connections that are open stay.
func TestCertificateReload(t *testing.T) {
	f := newFixture(t)
	f.start(t)
	open := f.client(t, true, &tls.Config{})
	_, first := f.get(t, open)
	f.renew(t)
	if err := f.cert.Load(); err != nil {
		t.Fatal(err)
	}
	_, second := f.get(t, f.client(t, true, &tls.Config{}))
	if second == first {
		t.Error("a new connection is shown the old certificate")
	}
	if _, still := f.get(t, open); still != first {
		t.Error("the open connection did not stay")
	}
	if left := time.Until(f.cert.Expires()); left < 23*time.Hour || left > 24*time.Hour {
		t.Errorf("the certificate ends in %s, want a day", left)
	}
}

// A pair that is bad in any way is an error, and the last good one stays.
func TestBadPairKeepsTheLast(t *testing.T) {
	f := newFixture(t)
	f.start(t)
	_, first := f.get(t, f.client(t, true, &tls.Config{}))
	for _, test := range []struct {
		name  string
		spoil func()
		want  []string
	}{
		{"another key", func() { f.write(t, f.cert.CertFile, f.ca.PEM()) }, []string{f.cert.CertFile, f.cert.KeyFile, "private key"}},
		{"no certificate", func() { f.write(t, f.cert.CertFile, []byte("no PEM")) }, []string{"serving certificate " + f.cert.CertFile, "failed to find any PEM data"}},
		{"half written", func() {
			f.renew(t)
			content, err := os.ReadFile(f.cert.KeyFile)
			if err != nil {
				t.Fatal(err)
			}
			f.write(t, f.cert.KeyFile, content[:len(content)/2])
		}, []string{"and key " + f.cert.KeyFile}},
		{"missing", func() {
			if err := os.Remove(f.cert.CertFile); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(f.cert.KeyFile); err != nil {
				t.Fatal(err)
			}
		}, []string{"read serving certificate: open " + f.cert.CertFile, "read serving key: open " + f.cert.KeyFile}},
	} {
		test.spoil()
		err := f.cert.Load()
		if err == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: want %q in %v", test.name, want, err)
			}
		}
		if _, serial := f.get(t, f.client(t, true, &tls.Config{})); serial != first {
			t.Errorf("%s: another certificate is shown", test.name)
		}
	}
}

// TLS 1.2 is the oldest that is spoken.
func TestOldTLSIsRefused(t *testing.T) {
	f := newFixture(t)
	f.start(t)
	for version, accepted := range map[uint16]bool{
		tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true,
	} {
		client := f.client(t, false, &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: version})
		resp, err := client.Get("https://" + f.address)
		if err == nil {
			_ = resp.Body.Close()
		}
		if (err == nil) != accepted {
			t.Errorf("%s: %v, want accepted: %t", tls.VersionName(version), err, accepted)
		}
		if err != nil && !strings.Contains(err.Error(), "protocol version") {
			t.Errorf("%s: %v, want that the version is refused", tls.VersionName(version), err)
		}
	}
}

// A header of more than 256 KiB is answered 431, before any handler sees it. The
// groups of a large company fit.
func TestHeaderLimit(t *testing.T) {
	f := newFixture(t)
	f.start(t)
	for _, http2 := range []bool{false, true} {
		client := f.client(t, http2, &tls.Config{})
		for size, want := range map[int]int{230 << 10: http.StatusOK, 300 << 10: http.StatusRequestHeaderFieldsTooLarge} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+f.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range size / 1024 {
				req.Header.Add("X-Large", strings.Repeat("x", 980))
			}
			resp, err := client.Do(req)
			if http2 && want != http.StatusOK && err != nil {
				continue // the client knows the server's limit, and sends nothing
			}
			if err != nil {
				t.Fatalf("HTTP/2 %t, %d bytes: %v", http2, size, err)
			}
			_ = resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("HTTP/2 %t, %d bytes: status %d, want %d", http2, size, resp.StatusCode, want)
			}
		}
	}
}

// A listener that fails ends Run with an error that names its address.
func TestServeFails(t *testing.T) {
	f := newFixture(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	err = serve.Run(t.Context(), f.config(listener))
	if err == nil || !strings.Contains(err.Error(), "serve on "+listener.Addr().String()) {
		t.Errorf("error %v, want one with the address", err)
	}
}
