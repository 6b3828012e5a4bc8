package store

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestRetry(t *testing.T) {
	flaky, fatal := errors.New("flaky"), errors.New("fatal")
	transient := func(err error) bool { return same(err, flaky) }

	for _, c := range []struct {
		name     string
		p        patience
		fails    int // how often fn fails
		with     error
		attempts int
		err      error
		min, max time.Duration
	}{
		{"success", patience{within: time.Minute}, 0, flaky, 1, nil, 0, 0},
		{"fatal", patience{within: time.Minute}, 1, fatal, 1, fatal, 0, 0},
		{"mended", patience{within: time.Minute}, 3, flaky, 4, nil, 700 * time.Millisecond, 1400 * time.Millisecond},
		{"attempts", patience{attempts: 3, within: time.Minute}, 99, flaky, 3, flaky, 300 * time.Millisecond, 600 * time.Millisecond},
		{"no time", patience{}, 99, flaky, 1, flaky, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began, attempts := time.Now(), 0
				err := retry(t.Context(), c.p, transient, func() error {
					attempts++
					if attempts <= c.fails {
						return c.with
					}
					return nil
				})
				if took := time.Since(began); !same(err, c.err) || attempts != c.attempts || took < c.min || took > c.max {
					t.Errorf("got %v after %d attempts and %s", err, attempts, took)
				}
			})
		})
	}

	t.Run("within", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			err := retry(t.Context(), patience{within: time.Minute}, transient, func() error { return flaky })
			if took := time.Since(began); !same(err, flaky) || took < 50*time.Second || took > time.Minute {
				t.Errorf("got %v after %s", err, took)
			}
		})
	})
	t.Run("canceled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			began := time.Now()
			err := retry(ctx, patience{within: time.Hour}, transient, func() error { return flaky })
			if took := time.Since(began); !same(err, flaky) || took != 10*time.Second {
				t.Errorf("got %v after %s", err, took)
			}
		})
	})
}
