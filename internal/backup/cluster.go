package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// slotCount is how many hash slots a cluster has.
const slotCount = 16384

// maxClusterNodes bounds the nodes that a manifest records. Redis itself is not
// meant for more than 1000.
const maxClusterNodes = 1000

// clusterPlace is where a node of a cluster stands; its zero value is that of a
// server on its own.
type clusterPlace struct {
	nodeID  string
	slots   []SlotRange // of its shard, in order
	cluster *Cluster    // nil outside of a cluster
}

// learnCluster asks a node of a cluster for its id, the slots of its shard and
// what it knows of the others. A server on its own is asked nothing.
func learnCluster(ctx context.Context, redis Redis, in info.Info) (clusterPlace, error) {
	if in.Get("cluster_enabled") != "1" {
		return clusterPlace{}, nil
	}
	text, err := askNodes(ctx, redis)
	if err != nil {
		return clusterPlace{}, fmt.Errorf("slots of this shard: %w", err)
	}
	place, err := parsePlace(text)
	if err != nil {
		return clusterPlace{}, status.WithReason(status.ReasonProtocol, fmt.Errorf("CLUSTER NODES: %w", err))
	}
	return place, nil
}

func askNodes(ctx context.Context, redis interface {
	Do(ctx context.Context, args ...string) (any, error)
}) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	reply, err := redis.Do(ctx, "CLUSTER", "NODES")
	if err != nil {
		return "", err
	}
	text, ok := reply.(string)
	if !ok {
		return "", status.WithReason(status.ReasonProtocol, fmt.Errorf("CLUSTER NODES: unexpected reply of type %T", reply))
	}
	return text, nil
}

// checkMember refuses a node that belongs to no shard: a primary to which no
// slots were given yet, or none are left, and its replicas.
func (p clusterPlace) checkMember() error {
	if p.cluster != nil && len(p.slots) == 0 {
		return fmt.Errorf("%w: its shard owns no slots of the cluster", ErrStandby)
	}
	return nil
}

// nodeLine is one line of CLUSTER NODES.
type nodeLine struct {
	ClusterNode

	myself    bool
	seen      bool // has been heard of, by the node whose view it is
	migrating []OpenSlot
	importing []OpenSlot
}

// parseNodes reads lines of
//
//	<id> <ip:port@bus[,hostname[,aux=value]…]> <flags> <primary's id or -> <ping> <pong> <epoch> <link> <slots>…
func parseNodes(text string) ([]nodeLine, error) {
	var out []nodeLine
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		address, rest, _ := strings.Cut(fields[1], ",")
		address, _, _ = strings.Cut(address, "@")
		hostname, _, _ := strings.Cut(rest, ",")
		n := nodeLine{ClusterNode: ClusterNode{ID: fields[0], Address: address, Hostname: hostname}, seen: fields[5] != "0"}
		for flag := range strings.SplitSeq(fields[2], ",") {
			switch flag {
			case "myself":
				n.myself = true
			case "master", "slave":
				n.Role = flag
			case "fail", "fail?", "noaddr", "handshake":
				n.Failing = true
			}
		}
		if fields[3] != "-" {
			n.Primary = fields[3]
		}
		epoch, err := strconv.ParseUint(fields[6], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("epoch %.20q of node %.40s", fields[6], n.ID)
		}
		n.Epoch = epoch
		var owned []SlotRange
		for _, field := range fields[8:] {
			if strings.HasPrefix(field, "[") {
				if err := n.addOpen(field); err != nil {
					return nil, err
				}
				continue
			}
			r, err := parseSlots(field)
			if err != nil {
				return nil, err
			}
			owned = append(owned, r...)
		}
		sortSlots(owned)
		n.Slots = formatSlots(owned)
		out = append(out, n)
	}
	return out, nil
}

// addOpen reads a slot on its way: [93->-<id>] to another node, [93-<-<id>] from
// it.
func (n *nodeLine) addOpen(field string) error {
	text := strings.TrimSuffix(strings.TrimPrefix(field, "["), "]")
	list, sep := &n.migrating, "->-"
	if !strings.Contains(text, sep) {
		list, sep = &n.importing, "-<-"
	}
	number, node, ok := strings.Cut(text, sep)
	slot, err := strconv.Atoi(number)
	if !ok || err != nil || slot < 0 || slot >= slotCount {
		return fmt.Errorf("slot on its way: %.60q", field)
	}
	*list = append(*list, OpenSlot{Slot: slot, Node: node})
	return nil
}

// parsePlace finds the node itself in its CLUSTER NODES. The slots of a replica's
// shard are in the line of its primary.
func parsePlace(text string) (clusterPlace, error) {
	lines, err := parseNodes(text)
	if err != nil {
		return clusterPlace{}, err
	}
	at := slices.IndexFunc(lines, func(n nodeLine) bool { return n.myself })
	if at < 0 {
		return clusterPlace{}, errors.New("no line of the node itself")
	}
	me := lines[at]
	place := clusterPlace{nodeID: me.ID, cluster: &Cluster{Migrating: me.migrating, Importing: me.importing}}
	primary := cmp.Or(me.Primary, me.ID)
	for _, n := range lines {
		if n.ID == primary {
			if place.slots, err = parseSlots(n.Slots); err != nil {
				return clusterPlace{}, err
			}
		}
		place.cluster.Epoch = max(place.cluster.Epoch, n.Epoch)
		if n.Slots != "" {
			place.cluster.Size++
		}
		if n.Slots != "" || n.ID == me.ID || len(place.cluster.Nodes) < maxClusterNodes {
			place.cluster.Nodes = append(place.cluster.Nodes, n.ClusterNode)
		}
	}
	// Those with slots first, in their order; then the others.
	slices.SortStableFunc(place.cluster.Nodes, func(a, b ClusterNode) int {
		return cmp.Or(cmp.Compare(a.firstSlot(), b.firstSlot()), cmp.Compare(a.ID, b.ID))
	})
	if n := len(place.cluster.Nodes); n > maxClusterNodes {
		place.cluster.Nodes = place.cluster.Nodes[:maxClusterNodes]
	}
	return place, nil
}

// firstSlot is past the last slot for a node without any.
func (n ClusterNode) firstSlot() int {
	ranges, err := parseSlots(n.Slots)
	if err != nil || len(ranges) == 0 {
		return slotCount
	}
	return ranges[0].First
}

// parseSlots reads ranges as Redis writes them, separated by spaces: "0-5460 7000".
// They must be in order.
func parseSlots(text string) ([]SlotRange, error) {
	var out []SlotRange
	last := -1
	for field := range strings.FieldsSeq(text) {
		low, high, isRange := strings.Cut(field, "-")
		if !isRange {
			high = low
		}
		first, err1 := strconv.Atoi(low)
		end, err2 := strconv.Atoi(high)
		if err1 != nil || err2 != nil || first <= last || end < first || end >= slotCount {
			return nil, fmt.Errorf("slots %.40q: not a range, or not in order", field)
		}
		out = append(out, SlotRange{First: first, Last: end})
		last = end
	}
	return out, nil
}

// formatSlots is the reverse of parseSlots.
func formatSlots(ranges []SlotRange) string {
	var b strings.Builder
	for _, r := range ranges {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(strconv.Itoa(r.First))
		if r.Last != r.First {
			b.WriteByte('-')
			b.WriteString(strconv.Itoa(r.Last))
		}
	}
	return b.String()
}

func sortSlots(s []SlotRange) {
	slices.SortFunc(s, func(a, b SlotRange) int { return a.First - b.First })
}

// countSlots returns how many slots there are in ranges.
func countSlots(ranges []SlotRange) int {
	n := 0
	for _, r := range ranges {
		n += r.Last - r.First + 1
	}
	return n
}

// commonSlots returns how many slots two sets of ranges, each in order, have in
// common.
func commonSlots(a, b []SlotRange) int {
	n := 0
	for len(a) > 0 && len(b) > 0 {
		n += max(0, min(a[0].Last, b[0].Last)-max(a[0].First, b[0].First)+1)
		if a[0].Last < b[0].Last {
			a = a[1:]
		} else {
			b = b[1:]
		}
	}
	return n
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
		if theirs := e.Manifest.Slots; len(theirs) > 0 && commonSlots(slots, theirs) == 0 {
			return status.WithHint(status.ReasonRejected, "set backup.shard to auto, or give every shard of the cluster a backup.instance of its own",
				fmt.Errorf("instance %s holds snapshots of another shard: the newest, %s, is of slots %s, this node has %s",
					c.instance, e.ID, shortSlots(theirs), shortSlots(slots)))
		}
	}
	return nil
}

// shortSlots is formatSlots for messages.
func shortSlots(ranges []SlotRange) string {
	const shown = 8
	if len(ranges) <= shown {
		return formatSlots(ranges)
	}
	return fmt.Sprintf("%s and %d more ranges", formatSlots(ranges[:shown]), len(ranges)-shown)
}
