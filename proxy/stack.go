package proxy

import (
	"net/http"
	"runtime/debug"
)

// stackRoom is what serving a request takes of the stack, beyond what a new
// goroutine has.
const stackRoom = 3 << 10

// growStack makes room on the stack. Over HTTP/2 each request has a new goroutine,
// whose stack would grow twice, and late: all frames on it are moved each time.
//
//go:noinline
func growStack(i int) byte {
	var room [stackRoom]byte
	return room[i%len(room)]
}

// panicAside is a panic that happened on another goroutine: where, and not its
// value.
type panicAside struct{ stack []byte }

// serveAside is serve on a goroutine of its own. A watch waits for hours on that
// of its stream, and Go seldom takes back what a stack has grown to: serving takes
// 8 KiB of it, what comes after 4 (docs/decisions/0025).
func (p *Proxy) serveAside(x *exchange, r *http.Request) {
	served := make(chan any)
	go func() {
		// If it does not even return, this is what net/http takes for an end.
		fault := any(http.ErrAbortHandler)
		defer func() { served <- fault }()
		defer func() {
			if v := recover(); v != nil && v != http.ErrAbortHandler { //nolint:errorlint // as in finish
				fault = &panicAside{debug.Stack()}
			}
		}()
		growStack(len(r.Method))
		p.serve(x, r)
		fault = nil
	}()
	if fault := <-served; fault != nil {
		panic(fault)
	}
}
