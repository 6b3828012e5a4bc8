package store

import (
	"context"
	"math/rand/v2"
	"time"
)

// patience says how long a call is tried again after transient errors.
type patience struct {
	attempts int           // at most; 0 means any number
	within   time.Duration // no attempt begins later than this after the first
	denials  bool          // refused credentials are no reason to give up: others may come
}

const (
	firstPause = 200 * time.Millisecond
	maxPause   = 5 * time.Second
)

// retry calls fn until it succeeds, its error is not transient, ctx ends or p is
// used up; it returns fn's last error. Pauses between attempts grow, with jitter.
func retry(ctx context.Context, p patience, transient func(error) bool, fn func() error) error {
	began := time.Now()
	pause := firstPause
	for attempt := 1; ; attempt++ {
		err := fn()
		if err == nil || ctx.Err() != nil || !transient(err) || attempt == p.attempts {
			return err
		}
		wait := pause/2 + rand.N(pause/2)
		if time.Since(began)+wait > p.within {
			return err
		}
		if sleep(ctx, wait) != nil {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// sleep waits for d, or returns why ctx ended.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
