package backup

import (
	"context"
	"slices"
	"time"
)

// Sample returns the ids to verify: the newest snapshot that is not dated in the
// future, if there is one, and n others, those that were not verified for the longest
// time. A snapshot counts as verified when it was taken, as it was read back then.
func (c *Catalogue) Sample(ctx context.Context, n int) ([]string, error) {
	folders, _, err := c.scan(ctx)
	if err != nil {
		return nil, err
	}
	all, err := c.factsOf(ctx, folders, false)
	if err != nil {
		return nil, err
	}
	return sample(all, n, time.Now()), nil
}

func sample(all []snapshotFacts, n int, now time.Time) []string {
	// What a newer program has written, only that can verify.
	all = slices.DeleteFunc(slices.Clone(all), func(f snapshotFacts) bool { return f.newer })
	if len(all) == 0 {
		return nil
	}
	checked := func(f snapshotFacts) time.Time {
		if f.checkedAt.After(f.at) {
			return f.checkedAt
		}
		return f.at
	}
	newest := max(0, slices.IndexFunc(all, func(f snapshotFacts) bool { return !Ahead(f.at, now) }))
	ids := []string{all[newest].id}
	others := slices.Delete(all, newest, newest+1)
	slices.SortStableFunc(others, func(a, b snapshotFacts) int { return checked(a).Compare(checked(b)) })
	for _, f := range others[:min(max(n, 0), len(others))] {
		ids = append(ids, f.id)
	}
	return ids
}
