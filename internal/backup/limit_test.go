package backup

import (
	"context"
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

// A slow upload is a slow upload, and no stall.
func TestRateLimitIsNoStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := dirStore(t)
		const limit = 1500 * time.Millisecond
		ctx, timer, stop := withStallTimer(t.Context(), limit)
		defer stop()
		began := time.Now()
		up, err := startUpload(ctx, s, "object", 0, recipients{}, 20_000, timer) // six seconds for each write
		if err != nil {
			t.Fatal(err)
		}
		data := noise(1_000_000)
		if _, err := up.Write(data); err != nil {
			t.Error(err)
		}
		if o, err := up.commit(); err != nil || o.Size < int64(len(data)) || ctx.Err() != nil {
			t.Errorf("%d bytes, %v; %v", o.Size, err, context.Cause(ctx))
		}
		if took := time.Since(began); took < 4*limit {
			t.Errorf("it took %s", took)
		}
	})
}

// The limit is that of a snapshot, and the upload ends with the run.
func TestRateLimit(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	s, _ := dirStore(t)
	began := time.Now()
	m := mustSnapshot(t, newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.RateLimit = 150_000 }))
	took := time.Since(began)
	if least := time.Duration(float64(m.Object.Size)/150_000*float64(time.Second)) - 300*time.Millisecond; took < least {
		t.Errorf("%d bytes took %s, want at least %s", m.Object.Size, took, least)
	}
}
