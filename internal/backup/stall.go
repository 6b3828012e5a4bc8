package backup

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// stallTimer ends a context when nothing has moved for too long: a child that
// was stopped, a store that accepts no byte and closes no connection. It is told
// of every movement, so it does not bound how long a large snapshot takes.
type stallTimer struct {
	limit time.Duration
	start time.Time

	last    atomic.Int64 // of the last movement, after start
	inStore atomic.Bool  // the store has the next move
}

// withStallTimer returns a context that ends with a classified cause after limit
// without a touch. stop ends the timer and the context and waits for its
// goroutine.
func withStallTimer(parent context.Context, limit time.Duration) (ctx context.Context, t *stallTimer, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	t = &stallTimer{limit: limit, start: time.Now()}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			idle := time.Since(t.start) - time.Duration(t.last.Load())
			if idle >= limit {
				cancel(t.verdict())
				return
			}
			if sleep(ctx, limit-idle) != nil {
				return
			}
		}
	}()
	return ctx, t, func() {
		cancel(nil)
		<-ended
	}
}

// touch says that something moved.
func (t *stallTimer) touch() { t.last.Store(int64(time.Since(t.start))) }

func (t *stallTimer) enterStore() { t.touch(); t.inStore.Store(true) }
func (t *stallTimer) leaveStore() { t.touch(); t.inStore.Store(false) }

func (t *stallTimer) verdict() error {
	if t.inStore.Load() {
		return status.WithHint(status.ReasonStoreUnreachable, "is there something on the way that drops packets silently?",
			fmt.Errorf("the store took or sent nothing for %s", t.limit))
	}
	return status.WithReason(status.ReasonSave, errors.New("the save made no progress for "+t.limit.String()))
}
