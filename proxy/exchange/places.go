package exchange

import (
	"net/netip"
	"sync"

	"github.com/kube-gatehouse/gatehouse/proxy/address"
)

// maxStrangers is how many requests there may be of which nobody knows yet who
// makes them. Each may hold a form of maxForm bytes, and take its time to send it.
const maxStrangers = 128

// places are for those who are not signed in yet. An address may have no more than
// are still free, so that none can take them all: one alone gets half.
type places struct {
	limit int

	mu   sync.Mutex
	open int
	by   map[netip.Addr]int // addresses that have any
}

func newPlaces(limit int) *places { return &places{limit: limit, by: map[netip.Addr]int{}} }

// enter takes a place for a request of client, if there is one. The caller gives it
// back, once.
func (p *places) enter(client string) (leave func(), ok bool) {
	from := address.Network(client)
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
