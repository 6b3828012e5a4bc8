package rdb

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// Spans lie side by side, and every second is in the one that it is counted in.
func TestExpirySpans(t *testing.T) {
	for i := range expiryPowers << expiryBits {
		begin, end := expirySpan(i), expirySpan(i+1)
		if begin >= end {
			t.Fatalf("span %d is %d to %d", i, begin, end)
		}
		if a, b := expiryIndex(uint64(begin)), expiryIndex(uint64(end-1)); a != i || b != i {
			t.Fatalf("span %d: %d is in %d, %d is in %d", i, begin, a, end-1, b)
		}
		if begin > expiryFine && float64(end-begin)/float64(begin) > 1.0/expiryFine {
			t.Fatalf("span %d of %d seconds at %d", i, end-begin, begin)
		}
	}
	if i := expiryIndex(math.MaxUint64); i != expiryPowers<<expiryBits-1 {
		t.Errorf("for ever is in span %d", i)
	}
}

// For what applications do with times to live: how far off is the answer to "how
// many will have expired"?
func TestExpiryError(t *testing.T) {
	const ctime, keys = 1_795_000_000, 20_000
	day := int64(24 * time.Hour / time.Second)
	rnd := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		next func(i int) int64
		off  float64 // most error, as a part of all keys that expire
	}{
		"a day, at any time":    {func(int) int64 { return rnd.Int64N(day) }, 0.05},
		"from a second to ever": {func(int) int64 { return int64(math.Exp(rnd.Float64() * 22)) }, 0.05},
		"minutes and months": {func(i int) int64 {
			if i%2 == 0 {
				return rnd.Int64N(600)
			}
			return 60*day + rnd.Int64N(30*day)
		}, 0.05},
		"three lives and a few others": {func(i int) int64 {
			if i%50 == 0 {
				return rnd.Int64N(90 * day)
			}
			return [3]int64{3600, day, 30 * day}[i%3]
		}, 0.05},
		"expired already": {func(i int) int64 { return -int64(i) }, 0.001},
		"all together":    {func(int) int64 { return 7 * day }, 0},
	} {
		e := &expiry{ctime: ctime}
		var times []int64
		for i := range keys {
			at := c.next(i)
			times = append(times, at)
			e.add(ctime + at)
		}
		spans := e.spans()
		if len(spans) == 0 || len(spans) > maxExpiry {
			t.Errorf("%s: %d spans", name, len(spans))
		}
		var worst float64
		for _, at := range []int64{0, 1, 60, 599, 1800, 3500, 3700, day / 2, day - day/40, day + day/50, 10 * day, 30*day + day, 45 * day, 70 * day, 100 * day, 1 << 40} {
			var truth uint64
			for _, x := range times {
				if x <= at {
					truth++
				}
			}
			least, most := uint64(0), uint64(0)
			begun := true
			for _, s := range spans {
				if begun {
					most += s.Keys
				}
				if begun = at+ctime >= s.Until.Unix(); begun {
					least += s.Keys
				}
			}
			if truth < least || truth > most {
				t.Errorf("%s: after %d s %d have expired, not %d to %d", name, at, truth, least, most)
			}
			worst = max(worst, float64(most-least)/keys)
		}
		if worst > c.off {
			t.Errorf("%s: off by up to %.3f, want %.3f, with %d spans", name, worst, c.off, len(spans))
		}
		t.Logf("%s: %d spans, off by up to %.3f", name, len(spans), worst)
	}
}

// Whatever the times, there are not too many spans, and they are in order.
func TestExpiryBounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		e := &expiry{ctime: rnd.Int64N(1 << 36)}
		n := 1 + rnd.IntN(300)
		for range n {
			if rnd.IntN(4) == 0 {
				for range 1 + rnd.IntN(50) { // heavy ones
					e.add(e.ctime + 1<<rnd.IntN(40))
				}
			}
			e.add(e.ctime - 10 + rnd.Int64N(1<<(1+rnd.IntN(61))))
		}
		spans := e.spans()
		var keys, want uint64 = 0, e.before
		for _, c := range e.counts {
			want += c
		}
		for i, s := range spans {
			keys += s.Keys
			if i > 0 && !s.Until.After(spans[i-1].Until) || s.Until.Year() > 9999 {
				t.Fatalf("span %d of %v", i, spans)
			}
		}
		if keys != want || len(spans) > maxExpiry {
			t.Fatalf("%d spans with %d keys, want %d", len(spans), keys, want)
		}
	}
}
