package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/kube-gatehouse/gatehouse/auth/authtest"
)

// addressSettingTests are those about where requests come from.
func addressSettingTests() map[string]settingTest {
	return map[string]settingTest{"TRUSTED_PROXIES": testTrustedProxies, "PROXY_PROTOCOL": testProxyProtocol}
}

// askFrom sends a request with these lines of X-Forwarded-For, and returns which
// address the API server and the log have.
func (p *process) askFrom(t *testing.T, client *http.Client, lines ...string) (upstream []string, logged string) {
	t.Helper()
	r := p.request(t, anaToken, "/version")
	r.Header["X-Forwarded-For"] = lines
	r.Header["X-Real-Ip"] = []string{"203.0.113.66"}
	r.Header["Forwarded"] = []string{"for=203.0.113.66"}
	other := *p
	other.client = client
	answer, id := other.send(t, r)
	line := p.log.await(t, "the request's line", func(line string) bool { return field(line, "msg") == "request" && field(line, "audit_id") == id })
	return answer.seen.Header["X-Forwarded-For"], field(line, "client")
}

func (p *process) expectFrom(t *testing.T, client *http.Client, want string, lines ...string) {
	t.Helper()
	if upstream, logged := p.askFrom(t, client, lines...); len(upstream) != 1 || upstream[0] != want || logged != want {
		t.Errorf("of %q, the API server has %q, the log %q, want %s", lines, upstream, logged, want)
	}
}

// From an address of TRUSTED_PROXIES, X-Forwarded-For names the caller; from any
// other it names nobody, nor do its relatives.
func testTrustedProxies(t *testing.T, w *world, _ *authtest.Issuer) {
	for _, http2 := range []bool{false, true} {
		client := w.newClient(t, http2)
		p := w.start(t, map[string]string{"TRUSTED_PROXIES": "127.0.0.1,10.0.0.0/8"})
		p.expectFrom(t, client, "127.0.0.1")
		p.expectFrom(t, client, "198.51.100.7", "203.0.113.66", "198.51.100.7, 10.1.2.3")
		p.expectFrom(t, client, "10.1.2.3", "198.51.100.7, unknown, 10.1.2.3")

		stranger := w.start(t, map[string]string{"TRUSTED_PROXIES": "10.0.0.0/8"})
		stranger.expectFrom(t, client, "127.0.0.1", "198.51.100.7")
		unset := w.start(t, nil)
		unset.expectFrom(t, client, "127.0.0.1", "198.51.100.7")
	}
}

// With PROXY_PROTOCOL on, a trusted peer's header names the caller, and its
// absence ends the connection; a header of others, or where it is off, is no TLS.
func testProxyProtocol(t *testing.T, w *world, _ *authtest.Issuer) {
	const header = "PROXY TCP4 198.51.100.7 10.0.0.1 4711 443\r\n"
	announcing := func(http2 bool, header string) *http.Client {
		client := w.newClient(t, http2)
		client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
			if err == nil {
				_, err = io.WriteString(conn, header)
			}
			return conn, err
		}
		return client
	}
	on := w.start(t, map[string]string{"PROXY_PROTOCOL": "on", "TRUSTED_PROXIES": "127.0.0.1"})
	between := w.start(t, map[string]string{"PROXY_PROTOCOL": "on", "TRUSTED_PROXIES": "127.0.0.1,198.51.100.7"})
	strange := w.start(t, map[string]string{"PROXY_PROTOCOL": "on", "TRUSTED_PROXIES": "10.0.0.1"})
	off := w.start(t, map[string]string{"PROXY_PROTOCOL": "off", "TRUSTED_PROXIES": "127.0.0.1"})
	for _, http2 := range []bool{false, true} {
		on.expectFrom(t, announcing(http2, header), "198.51.100.7")
		on.expectFrom(t, announcing(http2, header), "198.51.100.7", "203.0.113.66") // who is announced is not trusted
		between.expectFrom(t, announcing(http2, header), "203.0.113.5", "203.0.113.5")
		strange.expectFrom(t, w.newClient(t, http2), "127.0.0.1", "203.0.113.66")
		off.expectFrom(t, w.newClient(t, http2), "203.0.113.5", "203.0.113.5")
		for name, refused := range map[string]struct {
			p      *process
			header string
		}{"no header": {on, ""}, "a stranger's header": {strange, header}, "off": {off, header}} {
			resp, err := announcing(http2, refused.header).Do(refused.p.request(t, anaToken, "/version"))
			if err == nil {
				_ = resp.Body.Close()
				t.Errorf("%s: served with %s", name, resp.Status)
			}
		}
	}
	on.log.await(t, "a line about the peer", func(line string) bool { return field(line, "level") == "WARN" && field(line, "peer") != "" })
}
