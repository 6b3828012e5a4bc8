package backup

import (
	"errors"
	"time"
)

// limiter lets bytes pass at a rate, on average; after a pause a fourth of a
// second's worth passes at once. One goroutine uses it.
type limiter struct {
	rate int64     // bytes a second; 0 is no limit
	paid time.Time // when what has passed is paid for
}

// errInterrupted is returned by a wait that was ended.
var errInterrupted = errors.New("interrupted")

// wait waits until n more bytes may pass, or quit is closed. It calls still at
// least every second.
func (l *limiter) wait(n int, quit <-chan struct{}, still func()) error {
	const burst = time.Second / 4
	if l.rate <= 0 {
		return nil
	}
	if least := time.Now().Add(-burst); l.paid.Before(least) {
		l.paid = least
	}
	l.paid = l.paid.Add(time.Duration(float64(n) / float64(l.rate) * float64(time.Second)))
	for {
		left := time.Until(l.paid)
		if left <= 0 {
			return nil
		}
		still()
		timer := time.NewTimer(min(left, time.Second))
		select {
		case <-timer.C:
		case <-quit:
			timer.Stop()
			return errInterrupted
		}
	}
}
