package backup

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 1000}
		still := 0
		began := time.Now()
		for range 10 {
			if err := l.wait(1000, nil, func() { still++ }); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != 9750*time.Millisecond {
			t.Errorf("10 kB at 1 kB/s took %s", took)
		}
		if still < 9 {
			t.Errorf("%d signs of life in ten seconds", still)
		}
		quit := make(chan struct{})
		time.AfterFunc(3*time.Second, func() { close(quit) })
		began = time.Now()
		if err := l.wait(1e9, quit, func() {}); !errors.Is(err, errInterrupted) || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		unlimited := &limiter{}
		if err := unlimited.wait(1<<40, nil, nil); err != nil {
			t.Error(err)
		}
	})
}

// A slow upload is a slow upload, no stall, and ends with the run.
func TestRateLimit(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	s, _ := dirStore(t)
	began := time.Now()
	m := mustSnapshot(t, newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.RateLimit, o.StallTimeout = 150_000, 1500*time.Millisecond }))
	took := time.Since(began)
	if least := time.Duration(float64(m.Object.Size)/150_000*float64(time.Second)) - 300*time.Millisecond; took < least {
		t.Errorf("%d bytes took %s, want at least %s", m.Object.Size, took, least)
	}
}
