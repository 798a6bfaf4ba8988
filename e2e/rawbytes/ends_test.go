package rawbytes

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
)

// ending is a stream that is under way when its user is revoked.
type ending struct {
	name   string
	c      Carrier
	target string
	whole  bool // it may end as if it were complete, as a watch does
}

var endings = []ending{
	{"watch", H1, "/api/v1/pods?watch=1&fake=watch", true},
	{"watch", H2, "/api/v1/pods?watch=1&fake=watch", true},
	{"log", H1, "/api/v1/namespaces/x/pods/p/log?follow=1&fake=watch", false},
	{"log", H2, "/api/v1/namespaces/x/pods/p/log?follow=1&fake=watch", false},
	{"log that asks to be a watch", H1, "/api/v1/namespaces/x/pods/p/log?watch=1&fake=watch", false},
	{"log that asks to be a watch", H2, "/api/v1/namespaces/x/pods/p/log?watch=1&fake=watch", false},
	{"watch of a known length", H1, "/api/v1/pods?watch=1&fake=sized", false},
	{"watch of a known length", H2, "/api/v1/pods?watch=1&fake=sized", false},
	{"tunnel", WebSocket, execPath, false},
	{"tunnel", SPDY, execPath, false},
	{"watch in a tunnel", WebSocket, "/api/v1/pods?watch=1", false},
}

// run opens the stream, says so, and returns what is wrong with its end.
func (e ending) run(to *Target, token string, opened chan<- struct{}) string {
	if e.c == H2 {
		opened <- struct{}{} // it is seen at the API server
		return e.onH2(to, token)
	}
	conn, err := DialH1(to.Addr, to.Roots)
	if err != nil {
		opened <- struct{}{}
		return err.Error()
	}
	defer conn.Close()
	request := as(token, e.target)
	if e.c == H1 {
		request = request.With(Field{"Connection", "close"})
	}
	err = conn.Write(RenderH1(e.c.Wrap(request), to.Addr))
	head, headErr := conn.ReadStart()
	opened <- struct{}{}
	if err != nil || headErr != nil {
		return fmt.Sprintf("no answer: %v, %v", err, headErr)
	}
	body, err := conn.Rest()
	chunked := len(head.Fields.All("Transfer-Encoding")) > 0
	whole := chunked && bytes.HasSuffix(body, []byte("\r\n0\r\n\r\n"))
	switch {
	case err != nil:
		return fmt.Sprintf("it goes on: %v after %.80q", err, body)
	case e.c == H1 && !chunked && len(head.Fields.All("Content-Length")) == 0:
		return fmt.Sprintf("its end shows by nothing: %q", head.Raw)
	case e.c == H1 && whole != e.whole:
		return fmt.Sprintf("whole: %v, want %v: %.80q", whole, e.whole, body)
	}
	return ""
}

// onH2 is run by HTTP/2, where a stream that is not whole is reset.
func (e ending) onH2(to *Target, token string) string {
	a, err := e.c.Exchange(to.Addr, to.Roots, as(token, e.target))
	switch {
	case err != nil:
		return err.Error()
	case a.Err != nil && !strings.Contains(a.Err.Error(), "stream reset"):
		return fmt.Sprintf("it goes on: %v after %.80q", a.Err, a.Body)
	case (a.Err == nil) != e.whole:
		return fmt.Sprintf("ended with %v after %.80q, want it whole: %v", a.Err, a.Body, e.whole)
	}
	return ""
}

// TestCutAnswersDoNotLookWhole holds that every stream ends when its user is
// revoked, a watch by the end of its answer and any other by a broken one: no
// last chunk, a reset, a length that is not reached (threats 42, 43, 82). What
// arrived of each had the identity of its user.
func TestCutAnswersDoNotLookWhole(t *testing.T) {
	eachAccounts(t, func(t *testing.T, to *Target, revoked string) {
		mark := to.Up.Mark()
		opened, faults := make(chan struct{}), make(chan string)
		users := []Identity{alice, builder}
		for _, user := range users {
			token := user.Token
			if token == "" {
				token = aliceToken
			}
			for _, e := range endings {
				go func() {
					if fault := e.run(to, token, opened); fault != "" {
						faults <- fmt.Sprintf("%s of %s by %s: %s", e.name, user.User, e.c, fault)
						return
					}
					faults <- ""
				}()
			}
		}
		n := len(users) * len(endings)
		for range n {
			<-opened
		}
		if err := to.Up.Await(mark, n); err != nil {
			t.Error(err)
		}
		file := fmt.Sprintf("revoked:\n- user: %s\n- user: %s\n", alice.User, builder.User)
		if err := os.WriteFile(revoked, []byte(file), 0o600); err != nil {
			t.Error(err)
		}
		for range n {
			if fault := <-faults; fault != "" {
				t.Error(fault)
			}
		}
		recs := to.Up.Since(mark)
		for _, r := range recs {
			user := alice
			if strings.HasPrefix(r.Fields.Get("Authorization"), "Bearer ey") {
				user = builder
			}
			for _, fault := range to.Up.Arrived(r, user, "127.0.0.1") {
				t.Error(fault)
			}
		}
		for _, fault := range to.Leaks(nil, recs) {
			t.Error(fault)
		}
	})
}
