package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// orphanAge is how old an upload without a manifest must be before it counts as
// abandoned: longer than any upload takes.
const orphanAge = 24 * time.Hour

// Pruned says what Prune deleted, or with dryRun would delete.
type Pruned struct {
	Deleted []string // ids, oldest first
	Kept    int      // snapshots that stay
	Orphans []Orphan // uploads without a manifest, older than a day
	Parts   int      // remains of uploads that the store does not list; not known in a dry run

	// Spared is a snapshot beyond keepLast that stays because every newer one is
	// empty or damaged. "" when there was no need.
	Spared string

	// Ahead are the snapshots of the future, newest first. They stay and do not
	// count: a clock was wrong, and what was taken since must not go in their
	// place.
	Ahead []string
}

// clockSlack is how far two clocks may be apart before a snapshot counts as one
// of the future.
const clockSlack = 5 * time.Minute

// ahead returns how many of ids, newest first, are of the future.
func ahead(ids []string, now time.Time) int {
	n := slices.IndexFunc(ids, func(id string) bool {
		at, _ := IDTime(id) // only valid ones are listed
		return !at.After(now.Add(clockSlack))
	})
	if n < 0 {
		return len(ids)
	}
	return n
}

// Prune deletes all but the keepLast newest snapshots, and what was left behind
// by uploads cut short. The newest snapshot always stays, and so does the newest
// that holds keys: a server that lost its data and goes on taking snapshots of
// nothing must not push the last good one out. A keepLast of 0 keeps all
// snapshots.
//
// A deletion that fails does not end the run; the error then carries
// status.ReasonRetention and Pruned says what was deleted all the same.
func (c *Catalogue) Prune(ctx context.Context, keepLast int, dryRun bool) (Pruned, error) {
	p, err := c.prune(ctx, keepLast, dryRun)
	if err != nil {
		err = status.WithHint(status.ReasonRetention, status.HintOf(err), fmt.Errorf("prune: %w", err))
	}
	return p, err
}

func (c *Catalogue) prune(ctx context.Context, keepLast int, dryRun bool) (Pruned, error) {
	ids, rest, err := c.scan(ctx)
	if err != nil {
		return Pruned{}, err
	}
	n := ahead(ids, time.Now())
	p := Pruned{Ahead: ids[:n]}
	var old []string
	if present := ids[n:]; keepLast > 0 && len(present) > keepLast {
		kept := present[:keepLast]
		old = slices.Clone(present[keepLast:])
		if p.Spared, err = c.spare(ctx, kept, old); err != nil {
			return Pruned{}, err
		}
		old = slices.DeleteFunc(old, func(id string) bool { return id == p.Spared })
	}
	slices.Reverse(old) // a run cut short has deleted the oldest
	orphans := olderThan(rest, time.Now().Add(-orphanAge))
	p.Kept = len(ids) - len(old)
	if dryRun {
		p.Deleted, p.Orphans = old, orphans
		return p, nil
	}

	var failures []error
	for _, id := range old {
		if err := c.Delete(ctx, id); err != nil {
			failures = append(failures, err)
			p.Kept++
		} else {
			p.Deleted = append(p.Deleted, id)
		}
		if giveUp(ctx, failures) {
			return p, joined(failures...)
		}
	}
	for _, o := range orphans {
		if err := c.deleteOrphan(ctx, o.ID); err != nil {
			failures = append(failures, err)
		} else {
			p.Orphans = append(p.Orphans, o)
		}
		if giveUp(ctx, failures) {
			return p, joined(failures...)
		}
	}
	if p.Parts, err = c.store.Sweep(ctx, orphanAge); err != nil {
		failures = append(failures, err)
	}
	return p, joined(failures...)
}

// giveUp ends a run that only produces errors: a store that denies deletion
// denies all of them.
func giveUp(ctx context.Context, failures []error) bool {
	return len(failures) >= 3 || ctx.Err() != nil
}

// spare returns the first of old, newest first, that must stay because none of
// kept holds keys; "" when one of them does.
func (c *Catalogue) spare(ctx context.Context, kept, old []string) (string, error) {
	for i, id := range slices.Concat(kept, old) {
		m, err := c.Get(ctx, id)
		switch {
		case errors.Is(err, ErrNotFound), err != nil && status.ReasonOf(err) == status.ReasonCorrupt:
			continue
		case err != nil:
			return "", err // what cannot be read now may be the good one
		case m.RDB.Walked && m.RDB.Keys == 0:
			continue
		case i < len(kept):
			return "", nil
		}
		return id, nil
	}
	return "", nil
}
