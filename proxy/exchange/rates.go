package exchange

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	maxRated   = 8192        // users whose rate is remembered
	sweepEvery = time.Second // looking through all of them takes its time
)

// rates limit how often each user exchanges tokens.
type rates struct {
	perSecond rate.Limit
	burst     int

	mu    sync.Mutex
	users map[string]*rate.Limiter
	swept time.Time
}

func newRates(perMinute int) *rates {
	return &rates{perSecond: rate.Limit(perMinute) / 60, burst: perMinute, users: map[string]*rate.Limiter{}}
}

// allow reports whether user may exchange a token now, and counts it. Of too many
// users, those who have not asked for a while are forgotten, and if there are
// none, any.
func (r *rates) allow(user string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	limiter := r.users[user]
	if limiter == nil {
		if len(r.users) >= maxRated {
			r.forget(now)
		}
		limiter = rate.NewLimiter(r.perSecond, r.burst)
		r.users[user] = limiter
	}
	return limiter.AllowN(now, 1)
}

func (r *rates) forget(now time.Time) {
	if now.Sub(r.swept) > sweepEvery {
		r.swept = now
		for user, limiter := range r.users {
			if limiter.TokensAt(now) >= float64(r.burst) {
				delete(r.users, user)
			}
		}
	}
	for user := range r.users {
		if len(r.users) < maxRated {
			return
		}
		delete(r.users, user)
	}
}
