package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// What becomes of a node whose place cannot be told: the store is away, has no
// whole cluster yet, or the pod is beyond restore.cluster-peers. Where a cluster
// lives, no snapshot is needed.

// joinLiving asks the peers. cause is why there is no place: it is the error,
// unless a cluster lives that was not restored from these snapshots.
func (r *restorer) joinLiving(ctx context.Context, cause error) (RestoreResult, error) {
	mayStartEmpty := errors.Is(cause, ErrNoSnapshots) && r.opts.IfNone == IfNoneEmpty && r.opts.From == "latest"
	s := newUnplacedSeat(r.opts.Cluster, r.log)
	// Names that lead nowhere are not waited for: those of a living cluster are known.
	if err := s.resolve(ctx, true); err != nil {
		return RestoreResult{}, unplaced(mayStartEmpty, cause, err)
	}
	s.sitBeside()
	found, err := s.living(ctx, r.cat.instance, r.shardNames(ctx))
	switch {
	case err != nil:
		return RestoreResult{}, unplaced(mayStartEmpty, cause, err)
	case found.skip != "":
		r.log.Warn("no place for this node among the snapshots, and none is needed", "why", cause)
		return r.leaveToLiving(found.skip), nil
	case found.ours != "":
		return RestoreResult{}, fmt.Errorf("%s is of the cluster that was restored before, in which this node has a place that only the snapshots tell: %w", found.ours, cause)
	case mayStartEmpty:
		r.log.Warn("there is no snapshot of a cluster yet: the server starts empty", "store", r.cat.String())
		return RestoreResult{Skipped: "there is no snapshot yet"}, nil
	}
	return RestoreResult{}, cause
}

// unplaced is the error when the peers do not tell, either. That alone keeps a node
// from starting empty; otherwise the cause comes first.
func unplaced(mayStartEmpty bool, cause, err error) error {
	if mayStartEmpty {
		return err
	}
	return fmt.Errorf("%w; nor is it known whether a cluster lives: %w", cause, err)
}

// leaveToLiving is the result of a restore that a living cluster makes needless.
func (r *restorer) leaveToLiving(found string) RestoreResult {
	r.log.Warn("not restored: a living cluster holds these slots", "found", found,
		"hint", "this node starts empty and belongs to no cluster: add it by redis-cli --cluster add-node, and give it a primary")
	return RestoreResult{Skipped: found}
}

// newUnplacedSeat knows the peers, but of no node which shard it is of.
func newUnplacedSeat(o *ClusterRestore, log *slog.Logger) *clusterSeat {
	s := &clusterSeat{opts: o, log: log, self: -1}
	for _, p := range o.Peers {
		s.nodes = append(s.nodes, seatNode{peer: p, primary: -1})
	}
	if o.Shard == ShardAuto {
		if n, err := s.number(); err == nil {
			s.self = n
		}
	}
	return s
}

// sitBeside gives a node that is not among the peers, or of which it is not known
// which it is, a number after theirs: at its own address, and the port that all have.
func (s *clusterSeat) sitBeside() {
	if p := s.opts.Peers; s.self < 0 && s.opts.Address != "" && len(p) > 0 {
		s.self = len(s.nodes)
		s.nodes = append(s.nodes, seatNode{peer: ClusterPeer{Host: s.opts.Address, Port: p[0].Port, BusPort: p[0].BusPort}, primary: -1, ip: s.opts.Address})
	}
}

// livingAnswer is what the peers say: a reason not to restore, for people, or the
// peer that is of this restore. Both "": no cluster lives.
type livingAnswer struct{ skip, ours string }

// living asks every peer once. It is an error when somebody's data is in danger, or
// not known yet.
func (s *clusterSeat) living(ctx context.Context, instance string, shards []string) (livingAnswer, error) {
	answers, err := s.askAll(ctx)
	if err != nil {
		return livingAnswer{}, err
	}
	var out livingAnswer
	var loading, copied error
	ids := map[string]string{} // to the peer that says it
	for i, a := range answers {
		peer := s.nodes[i].peer.String()
		switch {
		case !a.answered:
			continue
		case a.loading:
			loading = status.WithHint(status.ReasonRejected, "run it again when that one has loaded its data",
				fmt.Errorf("%s is loading its data, which may be newer than any snapshot", peer))
			continue
		}
		copied = cmp.Or(copied, s.wouldBeCopied(a.nodes))
		held := a.held()
		if held == "" {
			continue
		}
		if out.skip == "" {
			out.skip = fmt.Sprintf("%s is a node of another cluster, or none, and holds %s", peer, held)
		}
		for _, n := range a.nodes {
			ids[n.ID] = peer
		}
	}
	if peer := s.restoredOf(ids, instance, shards); peer != "" {
		return livingAnswer{ours: peer}, nil
	}
	switch {
	case copied != nil:
		return livingAnswer{}, copied
	case out.skip != "":
		return out, nil
	}
	return livingAnswer{}, loading
}

// maxReplicas is how many replicas of a shard restoredOf tries.
const maxReplicas = 32

// restoredOf returns the peer that knows a node with an id that this restore gives;
// "" when there is none. Which shards there are is not known: all are tried that
// there can be, 16384, and those with names by hand that the store tells.
func (s *clusterSeat) restoredOf(ids map[string]string, instance string, shards []string) (peer string) {
	if len(ids) == 0 {
		return ""
	}
	try := func(shard string) bool {
		for replica := range min(len(s.nodes), maxReplicas) {
			if peer = ids[nodeID(s.opts.Name, instance, shard, replica)]; peer != "" {
				return true
			}
		}
		return false
	}
	if slices.ContainsFunc(shards, try) {
		return peer
	}
	for slot := range slotCount {
		if try(fmt.Sprintf("%05d", slot)) {
			return peer
		}
	}
	return ""
}

// shardNames are those that the store tells, if it does.
func (r *restorer) shardNames(ctx context.Context) []string {
	var names []string
	shards, err := r.cat.Shards(ctx)
	if err != nil {
		r.log.Debug("names of shards", "error", err)
	}
	for _, c := range shards {
		names = append(names, ShardOf(c.instance))
	}
	return names
}
