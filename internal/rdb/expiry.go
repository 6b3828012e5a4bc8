package rdb

import (
	"math/bits"
	"time"
)

// Expiry says how many keys expire in a span of time: before Until, and not
// before the Until of the span before it.
type Expiry struct {
	Until time.Time // UTC, whole seconds
	Keys  uint64
}

// maxExpiry bounds the spans of a Summary: half of them hold keys, the other half
// may be the gaps between.
const maxExpiry = 64

// A time to live is counted in seconds, in spans that grow with it: 64 of them
// between every power of two and the next.
const (
	expiryBits = 6
	expiryFine = 1 << expiryBits
	// expiryPowers are enough for 4,000 years; what lives longer lives as long.
	expiryPowers = 37 - expiryBits + 1
)

// expiry counts keys by when they expire, seen from the moment of the save. It
// takes 16 KiB, whatever the number of keys.
type expiry struct {
	ctime  int64 // Unix seconds
	before uint64
	counts [expiryPowers << expiryBits]uint64
}

// add counts a key that expires at a time in Unix seconds.
func (e *expiry) add(at int64) {
	if at < e.ctime {
		e.before++
		return
	}
	e.counts[expiryIndex(uint64(at)-uint64(e.ctime))]++
}

// expiryIndex returns the number of the span that so many seconds are in.
func expiryIndex(left uint64) int {
	if left < expiryFine {
		return int(left)
	}
	power := bits.Len64(left) - expiryBits // at least 1: left>>(power-1) has expiryBits+1 bits
	return min(power<<expiryBits+int(left>>(power-1))&(expiryFine-1), expiryPowers<<expiryBits-1)
}

// expirySpan is the reverse: the first second of span i.
func expirySpan(i int) int64 {
	if i < expiryFine {
		return int64(i)
	}
	power := i >> expiryBits
	return int64(expiryFine|i&(expiryFine-1)) << (power - 1)
}

// spans merges what was counted into at most maxExpiry spans: as many as that
// allows, none with many more keys than another, unless they expire at the same
// time.
func (e *expiry) spans() []Expiry {
	total := e.before
	for _, n := range e.counts {
		total += n
	}
	if total == 0 {
		return nil
	}
	const enough = (maxExpiry/2 - 1) / 2 // parts: with so many there are never too many spans
	for parts := uint64(maxExpiry - 2); parts > enough; parts -= 4 {
		if list := e.merge(total/parts + 1); len(list) <= maxExpiry {
			return list
		}
	}
	return e.merge(total/enough + 1)
}

// merge makes spans of about so many keys, and empty ones of what lies between.
func (e *expiry) merge(size uint64) []Expiry {
	var list []Expiry
	add := func(until int64, keys uint64) {
		list = append(list, Expiry{Until: time.Unix(e.ctime+until, 0).UTC(), Keys: keys})
	}
	var end int64 // of the last span
	if e.before > 0 {
		add(end, e.before)
	}
	var keys uint64 // of the span that is being filled
	for i, n := range e.counts {
		if n == 0 {
			continue
		}
		if keys > 0 && (keys >= size || n >= size) {
			add(end, keys)
			keys = 0
		}
		if begin := expirySpan(i); keys == 0 && (begin > end || len(list) == 0) {
			add(begin, 0)
		}
		keys += n
		end = expirySpan(i + 1)
	}
	if keys > 0 {
		add(end, keys)
	}
	return list
}
