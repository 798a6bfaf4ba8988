package h2_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// upload reads a request's body to its end, and allows as much again as came each
// time.
func (p *peer) upload(id uint32, credit bool) (body []byte) {
	p.t.Helper()
	p.expect("the end of the body", func(f http2.Frame) bool {
		data, ok := f.(*http2.DataFrame)
		if !ok || data.StreamID != id {
			return false
		}
		body = append(body, data.Data()...)
		if n := uint32(len(data.Data())); credit && n > 0 {
			p.do(p.WriteWindowUpdate(0, n))
			p.do(p.WriteWindowUpdate(id, n))
		}
		return data.StreamEnded()
	})
	return body
}

// random returns n bytes that repeat nothing.
func random(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// Promise: a request's body arrives as it was, in frames and windows as the server
// wants them, although it changes its mind meanwhile (RFC 9113 section 6.9.2).
func TestUpload(t *testing.T) {
	want := random(300_000)
	c, p := connect(t, h2.Config{}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	done := send(c, newRequest(t, http.MethodPost, "/", io.NopCloser(bytes.NewReader(want))))
	id, _ := p.request()
	var got []byte
	collect := func(n int) {
		t.Helper()
		for len(got) < n {
			f := p.expect("data", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
			got = append(got, f.(*http2.DataFrame).Data()...)
		}
		if len(got) != n {
			t.Fatalf("%d bytes came, and %d were allowed", len(got), n)
		}
	}
	collect(1000)
	p.do(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 400})) // 600 below nothing
	p.do(p.WriteWindowUpdate(id, 700))                                                 // and 100 above
	collect(1100)
	p.do(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30}, http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1 << 20}))
	collect(65535)
	p.do(p.WriteWindowUpdate(0, 1<<30))
	got = append(got, p.upload(id, false)...)
	if sha256.Sum256(got) != sha256.Sum256(want) {
		t.Errorf("%d bytes came, other than the %d that were sent", len(got), len(want))
	}
	p.header(id, true, ":status= 201")
	await(t, "the answer", done).whole(t, 201, "")
}

// Promise: a request that ends while its window is below nothing ends properly.
func TestEndBelowTheWindow(t *testing.T) {
	c, p := connect(t, h2.Config{})
	reader, writer := io.Pipe()
	done := send(c, newRequest(t, http.MethodPost, "/", reader))
	id, _ := p.request()
	if _, err := writer.Write([]byte("body")); err != nil {
		t.Fatal(err)
	}
	p.expect("data", func(f http2.Frame) bool { return f.Header().Type == http2.FrameData })
	p.do(p.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	p.expect("the acknowledgement", func(f http2.Frame) bool { return f.Header().Type == http2.FrameSettings })
	writer.Close()
	if left := p.upload(id, false); len(left) > 0 {
		t.Errorf("%q came without a window", left)
	}
	p.header(id, true, ":status= 201")
	await(t, "the answer", done).whole(t, 201, "")
}

// Promise: an answer that is not read takes a bounded window and holds up nobody;
// one that is goes on for ever.
func TestDownload(t *testing.T) {
	const window = 256 << 10
	c, p := connect(t, h2.Config{})
	begin := func(path string) (*http.Response, uint32) {
		got := make(chan *http.Response, 1)
		go func() {
			resp, err := c.RoundTrip(newRequest(t, http.MethodGet, path, nil))
			if err != nil {
				t.Error(err)
			}
			got <- resp
		}()
		id, _ := p.request()
		p.header(id, false, ":status= 200")
		return await(t, path, got), id
	}
	frame := random(16 << 10)
	unread, id := begin("/unread")
	for range window / len(frame) {
		p.do(p.WriteData(id, false, frame))
	}
	long, longID := begin("/long")
	got := make(chan []byte, 1)
	go func() {
		body, err := io.ReadAll(long.Body)
		if err != nil {
			t.Error(err)
		}
		got <- body
	}()
	var sent []byte
	open, shared := window, 16<<20-window
	for range 2000 { // 32 MB: more than the connection's window too
		for open < len(frame) || shared < len(frame) {
			p.expect("a window", func(f http2.Frame) bool {
				update, ok := f.(*http2.WindowUpdateFrame)
				switch {
				case !ok:
				case update.StreamID == longID:
					open += int(update.Increment)
				case update.StreamID == 0:
					shared += int(update.Increment)
				default:
					t.Fatal("the server may send more of what nobody reads")
				}
				return ok
			})
		}
		open, shared = open-len(frame), shared-len(frame)
		sent = append(sent, frame...)
		p.do(p.WriteData(longID, len(sent) == 2000*len(frame), frame))
	}
	if body := await(t, "the long answer", got); !bytes.Equal(body, sent) {
		t.Errorf("%d bytes came, other than the %d that were sent", len(body), len(sent))
	}
	p.do(p.WriteData(id, false, []byte("x"))) // one more than allowed
	p.reset(id)
	if _, err := io.ReadAll(unread.Body); err == nil {
		t.Error("an answer that broke its window looks whole")
	}
}

// Promise: a server that pads what it sends is not held up by that.
func TestPaddingAlone(t *testing.T) {
	c, p := connect(t, h2.Config{})
	done := send(c, newRequest(t, http.MethodGet, "/", nil))
	id, _ := p.request()
	p.header(id, false, ":status= 200")
	for open := 256 << 10; open >= 256; open -= 256 {
		p.do(p.WriteDataPadded(id, false, nil, make([]byte, 255)))
	}
	p.expect("a window", func(f http2.Frame) bool {
		return f.Header().Type == http2.FrameWindowUpdate && f.Header().StreamID == id
	})
	p.data(id, true, "body")
	await(t, "the answer", done).whole(t, 200, "body")
}

// Promise: a header that the server would not take is not sent, and those after it
// are read right, whatever size the server's table has.
func TestHeaderTable(t *testing.T) {
	c, p := connect(t, h2.Config{}, http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: 4000})
	for round, size := range []uint32{4096, 0, 100, 4096, 1 << 30} {
		p.do(p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
		p.expect("the acknowledgement", func(f http2.Frame) bool { return f.Header().Type == http2.FrameSettings })
		p.decoder.SetAllowedMaxDynamicTableSize(size)
		for _, user := range []string{"alice", "bob", "alice", strings.Repeat("c", 5000), "bob"} {
			r := newRequest(t, http.MethodGet, "/", nil)
			r.Header.Set("Impersonate-User", user)
			done := send(c, r)
			if len(user) > 4000 {
				if got := await(t, "the large request", done); got.err == nil || errors.Is(got.err, h2.ErrUnprocessed) {
					t.Errorf("error %v, want one for ever", got.err)
				}
				continue
			}
			id, header := p.request()
			if header["impersonate-user"] != user || header[":path"] != "/" || header[":authority"] != "api.example" {
				t.Fatalf("round %d: the server reads %q, and %s was sent", round, header, user)
			}
			p.header(id, true, ":status= 200")
			await(t, "an answer", done).whole(t, 200, "")
		}
	}
}

// Promise: a header larger than a frame arrives.
func TestLongHeader(t *testing.T) {
	c, p := connect(t, h2.Config{})
	r := newRequest(t, http.MethodGet, "/", nil)
	var want []string
	for range 40 {
		want = append(want, string(bytes.ReplaceAll(random(1000), []byte{'\n'}, nil)))
	}
	for i := range want {
		want[i] = strings.Map(func(r rune) rune { return 'a' + r%26 }, want[i])
	}
	r.Header["Impersonate-Group"] = []string{strings.Join(want, ",")}
	done := send(c, r)
	id, header := p.request()
	if header["impersonate-group"] != strings.Join(want, ",") {
		t.Error("another header arrived")
	}
	p.header(id, true, ":status= 200")
	await(t, "an answer", done).whole(t, 200, "")
}

// keeper is a writer that fails, and looks at what it was given afterwards: so does
// net/http's HTTP/2 server when its client resets a stream.
type keeper struct {
	mu   sync.Mutex
	kept [][]byte
}

func (k *keeper) Write(p []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.kept = append(k.kept, p)
	return 0, errors.New("the stream is closed")
}

// Promise: what one caller gets never holds what came for another, not even when
// its writer goes on reading after it failed.
func TestChunksAreNotShared(t *testing.T) {
	c, p := connect(t, h2.Config{})
	var failed keeper
	for range 50 {
		done := make(chan error, 1)
		go func() {
			resp, err := c.RoundTrip(newRequest(t, http.MethodGet, "/alice", nil))
			if err == nil {
				_, err = resp.Body.(io.WriterTo).WriteTo(&failed)
				resp.Body.Close()
			}
			done <- err
		}()
		id, _ := p.request()
		p.header(id, false, ":status= 200")
		p.data(id, false, strings.Repeat("alice", 1000))
		if err := await(t, "the failure", done); err == nil {
			t.Fatal("no error")
		}
		bob := send(c, newRequest(t, http.MethodGet, "/bob", nil))
		id, _ = p.request()
		p.header(id, false, ":status= 200")
		for range 4 {
			p.data(id, false, strings.Repeat("bob!!", 3000))
		}
		p.data(id, true, "")
		await(t, "bob's answer", bob).whole(t, 200, strings.Repeat("bob!!", 12000))
	}
	failed.mu.Lock()
	defer failed.mu.Unlock()
	if len(failed.kept) == 0 {
		t.Error("nothing was written")
	}
	for _, data := range failed.kept {
		if bytes.Contains(data, []byte("bob")) {
			t.Fatal("alice's writer holds what came for bob")
		}
	}
}
