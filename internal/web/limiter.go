package web

import (
	"sync"
	"time"
)

// limiter is a bucket of limit.burst tokens that gains one per limit.interval.
type limiter struct {
	mu     sync.Mutex
	tokens float64
	last   time.Time // zero: the bucket is full
}

// allow takes a token, if there is one.
func (l *limiter) allow(lim limit) bool {
	if lim.interval <= 0 {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.last.IsZero() {
		l.tokens = float64(lim.burst)
	} else {
		l.tokens = min(float64(lim.burst), l.tokens+float64(now.Sub(l.last))/float64(lim.interval))
	}
	l.last = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}
