package exporter_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// slow is a server that takes its time, and gives up when its context ends.
type slow struct {
	takes time.Duration
	info  string

	mu    sync.Mutex
	calls int
	gone  int // calls whose context was cancelled
}

func (s *slow) Pipeline(ctx context.Context, commands ...[]string) ([]any, error) {
	s.mu.Lock()
	s.calls++
	s.mu.Unlock()
	if pause(ctx, s.takes) != nil {
		if ctx.Err() == context.Canceled {
			s.mu.Lock()
			s.gone++
			s.mu.Unlock()
			return nil, status.WithReason(status.ReasonCanceled, ctx.Err())
		}
		return nil, status.WithReason(status.ReasonTimeout, ctx.Err())
	}
	out := make([]any, len(commands))
	out[0] = s.info
	return out, nil
}

// A Sentinel is asked nothing but INFO, so one collection is one call.
const plain = "redis_version:7.0.0\r\nrun_id:a\r\nredis_mode:sentinel\r\nuptime_in_seconds:1\r\n"

func TestScrapesShareOneCollection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: time.Second, info: plain}
		e, _ := newExporter(t, s, exporter.Options{})
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				expect(t, scrape(t, e), map[string]string{"redis_up": "1", "redis_exporter_scrapes_total": "1"})
			})
		}
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); s.calls != 1 || took != time.Second {
			t.Errorf("%d calls in %s", s.calls, took)
		}
		expect(t, scrape(t, e), map[string]string{"redis_up": "1", "redis_exporter_scrapes_total": "2"})
	})
}

// A scrape that joins another keeps its own deadline, shorter or longer.
func TestSharedDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: 3 * time.Second, info: plain}
		e, _ := newExporter(t, s, exporter.Options{Timeout: 2 * time.Second})
		var wg sync.WaitGroup
		for _, c := range []struct {
			deadline, took time.Duration
			reason         string
		}{
			{2 * time.Second, 2 * time.Second, "timeout"},         // leads
			{1 * time.Second, 1 * time.Second, "timeout"},         // leaves before
			{10 * time.Second, 2*time.Second + 3*time.Second, ""}, // begins anew when the first one gives up
		} {
			synctest.Wait() // in this order
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), c.deadline)
				defer cancel()
				start := time.Now()
				got := samples(t, text(t, e.Scrape(ctx)))
				if took := time.Since(start); took != c.took {
					t.Errorf("deadline %s: took %s, want %s", c.deadline, took, c.took)
				}
				if reason := downReason(t, got); reason != c.reason {
					t.Errorf("deadline %s: down because of %q", c.deadline, reason)
				}
			})
		}
		wg.Wait()
	})
}

// A collection ends when nobody waits for it any more, and not before.
func TestNobodyWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{takes: 3 * time.Second, info: plain}
		e, board := newExporter(t, s, exporter.Options{})
		start := func(ctx context.Context, want string) *sync.WaitGroup {
			var wg sync.WaitGroup
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(ctx, 4*time.Second)
				defer cancel()
				got := samples(t, text(t, e.Scrape(ctx)))
				if want != "" {
					expect(t, got, map[string]string{"redis_up": want})
				}
			})
			synctest.Wait()
			return &wg
		}

		first, leaveFirst := context.WithCancel(t.Context())
		a := start(first, "")
		b := start(t.Context(), "1")
		leaveFirst()
		a.Wait()
		b.Wait()
		if s.gone != 0 || s.calls != 1 {
			t.Errorf("%d of %d calls were cancelled while somebody waited", s.gone, s.calls)
		}

		first, leaveFirst = context.WithCancel(t.Context())
		second, leaveSecond := context.WithCancel(t.Context())
		a, b = start(first, ""), start(second, "")
		leaveFirst()
		leaveSecond()
		began := time.Now()
		a.Wait()
		b.Wait()
		if took := time.Since(began); s.gone != 1 || s.calls != 2 || took != 0 {
			t.Errorf("%d of %d calls cancelled, ended after %s", s.gone, s.calls, took)
		}
		if r, _ := board.Report(status.Exporter); r.State != status.OK {
			t.Errorf("a scrape that nobody waited for is reported as %s, %s", r.State, r.Reason)
		}
	})
}

// The same against a real server.
func TestConcurrentScrapes(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if v := scrape(t, e)["redis_up"]; v != "1" {
					t.Errorf("redis_up %s", v)
				}
			}
		})
	}
	wg.Wait()
	got := scrape(t, e)
	if calls, scrapes := number(t, got[`redis_commands_total{cmd="info"}`]), number(t, got["redis_exporter_scrapes_total"]); calls != scrapes-1 || scrapes > 161 {
		t.Errorf("%v INFO for %v collections of 161 scrapes", calls+1, scrapes)
	}
	if v := got["redis_connected_clients"]; v != "1" {
		t.Errorf("%s connections", v)
	}
}

// breaking panics at the first read, as only a defect could make it.
type breaking struct {
	*replay
	broken atomic.Bool
}

func (s *breaking) Pipeline(ctx context.Context, commands ...[]string) ([]any, error) {
	if s.broken.CompareAndSwap(true, false) {
		panic("a defect")
	}
	return s.replay.Pipeline(ctx, commands...)
}

// A defect costs one scrape, not all that follow.
func TestPanicInACollection(t *testing.T) {
	server := &breaking{replay: loadReplay(t, "testdata/replay/redis-7.0.15-standalone")}
	e, board := newExporter(t, server, exporter.Options{})
	for range 2 {
		server.broken.Store(true)
		if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonInternal) {
			t.Errorf("down because of %q", reason)
		}
		if r, _ := board.Report(status.Exporter); r.State != status.Failing || r.Reason != status.ReasonInternal {
			t.Errorf("the Board says %s, %s", r.State, r.Reason)
		}
		if reason := downReason(t, scrapeIn(t, e, answer)); reason != "" {
			t.Errorf("down afterwards because of %q", reason)
		}
	}
}

// Who gives a server no time to answer does not make the job fail.
func TestScrapeWithoutTime(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, board := newExporter(t, srv.Client(t), exporter.Options{})
	scrape(t, e)
	h := exporter.NewHandler(e, nil)
	for range 20 {
		get(t, h, "/metrics", map[string]string{"X-Prometheus-Scrape-Timeout-Seconds": "0.000001"})
	}
	if r, _ := board.Report(status.Exporter); r.State != status.OK || !r.LastErrorAt.IsZero() {
		t.Errorf("the Board says %s: %s", r.State, r.LastError)
	}
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != "" {
		t.Errorf("down afterwards because of %q", reason)
	}
}
