package h2server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

const (
	isBad       = "400"
	isMalformed = "PROTOCOL_ERROR"
)

// Promise: a request that is malformed is reset, and one that is understood and may
// not be is answered with 400. Neither reaches the handler, and what the client asks
// besides is served (RFC 9113 sections 8.1.1, 8.2 and 8.3).
func TestMalformedRequests(t *testing.T) {
	const auth, path, method, scheme = ":authority", ":path", ":method", ":scheme"
	good := func(more ...string) []string { return of("POST", "/", more...) }
	for _, test := range []struct {
		name   string
		want   string
		fields []string
	}{
		{"a capital in a name", isMalformed, good("Accept", "a")},
		{"a name with a space", isMalformed, good("ac cept", "a")},
		{"a name with a colon", isMalformed, good("ac:cept", "a")},
		{"a name with a NUL", isMalformed, good("ac\x00cept", "a")},
		{"a name beyond ASCII", isMalformed, good("ac\xc3\xa9", "a")},
		{"an empty name", isMalformed, good("", "a")},
		{"a CR in a value", isMalformed, good("accept", "a\rb")},
		{"a LF in a value", isMalformed, good("accept", "a\nb")},
		{"a NUL in a value", isMalformed, good("accept", "a\x00b")},
		{"a LF in a path", isMalformed, []string{method, "GET", scheme, "https", auth, "a", path, "/a\nb"}},
		{"a NUL in an authority", isMalformed, []string{method, "GET", scheme, "https", auth, "a\x00b", path, "/"}},
		{"no method", isMalformed, []string{scheme, "https", auth, "a", path, "/"}},
		{"no scheme", isMalformed, []string{method, "GET", auth, "a", path, "/"}},
		{"no path", isMalformed, []string{method, "GET", scheme, "https", auth, "a"}},
		{"nothing", isMalformed, nil},
		{"no pseudo-header field", isMalformed, []string{"accept", "a"}},
		{"an empty method", isMalformed, []string{method, "", scheme, "https", auth, "a", path, "/"}},
		{"an empty path", isMalformed, []string{method, "GET", scheme, "https", auth, "a", path, ""}},
		{"two methods", isMalformed, good(method, "GET")},
		{"two equal methods", isMalformed, []string{method, "GET", method, "GET", scheme, "https", auth, "a", path, "/"}},
		{"two schemes", isMalformed, []string{method, "GET", scheme, "https", scheme, "https", auth, "a", path, "/"}},
		{"two paths", isMalformed, []string{method, "GET", scheme, "https", auth, "a", path, "/", path, "/b"}},
		{"two authorities", isMalformed, []string{method, "GET", scheme, "https", auth, "a", auth, "b", path, "/"}},
		{"an unknown pseudo-header field", isMalformed, []string{":user", "root", method, "GET", scheme, "https", auth, "a", path, "/"}},
		{"the status of an answer", isMalformed, []string{":status", "200", method, "GET", scheme, "https", auth, "a", path, "/"}},
		{"a late pseudo-header field", isMalformed, []string{method, "GET", scheme, "https", auth, "a", "accept", "a", path, "/"}},
		{"a late and second path", isMalformed, good(path, "/b")},
		{"an extended CONNECT", isMalformed, []string{method, "CONNECT", ":protocol", "websocket", scheme, "https", auth, "a", path, "/"}},
		{"a protocol", isMalformed, []string{method, "GET", ":protocol", "websocket", scheme, "https", auth, "a", path, "/"}},
		{"CONNECT with a path", isMalformed, []string{method, "CONNECT", auth, "a:1", path, "/"}},
		{"CONNECT with a scheme", isMalformed, []string{method, "CONNECT", auth, "a:1", scheme, "https"}},
		{"CONNECT without an authority", isMalformed, []string{method, "CONNECT"}},
		{"CONNECT with an empty authority", isMalformed, []string{method, "CONNECT", auth, ""}},
		{"a method with a space", isMalformed, []string{method, "GE T", scheme, "https", auth, "a", path, "/"}},
		{"a method with a tab", isMalformed, []string{method, "GET\t", scheme, "https", auth, "a", path, "/"}},
		{"a path that is none", isMalformed, []string{method, "GET", scheme, "https", auth, "a", path, "a"}},
		{"a path that is a query", isMalformed, []string{method, "GET", scheme, "https", auth, "a", path, "?a"}},
		{"a path with a bad escape", isMalformed, []string{method, "GET", scheme, "https", auth, "a", path, "/%zz"}},
		{"another scheme", isMalformed, []string{method, "GET", scheme, "ftp", auth, "a", path, "/"}},
		{"an authority with a user", isMalformed, []string{method, "GET", scheme, "https", auth, "root@a", path, "/"}},
		{"an authority that is none", isMalformed, []string{method, "GET", scheme, "https", auth, "a b", path, "/"}},
		{"two hosts", isMalformed, good("host", "api.example", "host", "api.example")},
		{"another host", isBad, good("host", "other.example")},
		{"connection", isBad, good("connection", "close")},
		{"keep-alive", isBad, good("keep-alive", "1")},
		{"proxy-connection", isBad, good("proxy-connection", "close")},
		{"transfer-encoding", isBad, good("transfer-encoding", "chunked")},
		{"upgrade", isBad, good("upgrade", "websocket")},
		{"te", isBad, good("te", "gzip")},
		{"te beside trailers", isBad, good("te", "trailers", "te", "gzip")},
		{"a length that is none", isMalformed, good("content-length", "a")},
		{"an empty length", isMalformed, good("content-length", "")},
		{"a length below nothing", isMalformed, good("content-length", "-1")},
		{"a length with a sign", isMalformed, good("content-length", "+1")},
		{"a length with a space", isMalformed, good("content-length", "1 ")},
		{"a list of lengths", isMalformed, good("content-length", "1, 1")},
		{"a length beyond int64", isMalformed, good("content-length", "9223372036854775808")},
		{"two lengths", isMalformed, good("content-length", "1", "content-length", "2")},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/good" {
					t.Errorf("%s %s reached the handler", r.Method, r.URL)
				}
				_, _ = io.Copy(w, r.Body)
			}))
			for _, end := range []bool{true, false} {
				c := w.connect(t)
				before := c.post("/good", "accept", "a")
				bad := c.headers(end, test.fields...)
				after := c.get("/good", "accept", "a")
				if test.want == isBad {
					if s := c.answer(bad); s.status != "400" || !s.whole {
						t.Errorf("status %q, whole: %t, reset: %t", s.status, s.whole, s.reset)
					}
				} else if s := c.answer(bad); !s.reset || s.code.String() != test.want || s.status != "" {
					t.Errorf("reset: %t, by %s; status %q", s.reset, s.code, s.status)
				}
				c.data(before, true, []byte("body"))
				c.ok(before, "body")
				c.ok(after, "")
			}
		})
	}
}

// Promise: a body that is not as long as the request says is reset, and what the
// handler got of it does not look whole.
func TestContentLength(t *testing.T) {
	for _, test := range []struct {
		name   string
		length string
		send   func(c *client, id uint32)
		whole  bool
	}{
		{"as said", "4", func(c *client, id uint32) { c.data(id, true, []byte("body")) }, true},
		{"in parts", "4", func(c *client, id uint32) {
			c.data(id, false, []byte("bo"))
			c.do(c.WriteDataPadded(id, false, []byte("dy"), make([]byte, 200)))
			c.data(id, true, nil)
		}, true},
		{"with a trailer", "4", func(c *client, id uint32) {
			c.data(id, false, []byte("body"))
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.fields("a", "b")}))
		}, true},
		{"nothing", "0", func(c *client, id uint32) { c.data(id, true, nil) }, true},
		{"more", "4", func(c *client, id uint32) { c.data(id, true, []byte("body!")) }, false},
		{"more than nothing", "0", func(c *client, id uint32) { c.data(id, true, []byte("b")) }, false},
		{"less", "4", func(c *client, id uint32) { c.data(id, true, []byte("bod")) }, false},
		{"less, ended by nothing", "4", func(c *client, id uint32) {
			c.data(id, false, []byte("bod"))
			c.data(id, true, nil)
		}, false},
		{"less, ended by a trailer", "4", func(c *client, id uint32) {
			c.data(id, false, []byte("bod"))
			c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: true, BlockFragment: c.fields("a", "b")}))
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := make(chan error, 1)
			w := start(t, config(func(_ http.ResponseWriter, r *http.Request) {
				_, err := io.ReadAll(r.Body)
				got <- err
			}))
			c := w.connect(t)
			id := c.post("/", "content-length", test.length)
			test.send(c, id)
			s := c.answer(id)
			if err := await(t, "the handler", got); (err == nil) != test.whole {
				t.Errorf("the handler's error is %v", err)
			}
			if s.whole != test.whole || s.reset == test.whole || !test.whole && s.code != http2.ErrCodeProtocol {
				t.Errorf("whole: %t, reset: %t by %s", s.whole, s.reset, s.code)
			}
		})
	}
}

// seen is what a handler is given, as far as it does not depend on the connection.
type seen struct {
	Method, Host, URL, RequestURI, Proto string
	Path, RawPath, Query                 string
	ProtoMajor, ProtoMinor               int
	Header                               http.Header
	ContentLength                        int64
	TransferEncoding                     []string
	Body                                 string
}

// see answers with what the handler is given.
func see(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(err)
	}
	_ = json.NewEncoder(w).Encode(seen{
		r.Method, r.Host, r.URL.String(), r.RequestURI, r.Proto, r.URL.Path, r.URL.RawPath, r.URL.RawQuery, r.ProtoMajor, r.ProtoMinor,
		r.Header, r.ContentLength, r.TransferEncoding, string(body),
	})
}

// Promise: what a handler is given is what net/http's server gives it.
func TestAsNetHTTP(t *testing.T) {
	ours := start(t, config(see))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	library := &http.Server{Handler: http.HandlerFunc(see), Protocols: new(http.Protocols), DisableGeneralOptionsHandler: true}
	library.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = library.Serve(listener) }()
	t.Cleanup(func() { _ = library.Close() })
	theirs := &world{listener: listener}

	const auth, path, method, scheme = ":authority", ":path", ":method", ":scheme"
	for _, test := range []struct {
		name   string
		fields []string
		body   string
	}{
		{"plain", of("GET", "/api/v1/pods?watch=true&a=%2F"), ""},
		{"a body", of("POST", "/api"), "body"},
		{"a body of a length", of("PUT", "/api", "content-length", "4"), "body"},
		{"a length twice", of("PUT", "/api", "content-length", "4", "content-length", "4"), "body"},
		{"no body of a length", of("POST", "/api", "content-length", "0"), ""},
		{"an escaped path", of("GET", "/a%2Fb/%20/c;d=e//../x?%zz"), ""},
		{"all servers", of("OPTIONS", "*"), ""},
		{"two slashes", of("GET", "//other.example/a"), ""},
		{"a whole address", of("GET", "https://other.example/a"), ""},
		{"a space in a path", of("GET", "/a b"), ""},
		{"many of a name", of("GET", "/", "impersonate-group", "a", "x-y", "1", "impersonate-group", "", "impersonate-group", "b"), ""},
		{"odd names", of("GET", "/", "x_y", "1", "sec-websocket-key", "a", "1", "2", "!#$%&'*+-.^_`|~", "y"), ""},
		{"odd values", of("GET", "/", "a", " \tb\t ", "c", "\xff\x80", "d", ""), ""},
		{"te", of("GET", "/", "te", "trailers"), ""},
		{"other schemes", []string{method, "GET", scheme, "http", auth, "a:80", path, "/"}, ""},
		{"another order", []string{path, "/x", auth, "[::1]:8080", scheme, "https", method, "PATCH"}, ""},
		{"no authority", []string{method, "GET", scheme, "https", path, "/"}, ""},
		{"an odd method", of("get|~", "/"), ""},
		{"HEAD", of("HEAD", "/"), ""},
		{"CONNECT", []string{method, "CONNECT", auth, "a:443", "a", "b", "a", "c"}, ""},
		{"expected", of("POST", "/", "expect", "100-continue"), "body"},
		{"expected for nothing", of("POST", "/", "expect", "100-continue"), ""},
		{"another expectation", of("POST", "/", "expect", "200-ok"), "body"},
		{"a trailer told", of("POST", "/", "trailer", "a, b"), "body"},
		{"te in capitals", of("GET", "/", "user-agent", "", "x-forwarded-for", "1.2.3.4"), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, w := range []*world{ours, theirs} {
				c := w.connect(t)
				id := c.headers(test.body == "", test.fields...)
				if test.body != "" {
					c.data(id, true, []byte(test.body))
				}
				s := c.answer(id)
				got = append(got, fmt.Sprintf("%s %s", s.status, s.body))
			}
			if got[0] != got[1] {
				t.Errorf("got  %s\nwant %s", got[0], got[1])
			}
		})
	}
}

// Promise: Host stands for a missing :authority, and goes to the handler as
// Request.Host alone.
func TestHost(t *testing.T) {
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprint(w, r.Host, " ", len(r.Header))
	}))
	c := w.connect(t)
	c.ok(c.headers(true, ":method", "GET", ":scheme", "https", ":path", "/", "host", "a.example"), "a.example 0")
	c.ok(c.get("/", "host", "api.example"), "api.example 0")
	c.ok(c.get("/", "host", "API.example"), "api.example 0")
}

// Promise: a header may be split into frames anywhere, also into empty ones.
func TestContinuation(t *testing.T) {
	const value = "some-value/that,is not;indexed"
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-A")+r.URL.Path)
	}))
	split := func(c *client, parts ...[]byte) {
		t.Helper()
		id := c.next
		c.next += 2
		for i, part := range parts {
			if end := i == len(parts)-1; i == 0 {
				c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, EndHeaders: end, BlockFragment: part}))
			} else {
				c.do(c.WriteContinuation(id, end, part))
			}
		}
		c.ok(id, value+"/")
	}
	c := w.connect(t)
	for i, n := 0, 1; i <= n; i++ {
		// Not in the table, so that each request has the same bytes.
		block := append(c.fields(of("GET", "/")...), bytes.Join([][]byte{{0x10, 3}, []byte("x-a"), {byte(len(value))}, []byte(value)}, nil)...)
		n = len(block)
		split(c, block[:i], block[i:])
	}
	c = w.connect(t)
	var each [][]byte
	for _, b := range c.fields(of("GET", "/", "x-a", value)...) {
		each = append(each, []byte{b})
	}
	split(c, append(each, nil)...)
}

// Promise: a header that is too large is answered with 431 and not kept, and the
// connection's compression is not spoilt by what it put into the table; one that is
// much too large, or has one field that is, ends the connection.
func TestLargeHeaders(t *testing.T) {
	cfg := config(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Header.Get("X-Table"))
	})
	cfg.HeaderBytes = 8 << 10
	w := start(t, cfg)
	fill := func(c *client, id uint32, block []byte) {
		c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: true, BlockFragment: block[:1]}))
		for block = block[1:]; len(block) > 0; {
			n := min(len(block), 10_000)
			c.do(c.WriteContinuation(id, n == len(block), block[:n]))
			block = block[n:]
		}
	}
	t.Run("as large as allowed", func(t *testing.T) {
		c := w.connect(t)
		var more []string
		for i := range 40 {
			more = append(more, fmt.Sprint("x-", i), strings.Repeat("a", 160))
		}
		c.ok(c.get("/", append(more, "x-table", "t")...), "t")
	})
	t.Run("too large", func(t *testing.T) {
		c := w.connect(t)
		var more []string
		for i := range 60 {
			more = append(more, fmt.Sprint("x-", i), strings.Repeat("\x01a", 80)) // malformed too
		}
		fill(c, 1, c.fields(of("GET", "/", append(more, "x-table", "t")...)...))
		c.next = 3
		after := c.get("/", "x-table", "t")
		if s := c.answer(1); s.status != "431" || !s.whole {
			t.Errorf("status %q, whole: %t", s.status, s.whole)
		}
		c.ok(after, "t")
	})
	t.Run("much too large", func(t *testing.T) {
		c := w.connect(t)
		c.fields("x-a", strings.Repeat("a", 4000))
		block := bytes.Repeat([]byte{0x80 | 62}, 10_000) // one byte for each 4000
		c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: c.fields(of("GET", "/")...)}))
		var first bytes.Buffer
		first.Write([]byte{0x40, 3})
		first.WriteString("x-a")
		first.Write([]byte{127, 0xa1, 30 - 1 + 1})
		first.WriteString(strings.Repeat("a", 127+0x21+30<<7))
		c.do(c.WriteContinuation(1, false, first.Bytes()))
		c.do(c.WriteContinuation(1, true, block))
		if code := c.end(); code != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("it ended by %s", code)
		}
	})
	t.Run("one field too large", func(t *testing.T) {
		c := w.connect(t)
		fill(c, 1, c.fields(of("GET", "/", "x-a", strings.Repeat("\x01", 20_000))...))
		if code := c.end(); code != http2.ErrCodeEnhanceYourCalm {
			t.Errorf("it ended by %s", code)
		}
	})
}

// Promise: fields that a client sends as one byte each, because they are in the table,
// take little memory, however large they are and whatever is done with them.
func TestRepeatedFieldsTakeLittle(t *testing.T) {
	for name, field := range map[string][]string{
		"a value": {"x-a", strings.Repeat("a", 3900)},
		"a name":  {"x-" + strings.Repeat("a", 3900), "b"},
		"cookies": {"cookie", strings.Repeat("a", 3900)},
	} {
		t.Run(name, func(t *testing.T) {
			const requests = 99
			began, ended := make(chan struct{}), make(chan struct{})
			cfg := config(func(_ http.ResponseWriter, r *http.Request) {
				began <- struct{}{}
				<-ended
				runtime.KeepAlive(r)
			})
			cfg.HeaderBytes = 256 << 10
			c := start(t, cfg).connect(t)
			defer close(ended)
			before := memory()
			sent := 0
			for range requests {
				c.get("/", slices.Repeat(field, 60)...)
				sent += c.out.Len()
				c.do(c.send())
				await(t, "a handler", began)
			}
			if grown := memory() - before; grown > 4<<20 {
				t.Errorf("%d bytes made the server keep %d", sent, grown)
			}
		})
	}
}
