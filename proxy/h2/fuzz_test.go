package h2_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/kube-gatehouse/gatehouse/proxy/h2"
)

// frames returns what write writes.
func frames(write func(f *http2.Framer, header func(fields ...string) []byte)) []byte {
	var out, block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	framer := http2.NewFramer(&out, nil)
	framer.AllowIllegalWrites = true
	write(framer, func(fields ...string) []byte {
		block.Reset()
		for i := 0; i < len(fields); i += 2 {
			_ = encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(block.Bytes())
	})
	return out.Bytes()
}

// Promise: whatever a server sends, nothing panics, every request ends, and an
// answer that looks whole has the length that it told.
func FuzzFrames(f *testing.F) {
	f.Add(frames(func(f *http2.Framer, header func(...string) []byte) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: header(":status", "200", "content-length", "4")})
		_ = f.WriteData(1, false, []byte("bo"))
		_ = f.WriteDataPadded(1, true, []byte("dy"), make([]byte, 3))
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: header(":status", "100")[:1]})
		_ = f.WriteContinuation(3, true, nil)
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, BlockFragment: header(":status", "500", "a", "b")})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndHeaders: true, EndStream: true, BlockFragment: header("trailer", "t")})
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, EndHeaders: true, EndStream: true, BlockFragment: header(":status", "304", "content-length", "9")})
	}))
	f.Add(frames(func(f *http2.Framer, _ func(...string) []byte) {
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20}, http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
		_ = f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
		_ = f.WriteWindowUpdate(0, 1<<20)
		_ = f.WriteWindowUpdate(3, 1<<31-1)
		_ = f.WritePing(false, [8]byte{1})
		_ = f.WritePing(true, [8]byte{0, 0, 0, 0, 0, 0, 0, 1})
		_ = f.WriteRSTStream(1, http2.ErrCodeRefusedStream)
		_ = f.WriteGoAway(3, http2.ErrCodeNo, []byte("bye"))
		_ = f.WritePushPromise(http2.PushPromiseParam{StreamID: 5, PromiseID: 2})
	}))
	f.Add(frames(func(f *http2.Framer, header func(...string) []byte) {
		_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: 5, EndHeaders: true, PadLength: 9, BlockFragment: header(":status", "200"), Priority: http2.PriorityParam{StreamDep: 1}})
		_ = f.WriteRawFrame(http2.FrameHeaders, 4|8, 1, []byte{200, 0x88})
		_ = f.WriteRawFrame(http2.FrameWindowUpdate, 0, 3, make([]byte, 4))
		_ = f.WriteRawFrame(0xbe, 0xff, 7, []byte("unknown"))
	}))
	f.Fuzz(func(t *testing.T, data []byte) {
		near, far := sockets(t)
		framer := http2.NewFramer(far, far)
		if err := framer.WriteSettings(); err != nil {
			t.Fatal(err)
		}
		c, err := h2.New(t.Context(), near, h2.Config{MaxHeaderBytes: 1 << 14})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(far, make([]byte, len(http2.ClientPreface))); err != nil {
			t.Fatal(err)
		}
		body := newEndless()
		var ends []<-chan result
		for _, r := range []*http.Request{
			newRequest(t, http.MethodGet, "/", nil),
			newRequest(t, http.MethodPost, "/", body),
			newRequest(t, http.MethodHead, "/", nil),
		} {
			ends = append(ends, send(c, r))
			for {
				frame, err := framer.ReadFrame()
				if err != nil {
					t.Fatal(err)
				}
				if frame.Header().Type == http2.FrameHeaders {
					break
				}
			}
		}
		go func() { _, _ = io.Copy(io.Discard, far) }()
		_, _ = far.Write(data) // the connection may be closed before all is written
		_ = far.(*net.TCPConn).CloseWrite()
		for i, done := range ends {
			got := await(t, "the end of a request", done)
			length, err := strconv.Atoi(got.header.Get("Content-Length"))
			bodyless := i == 2 || got.status == http.StatusNoContent || got.status == http.StatusNotModified
			if err == nil && got.err == nil && got.bodyErr == nil && !bodyless && length != len(got.body) {
				t.Errorf("an answer of %d bytes looks whole, and told %d", len(got.body), length)
			}
		}
		await(t, "the end of the body", body.closed)
		await(t, "the end of the connection", c.Closed())
	})
}
