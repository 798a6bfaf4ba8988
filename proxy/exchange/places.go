package exchange

import "sync"

// maxStrangers is how many requests there may be of which nobody knows yet who
// makes them. Each may hold a form of maxForm bytes, and take its time to send it.
const maxStrangers = 128

// maxUnderWay is how many exchanges of those who are signed in may be under way.
// Each costs a verdict and a signature, or a request to the API server.
const maxUnderWay = 64

// places are what requests may have at a time. One caller, an address or a user,
// may have no more than are still free, so that none can take them all: one alone
// gets half.
type places[K comparable] struct {
	limit int

	mu   sync.Mutex
	open int
	by   map[K]int // callers who have any
}

func newPlaces[K comparable](limit int) *places[K] {
	return &places[K]{limit: limit, by: map[K]int{}}
}

// enter takes a place for a request of a caller, if there is one. It is given back
// by leave, once.
func (p *places[K]) enter(from K) (leave func(), ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by[from] >= p.limit-p.open {
		return nil, false
	}
	p.open++
	p.by[from]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
		if p.by[from]--; p.by[from] == 0 {
			delete(p.by, from)
		}
	}, true
}
