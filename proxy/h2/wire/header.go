package wire

import "net/http"

// Header is a header as its fields come. The zero value is empty.
type Header struct {
	fields http.Header
	slab   []string // that the values of most fields are taken from: few have more than one
}

// Room for what an ordinary header has.
const (
	usualNames  = 12
	usualValues = 16
)

// Add adds a field. name is as http.Header has it.
func (h *Header) Add(name, value string) {
	if h.fields == nil {
		h.fields = make(http.Header, usualNames)
	}
	if old := h.fields[name]; old != nil {
		h.fields[name] = append(old, value)
		return
	}
	if len(h.slab) == 0 {
		h.slab = make([]string, usualValues)
	}
	h.slab[0] = value
	h.fields[name], h.slab = h.slab[:1:1], h.slab[1:]
}

// Fields returns what was added, nil if nothing was.
func (h *Header) Fields() http.Header { return h.fields }
