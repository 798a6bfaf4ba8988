package rawbytes

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

type fate int

const (
	never fate = iota
	clear
	cut
)

// framed is a message of exact bytes. In raw, HOST is the target's address and
// AUTH is alice's header line without its line end.
type framed struct {
	name, raw string
	// clear: may be served, as exactly one clear request of alice's. Otherwise
	// the first answer must be a refusal and nothing of raw may arrive. cut: the
	// fault is in the body, so the request may have set out; the body ends short.
	fate fate
}

const fence = "GET /fence HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nConnection: close\r\n\r\n"

// hidden is a second request that a front hop would not see.
const hidden = "GET /smuggled HTTP/1.1\r\nHost: hidden\r\n\r\n"

func get(lines ...string) string {
	return "GET /a HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func post(body string, lines ...string) string {
	return "POST /a HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}

const chunk = "Transfer-Encoding: chunked"

// ambiguousBodies leave open where the message ends.
func ambiguousBodies() []framed {
	return []framed{
		{"CL and TE", post("0\r\n\r\n"+hidden, "Content-Length: 5", chunk), clear},
		{"TE and CL", post("2\r\nok\r\n0\r\n\r\n", chunk, "Content-Length: 3"), clear},
		{"CL of the whole, and TE", post("0\r\n\r\n"+hidden, fmt.Sprintf("Content-Length: %d", 5+len(hidden)), chunk), clear},
		{"two lengths", post("xxxxx", "Content-Length: 5", "Content-Length: 4"), never},
		{"one length twice", post("ok", "Content-Length: 2", "Content-Length: 2"), clear},
		{"list of lengths", post("ok", "Content-Length: 2, 2"), never},
		{"length with a sign", post("ok", "Content-Length: +2"), never},
		{"length below zero", post("", "Content-Length: -1"), never},
		{"length in hex", post("ok", "Content-Length: 0x2"), never},
		{"length too large", post("", "Content-Length: 99999999999999999999"), never},
		{"length with a blank inside", post("ok", "Content-Length: 2 0"), never},
		{"length empty", post("", "Content-Length: "), never},
		{"length with an underscore", post("ok", "Content_Length: 2"), clear},
		{"blank before the colon of TE", post("0\r\n\r\n", "Transfer-Encoding : chunked"), never},
		{"unknown TE", post("0\r\n\r\n", "Transfer-Encoding: xchunked"), never},
		{"TE identity", post("", "Transfer-Encoding: identity"), never},
		{"TE list", post("0\r\n\r\n", "Transfer-Encoding: gzip, chunked"), never},
		{"TE list that ends otherwise", post("0\r\n\r\n", "Transfer-Encoding: chunked, identity"), never},
		{"TE twice", post("0\r\n\r\n", chunk, chunk), never},
		{"TE with a vertical tab", post("0\r\n\r\n", "Transfer-Encoding: \x0bchunked"), never},
		{"TE quoted", post("0\r\n\r\n", `Transfer-Encoding: "chunked"`), never},
		{"TE in capitals", post("0\r\n\r\n", "TRANSFER-ENCODING: CHUNKED"), clear},
		{"chunk extension", post("2;x=\"\n\"\r\nok\r\n0\r\n\r\n", chunk), cut},
		{"chunk size beyond 64 bits", post("fffffffffffffffff\r\nok\r\n0\r\n\r\n", chunk), cut},
		{"chunk size below zero", post("-1\r\nok\r\n0\r\n\r\n", chunk), cut},
		{"chunk size with 0x", post("0x2\r\nok\r\n0\r\n\r\n", chunk), cut},
		{"chunk longer than its size", post("1\r\nok\r\n0\r\n\r\n", chunk), cut},
		{"chunk size line with a bare LF", post("2\nok\r\n0\r\n\r\n", chunk), cut},
		{"body on GET hides a request", get(fmt.Sprintf("Content-Length: %d", len(hidden))) + hidden, clear},
	}
}

// ambiguousHeads leave open what a line says, or where it ends.
func ambiguousHeads() []framed {
	return []framed{
		{"obs-fold", get("X-A: 1\r\n Impersonate-User: root"), clear},
		{"obs-fold of the credential", "GET /a HTTP/1.1\r\nHost: HOST\r\nX-A: 1\r\n AUTH\r\n\r\n", never},
		{"fold in the first line", "GET /a HTTP/1.1\r\n AUTH\r\nHost: HOST\r\n\r\n", never},
		{"bare LF everywhere", "GET /a HTTP/1.1\nHost: HOST\nAUTH\n\n", clear},
		{"bare LF before a family name", get("X-A: 1\nImpersonate-User: root"), never},
		{"bare CR in a value", get("X-A: 1\rImpersonate-User: root"), never},
		{"CR CR LF", get("X-A: 1\r"), never},
		{"NUL in a value", get("X-A: a\x00b"), never},
		{"NUL in a name", get("X-\x00A: b"), never},
		{"control byte in a value", get("X-A: a\x01b"), never},
		{"DEL in a value", get("X-A: a\x7fb"), never},
		{"blank before the colon", get("X-A : 1"), never},
		{"blank before the colon of a family name", get("Impersonate-User : root"), never},
		{"tab before the colon of the credential", "GET /a HTTP/1.1\r\nHost: HOST\r\nAuthorization\t: x\r\nAUTH\r\n\r\n", never},
		{"blank inside a name", get("Impersonate User: root"), never},
		{"no colon", get("Impersonate-User"), never},
		{"empty name", get(": root"), never},
		{"name not a token", get("Impersonate-User(x): root"), never},
		{"name of eight-bit bytes", get("X-\xe9: 1"), never},
		{"no Host", "GET /a HTTP/1.1\r\nAUTH\r\n\r\n", never},
		{"two Hosts", get("Host: elsewhere.invalid"), never},
		{"Host with a blank", "GET /a HTTP/1.1\r\nHost: a b\r\nAUTH\r\n\r\n", never},
		{"Host with a path", "GET /a HTTP/1.1\r\nHost: a/b\r\nAUTH\r\n\r\n", never},
		{"Host empty", "GET /a HTTP/1.1\r\nHost:\r\nAUTH\r\n\r\n", clear},
		{"two blanks in the start line", "GET  /a HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
		{"tab in the start line", "GET\t/a\tHTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
		{"blank in the target", "GET /a b HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
		{"start line of two words", "GET /a\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
		{"HTTP/1.2", "GET /a HTTP/1.2\r\nHost: HOST\r\nAUTH\r\n\r\n", clear},
		{"HTTP/3.0", "GET /a HTTP/3.0\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
		{"http/1.1 in lower case", "GET /a http/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
		{"HTTP/1.0", "GET /a HTTP/1.0\r\nAUTH\r\n\r\n", clear},
		{"HTTP/1.0 with TE", "POST /a HTTP/1.0\r\nAUTH\r\n" + chunk + "\r\n\r\n0\r\n\r\n", clear},
		{"preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", never},
		{"method not a token", "G(T /a HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n", never},
	}
}

// TestAmbiguousMessagesNeverArrive holds that bytes which two parsers may read
// in two ways are refused, or go on as one clear request; a request hidden in
// them is judged by its own credential (threats 3, 44).
func TestAmbiguousMessagesNeverArrive(t *testing.T) {
	table := append(ambiguousBodies(), ambiguousHeads()...)
	eachTarget(t, func(t *testing.T, to *Target) {
		for i, k := range table {
			t.Run(k.name, func(t *testing.T) { k.run(t, to, fmt.Sprintf("/row-%d", i)) })
		}
	})
}

// run sends raw, at a path of its own, and a fence on one connection, and reads
// to the end. A message that swallows the fence is ended by gatehouse's close.
func (k framed) run(t *testing.T, to *Target, path string) {
	mark := to.Up.Mark()
	c := dialH1(t, to)
	defer c.Close()
	fill := strings.NewReplacer("HOST", to.Addr, "AUTH", "Authorization: Bearer "+aliceToken, " /a ", " "+path+" ")
	if err := c.Write(fill.Replace(k.raw + fence)); err != nil {
		t.Fatal(err)
	}
	raw, err := c.Rest()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection hangs after %.200q", raw)
	}
	first := (&H1Conn{br: bufio.NewReader(bytes.NewReader(raw))}).ReadAnswer("GET")
	ok := slices.Contains([]int{400, 401, 403, 405, 501, 505}, first.Status) || k.fate != never && first.Status == 200
	if !ok {
		t.Errorf("answered %d (%v) %.200q", first.Status, first.Err, first.Body)
	}
	recs := to.Up.Since(mark)
	for _, f := range to.Leaks(&Answer{Body: raw}, recs) {
		t.Error(f)
	}
	arrived := 0
	for _, r := range recs {
		switch {
		case r.Target == path:
			arrived++
		case r.Target != "/fence" && !strings.HasPrefix(r.Target, "/row-"):
			t.Errorf("upstream saw %s %q", r.Method, r.Target)
		}
		if k.fate == cut || strings.HasPrefix(r.Target, "/row-") && r.Target != path { // an earlier row's, late
			r = r.uncut()
		}
		for _, f := range to.Up.Arrived(r, alice, "127.0.0.1") {
			t.Error(f)
		}
	}
	if k.fate != cut && (first.Status == 200) != (arrived == 1) || arrived > 1 {
		t.Errorf("answered %d with %d requests upstream", first.Status, arrived)
	}
}
