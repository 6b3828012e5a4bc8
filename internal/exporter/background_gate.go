package exporter

import (
	"context"
	"sync"
	"time"
)

const (
	// idleShare is how many times as long as the server worked on a read nothing
	// more is read: it spends at most a tenth of its time on the background
	// collectors.
	idleShare = 9
	// maxPause bounds that pause.
	maxPause = 5 * time.Second
	// workShare is the part of a read's time, 1/workShare, that the server is thought
	// to have worked at least, however long the way to it is.
	workShare = 10
	// tripWindow is for how long, up to twice, the shortest round trip counts.
	tripWindow = 5 * time.Minute
)

// Gate lets background collectors read one at a time, and keeps the pauses
// between reads. Exporters that share one do so together: a server that several
// of them read is not read more than one that has only one.
type Gate struct {
	turn chan struct{} // has an element while nobody reads

	mu   sync.Mutex
	free time.Time // when the last pause ends
}

// NewGate returns a gate for BackgroundOptions.
func NewGate() *Gate {
	g := &Gate{turn: make(chan struct{}, 1)}
	g.turn <- struct{}{}
	return g
}

// enter waits until nobody reads and the last pause is over. leave must follow
// unless it returns an error, which is that of ctx.
func (g *Gate) enter(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-g.turn:
	}
	if err := wait(ctx, time.Until(g.opens())); err != nil {
		g.turn <- struct{}{}
		return err
	}
	return nil
}

// leave ends a read that the server worked on for so long.
func (g *Gate) leave(worked time.Duration) {
	g.charge(worked)
	g.turn <- struct{}{}
}

// charge makes the next read wait for what the server worked.
func (g *Gate) charge(worked time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); g.free.Before(now) {
		g.free = now
	}
	g.free = g.free.Add(min(idleShare*worked, maxPause))
}

// opens returns when the last pause ends.
func (g *Gate) opens() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.free
}

// trips knows how long the way to the server and back takes: as long as the
// shortest read lately.
type trips struct {
	shortest, before time.Duration // in this window and the one before
	since            time.Time     // when this window began
}

// worked returns how long the server worked on a read that took so long. What
// the network takes is none of its work.
func (t *trips) worked(took time.Duration, now time.Time) time.Duration {
	switch {
	case t.since.IsZero():
		*t = trips{took, took, now}
	case now.Sub(t.since) > tripWindow:
		*t = trips{took, t.shortest, now}
	default:
		t.shortest = min(t.shortest, took)
	}
	return max(took-min(t.shortest, t.before), took/workShare)
}
