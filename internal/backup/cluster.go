package backup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// clusterPlace is where a node of a cluster stands; empty outside of a cluster.
type clusterPlace struct {
	nodeID string
	slots  []SlotRange // of its shard, in order
}

// learnCluster asks a node of a cluster for its id and the slots of its shard. A
// server on its own is asked nothing.
func learnCluster(ctx context.Context, redis Redis, in info.Info) (clusterPlace, error) {
	if in.Get("cluster_enabled") != "1" {
		return clusterPlace{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := redis.Do(ctx, "CLUSTER", "NODES")
	if err != nil {
		return clusterPlace{}, fmt.Errorf("slots of this shard: %w", err)
	}
	text, ok := reply.(string)
	if !ok {
		return clusterPlace{}, status.WithReason(status.ReasonProtocol, fmt.Errorf("CLUSTER NODES: unexpected reply of type %T", reply))
	}
	place, err := parseClusterNodes(text)
	if err != nil {
		return clusterPlace{}, status.WithReason(status.ReasonProtocol, fmt.Errorf("CLUSTER NODES: %w", err))
	}
	return place, nil
}

// parseClusterNodes reads lines of
//
//	<id> <address> <flags> <master id or -> <ping> <pong> <epoch> <link> <slots>…
//
// The slots of a replica's shard are in the line of its master.
func parseClusterNodes(text string) (clusterPlace, error) {
	nodes := map[string][]string{}
	var place clusterPlace
	master := "-"
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		nodes[fields[0]] = fields[8:]
		if slices.Contains(strings.Split(fields[2], ","), "myself") {
			place.nodeID, master = fields[0], fields[3]
		}
	}
	if place.nodeID == "" {
		return clusterPlace{}, errors.New("no line of the node itself")
	}
	if master == "-" {
		master = place.nodeID
	}
	for _, field := range nodes[master] {
		if strings.HasPrefix(field, "[") { // a slot on its way to or from another node
			continue
		}
		low, high, isRange := strings.Cut(field, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.Atoi(low)
		last, err2 := strconv.Atoi(high)
		if err := errors.Join(err1, err2); err != nil {
			return clusterPlace{}, fmt.Errorf("slots %q: %w", field, err)
		}
		place.slots = append(place.slots, SlotRange{First: first, Last: last})
	}
	slices.SortFunc(place.slots, func(a, b SlotRange) int { return a.First - b.First })
	return place, nil
}

// checkShard refuses to mix the snapshots of two shards of a cluster in one
// instance: the latest would be of whichever saved last, and the retention of one
// would delete those of the other. Shards that have a slot in common may be one,
// before and after a resharding.
func (c *Catalogue) checkShard(ctx context.Context, slots []SlotRange) error {
	if len(slots) == 0 {
		return nil
	}
	newest, err := c.List(ctx, 1)
	if err != nil {
		return err
	}
	for _, e := range newest {
		if theirs := e.Manifest.Slots; len(theirs) > 0 && !overlap(slots, theirs) {
			return status.WithHint(status.ReasonRejected, "give every shard of the cluster a backup.instance of its own",
				fmt.Errorf("instance %s holds snapshots of another shard: the newest, %s, is of slots %d to %d, this node has %d to %d",
					c.instance, e.ID, theirs[0].First, theirs[len(theirs)-1].Last, slots[0].First, slots[len(slots)-1].Last))
		}
	}
	return nil
}

func overlap(a, b []SlotRange) bool {
	return slices.ContainsFunc(a, func(x SlotRange) bool {
		return slices.ContainsFunc(b, func(y SlotRange) bool { return x.First <= y.Last && y.First <= x.Last })
	})
}
