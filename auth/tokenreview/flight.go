package tokenreview

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kube-gatehouse/gatehouse/auth"
	"github.com/kube-gatehouse/gatehouse/auth/digest"
)

// flight is a review under way, for everybody who waits for it.
type flight struct {
	done  chan struct{}
	known bool // the token has been accepted before
	began time.Time
	verdict
}

// wait returns the verdict. It ends with ctx, while the review goes on for the
// others.
func (f *flight) wait(ctx context.Context) verdict {
	select {
	case <-f.done:
		return f.verdict
	case <-ctx.Done():
		return verdict{err: fmt.Errorf("wait for a token review: %w", ctx.Err())}
	}
}

// landed is a flight that has its verdict.
func landed(v verdict) *flight {
	f := &flight{done: make(chan struct{}), verdict: v}
	close(f.done)
	return f
}

// join returns the review of a token that is under way, or begins one, and no
// outcome then. It is over at once if a bound is reached.
func (a *Authenticator) join(ctx context.Context, key digest.Digest, token string, c claims) (*flight, Outcome) {
	now := a.cfg.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if v, outcome := a.kept(key, now); outcome != "" {
		return landed(v), outcome // a review ended since it was looked for
	}
	if f, ok := a.flights[key]; ok {
		return f, Joined
	}
	f := &flight{done: make(chan struct{}), known: a.accepted.has(key), began: now}
	if refusal := a.budget.take(f.known, now); refusal != nil {
		return landed(verdict{err: refusal}), Shed
	}
	a.flights[key] = f
	go a.fly(context.WithoutCancel(ctx), f, key, token, c)
	return f, ""
}

// fly makes one review and keeps its verdict, unless somebody flushed it
// meanwhile.
func (a *Authenticator) fly(ctx context.Context, f *flight, key digest.Digest, token string, c claims) {
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	start := time.Now()
	id, refusal := a.review(ctx, token, c)
	took := time.Since(start)

	outcome := Accepted
	f.id = id
	if refusal != nil {
		f.err, outcome = refusal, Refused
		if refusal.Reason == auth.InternalAuthFailed {
			outcome = Failed
		}
	}
	a.cfg.Observe(outcome, took)

	a.mu.Lock()
	a.budget.give(f.known)
	if a.flights[key] == f {
		delete(a.flights, key)
		switch outcome {
		case Accepted:
			a.refused.drop(key)
			a.accepted.put(key, id, a.freshUntil(f.began, id))
		case Refused:
			a.accepted.drop(key)
			a.refused.put(key, refusal, a.cfg.Now().Add(a.cfg.RefusedTTL))
		}
	}
	a.mu.Unlock()
	close(f.done)
}

// review asks the API server. Whatever it meets, it returns an identity or a
// refusal.
func (a *Authenticator) review(ctx context.Context, token string, c claims) (*auth.Identity, *auth.Refusal) {
	status, err := a.ask(ctx, token)
	if err != nil {
		return nil, failed(err.Error())
	}
	return a.judge(status, c)
}

// ask keeps a panic of the reviewer, whose value could hold the token, from
// ending the process.
func (a *Authenticator) ask(ctx context.Context, token string) (status Status, err error) {
	defer func() {
		if recover() != nil {
			status, err = Status{}, errors.New("token review: the reviewer panicked")
		}
	}()
	return a.cfg.Reviewer.Review(ctx, token, a.cfg.Audiences)
}

// budget bounds what strangers can make the API server do. Its user locks it.
//
// A token that was accepted before is reviewed again without regard to the
// rate, and has half of the flights to itself: forged tokens cannot lock out
// the accounts that are at work.
type budget struct {
	maxFlights, maxStrangers int
	flights, strangers       int

	rate, burst float64 // tokens of the bucket in a second, and at most
	bucket      float64
	filled      time.Time
}

func newBudget(cfg Config, now time.Time) budget {
	return budget{
		maxFlights: cfg.MaxInFlight, maxStrangers: (cfg.MaxInFlight + 1) / 2,
		rate: float64(cfg.Rate), burst: float64(cfg.Burst), bucket: float64(cfg.Burst), filled: now,
	}
}

// take allows one review, or says why not.
func (b *budget) take(known bool, now time.Time) *auth.Refusal {
	if b.flights >= b.maxFlights || !known && b.strangers >= b.maxStrangers {
		return failed("too many token reviews are under way")
	}
	if !known {
		if passed := now.Sub(b.filled).Seconds(); passed > 0 {
			b.bucket = min(b.burst, b.bucket+passed*b.rate)
		}
		b.filled = now
		if b.bucket < 1 {
			return failed("too many token reviews of tokens that were never accepted")
		}
		b.bucket--
		b.strangers++
	}
	b.flights++
	return nil
}

// give ends what take allowed.
func (b *budget) give(known bool) {
	b.flights--
	if !known {
		b.strangers--
	}
}
