package wire

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strconv"
	"testing"
)

// Promise: what was appended comes out whole and in order, in whatever pieces it is
// read, also when the chunks were used before.
func TestWaitingKeepsOrder(t *testing.T) {
	var pool Chunks
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // not for a secret
	for range 8 {
		var waiting Waiting
		var want, got bytes.Buffer
		for range 100 {
			part := make([]byte, random.IntN(20<<10))
			for i := range part {
				part[i] = byte(random.Uint32())
			}
			want.Write(part)
			waiting.Append(&pool, part)
			for random.IntN(2) == 0 && !waiting.Empty() {
				readSome(&waiting, &pool, &got, random.IntN(30<<10))
			}
		}
		for !waiting.Empty() {
			readSome(&waiting, &pool, &got, 1+random.IntN(30<<10))
		}
		if !bytes.Equal(got.Bytes(), want.Bytes()) {
			t.Fatal("what came out is not what was put in")
		}
	}
}

// readSome reads up to n bytes of the first chunk, as the bodies do.
func readSome(waiting *Waiting, pool *Chunks, w io.Writer, n int) {
	p := make([]byte, n)
	n, empty := waiting.First().Read(p)
	_, _ = w.Write(p[:n]) // a buffer takes everything
	if empty {
		pool.Put(waiting.Take())
	}
}

// Promise: who sends little has little kept for it: no more than five times as much as
// waits, and 2 KiB.
func TestChunksAreNoLargerThanTheirDataNeed(t *testing.T) {
	for _, size := range []int{1, 1000, 2048, 2049, 4096, 5000, 16 << 10} {
		var pool Chunks
		var waiting Waiting
		for sent := size; sent < 300<<10; sent += size {
			waiting.Append(&pool, make([]byte, size))
			kept := 0
			for c := waiting.first; c != nil; c = c.next {
				kept += len(c.data)
			}
			if kept > 5*sent+smallChunk {
				t.Fatalf("%d bytes are kept for %d, sent %d at a time", kept, sent, size)
			}
		}
	}
}

// Promise: Drop says how many bytes nobody has read, and leaves nothing.
func TestDrop(t *testing.T) {
	var pool Chunks
	var waiting Waiting
	waiting.Append(&pool, make([]byte, 100<<10))
	waiting.First().Read(make([]byte, 1000))
	if n := waiting.Drop(&pool); n != 100<<10-1000 || !waiting.Empty() {
		t.Errorf("%d bytes were not read, want %d", n, 100<<10-1000)
	}
}

// Promise: names are as http.Header has them, and come back as they were on the wire;
// what is no name on the wire is refused.
func TestNames(t *testing.T) {
	names := NewNames()
	for lower, canonical := range map[string]string{
		"accept": "Accept", "impersonate-extra-x": "Impersonate-Extra-X", "x-never-heard-of": "X-Never-Heard-Of",
		"etag": "Etag", "www-authenticate": "Www-Authenticate",
	} {
		back, ok := names.Lower(canonical)
		if got := names.Canonical(lower); got != canonical || back != lower || !ok {
			t.Errorf("%s becomes %s, and that %s", lower, got, back)
		}
	}
	for name, valid := range map[string]bool{"x": true, "x-1_!": true, "": false, "X": false, "x y": false, "x:": false, "é": false, "x\x00": false} {
		if ValidName(name) != valid {
			t.Errorf("%q is a name: %t", name, !valid)
		}
	}
	for _, name := range []string{"", "A B", "A\nB", "Trailer:A"} {
		if lower, ok := names.Lower(name); ok {
			t.Errorf("%q becomes %q", name, lower)
		}
	}
}

// Promise: a header has each field in its order, and what is added to one name later
// changes no other.
func TestHeader(t *testing.T) {
	var header Header
	if header.Fields() != nil {
		t.Error("an empty header has fields")
	}
	want := http.Header{}
	for i := range 100 {
		name := "X-" + strconv.Itoa(i%40)
		header.Add(name, strconv.Itoa(i))
		want.Add(name, strconv.Itoa(i))
	}
	if !reflect.DeepEqual(header.Fields(), want) {
		t.Errorf("got %v, want %v", header.Fields(), want)
	}
}
