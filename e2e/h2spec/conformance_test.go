package h2spec_test

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/summerwind/h2spec/config"
	"github.com/summerwind/h2spec/generic"
	"github.com/summerwind/h2spec/hpack"
	"github.com/summerwind/h2spec/http2"
	"github.com/summerwind/h2spec/spec"
)

const (
	// cases is how many h2spec 2.2.1 has, as `h2spec --strict --dryrun` lists them.
	cases = 146
	// patience is how long gatehouse may take to react. A case waits that long only
	// if it fails, so it is long enough for a busy machine.
	patience = 10 * time.Second
	// limit is how long the writes of a case may take: a server that found a fault
	// may read no more.
	limit = 30 * time.Second
	// largeHeader is the case that sends a frame larger than the server takes.
	largeHeader = "http2/4.2/3"
	// requests begins the names of the cases with nothing but a request that is answered.
	requests = "generic/4/"
)

// mayFail are the cases that gatehouse may fail, each with the reason. What passes
// may stand here all the same: it is a server's choice.
func mayFail() map[string]string {
	const answered = "It is answered with 400 and not forwarded. RFC 9113, section 8.1.1, lets a server answer before it closes " +
		"the stream; h2spec waits for RST_STREAM."
	const priority = "RFC 9113, section 5.3, drops priorities: that a stream depends on itself is an error in RFC 7540 alone."
	return map[string]string{
		"http2/5.3.1/1":   priority,
		"http2/5.3.1/2":   priority,
		"http2/8.1.2.2/1": answered,
		"http2/8.1.2.2/2": answered,
		"http2/5.1.1/2": "The connection ends by STREAM_CLOSED, not PROTOCOL_ERROR: RFC 9113, section 5.1.1, has the first use " +
			"of a stream close all before it.",
	}
}

// testCase is a case under the name that h2spec gives it: suite, section, number.
type testCase struct {
	name string
	*spec.TestCase
}

// casesOf returns the cases of group and of the groups in it, also those that h2spec
// runs only with --strict.
func casesOf(group *spec.TestGroup) []testCase {
	var all []testCase
	for i, c := range slices.Concat(group.Tests, group.StrictTests) {
		all = append(all, testCase{group.ID() + "/" + strconv.Itoa(i+1), c})
	}
	for _, g := range group.Groups {
		all = append(all, casesOf(g)...)
	}
	return all
}

// Promise: gatehouse speaks HTTP/2 as RFC 9113 and RFC 7541 have it: frames, states
// of streams, flow control, settings, errors, header fields and their compression.
// What is malformed does not reach the API server, and what does runs as its caller.
func TestConformance(t *testing.T) {
	w := start(t)
	all := slices.Concat(casesOf(generic.Spec()), casesOf(http2.Spec()), casesOf(hpack.Spec()))
	if len(all) != cases {
		t.Fatalf("h2spec has %d cases, want %d", len(all), cases)
	}
	known := mayFail()
	for name := range known {
		if !slices.ContainsFunc(all, func(c testCase) bool { return c.name == name }) {
			t.Errorf("h2spec has no case %s", name)
		}
	}
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.run(w.config(t, c.name))
			switch reason, allowed := known[c.name]; {
			case err != nil && allowed:
				t.Logf("%s: %v\nThis may be: %s", c.Desc, err, reason)
			case err != nil:
				t.Errorf("%s.\n%s\n%v", c.Desc, c.Requirement, err)
			case strings.HasPrefix(c.name, requests) && !w.arrived(c.name):
				t.Errorf("%s: it was answered, and not by the API server", c.Desc)
			}
		})
	}
}

// run runs the case on a connection of its own and returns what gatehouse did wrong.
func (c testCase) run(cfg *config.Config) (err error) {
	conn, err := spec.Dial(cfg)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() {
		// h2spec does not expect a connection that is closed before it looks, or a
		// frame of an unknown type.
		if p := recover(); p != nil {
			err = fmt.Errorf("h2spec panics at what gatehouse did: %v", p)
		}
	}()
	if err := c.Run(cfg, conn); !closed(err) {
		return err // a case that was skipped, too: it has shown nothing
	}
	return nil
}

// closed reports whether gatehouse closed the connection and was allowed to. h2spec
// takes a reset for a failure: it does not look into the [os.SyscallError] around it.
func closed(err error) bool {
	var fault *spec.TestError
	return errors.As(err, &fault) && slices.Contains(fault.Expected, spec.ExpectedConnectionClosed) &&
		strings.HasSuffix(fault.Actual, "connection reset by peer")
}

// malformed reports whether the header of the request in the case breaks a rule of
// RFC 9113, section 8. In one case of these it is the trailer that does.
func malformed(name string) bool {
	section := name[:strings.LastIndex(name, "/")]
	return slices.Contains([]string{"http2/8.1.2", "http2/8.1.2.1", "http2/8.1.2.2", "http2/8.1.2.3"}, section) && name != "http2/8.1.2.1/3"
}

// TestClosed: a connection that is reset counts as closed, which h2spec does not see,
// and one that stays open does not.
func TestClosed(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	cfg := &config.Config{Host: "127.0.0.1", Port: server.Addr().(*net.TCPAddr).Port, Timeout: 100 * time.Millisecond}
	for name, reset := range map[string]bool{"reset": true, "open": false} {
		t.Run(name, func(t *testing.T) {
			conn, err := spec.Dial(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			peer, err := server.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer peer.Close()
			if reset {
				_ = peer.(*net.TCPConn).SetLinger(0)
				_ = peer.Close()
				conn.Timeout = patience
			}
			err = spec.VerifyConnectionClose(conn)
			if err == nil || closed(err) != reset {
				t.Errorf("closed says %t of %v", closed(err), err)
			}
		})
	}
}
