package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// How the shards of a cluster share a backup.instance.
//
// Every shard has a place of its own below it:
//
//	<instance>/shards/<shard>/snapshots/<id>/…
//
// which is an instance like any other: leases, retention and all that go by a
// catalogue are per shard. Which one is a node's is decided by slots alone: pods
// change their shard with every failover, node ids change with every new node,
// and shard ids exist from Redis 7.2 on only.
//
// A shard is named by its lowest slot at its first snapshot, 05461. From then on
// the place belongs to the shard that owns more than half of the slots of the
// newest snapshot in it. At most one shard does, so two shards never share a
// place, and one keeps its place while slots come and go.

const shardsDir = "shards"

// The special values of SnapshotOptions.Shard.
const (
	ShardAuto = "auto" // by its slots, as above
	ShardNone = "none" // every shard has an instance of its own, set by hand
)

// validShard checks the name of a shard: one segment of an instance.
func validShard(name string) error {
	switch {
	case name == ShardAuto, name == ShardNone, name == shardsDir:
		return fmt.Errorf("shard %q: the name is taken", name)
	case strings.Contains(name, "/"):
		return fmt.Errorf("shard %q: a slash is not allowed", name)
	case len(name) > 63:
		return errors.New("shard is longer than 63 bytes")
	}
	if err := ValidInstance(name); err != nil {
		return fmt.Errorf("shard %q is not a name", name)
	}
	return nil
}

// ValidShard checks the setting backup.shard.
func ValidShard(s string) error {
	if s == ShardAuto || s == ShardNone {
		return nil
	}
	return validShard(s)
}

// ShardInstance is the instance of one shard of a cluster.
func ShardInstance(instance, shard string) string { return instance + "/" + shardsDir + "/" + shard }

// ShardOf returns the name of the shard whose instance this is, or "".
func ShardOf(instance string) string {
	rest, name, ok := cutLast(instance, "/")
	if !ok || rest != shardsDir && !strings.HasSuffix(rest, "/"+shardsDir) {
		return ""
	}
	return name
}

// cutLast is strings.Cut at the last separator.
func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// Shards returns the catalogues of the shards of a cluster whose instance this
// is, in the order of their names; none when it is not a cluster's. It costs one
// listing of them all.
func (c *Catalogue) Shards(ctx context.Context) ([]*Catalogue, error) {
	ids, err := c.shardIDs(ctx)
	if err != nil {
		return nil, err
	}
	var out []*Catalogue
	for _, name := range slices.Sorted(maps.Keys(ids)) {
		out = append(out, c.at(name))
	}
	return out, nil
}

// Shard returns the catalogue of one shard of a cluster whose instance this is.
func (c *Catalogue) Shard(name string) (*Catalogue, error) {
	if err := errors.Join(validShard(name), ValidInstance(ShardInstance(c.instance, name))); err != nil {
		return nil, err
	}
	return c.at(name), nil
}

// at keeps all that the catalogue was opened with.
func (c *Catalogue) at(shard string) *Catalogue {
	at := *c
	at.instance = ShardInstance(c.instance, shard)
	return &at
}

// shardIDs returns the ids of the snapshots of every shard, newest first. A
// shard can be without any.
func (c *Catalogue) shardIDs(ctx context.Context) (map[string][]string, error) {
	prefix := c.instance + "/" + shardsDir + "/"
	out := map[string][]string{}
	err := c.store.List(ctx, prefix, func(key string, _ int64, _ time.Time) error {
		name, rest, ok := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		if ok = ok && validShard(name) == nil; !ok {
			return nil
		}
		ids := out[name]
		if id, file, _ := strings.Cut(strings.TrimPrefix(rest, snapshotsDir+"/"), "/"); file == manifestName {
			if _, err := IDTime(id); err == nil {
				ids = append(ids, id)
			}
		}
		out[name] = ids
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	for _, ids := range out {
		slices.SortFunc(ids, func(a, b string) int { return cmp.Compare(b, a) })
	}
	return out, nil
}

// newestManifest returns the newest of ids that can be read; ok is false when
// none of the first few can. Only a store that fails is an error.
func (c *Catalogue) newestManifest(ctx context.Context, ids []string) (m Manifest, ok bool, err error) {
	const tries = 3
	for _, id := range ids[:min(len(ids), tries)] {
		e, err := c.entry(ctx, id)
		if err != nil {
			return Manifest{}, false, err
		}
		if e.Err == nil {
			return e.Manifest, true, nil
		}
	}
	return Manifest{}, false, nil
}

// forShard returns the catalogue of the shard that owns slots; see the top of
// this file. It costs two listings and a small read for each shard.
func (c *Catalogue) forShard(ctx context.Context, slots []SlotRange) (*Catalogue, error) {
	if len(slots) == 0 {
		return c, nil
	}
	// An instance that was set by hand for this shard goes on as it is.
	ids, err := c.IDs(ctx)
	if err != nil {
		return nil, err
	}
	if m, ok, err := c.newestManifest(ctx, ids); err != nil || ok && owns(slots, m.Slots) {
		return c, err
	}
	shards, err := c.shardIDs(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(shards))
	common := make([]int, len(names)) // slots of the newest snapshot that this shard owns; 0: not its place
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(manifestFetches)
	for i, name := range names {
		g.Go(func() error {
			at := c.at(name)
			m, ok, err := at.newestManifest(gctx, shards[name])
			if ok && owns(slots, m.Slots) {
				common[i] = commonSlots(slots, m.Slots)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("list shards: %w", err)
	}
	// Of two shards that became one, the bigger goes on, the other rests.
	best := -1
	for i, n := range common {
		if n > 0 && (best < 0 || n > common[best]) {
			best = i
		}
	}
	if best >= 0 {
		return c.at(names[best]), nil
	}
	return c.at(newShardName(slots[0].First, shards)), nil
}

// owns reports whether more than half of the slots of a snapshot are among
// slots.
func owns(slots, theirs []SlotRange) bool {
	return len(theirs) > 0 && commonSlots(slots, theirs)*2 > countSlots(theirs)
}

// newShardName names a shard by its lowest slot. Where that name is taken by a
// shard which has since given that slot away, a number follows: 05461-2.
func newShardName(lowest int, taken map[string][]string) string {
	name := fmt.Sprintf("%05d", lowest)
	for n := 2; ; n++ {
		// A place without any snapshot is of an upload cut short, or of one that
		// is just being made by another pod of this very shard.
		if len(taken[name]) == 0 {
			return name
		}
		name = fmt.Sprintf("%05d-%d", lowest, n)
	}
}

// settle makes the catalogue of the shard the one that snapshots are put in.
func (s *Snapshotter) settle(ctx context.Context, place clusterPlace) error {
	catalogue := s.base
	if place.cluster != nil {
		switch s.opts.Shard {
		case ShardNone:
		case ShardAuto, "":
			var err error
			if catalogue, err = s.base.forShard(ctx, place.slots); err != nil {
				return fmt.Errorf("which shard is this: %w", err)
			}
		default:
			catalogue = s.base.at(s.opts.Shard)
		}
		if err := ValidInstance(catalogue.instance); err != nil {
			return status.WithHint(status.ReasonRejected, "make backup.instance shorter", err)
		}
	}
	if catalogue.instance != s.catalogue.instance {
		s.log.Info("this shard's snapshots have a place of their own", "instance", catalogue.instance, "slots", shortSlots(place.slots))
	}
	s.catalogue, s.located = catalogue, true
	return nil
}

// stillSettled makes sure, once the save has begun, that the node is of the shard
// that it was settled for.
func (r *run) stillSettled(ctx context.Context, slots []SlotRange, now clusterPlace) error {
	if slices.Equal(slots, now.slots) {
		return nil
	}
	before := r.catalogue.instance
	if err := r.settle(ctx, now); err != nil {
		return err
	}
	if after := r.catalogue.instance; after != before {
		return status.WithReason(status.ReasonSave, fmt.Errorf("the node came from one shard to another while it waited or saved: %s is now %s", before, after))
	}
	return nil
}

// warnOpen says that a snapshot of this shard alone does not tell all.
func (r *run) warnOpen(place clusterPlace) {
	if place.cluster == nil {
		return
	}
	if n := len(place.cluster.Migrating) + len(place.cluster.Importing); n > 0 {
		r.log.Warn("slots are being moved: keys in them can be in the snapshots of both shards, or of neither",
			"migrating", len(place.cluster.Migrating), "importing", len(place.cluster.Importing), "hint", "take another snapshot of every shard when they have arrived")
	}
}

// Locate finds out which instance the snapshots of the server beside go to, and
// returns its catalogue: that of its shard, in a cluster. A server that does not
// answer leaves what was known before.
func (s *Snapshotter) Locate(ctx context.Context) (*Catalogue, error) {
	in, err := askInfo(ctx, s.redis, "cluster")
	if err != nil {
		return s.catalogue, nil //nolint:nilerr // a snapshot says so, to read the catalogue it is not needed
	}
	place, err := learnCluster(ctx, s.redis, in)
	if err != nil {
		return s.catalogue, nil //nolint:nilerr // as above
	}
	if len(place.slots) == 0 {
		s.located = true
		return s.catalogue, nil
	}
	if err := s.settle(ctx, place); err != nil {
		return nil, err
	}
	return s.catalogue, nil
}

// lost tells whether nothing is known yet of where the snapshots of the server
// beside are: it has not answered since the start, as when the sidecar starts before
// it, and the store holds shards, of which it may be one. It costs a listing until
// the server has answered once.
func (s *Snapshotter) lost(ctx context.Context) (bool, error) {
	if s.located || s.opts.Shard == ShardNone {
		return false, nil
	}
	shards, err := s.base.shardIDs(ctx)
	return len(shards) > 0, err
}
