package h2_test

import (
	"net/http"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// answerTests are answers as a server may send them, by how they end.
var answerTests = map[string]struct {
	method string // default: GET
	answer func(p *peer, id uint32)
	status int // 0 for what must not look whole
	body   string
}{
	"a body": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200", "content-length= 4")
		p.data(id, true, "body")
	}, status: 200, body: "body"},
	"no length": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200")
		p.data(id, false, "bo")
		p.data(id, false, "dy")
		p.data(id, true, "")
	}, status: 200, body: "body"},
	"nothing": {answer: func(p *peer, id uint32) { p.header(id, true, ":status= 200") }, status: 200},
	"a trailer": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200")
		p.data(id, false, "body")
		p.header(id, true, "grpc-status= 0")
	}, status: 200, body: "body"},
	"padding": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200", "content-length= 4")
		p.do(p.WriteDataPadded(id, true, []byte("body"), make([]byte, 200)))
	}, status: 200, body: "body"},
	"informational answers": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 103", "link= </x>")
		p.header(id, false, ":status= 100")
		p.header(id, true, ":status= 200")
	}, status: 200},
	"a header in pieces": {answer: func(p *peer, id uint32) {
		block := p.compress(":status= 200", "x-long= "+strings.Repeat("v", 300))
		p.do(p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:5], EndStream: true}))
		p.do(p.WriteContinuation(id, false, block[5:7]))
		p.do(p.WriteContinuation(id, true, block[7:]))
	}, status: 200},

	"HEAD": {method: http.MethodHead, answer: func(p *peer, id uint32) {
		p.header(id, true, ":status= 200", "content-length= 4")
	}, status: 200},
	"HEAD that ends later": {method: http.MethodHead, answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200")
		p.data(id, true, "")
	}, status: 200},
	"HEAD with a body": {method: http.MethodHead, answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200", "content-length= 4")
		p.data(id, true, "body")
	}},
	"204":                {answer: func(p *peer, id uint32) { p.header(id, true, ":status= 204") }, status: 204},
	"304 with a length":  {answer: func(p *peer, id uint32) { p.header(id, true, ":status= 304", "content-length= 9") }, status: 304},
	"304 that ends late": {answer: func(p *peer, id uint32) { p.header(id, false, ":status= 304"); p.data(id, true, "") }, status: 304},
	"304 with a body":    {answer: func(p *peer, id uint32) { p.header(id, false, ":status= 304"); p.data(id, true, "x") }},

	"too short": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200", "content-length= 5")
		p.data(id, true, "body")
	}},
	"too short by a trailer": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200", "content-length= 5")
		p.data(id, false, "body")
		p.header(id, true, "a= b")
	}},
	"empty in place of long": {answer: func(p *peer, id uint32) { p.header(id, true, ":status= 200", "content-length= 5") }},
	"too long": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200", "content-length= 3")
		p.data(id, true, "body")
	}},
	"reset":                 {answer: resetAfter(http2.ErrCodeInternal)},
	"reset without a fault": {answer: resetAfter(http2.ErrCodeNo)},
	"refused late":          {answer: resetAfter(http2.ErrCodeRefusedStream)},
	"reset at once":         {answer: func(p *peer, id uint32) { p.do(p.WriteRSTStream(id, http2.ErrCodeInternal)) }},
	"no header":             {answer: func(p *peer, id uint32) { p.data(id, true, "body") }},
	"the end of an interim": {answer: func(p *peer, id uint32) { p.header(id, true, ":status= 100") }},
	"endless interims": {answer: func(p *peer, id uint32) {
		for range 9 {
			p.header(id, false, ":status= 103")
		}
	}},
	"two headers": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200")
		p.header(id, true, ":status= 200")
	}},
	"a trailer that ends nothing": {answer: func(p *peer, id uint32) {
		p.header(id, false, ":status= 200")
		p.header(id, false, "a= b")
	}},
	"two lengths":       {answer: answerWith(":status= 200", "content-length= 4", "content-length= 4")},
	"a signed length":   {answer: answerWith(":status= 200", "content-length= +4")},
	"no number":         {answer: answerWith(":status= 200", "content-length= 0x4")},
	"no status":         {answer: answerWith("a= b")},
	"two statuses":      {answer: answerWith(":status= 200", ":status= 200")},
	"a long status":     {answer: answerWith(":status= 2000")},
	"a signed status":   {answer: answerWith(":status= +20")},
	"a late status":     {answer: answerWith("a= b", ":status= 200")},
	"another pseudo":    {answer: answerWith(":status= 200", ":path= /")},
	"101":               {answer: answerWith(":status= 101")},
	"a capital":         {answer: answerWith(":status= 200", "Date= now")},
	"a space in a name": {answer: answerWith(":status= 200", "a b= c")},
	"an empty name":     {answer: answerWith(":status= 200", "= c")},
	"a line break":      {answer: answerWith(":status= 200", "a= b\r\nset-cookie: c")},
	"a large header":    {answer: answerWith(":status= 200", "a= "+strings.Repeat("v", 3000), "b= "+strings.Repeat("v", 3000))},
}

func resetAfter(code http2.ErrCode) func(*peer, uint32) {
	return func(p *peer, id uint32) {
		p.header(id, false, ":status= 200")
		p.data(id, false, "body")
		p.do(p.WriteRSTStream(id, code))
	}
}

func answerWith(fields ...string) func(*peer, uint32) {
	return func(p *peer, id uint32) {
		p.header(id, false, fields...)
		p.data(id, true, "body")
	}
}

// Promise: an answer that is not whole does not look whole, one that is does, and
// whatever one answer is like, the next on the same connection is read right: its
// header is compressed by what the one before said.
func TestAnswers(t *testing.T) {
	for name, test := range answerTests {
		t.Run(name, func(t *testing.T) {
			c, p := connect(t, h2.Config{MaxHeaderBytes: 4096})
			method := test.method
			if method == "" {
				method = http.MethodGet
			}
			first := send(c, newRequest(t, method, "/first", nil))
			id, _ := p.request()
			test.answer(p, id)
			got := await(t, "the first answer", first)
			if test.status == 0 {
				got.broken(t)
			} else {
				got.whole(t, test.status, test.body)
			}
			if name == "a trailer" && got.trailer.Get("Grpc-Status") != "0" {
				t.Errorf("the trailer is %v", got.trailer)
			}
			for range 2 {
				next := send(c, newRequest(t, http.MethodGet, "/next", nil))
				id, _ = p.request()
				p.header(id, false, ":status= 200", "x-who= bob", "x-only= "+name)
				p.data(id, true, "whole")
				answer := await(t, "the next answer", next)
				answer.whole(t, 200, "whole")
				if answer.header.Get("X-Who") != "bob" || answer.header.Get("X-Only") != name || len(answer.header) != 2 {
					t.Errorf("the next header is %v", answer.header)
				}
			}
		})
	}
}

// Promise: what comes for a request that its caller gave up is decoded and counted
// all the same, and reaches nobody.
func TestLateAnswer(t *testing.T) {
	c, p := connect(t, h2.Config{})
	for range 100 {
		id := abandon(t, c, p)
		p.header(id, false, ":status= 200", "x-late= yes")
		for range 15 {
			p.data(id, false, strings.Repeat("l", 16<<10))
		}
		p.header(id, true, "x-late-trailer= yes")
	}
	next := send(c, newRequest(t, http.MethodGet, "/next", nil))
	id, _ := p.request()
	p.header(id, false, ":status= 200", "x-late-trailer= yes")
	p.data(id, true, "mine")
	got := await(t, "the next answer", next)
	got.whole(t, 200, "mine")
	if len(got.header) != 1 {
		t.Errorf("the header is %v", got.header)
	}
}
