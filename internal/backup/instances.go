package backup

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// instancesLooked bounds the objects that Instances lists: on S3 a request for
	// each thousand.
	instancesLooked = 5000
	instancesNamed  = 20
)

// Instances names instances that have snapshots in the catalogue's store, a cluster
// once, in order, for who has mistaken the name of one. It looks at a few thousand
// objects at most and returns a few names; more tells that it has not seen all.
func (c *Catalogue) Instances(ctx context.Context) (names []string, more bool, err error) {
	enough := errors.New("enough")
	seen := map[string]bool{}
	looked := 0
	err = c.store.List(ctx, "", func(key string, _ int64, _ time.Time) error {
		if looked++; looked > instancesLooked {
			return enough
		}
		folder, ok := strings.CutSuffix(key, "/"+manifestName)
		if !ok || !ofSnapshot(key) {
			return nil
		}
		dir, _, _ := cutLast(folder, "/")
		name := strings.TrimSuffix(dir, "/"+snapshotsDir)
		if shard := ShardOf(name); shard != "" {
			name = strings.TrimSuffix(name, "/"+shardsDir+"/"+shard)
		}
		switch {
		case seen[name]:
		case len(seen) == instancesNamed:
			return enough
		case ValidInstance(name) == nil:
			seen[name] = true
		}
		return nil
	})
	if more = errors.Is(err, enough); err != nil && !more {
		return nil, false, fmt.Errorf("list instances: %w", err)
	}
	return slices.Sorted(maps.Keys(seen)), more, nil
}
