package h2server_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// Promise: an answer arrives as the handler gives it, under names without capitals,
// with a date, and without what belongs to connections (RFC 9113 section 8.2.2).
func TestAnswers(t *testing.T) {
	long := strings.Repeat("a", 50_000)
	for _, test := range []struct {
		name    string
		method  string
		handler http.HandlerFunc
		status  string
		header  map[string]string // "" for none
		body    string
		trailer map[string]string
		reset   bool // it must not look whole
	}{
		{name: "nothing", handler: func(http.ResponseWriter, *http.Request) {}, status: "200"},
		{name: "a status", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusTeapot)
			w.WriteHeader(http.StatusOK)
		}, status: "418"},
		{name: "informational", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusEarlyHints)
			_, _ = io.WriteString(w, "body")
		}, status: "200", body: "body"},
		{name: "headers", handler: func(w http.ResponseWriter, _ *http.Request) {
			h := w.Header()
			h["X-A"] = []string{"1", "", "2"}
			h.Set("Content-Type", "a/b")
			h.Set("Date", "today")
			h["x_raw"] = []string{"r"}
			h.Set("Late", "1")
			w.WriteHeader(201)
			h.Set("Late", "2")
			h.Set("Later", "2")
		}, status: "201", header: map[string]string{"x-a": "1; ; 2", "content-type": "a/b", "date": "today", "x_raw": "r", "late": "1", "later": ""}},
		{name: "headers of connections", handler: func(w http.ResponseWriter, _ *http.Request) {
			for _, name := range []string{"Proxy-Connection", "Transfer-Encoding", "Upgrade", "Keep-Alive"} {
				w.Header().Set(name, "chunked")
			}
			w.Header().Set("Connection", "keep-alive")
		}, status: "200", header: map[string]string{"connection": "", "proxy-connection": "", "transfer-encoding": "", "upgrade": "", "keep-alive": ""}},
		{name: "what is no field", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header()["X-A"] = []string{"a\r\nx-b: c", "a\x00", "good"}
			w.Header()["X B"] = []string{"b"}
			w.Header()[":status"] = []string{"404"}
			w.Header()[""] = []string{"b"}
		}, status: "200", header: map[string]string{"x-a": "good", "x b": "", "x-b": ""}},
		{name: "large headers", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", long)
			for i := range 1000 {
				w.Header().Set(fmt.Sprint("X-Field-", i), "value of "+fmt.Sprint(i))
			}
			_, _ = io.WriteString(w, "body")
		}, status: "200", header: map[string]string{"x-a": long, "x-field-0": "value of 0", "x-field-999": "value of 999"}, body: "body"},
		{name: "large headers alone", handler: func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X-A", long) },
			status: "200", header: map[string]string{"x-a": long}},
		{name: "HEAD", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			if n, err := io.WriteString(w, "body"); n != 4 || err != nil {
				panic(err)
			}
		}, status: "200", header: map[string]string{"content-length": "4"}},
		{name: "HEAD without a body", method: "HEAD", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
		}, status: "200", header: map[string]string{"content-length": "4"}},
		{name: "204", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
			if n, err := io.WriteString(w, "body"); n != 0 || !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, status: "204"},
		{name: "304", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4") // RFC 9110 section 8.6
			w.WriteHeader(http.StatusNotModified)
			if n, err := io.WriteString(w, "body"); n != 0 || !errors.Is(err, http.ErrBodyNotAllowed) {
				panic(err)
			}
		}, status: "304", header: map[string]string{"content-length": "4"}},
		{name: "a length", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "4")
			_, _ = io.WriteString(w, "bo")
			_, _ = io.WriteString(w, "dy")
			if n, err := io.WriteString(w, "!"); n != 0 || !errors.Is(err, http.ErrContentLength) {
				panic(err)
			}
		}, status: "200", header: map[string]string{"content-length": "4"}, body: "body"},
		{name: "shorter than its length", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
			_, _ = io.WriteString(w, "body")
		}, status: "200", body: "body", reset: true},
		{name: "nothing of its length", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5")
		}, status: "200", reset: true},
		{name: "longer than its length", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "3")
			_, _ = io.WriteString(w, "body")
		}, status: "200", reset: true},
		{name: "a trailer", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Trailer", "Grpc-Status")
			_, _ = io.WriteString(w, "body")
			w.Header().Set(http.TrailerPrefix+"grpc-status", "0")
			w.Header()[http.TrailerPrefix+"X-Bad"] = []string{"a\n", "good"}
			w.Header().Set(http.TrailerPrefix+"Content-Length", "9")
			w.Header().Set("X-Late", "1")
		}, status: "200", header: map[string]string{"trailer": "Grpc-Status"}, body: "body",
			trailer: map[string]string{"grpc-status": "0", "x-bad": "good"}},
		{name: "a trailer alone", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
		}, status: "200", trailer: map[string]string{"grpc-status": "0"}},
		{name: "a large trailer", handler: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set(http.TrailerPrefix+"X-A", long)
		}, status: "200", trailer: map[string]string{"x-a": long}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := start(t, config(test.handler))
			c := w.connect(t)
			if test.method == "" {
				test.method = "GET"
			}
			for range 2 { // once more with what the first left in the table
				s := c.answer(c.headers(true, of(test.method, "/")...))
				if s.status != test.status || !test.reset && string(s.body) != test.body {
					t.Errorf("%s with %q, want %s with %q", s.status, s.body, test.status, test.body)
				}
				if s.reset != test.reset || s.whole == test.reset {
					t.Errorf("reset: %t, whole: %t, by %s", s.reset, s.whole, s.code)
				}
				for name, want := range test.header {
					if s.header[name] != want {
						t.Errorf("%s is %.80q, want %.80q", name, s.header[name], want)
					}
				}
				if date, err := http.ParseTime(s.header["date"]); test.header["date"] == "" && (err != nil || time.Since(date) > time.Minute) {
					t.Errorf("the date is %q", s.header["date"])
				}
				if fmt.Sprint(s.trailer) != fmt.Sprint(test.trailer) {
					t.Errorf("the trailer is %.200q, want %.200q", s.trailer, test.trailer)
				}
			}
			if c.largest > 16<<10 {
				t.Errorf("a frame has %d bytes", c.largest)
			}
			if log := w.log.String(); log != "" {
				t.Error(log)
			}
		})
	}
}

// Promise: what was flushed arrives although the handler goes on, the header alone too,
// and so does what is much.
func TestFlush(t *testing.T) {
	next := make(chan struct{})
	w := start(t, config(func(w http.ResponseWriter, _ *http.Request) {
		flush := http.NewResponseController(w).Flush
		if err := flush(); err != nil {
			t.Error(err)
		}
		<-next
		_, _ = io.WriteString(w, "one")
		w.(http.Flusher).Flush()
		<-next
		_, _ = io.WriteString(w, strings.Repeat("x", 20_000))
		<-next
	}))
	c := w.connect(t)
	id := c.get("/")
	s := c.stream(id)
	c.until("the header", func() bool { return s.status == "200" })
	next <- struct{}{}
	c.until("one", func() bool { return string(s.body) == "one" })
	next <- struct{}{}
	c.until("much", func() bool { return len(s.body) == 20_003 })
	next <- struct{}{}
	c.ok(id, string(s.body))
}

// Promise: a handler that panics has its stream reset, whatever it wrote, and the
// connection goes on; the log has where it was, and not the value. To abort is no fault.
func TestPanics(t *testing.T) {
	const secret = "a token, say"
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/late":
			_, _ = io.WriteString(w, "body")
			_ = http.NewResponseController(w).Flush()
			panic(secret)
		case "/early":
			panic(errors.New(secret))
		case "/abort":
			panic(http.ErrAbortHandler)
		}
	}))
	c := w.connect(t)
	for _, path := range []string{"/abort", "/late", "/early"} {
		logged := w.log.String()
		if path != "/abort" && strings.Contains(logged, "panic") != (path == "/early") {
			t.Errorf("before %s: %q is logged", path, logged)
		}
		s := c.answer(c.get(path))
		if !s.reset || s.whole || s.code != http2.ErrCodeInternal {
			t.Errorf("%s: reset: %t, by %s, whole: %t", path, s.reset, s.code, s.whole)
		}
	}
	c.ok(c.get("/"), "")
	log := w.log.String()
	if strings.Count(log, "panic while serving a request") != 2 || strings.Contains(log, secret) || !strings.Contains(log, "TestPanics") {
		t.Errorf("the log is %q", log)
	}
}

// Promise: to use a ResponseWriter or a body after the handler has ended does no harm.
func TestAfterTheEnd(t *testing.T) {
	var writer http.ResponseWriter
	var request *http.Request
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/first" {
			writer, request = w, r
			_, _ = io.WriteString(w, "body")
		}
	}))
	c := w.connect(t)
	id := c.post("/first")
	c.data(id, false, []byte("more"))
	c.ok(id, "body")
	<-request.Context().Done()
	control := http.NewResponseController(writer)
	writer.WriteHeader(500)
	writer.Header().Set(http.TrailerPrefix+"A", "b")
	if n, err := writer.Write(make([]byte, 100_000)); n != 0 || err == nil {
		t.Errorf("%d bytes are written, error %v", n, err)
	}
	if err := control.Flush(); err == nil {
		t.Error("to flush succeeds")
	}
	if n, err := request.Body.Read(make([]byte, 9)); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("%d bytes are read, error %v", n, err)
	}
	_ = request.Body.Close()
	for _, at := range []time.Time{time.Unix(1, 0), time.Now().Add(time.Microsecond), {}} {
		_ = control.SetReadDeadline(at)
		_ = control.SetWriteDeadline(at)
	}
	c.ok(c.get("/"), "")
	if s := c.streams[id]; s.trailer != nil || string(s.body) != "body" {
		t.Errorf("the client has %q and %q", s.body, s.trailer)
	}
}

// Promise: a handler whose client takes nothing waits, until SetWriteDeadline resets
// the stream, or the client does, or it goes; others are served meanwhile.
func TestWriteDeadline(t *testing.T) {
	got := make(chan error, 1)
	full := make(chan struct{}, 1)
	w := start(t, config(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/good" {
			return
		}
		control := http.NewResponseController(w)
		_, _ = w.Write(make([]byte, 1000))
		_ = control.Flush()
		full <- struct{}{}
		switch r.URL.Path {
		case "/past":
			_ = control.SetWriteDeadline(time.Unix(1, 0))
		case "/future":
			_ = control.SetWriteDeadline(time.Now().Add(time.Millisecond))
		case "/lifted":
			_ = control.SetWriteDeadline(time.Now().Add(time.Hour))
			_ = control.SetWriteDeadline(time.Time{})
		}
		_, err := w.Write(make([]byte, 1000))
		<-r.Context().Done()
		got <- err
	}))
	for _, path := range []string{"/past", "/future", "/lifted", "/gone"} {
		c := w.connect(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
		id := c.get(path)
		c.until("as much as may be sent", func() bool { return len(c.stream(id).body) == 1000 })
		await(t, "the handler", full)
		switch path {
		case "/past", "/future":
			if err := await(t, "the handler", got); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: error %v", path, err)
			}
			if s := c.answer(id); !s.reset || s.whole {
				t.Errorf("%s: reset: %t, whole: %t", path, s.reset, s.whole)
			}
		case "/lifted":
			c.ok(c.get("/good"), "")
			c.do(c.WriteRSTStream(id, http2.ErrCodeCancel))
			c.ok(c.get("/good"), "")
			if err := await(t, "the handler", got); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: error %v", path, err)
			}
		case "/gone":
			_ = c.conn.Close()
			if err := await(t, "the handler", got); err == nil {
				t.Errorf("%s: no error", path)
			}
		}
	}
}
