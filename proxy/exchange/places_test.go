package exchange

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/kube-gatehouse/gatehouse/proxy/address"
)

// held is a body that tells when somebody begins to read it, and ends when it is
// let go.
type held struct {
	begun sync.Once
	ready func()
	gone  chan struct{}
}

func (h *held) Read([]byte) (int, error) {
	h.begun.Do(h.ready)
	<-h.gone
	return 0, fmt.Errorf("canary")
}

func (h *held) Close() error { return nil }

// Promise: strangers who begin forms and do not end them hold a bounded number of
// them, those of one address half at most; others exchange tokens meanwhile, and
// so does that address afterwards.
func TestUnfinishedForms(t *testing.T) {
	w := newWorld(t)
	ask := func(from string, body any) *httptest.ResponseRecorder {
		r := httptest.NewRequest(http.MethodPost, TokenPath, strings.NewReader(values().Encode()))
		if h, ok := body.(*held); ok {
			r.Body, r.ContentLength = h, -1
		}
		r.RemoteAddr = from + ":1"
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		rec := httptest.NewRecorder()
		w.Server.ServeHTTP(rec, r)
		return rec
	}
	var begun, ended sync.WaitGroup
	gone := make(chan struct{})
	begun.Add(maxStrangers / 2)
	for range maxStrangers / 2 {
		ended.Go(func() {
			if got := ask("203.0.113.1", &held{ready: begun.Done, gone: gone}); got.Code != notForm.code {
				t.Errorf("unfinished: %d %s", got.Code, got.Body)
			}
		})
	}
	begun.Wait()
	for range 3 {
		if got := ask("203.0.113.1", nil); got.Code != http.StatusServiceUnavailable || got.Header().Get("Retry-After") != "1" {
			t.Errorf("one more of the same address: %d %s", got.Code, got.Body)
		}
		for _, other := range []string{"203.0.113.2", "2001:db8::1"} {
			if got := ask(other, nil); got.Code != http.StatusOK {
				t.Errorf("another address: %d %s", got.Code, got.Body)
			}
		}
	}
	close(gone)
	ended.Wait()
	if got := ask("203.0.113.1", nil); got.Code != http.StatusOK || w.strangers.open != 0 || len(w.strangers.by) != 0 {
		t.Errorf("afterwards: %d %s, %d places are taken", got.Code, got.Body, w.strangers.open)
	}
	w.seen(t)
}

// Promise: places are given back, and neither one address nor all together have
// more than there are.
func TestPlaces(t *testing.T) {
	p := newPlaces[netip.Addr](8)
	var leave []func()
	count := func(client string) (got int) {
		for {
			one, ok := p.enter(address.Network(client))
			if !ok {
				return got
			}
			got++
			leave = append(leave, one)
		}
	}
	for _, test := range []struct {
		client string
		want   int
	}{{"192.0.2.1", 4}, {"::ffff:192.0.2.1", 0}, {"2001:db8::1", 2}, {"2001:db8::2", 0}, {"2001:db8:0:1::1", 1}, {"", 1}, {"192.0.2.2", 0}} {
		if got := count(test.client); got != test.want {
			t.Errorf("%s got %d places, want %d", test.client, got, test.want)
		}
	}
	for _, one := range leave {
		one()
	}
	if p.open != 0 || len(p.by) != 0 || count("192.0.2.1") != 4 {
		t.Errorf("%d are still taken, by %v", p.open, p.by)
	}
}
