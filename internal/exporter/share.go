package exporter

import (
	"context"
	"errors"
	"sync"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// flights lets scrapes that come while a collection runs share its result.
type flights struct {
	mu      sync.Mutex
	current *flight
}

// errCollection says that a collection ended without a result.
var errCollection = status.WithReason(status.ReasonInternal, errors.New("the collection panicked"))

// flight is one collection, run by the scrape that came first.
type flight struct {
	done   chan struct{}
	cancel context.CancelFunc

	// guarded by flights.mu
	joined int  // scrapes besides the first that want the result
	left   bool // the first one is gone
	landed bool // every scrape that joined owns a reference to out

	// set before done is closed
	out     *sink // nil when the collection panicked
	expired bool  // it ended because of its deadline, or because nobody waited
}

// do returns the result of a collection that ends before ctx does, which the
// caller must release, or an error when there is none. ctx must have a deadline.
// The collection keeps the deadline of the scrape that began it, and stops early
// only when every scrape that waits for it is gone.
func (s *flights) do(ctx context.Context, collect func(context.Context) *sink) (*sink, error) {
	for {
		s.mu.Lock()
		f := s.current
		if f == nil {
			return s.lead(ctx, collect), nil
		}
		f.joined++
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			s.leave(f)
			return nil, ctx.Err()
		case <-f.done:
			switch {
			case f.out == nil:
				return nil, errCollection
			case f.expired && ctx.Err() == nil:
				f.out.release()
				continue // the first scrape had less time than this one
			}
			return f.out, nil
		}
	}
}

// lead runs a collection. It is called with s.mu held and releases it.
func (s *flights) lead(ctx context.Context, collect func(context.Context) *sink) *sink {
	deadline, _ := ctx.Deadline()
	own, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	f := &flight{done: make(chan struct{}), cancel: cancel}
	s.current = f
	s.mu.Unlock()

	stop := context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled { // at the deadline own ends by itself
			s.mu.Lock()
			f.left = true
			last := f.joined == 0
			s.mu.Unlock()
			if last {
				cancel()
			}
		}
	})
	defer func() { // after a panic, too: others wait
		stop()
		f.expired = own.Err() != nil
		cancel()
		s.mu.Lock()
		s.current = nil
		if f.out != nil {
			f.out.refs.Add(int32(f.joined))
		}
		f.landed = true
		s.mu.Unlock()
		close(f.done)
	}()
	f.out = collect(own)
	return f.out
}

// leave gives up waiting for f, and ends it when nobody waits any more.
func (s *flights) leave(f *flight) {
	s.mu.Lock()
	f.joined--
	landed, last := f.landed, f.left && f.joined == 0
	s.mu.Unlock()
	switch {
	case landed:
		if f.out != nil {
			f.out.release()
		}
	case last:
		f.cancel()
	}
}
