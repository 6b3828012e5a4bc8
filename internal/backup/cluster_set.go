package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// ShardSnapshot is a snapshot of one shard of a cluster.
type ShardSnapshot struct {
	Shard     string // name
	Catalogue *Catalogue
	Manifest  Manifest
}

// ClusterSet is one snapshot of every shard of a cluster. Together they hold
// every slot once.
type ClusterSet struct {
	Shards []ShardSnapshot // in the order of their lowest slots
	// Resting are shards whose slots have all gone to others since their last
	// snapshot: nothing is written there any more.
	Resting []ShardSnapshot
}

// Spread returns when the oldest and the newest snapshot were begun.
func (s ClusterSet) Spread() (oldest, newest time.Time) {
	for i, x := range s.Shards {
		at := x.Manifest.CreatedAt
		if i == 0 || at.Before(oldest) {
			oldest = at
		}
		if at.After(newest) {
			newest = at
		}
	}
	return oldest, newest
}

// Bounds of the search for a time at which a cluster is whole.
const (
	maxSetTries = 64
	maxSetReads = 512
)

// FindCluster chooses a snapshot of every shard of the cluster whose instance
// this is, all by one rule: "latest", or a time, see Find. Snapshots that do not
// hold every slot exactly once are refused, with the newest time at which they
// do. The error wraps ErrNoSnapshots when no shard has any.
func (c *Catalogue) FindCluster(ctx context.Context, what string) (ClusterSet, error) {
	if _, err := IDTime(what); err == nil {
		return ClusterSet{}, status.WithHint(status.ReasonFile, "give latest, or a time such as 2026-11-23T06:15:30Z, which means the newest of every shard that is not after it",
			fmt.Errorf("%w: %s is the snapshot of one shard, and a cluster is restored from all of them", ErrNotFound, what))
	}
	shards, err := c.Shards(ctx)
	if err != nil {
		return ClusterSet{}, err
	}
	found, err := findAll(ctx, shards, what)
	if err != nil {
		return ClusterSet{}, err
	}
	if len(found) == 0 {
		if what == "latest" || len(shards) == 0 {
			return ClusterSet{}, fmt.Errorf("shards of instance %s in %s: %w", c.instance, c.store, ErrNoSnapshots)
		}
		return ClusterSet{}, status.WithHint(status.ReasonStoreMissing, "see backup list --shard=all", fmt.Errorf("%w: no shard has one as old as %s", ErrNotFound, what))
	}
	set, err := cover(found)
	if err == nil {
		return set, nil
	}
	hint := "slots were moved between these snapshots: see backup list --shard=all, and name a time in restore.from at which they belong together"
	at, never := c.whenWhole(ctx, shards)
	switch {
	case len(never) > 0:
		hint = "no snapshot that is there has slots " + shortSlots(never) + ": their shard was never saved, or its snapshots are gone. Where it lives, run redis-sidecar backup now on one of its pods; " +
			"if it is lost, see backup list --shard=all, and take the other shards as plain files: restore --restore.instance=INSTANCE/shards/SHARD --to FILE"
	case !at.IsZero():
		hint = "slots were moved between these snapshots, or a shard was not saved; the newest time at which all shards belong together: restore.from=" + at.Format(time.RFC3339)
	}
	return ClusterSet{}, status.WithHint(status.ReasonStoreMissing, hint, fmt.Errorf("instance %s in %s: %w", c.instance, c.store, err))
}

// findAll finds the same in every shard. Those without are left out.
func findAll(ctx context.Context, shards []*Catalogue, what string) ([]ShardSnapshot, error) {
	out := make([]ShardSnapshot, len(shards))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(manifestFetches)
	for i, shard := range shards {
		g.Go(func() error {
			m, err := shard.Find(ctx, what)
			_, timeErr := time.Parse(time.RFC3339, what)
			if errors.Is(err, ErrNoSnapshots) || errors.Is(err, ErrNotFound) && timeErr == nil {
				return nil
			}
			if err != nil {
				return status.WithHint(status.ReasonOf(err), status.HintOf(err), fmt.Errorf("shard %s: %w", ShardOf(shard.instance), err))
			}
			out[i] = ShardSnapshot{Shard: ShardOf(shard.instance), Catalogue: shard, Manifest: m}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out, func(s ShardSnapshot) bool { return s.Catalogue == nil }), nil
}

// cover makes a whole cluster of snapshots, or says why they are none. What is
// newer counts: a snapshot whose slots are all in newer ones is of a shard that
// has gone.
func cover(found []ShardSnapshot) (ClusterSet, error) {
	slices.SortStableFunc(found, func(a, b ShardSnapshot) int {
		return cmp.Or(b.Manifest.CreatedAt.Compare(a.Manifest.CreatedAt), cmp.Compare(a.Shard, b.Shard))
	})
	var set ClusterSet
	var holder [slotCount]int // number of the snapshot, from 1
	var ps problems
	for i, s := range found {
		var double []int
		with := 0
		for slot := range eachSlot(s.Manifest.Slots) {
			if h := holder[slot]; h != 0 {
				double, with = append(double, slot), h
			}
		}
		switch n := countSlots(s.Manifest.Slots); {
		case len(double) == n:
			set.Resting = append(set.Resting, s)
			continue
		case len(double) > 0:
			ps = append(ps, fmt.Errorf("slots %s are in both %s (shard %s) and %s (shard %s)",
				shortSlots(rangesOf(double)), found[with-1].Manifest.ID, found[with-1].Shard, s.Manifest.ID, s.Shard))
		}
		for slot := range eachSlot(s.Manifest.Slots) {
			holder[slot] = i + 1
		}
		set.Shards = append(set.Shards, s)
	}
	var missing []int
	for slot, h := range holder {
		if h == 0 {
			missing = append(missing, slot)
		}
	}
	if len(missing) > 0 {
		ps = append(ps, fmt.Errorf("slots %s are in none of the %d snapshots", shortSlots(rangesOf(missing)), len(set.Shards)))
	}
	if len(ps) > 0 {
		return ClusterSet{}, fmt.Errorf("the snapshots are no whole cluster: %w", ps)
	}
	slices.SortFunc(set.Shards, func(a, b ShardSnapshot) int { return a.Manifest.Slots[0].First - b.Manifest.Slots[0].First })
	return set, nil
}

func eachSlot(ranges []SlotRange) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for _, r := range ranges {
			for slot := r.First; slot <= r.Last; slot++ {
				if !yield(slot) {
					return
				}
			}
		}
	}
}

// rangesOf joins slots that are in order.
func rangesOf(slots []int) []SlotRange {
	var out []SlotRange
	for _, s := range slots {
		if n := len(out); n > 0 && out[n-1].Last == s-1 {
			out[n-1].Last = s
		} else {
			out = append(out, SlotRange{First: s, Last: s})
		}
	}
	return out
}

// whenWhole looks for the newest time at which the shards make a whole cluster,
// and for slots that no snapshot has. It is for a hint: it gives up early, and on
// any error; both are zero then.
func (c *Catalogue) whenWhole(ctx context.Context, shards []*Catalogue) (at time.Time, never []SlotRange) {
	var has [slotCount]bool
	unread := false // it may have any slot
	var all []ShardSnapshot
	for _, shard := range shards {
		entries, err := shard.List(ctx, maxSetReads/len(shards))
		if err != nil {
			return time.Time{}, nil
		}
		for _, e := range entries {
			if e.Err != nil {
				unread = true
				continue
			}
			for slot := range eachSlot(e.Manifest.Slots) {
				has[slot] = true
			}
			all = append(all, ShardSnapshot{Shard: ShardOf(shard.instance), Catalogue: shard, Manifest: e.Manifest})
		}
	}
	var without []int
	for slot := range has {
		if !has[slot] {
			without = append(without, slot)
		}
	}
	if len(without) > 0 && !unread {
		return time.Time{}, rangesOf(without)
	}
	slices.SortFunc(all, func(a, b ShardSnapshot) int { return b.Manifest.CreatedAt.Compare(a.Manifest.CreatedAt) })
	for i := range all[:min(len(all), maxSetTries)] {
		at := all[i].Manifest.CreatedAt.Truncate(time.Second).Add(time.Second)
		seen := map[string]bool{}
		var found []ShardSnapshot
		for _, s := range all {
			if !s.Manifest.CreatedAt.After(at) && !seen[s.Shard] {
				seen[s.Shard] = true
				found = append(found, s)
			}
		}
		if _, err := cover(found); err == nil {
			return at, nil
		}
	}
	return time.Time{}, nil
}

// String names the snapshots for people.
func (s ClusterSet) String() string {
	texts := make([]string, len(s.Shards))
	for i, x := range s.Shards {
		texts[i] = x.Shard + ": " + x.Manifest.ID
	}
	return strings.Join(texts, ", ")
}
