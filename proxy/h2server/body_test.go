package h2server_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// random returns n bytes that repeat nothing.
func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// sum answers with the hash of the body.
func sum(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	if _, err := io.Copy(hash, r.Body); err != nil {
		return
	}
	_, _ = fmt.Fprintf(w, "%x", hash.Sum(nil))
}

// large is a body beyond all windows.
const large = 10 << 20

// upload sends a large body, and fails the test unless it arrives as it was.
func (c *client) upload() {
	c.t.Helper()
	body := random(large)
	id := c.post("/sum")
	c.data(id, true, body)
	c.ok(id, fmt.Sprintf("%x", sha256.Sum256(body)))
}

// Promise: what of the windows a body took is given back, whatever becomes of the
// body, so that large ones go on arriving over the same connection.
func TestWindowsAreGivenBack(t *testing.T) {
	for _, test := range []struct {
		name    string
		handler http.HandlerFunc
		send    func(c *client)
	}{
		{"read", sum, (*client).upload},
		{"nobody reads", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, func(c *client) {
			for range 20 {
				id := c.post("/")
				c.data(id, false, make([]byte, streamWindow))
				c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
			}
		}},
		{"the handler returns early", func(http.ResponseWriter, *http.Request) {}, func(c *client) {
			for range 20 {
				id := c.post("/")
				c.data(id, true, make([]byte, streamWindow))
				c.answer(id)
			}
		}},
		{"the handler reads a little", func(_ http.ResponseWriter, r *http.Request) { _, _ = r.Body.Read(make([]byte, 10)) }, func(c *client) {
			for range 20 {
				id := c.post("/")
				c.data(id, false, make([]byte, 100_000))
				c.answer(id)
			}
		}},
		{"the handler closes the body", func(_ http.ResponseWriter, r *http.Request) {
			_ = r.Body.Close()
			<-r.Context().Done()
		}, func(c *client) {
			id := c.post("/")
			c.data(id, false, make([]byte, large))
			c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
		}},
		{"the time to read is over", func(w http.ResponseWriter, r *http.Request) {
			_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0))
			<-r.Context().Done()
		}, func(c *client) {
			id := c.post("/")
			c.data(id, false, make([]byte, large))
			c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
		}},
		{"padding", sum, func(c *client) {
			id := c.post("/")
			for range 4 * streamWindow / 256 {
				for c.open[0] < 256 || c.window(id) < 256 {
					c.step()
				}
				c.open[0], c.open[id] = c.open[0]-256, c.open[id]-256
				c.do(c.WriteDataPadded(id, false, nil, make([]byte, 255)))
			}
			c.data(id, true, nil)
			c.ok(id, fmt.Sprintf("%x", sha256.Sum256(nil)))
		}},
		{"longer than it says", sum, func(c *client) {
			for range 200 {
				id := c.post("/", "content-length", "1")
				c.data(id, false, make([]byte, 16<<10))
				c.answer(id)
			}
		}},
		{"of malformed requests", sum, func(c *client) {
			for range 200 {
				id := c.headers(false, "a", "b")
				c.data(id, false, make([]byte, 16<<10))
				c.answer(id)
			}
		}},
		{"of streams that are over", sum, func(c *client) {
			id := c.get("/")
			c.answer(id)
			for range 200 {
				c.open[0] -= 16 << 10
				c.do(c.WriteData(id, false, make([]byte, 16<<10)))
				for c.open[0] < 16<<10 {
					c.step()
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/sum" {
					sum(w, r)
					return
				}
				test.handler(w, r)
			}))
			c := w.connect(t)
			test.send(c)
			c.upload()
		})
	}
}

// Promise: a client that sends more than a window is ended: the stream, or the
// connection (RFC 9113 section 6.9.1).
func TestWindowsHold(t *testing.T) {
	w := start(t, config(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Run("stream", func(t *testing.T) {
		c := w.connect(t)
		id := c.post("/")
		c.data(id, false, make([]byte, streamWindow))
		c.synced()
		if c.open[id] != -streamWindow {
			t.Errorf("%d bytes of what nobody read are given back", c.open[id]+streamWindow)
		}
		c.do(c.WriteData(id, false, []byte("x")))
		if s := c.answer(id); !s.reset || s.code != http2.ErrCodeFlowControl {
			t.Errorf("reset: %t, by %s", s.reset, s.code)
		}
		other := c.post("/")
		c.data(other, false, []byte("x"))
		c.synced()
		if c.streams[other] != nil {
			t.Error("another stream has ended")
		}
	})
	t.Run("connection", func(t *testing.T) {
		c := w.connect(t)
		for range 4 {
			c.data(c.post("/"), false, make([]byte, streamWindow))
		}
		id := c.post("/")
		c.synced()
		if c.open[0] != 0 {
			t.Errorf("%d bytes more may be sent", c.open[0])
		}
		c.do(c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, id, []byte{0})) // no padding takes a byte, too
		if code := c.end(); code != http2.ErrCodeFlowControl {
			t.Errorf("it ended by %s", code)
		}
	})
}

// Promise: a body ends by END_STREAM of data, of none, or of a trailer, which nobody
// is given; a trailer that is none resets the stream.
func TestEndOfBody(t *testing.T) {
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err == nil && (len(r.Header) > 0 || len(r.Trailer) > 0) {
			t.Errorf("fields %q and %q", r.Header, r.Trailer)
		}
	}))
	c := w.connect(t)
	trailer := func(id uint32, end bool, pairs ...string) {
		c.do(c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, EndStream: end, EndHeaders: true, BlockFragment: c.fields(pairs...)}))
	}
	for name, end := range map[string]func(id uint32){
		"data":    func(id uint32) { c.data(id, true, []byte("!")) },
		"nothing": func(id uint32) { c.data(id, false, []byte("!")); c.data(id, true, nil) },
		"trailer": func(id uint32) {
			c.data(id, false, []byte("!"))
			trailer(id, true, "grpc-status", "0", "x-user", "root")
		},
	} {
		id := c.post("/" + name)
		c.data(id, false, []byte("body"))
		end(id)
		c.ok(id, "body!")
	}
	for name, end := range map[string]func(id uint32){
		"no end":            func(id uint32) { trailer(id, false, "a", "b") },
		"a pseudo field":    func(id uint32) { trailer(id, true, ":path", "/") },
		"a capital":         func(id uint32) { trailer(id, true, "A", "b") },
		"a LF":              func(id uint32) { trailer(id, true, "a", "b\n") },
		"many fields":       func(id uint32) { trailer(id, true, manyFields(25_000)...) },
		"frames afterwards": func(id uint32) { trailer(id, false, "a", "b"); c.data(id, true, nil) },
	} {
		id := c.post("/")
		c.data(id, false, []byte("body"))
		end(id)
		if s := c.answer(id); !s.reset || s.code != http2.ErrCodeProtocol || s.whole {
			t.Errorf("%s: reset: %t, by %s; whole: %t", name, s.reset, s.code, s.whole)
		}
	}
	c.ok(c.get("/"), "")
}

// manyFields returns fields that count at least size.
func manyFields(size int) (pairs []string) {
	for i := 0; size > 0; i++ {
		pairs = append(pairs, fmt.Sprintf("x-%03d", i), "value")
		size -= 32 + 10
	}
	return pairs
}

// Promise: a client that waits for it is asked for its body once, when the handler
// reads it, and not when that answers without.
func TestExpectContinue(t *testing.T) {
	reset := make(chan struct{})
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/answered":
			w.WriteHeader(http.StatusOK)
		case "/closed":
			_ = r.Body.Close()
		case "/reset":
			<-r.Context().Done()
			defer close(reset)
		case "/unread":
			return
		}
		_, _ = io.Copy(w, r.Body)
	}))
	c := w.connect(t)
	expecting := func(path string) uint32 {
		t.Helper()
		return c.post(path, "expect", "100-continue")
	}
	id := expecting("/")
	c.until("the question", func() bool { return len(c.stream(id).informed) > 0 })
	c.data(id, false, []byte("bo"))
	c.data(id, true, []byte("dy"))
	c.ok(id, "body")
	for _, path := range []string{"/unread", "/closed"} {
		other := expecting(path)
		c.ok(other, "")
		if got := c.streams[other].informed; len(got) > 0 {
			t.Errorf("%s: it is asked %q", path, got)
		}
	}
	answered := expecting("/answered")
	c.data(answered, true, []byte("body"))
	c.ok(answered, "body")
	gone := expecting("/reset")
	c.do(c.WriteRSTStream(gone, http2.ErrCodeCancel))
	c.synced()
	await(t, "the handler", reset)
	c.ok(c.get("/"), "")
	if s := c.streams[gone]; s != nil && len(s.informed) > 0 {
		t.Error("a client that has gone is asked")
	}
	if got := c.streams[id].informed; len(got) != 1 {
		t.Errorf("it is asked %q", got)
	}
}

// Promise: SetReadDeadline ends reading, at once if it is past, and not if it is
// lifted before; the answer goes on.
func TestReadDeadline(t *testing.T) {
	for _, test := range []struct {
		name string
		set  func(w *http.ResponseController)
		over bool
	}{
		{"past", func(w *http.ResponseController) { _ = w.SetReadDeadline(time.Unix(1, 0)) }, true},
		{"future", func(w *http.ResponseController) { _ = w.SetReadDeadline(time.Now().Add(time.Millisecond)) }, true},
		{"past, and lifted", func(w *http.ResponseController) {
			_ = w.SetReadDeadline(time.Unix(1, 0))
			_ = w.SetReadDeadline(time.Time{})
		}, true},
		{"far", func(w *http.ResponseController) { _ = w.SetReadDeadline(time.Now().Add(time.Hour)) }, false},
		{"lifted", func(w *http.ResponseController) {
			_ = w.SetReadDeadline(time.Now().Add(time.Hour))
			_ = w.SetReadDeadline(time.Time{})
		}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, ready := make(chan error, 1), make(chan struct{})
			w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
				test.set(http.NewResponseController(w))
				close(ready)
				body, err := io.ReadAll(r.Body)
				got <- err
				_, _ = w.Write(body)
			}))
			c := w.connect(t)
			id := c.post("/")
			c.do(c.send())
			await(t, "the handler", ready)
			if test.over {
				if err := await(t, "the end of reading", got); !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Errorf("error %v", err)
				}
				c.ok(id, "")
				return
			}
			c.data(id, true, []byte("body"))
			c.ok(id, "body")
		})
	}
}

// Promise: a body that was closed is not read, by who waits for it neither, and the
// client may go on sending it.
func TestCloseBody(t *testing.T) {
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		errs := make(chan error)
		go func() {
			_, err := io.ReadAll(r.Body)
			errs <- err
		}()
		_ = http.NewResponseController(w).Flush()
		_ = r.Body.Close()
		if err := <-errs; !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("who waits gets %v", err)
		}
		if n, err := r.Body.Read(make([]byte, 9)); n != 0 || !errors.Is(err, http.ErrBodyReadAfterClose) {
			t.Errorf("who comes late gets %d bytes and %v", n, err)
		}
		_ = r.Body.Close()
		_, _ = w.Write([]byte("answer"))
	}))
	c := w.connect(t)
	id := c.post("/")
	c.do(c.WriteData(id, false, bytes.Repeat([]byte("x"), 1000)))
	c.ok(id, "answer")
}

// Promise: when the client resets a stream, or goes, the handler's context ends and it
// reads no more, also if something came.
func TestResetWhileReading(t *testing.T) {
	type end struct {
		n   int
		err error
	}
	got, begun := make(chan end, 1), make(chan struct{})
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" {
			return
		}
		n, _ := io.ReadFull(r.Body, make([]byte, 4))
		begun <- struct{}{}
		_, err := io.ReadAll(r.Body)
		<-r.Context().Done()
		got <- end{n, err}
	}))
	for name, leave := range map[string]func(c *client, id uint32){
		"reset":     func(c *client, id uint32) { c.do(c.WriteRSTStream(id, http2.ErrCodeCancel)); c.ok(c.get("/good"), "") },
		"gone":      func(c *client, _ uint32) { c.do(c.conn.Close()) },
		"half gone": func(c *client, _ uint32) { c.do(c.conn.(interface{ CloseWrite() error }).CloseWrite()) },
		"half frame": func(c *client, id uint32) {
			c.out.Write([]byte{0, 0, 9, 0, 1, 0, 0, 0, byte(id)})
			c.do(c.send())
			c.do(c.conn.Close())
		},
	} {
		c := w.connect(t)
		id := c.post("/")
		c.data(id, false, []byte("body"))
		c.do(c.send())
		await(t, "the handler", begun)
		leave(c, id)
		if e := await(t, "the end of the handler", got); e.n != 4 || e.err == nil {
			t.Errorf("%s: %d bytes, error %v", name, e.n, e.err)
		}
	}
}
