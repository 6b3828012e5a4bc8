package exporter

import (
	"context"
	"sync"

	dto "github.com/prometheus/client_model/go"
)

// flights lets scrapes that come while a collection runs share its result.
type flights struct {
	mu      sync.Mutex
	current *flight
}

// flight is one collection, run by the scrape that came first.
type flight struct {
	done   chan struct{}
	cancel context.CancelFunc

	waiting int // scrapes that still want the result; guarded by flights.mu

	// set before done is closed
	families []*dto.MetricFamily
	expired  bool // it ended because of its deadline, or because nobody waited
}

// do returns the families of a collection that ends before ctx does, or an
// error when there is none. ctx must have a deadline. The collection keeps the
// deadline of the scrape that began it, and stops early only when every scrape
// that waits for it is gone. The families are shared and must not be changed.
func (s *flights) do(ctx context.Context, collect func(context.Context) []*dto.MetricFamily) ([]*dto.MetricFamily, error) {
	for {
		s.mu.Lock()
		f := s.current
		if f == nil {
			return s.lead(ctx, collect), nil
		}
		f.waiting++
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			s.leave(f)
			return nil, ctx.Err()
		case <-f.done:
			if f.expired && ctx.Err() == nil {
				continue // the first scrape had less time than this one
			}
			return f.families, nil
		}
	}
}

// lead runs a collection. It is called with s.mu held and releases it.
func (s *flights) lead(ctx context.Context, collect func(context.Context) []*dto.MetricFamily) []*dto.MetricFamily {
	deadline, _ := ctx.Deadline()
	own, cancel := context.WithDeadline(context.WithoutCancel(ctx), deadline)
	f := &flight{done: make(chan struct{}), cancel: cancel, waiting: 1}
	s.current = f
	s.mu.Unlock()

	stop := context.AfterFunc(ctx, func() {
		if ctx.Err() == context.Canceled { // at the deadline own ends by itself
			s.leave(f)
		}
	})
	defer func() {
		stop()
		f.expired = own.Err() != nil
		cancel()
		s.mu.Lock()
		s.current = nil
		s.mu.Unlock()
		close(f.done)
	}()
	f.families = collect(own)
	return f.families
}

// leave gives up waiting for f, and ends it when nobody waits any more.
func (s *flights) leave(f *flight) {
	s.mu.Lock()
	f.waiting--
	last := f.waiting == 0
	s.mu.Unlock()
	if last {
		f.cancel()
	}
}
