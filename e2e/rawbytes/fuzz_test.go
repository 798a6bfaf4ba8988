package rawbytes

import (
	"bufio"
	"errors"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// seeds are headers, one line each, that come after "Host".
var seeds = []string{
	"AUTH", "", "AUTH\r\nConnection: Impersonate-User", "Connection: Authorization\r\nAUTH", "AUTH\r\nImpersonate-User: x", "AUTH\r\nImpersonate_User: x",
	"AUTH\r\nAUTH", "Authorization: Basic eDp5\r\nAUTH", "AUTH\r\nX-Remote-User: x", "AUTH\nImpersonate-User:yAUTH", "AUTH\r\nUser-Agent: AUTH", "AUTH\r\n Impersonate-User: x", "AUTH\r\nContent-Length: 5",
	"AUTH\r\nTransfer-Encoding: chunked", "AUTH\r\nTransfer-Encoding: chunked\r\nTrailer: Impersonate-Group", "AUTH\r\nConnection: Upgrade\r\nUpgrade: websocket",
	"AUTH\r\nConnection: Upgrade, Impersonate-Group\r\nUpgrade: SPDY/3.1", "AUTH\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AA",
	"AUTH\r\nExpect: 100-continue", "AUTH\r\nTE: trailers", "AUTH\r\nX-A: \x00", "AUTH\nX-A: 1\n", "AUTH\r\nX-Forwarded-For: 1.2.3.4", "AUTH\r\nHost: elsewhere.invalid",
	"AUTH\r\n\r\nGET /inside HTTP/1.1\r\nHost: x\r\nImpersonate-User: root\r\n", "AUTH\r\nSec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.eA, x",
	"AUTH\r\nImpersonate-Extra-\u00e9: x", "AUTH\r\nConnection: \r\nConnection: ,\r\nConnection: impersonate-uid",
}

// FuzzHeadersOverHTTP1 holds that whatever lines follow the start line, the API
// server sees exactly our credential and exactly alice, or nothing. Run it with
// -fuzz for longer; its seeds are part of the ordinary tests.
func FuzzHeadersOverHTTP1(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	l := shared.targets[0]
	l.ready(f) // an input may take 10 s, and to start takes longer on a busy machine
	f.Fuzz(func(t *testing.T, lines []byte) {
		if len(lines) > 4096 {
			return
		}
		to := l.ready(t)
		mark := to.Up.Mark()
		c := dialH1(t, to)
		defer c.Close()
		fill := strings.NewReplacer("AUTH", "Authorization: Bearer "+aliceToken)
		// A body or a tunnel waits for more: the close that follows ends it.
		if err := c.Write("GET /fuzz HTTP/1.1\r\nHost: " + to.Addr + "\r\n" + fill.Replace(string(lines)) + "\r\nConnection: close\r\n\r\n"); err != nil && !brokenOff(err) {
			t.Fatal(err)
		}
		if waitsForBody(string(lines)) {
			c.Write("0\r\n\r\n0\r\n\r\n")
			c.CloseWrite()
		}
		a := c.ReadAnswer("GET")
		if errors.Is(a.Err, os.ErrDeadlineExceeded) && !waitsForBody(string(lines)) {
			t.Errorf("no answer to %q", lines)
		}
		judgeFuzz(t, to, mark, a)
	})
}

// brokenOff reports whether the other side closed the connection while it was
// written to: a header that is refused is not read to its end.
func brokenOff(err error) bool {
	return errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}

func waitsForBody(s string) bool {
	s = strings.ToLower(s)
	return strings.Contains(s, "content-length") || strings.Contains(s, "transfer-encoding")
}

func judgeFuzz(t *testing.T, to *Target, mark int, a *Answer) {
	t.Helper()
	recs := to.Up.Since(mark)
	for _, f := range to.Leaks(a, withoutPasted(recs)) {
		t.Error(f)
	}
	for _, r := range recs {
		for _, f := range to.Up.Arrived(r.uncut(), alice, "127.0.0.1") {
			t.Error(f)
		}
	}
}

// withoutPasted leaves out alice's token where she pasted it herself into a header
// that says nothing of who she is, such as User-Agent: that goes where such headers
// go. It must not be in the log even then.
func withoutPasted(recs []Record) []Record {
	recs = slices.Clone(recs)
	for i := range recs {
		recs[i].Fields = slices.Clone(recs[i].Fields)
		for j, f := range recs[i].Fields {
			if !identityFamily(f.Name) {
				recs[i].Fields[j].Value = strings.ReplaceAll(f.Value, aliceToken, "")
			}
		}
	}
	return recs
}

// FuzzHeadersOverHTTP2 holds the same for any one field, with any bytes, beside
// alice's credential. The API server speaks HTTP/1.1: what HTTP/2 can say and
// HTTP/1.1 cannot has to be refused on the way.
func FuzzHeadersOverHTTP2(f *testing.F) {
	for _, s := range []Field{
		{"connection", "impersonate-user"}, {"impersonate-user", "x"}, {"impersonate_user", "x"}, {"=Impersonate-User", "x"}, {"authorization", "Bearer x"},
		{"te", "trailers"}, {":authority", "elsewhere.invalid"}, {":path", "/%2e%2e"}, {":path", "/fuzz?a b"}, {":path", "/fuzz?a HTTP/1.1"}, {":method", "TRACE"}, {"x-a", "a\r\nimpersonate-group: b"}, {"host", "x"},
		{"upgrade", "websocket"}, {"x-remote-user", " x "}, {"accept", "\x00"}, {"content-length", "7"}, {"trailer", "impersonate-user"}, {":protocol", "websocket"},
	} {
		f.Add(s.Name, s.Value)
	}
	l := shared.targets[0]
	l.ready(f) // an input may take 10 s, and to start takes longer on a busy machine
	f.Fuzz(func(t *testing.T, name, value string) {
		to := l.ready(t)
		mark := to.Up.Mark()
		a, err := H2.Exchange(to.Addr, to.Roots, as(aliceToken, "/fuzz", Field{name, value}))
		if err != nil {
			t.Fatal(err)
		}
		judgeFuzz(t, to, mark, a)
	})
}

// FuzzReadHead holds that the suite's own parser keeps every byte it consumed
// and never reads past the empty line.
func FuzzReadHead(f *testing.F) {
	for _, s := range seeds {
		f.Add("GET / HTTP/1.1\r\n" + s + "\r\n\r\nrest")
	}
	f.Fuzz(func(t *testing.T, in string) {
		br := bufio.NewReader(strings.NewReader(in))
		h, err := ReadHead(br)
		if !strings.HasPrefix(in, string(h.Raw)) {
			t.Errorf("%q is not the start of %q", h.Raw, in)
		}
		if err == nil && !strings.HasSuffix(string(h.Raw), "\n") {
			t.Errorf("head ends with %q", h.Raw)
		}
	})
}
