package backup

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// How a lost cluster comes back.
//
// An RDB alone does not make a cluster node: a server that starts from it claims
// the slots of the keys in it, no more, and knows nobody. So every pod gets a
// nodes.conf, too, which says who it is, who the others are and which slots
// belong to whom. All pods write the same one, but for whose it is, without
// talking to each other:
//
//   - The nodes are numbered as in ClusterRestore.Peers. With n shards in the
//     store, 0 to n-1 are their primaries, in the order of their slots, and get
//     their data; the others are replicas, in turn, and get nothing: they copy
//     it from their primary.
//   - Node ids are new, and follow from the name of the cluster, the shard and
//     the number. They must not be those of before: should a node of the old
//     cluster live somewhere, the two would take each other for the same.
//   - Config epochs are 1 to n, which are distinct, as Redis wants them.
//   - Addresses come from the peers' names. Those that are not known yet are left
//     open: on the cluster bus a node is recognised by its id, and who is spoken
//     to by a node that it knows learns its address. An address that belongs to
//     somebody else by now is harmless: the id is not the one expected, and
//     the two stay apart. Nothing here sends CLUSTER MEET.
//
// A server that finds its replicas' nodes.conf before its primary is there waits:
// an empty replica that never had a connection is not promoted
// (cluster-replica-validity-factor, unless it is 0).

// ClusterRestore says how the node that will start here takes part in the restore
// of a whole cluster.
type ClusterRestore struct {
	// Shard is ShardAuto: the node's number is the ordinal of Pod. Or the name of
	// the shard that this node is to be the primary of; with /1 after it the
	// first replica of that shard, and so on.
	Shard string
	Pod   string
	Peers []ClusterPeer // all nodes, this one included, in their order
	// Name tells clusters apart that are restored from the same snapshots: node
	// ids follow from it. All nodes must have the same.
	Name string

	Address string        // of this node; "": that of its name in Peers
	Wait    time.Duration // how long the names of peers may take to lead to an address
	// PromotesEmpty is that the server runs with cluster-replica-validity-factor
	// 0: there a replica that has not got its data yet is no safe thing.
	PromotesEmpty bool

	Dial   func(peer ClusterPeer, ip string) PeerConn               // nil: nobody is asked
	Lookup func(ctx context.Context, host string) ([]string, error) // nil: the system's resolver
}

// ClusterPeer is where a node is reached.
type ClusterPeer struct {
	Host          string
	Port, BusPort int
}

func (p ClusterPeer) String() string { return net.JoinHostPort(p.Host, strconv.Itoa(p.Port)) }

const (
	defaultPort     = 6379
	busPortOffset   = 10000
	maxClusterPeers = maxClusterNodes
)

// ParseClusterPeers reads a list, separated by commas or spaces, of
// host[:port[@busport]]. {0..5} in a host stands for each number from 0 to 5.
func ParseClusterPeers(text string) ([]ClusterPeer, error) {
	var out []ClusterPeer
	for _, field := range strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' }) {
		peers, err := parsePeers(field)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", field, err)
		}
		if out = append(out, peers...); len(out) > maxClusterPeers {
			return nil, fmt.Errorf("more than %d peers", maxClusterPeers)
		}
	}
	for i, p := range out {
		if slices.Contains(out[:i], p) {
			return nil, fmt.Errorf("%s is there twice", p)
		}
	}
	return out, nil
}

func parsePeers(field string) ([]ClusterPeer, error) {
	before, rest, braced := strings.Cut(field, "{")
	if !braced {
		p, err := parsePeer(field)
		return []ClusterPeer{p}, err
	}
	numbers, after, ok := strings.Cut(rest, "}")
	low, high, dots := strings.Cut(numbers, "..")
	first, err1 := strconv.Atoi(low)
	last, err2 := strconv.Atoi(high)
	if !ok || !dots || err1 != nil || err2 != nil || first < 0 || last < first || last-first >= maxClusterPeers {
		return nil, errors.New("the range is not like {0..5}")
	}
	var out []ClusterPeer
	for n := first; n <= last; n++ {
		p, err := parsePeer(before + strconv.Itoa(n) + after)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func parsePeer(text string) (ClusterPeer, error) {
	text, busText, hasBus := strings.Cut(text, "@")
	p := ClusterPeer{Host: text, Port: defaultPort}
	if host, port, err := net.SplitHostPort(text); err == nil {
		p.Host = host
		if p.Port, err = strconv.Atoi(port); err != nil || p.Port < 1 || p.Port > 65535 {
			return ClusterPeer{}, fmt.Errorf("port %.20q", port)
		}
	} else if strings.Contains(text, ":") && net.ParseIP(text) == nil {
		return ClusterPeer{}, errors.New("neither a host nor host:port")
	}
	p.BusPort = p.Port + busPortOffset
	if hasBus {
		bus, err := strconv.Atoi(busText)
		if err != nil || bus < 1 {
			return ClusterPeer{}, fmt.Errorf("bus port %.20q", busText)
		}
		p.BusPort = bus
	}
	if p.BusPort > 65535 {
		return ClusterPeer{}, fmt.Errorf("bus port %d: give it as host:port@busport", p.BusPort)
	}
	if p.Host == "" || strings.ContainsAny(p.Host, "/{}@") {
		return ClusterPeer{}, errors.New("no host")
	}
	return p, nil
}

const promoteHint = "it is promoted by itself when most primaries are there, but not after a restart: then by CLUSTER FAILOVER FORCE there, " +
	"or TAKEOVER when they are not; then run this again"

// clusterSeat is the node's place in the cluster that is being restored.
type clusterSeat struct {
	opts  *ClusterRestore
	set   ClusterSet
	nodes []seatNode // by number
	self  int
	log   *slog.Logger

	silent bool // another node of this shard did not answer when it was asked last
}

type seatNode struct {
	peer    ClusterPeer
	id      string
	shard   int // in set
	primary int // number of the node that it follows; -1: it owns the shard's slots
	ip      string
	lookup  error // why the resolver did not say; a name without addresses is none
}

// newSeat numbers the nodes. It asks nobody.
func newSeat(o *ClusterRestore, instance string, set ClusterSet, log *slog.Logger) (*clusterSeat, error) {
	n := len(set.Shards)
	if len(o.Peers) < n {
		return nil, status.WithHint(status.ReasonFile, "name all nodes in restore.cluster-peers, at least one for every shard",
			fmt.Errorf("the snapshots are of %d shards, but restore.cluster-peers are %d", n, len(o.Peers)))
	}
	s := &clusterSeat{opts: o, set: set, log: log}
	for i, peer := range o.Peers {
		node := seatNode{peer: peer, shard: i % n, primary: i % n, id: nodeID(o.Name, instance, set.Shards[i%n].Shard, i/n)}
		if i < n {
			node.primary = -1
		}
		s.nodes = append(s.nodes, node)
	}
	var err error
	s.self, err = s.number()
	return s, err
}

// number returns which of the nodes this one is.
func (s *clusterSeat) number() (int, error) {
	if s.opts.Shard == ShardAuto {
		_, digits, _ := cutLast(s.opts.Pod, "-")
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 {
			return 0, status.WithHint(status.ReasonFile, "name the shard in restore.shard, or set pod.name to that of a StatefulSet's pod, which ends in its number",
				fmt.Errorf("restore.shard is auto, but pod %q has no number", s.opts.Pod))
		}
		if n >= len(s.nodes) {
			return 0, status.WithHint(status.ReasonFile, "name every pod in restore.cluster-peers, in the order of their numbers",
				fmt.Errorf("pod %s is number %d, but restore.cluster-peers are %d", s.opts.Pod, n, len(s.nodes)))
		}
		return n, nil
	}
	name, text, isReplica := strings.Cut(s.opts.Shard, "/")
	replica := 0
	if isReplica {
		var err error
		if replica, err = strconv.Atoi(text); err != nil || replica < 1 {
			return 0, status.WithReason(status.ReasonFile, fmt.Errorf("restore.shard %q: after the slash comes the number of a replica, from 1", s.opts.Shard))
		}
	}
	at := slices.IndexFunc(s.set.Shards, func(x ShardSnapshot) bool { return x.Shard == name })
	if at < 0 {
		var names []string
		for _, x := range s.set.Shards {
			names = append(names, x.Shard)
		}
		return 0, status.WithHint(status.ReasonStoreMissing, "the shards are: "+strings.Join(names, ", "),
			fmt.Errorf("%w: there is no shard %s", ErrNotFound, name))
	}
	n := at + replica*len(s.set.Shards)
	if n >= len(s.nodes) {
		return 0, status.WithReason(status.ReasonFile, fmt.Errorf("restore.shard %s is node %d, but restore.cluster-peers are %d", s.opts.Shard, n, len(s.nodes)))
	}
	return n, nil
}

// nodeID derives the id of a node, 40 hex digits. Everybody who knows what goes
// in comes to the same.
func nodeID(cluster, instance, shard string, replica int) string {
	sum := sha1.Sum([]byte(strings.Join([]string{"redis-sidecar restored node", cluster, instance, shard, strconv.Itoa(replica)}, "\x00")))
	return hex.EncodeToString(sum[:])
}

func (s *clusterSeat) shard() ShardSnapshot { return s.set.Shards[s.nodes[s.self].shard] }

func (s *clusterSeat) isReplica() bool { return s.nodes[s.self].primary >= 0 }

// describe says what the node is, for people.
func (s *clusterSeat) describe() string {
	me := s.nodes[s.self]
	if me.primary >= 0 {
		return fmt.Sprintf("a replica of node %d in shard %s", me.primary, s.shard().Shard)
	}
	return fmt.Sprintf("the primary of shard %s, slots %s", s.shard().Shard, shortSlots(s.shard().Manifest.Slots))
}

// resolve finds the peers' addresses. Those that are not known in time stay
// empty; a resolver that fails for so long is an error, as it is not known then
// who lives. With onlyAnswers it waits for no name that leads nowhere.
func (s *clusterSeat) resolve(ctx context.Context, onlyAnswers bool) error {
	lookup := s.opts.Lookup
	if lookup == nil {
		lookup = net.DefaultResolver.LookupHost
	}
	if s.opts.Address != "" && s.self >= 0 {
		s.nodes[s.self].ip = s.opts.Address
	}
	const pause = 500 * time.Millisecond
	deadline := time.Now().Add(s.opts.Wait)
	for {
		s.lookupOnce(ctx, lookup)
		var open []string
		var failed error
		for _, n := range s.nodes {
			if n.ip == "" {
				open = append(open, n.peer.Host)
			}
			if failed == nil && n.lookup != nil {
				failed = n.lookup
			}
		}
		if len(open) == 0 || onlyAnswers && failed == nil {
			break
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if time.Now().After(deadline) {
			if failed != nil {
				return failed
			}
			s.log.Warn("addresses of other nodes are not known yet: they are learnt when those nodes start and speak to this one", "names", open,
				"hint", "publishNotReadyAddresses: true and podManagementPolicy: Parallel let all names be known at once")
			break
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
	for i, n := range s.nodes {
		for j := range i {
			if o := s.nodes[j]; n.ip != "" && n.ip == o.ip && n.peer.Port == o.peer.Port {
				return status.WithHint(status.ReasonAddress, "restore.cluster-peers must name each pod by a name of its own, not a Service of several",
					fmt.Errorf("%s and %s lead to the same address, %s", o.peer, n.peer, n.ip))
			}
		}
	}
	return nil
}

func (s *clusterSeat) lookupOnce(ctx context.Context, lookup func(context.Context, string) ([]string, error)) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	v6 := strings.Contains(s.opts.Address, ":")
	var wg sync.WaitGroup
	gate := make(chan struct{}, manifestFetches)
	for i := range s.nodes {
		n := &s.nodes[i]
		if n.ip != "" {
			continue
		}
		if ip := net.ParseIP(n.peer.Host); ip != nil {
			n.ip = ip.String()
			continue
		}
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			addrs, err := lookup(ctx, n.peer.Host)
			n.lookup = nil
			if err != nil && !nameNotFound(err) {
				n.lookup = resolverError(err)
			}
			if err != nil || len(addrs) == 0 {
				return
			}
			slices.SortStableFunc(addrs, func(a, b string) int { // those of the own family first
				return boolInt(strings.Contains(a, ":") != v6) - boolInt(strings.Contains(b, ":") != v6)
			})
			if net.ParseIP(addrs[0]) != nil {
				n.ip = addrs[0]
			}
		})
	}
	wg.Wait()
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// nodesConf returns the content of the node's cluster configuration, in the form
// that Redis 4 and later and Valkey read.
func (s *clusterSeat) nodesConf() string {
	var b strings.Builder
	for i, n := range s.nodes {
		ip, port, bus := n.ip, n.peer.Port, n.peer.BusPort
		flags, primary := "master", "-"
		if n.primary >= 0 {
			flags, primary = "slave", s.nodes[n.primary].id
		}
		switch {
		case i == s.self:
			flags = "myself," + flags
		case ip == "":
			port, bus = 0, 0
			flags += ",noaddr"
		}
		fmt.Fprintf(&b, "%s %s:%d@%d %s %s 0 0 %d connected", n.id, ip, port, bus, flags, primary, n.shard+1)
		if n.primary < 0 {
			for text := range strings.FieldsSeq(formatSlots(s.set.Shards[n.shard].Manifest.Slots)) {
				b.WriteString(" " + text)
			}
			if i == s.self {
				b.WriteString(s.openSlots(n.shard))
			}
		}
		b.WriteByte('\n')
	}
	fmt.Fprintf(&b, "vars currentEpoch %d lastVoteEpoch 0\n", len(s.set.Shards))
	return b.String()
}

// openSlots are the slots that were on their way when the snapshot was taken.
// Without the marks a server that starts deletes keys of slots that are not its
// own (Valkey 8), or nobody is sent to them.
func (s *clusterSeat) openSlots(shard int) string {
	m := s.set.Shards[shard].Manifest
	if m.Cluster == nil {
		return ""
	}
	owned := make(map[int]bool, countSlots(m.Slots))
	for slot := range eachSlot(m.Slots) {
		owned[slot] = true
	}
	var text strings.Builder
	add := func(open []OpenSlot, arrow string, mine bool) {
		for _, o := range open {
			if other, ok := s.ownerBefore(o.Node); ok && owned[o.Slot] == mine && other != shard {
				fmt.Fprintf(&text, " [%d%s%s]", o.Slot, arrow, s.nodes[other].id)
			}
		}
	}
	add(m.Cluster.Migrating, "->-", true)
	add(m.Cluster.Importing, "-<-", false)
	return text.String()
}

// ownerBefore returns the shard whose primary had this id when its snapshot was
// taken.
func (s *clusterSeat) ownerBefore(id string) (shard int, ok bool) {
	for i, x := range s.set.Shards {
		m := x.Manifest
		primary := m.Server.NodeID
		if m.Cluster != nil {
			for _, n := range m.Cluster.Nodes {
				if n.ID == m.Server.NodeID && n.Primary != "" {
					primary = n.Primary
				}
			}
		}
		if primary == id {
			return i, true
		}
	}
	return 0, false
}

// joinCluster finds the node's place and asks the others whether it may be taken.
// done is true when there is nothing left to restore: the node is a replica, or
// must not come back this way. Otherwise r goes on with the snapshot of its shard.
func (r *restorer) joinCluster(ctx context.Context, dir dataDir) (_ RestoreResult, done bool, err error) {
	o := r.opts.Cluster
	r.meter.phase(PhaseFind, 0)
	set, err := r.cat.FindCluster(ctx, r.opts.From)
	if errors.Is(err, ErrNoSnapshots) {
		err = status.WithHint(status.ReasonStoreMissing,
			"check backup.store and backup.instance; for a new installation set restore.if-none to empty", err)
	}
	var s *clusterSeat
	if err == nil {
		s, err = newSeat(o, r.cat.instance, set, r.log)
	}
	if err != nil {
		if err := ctx.Err(); err != nil {
			return RestoreResult{}, false, err
		}
		result, err := r.joinLiving(ctx, err)
		return result, true, err
	}
	if err := s.resolve(ctx, false); err != nil {
		return RestoreResult{}, false, err
	}
	skip, err := s.consultFor(ctx, r.opts.Peers.Wait)
	if err != nil {
		return RestoreResult{}, false, err
	}
	if skip != "" {
		return r.leaveToLiving(skip), true, nil
	}
	s.warn()
	if s.isReplica() {
		result, err := r.placeReplica(ctx, s, dir)
		return result, true, err
	}
	r.seat, r.cat, r.opts.From = s, s.shard().Catalogue, s.shard().Manifest.ID
	return RestoreResult{}, false, nil
}

// warn says what a person should know of the set.
func (s *clusterSeat) warn() {
	const spreadLimit = 10 * time.Minute
	oldest, newest := s.set.Spread()
	log := s.log.Info
	spread := newest.Sub(oldest).Round(time.Second)
	if spread > spreadLimit {
		log = s.log.Warn
	}
	log("the cluster is restored from snapshots of different moments", "node", s.self, "as", s.describe(), "id", s.nodes[s.self].id,
		"spread", spread, "oldest", oldest.Format(time.RFC3339), "newest", newest.Format(time.RFC3339), "snapshots", s.set.String())
	for _, x := range s.set.Resting {
		s.log.Info("a shard that has given all its slots to others is left out", "shard", x.Shard, "snapshot", x.Manifest.ID)
	}
	for _, x := range s.set.Shards {
		if c := x.Manifest.Cluster; c != nil && len(c.Migrating)+len(c.Importing) > 0 {
			s.log.Warn("slots were being moved when the snapshot was taken: keys of them may be missing, or older than the rest",
				"shard", x.Shard, "migrating", len(c.Migrating), "importing", len(c.Importing), "hint", "redis-cli --cluster fix completes the move")
		}
	}
}

// placeReplica gives a replica its place: a cluster configuration, and no data.
func (r *restorer) placeReplica(ctx context.Context, s *clusterSeat, dir dataDir) (RestoreResult, error) {
	name := r.opts.Names.ClusterConfigFile
	result := RestoreResult{Node: s.describe(), Layout: name}
	if s.opts.PromotesEmpty {
		return RestoreResult{}, status.WithHint(status.ReasonRejected, "remove cluster-replica-validity-factor 0 from redis.conf until the cluster is complete",
			errors.New("this replica could be promoted before it has got its data, and its primary would then drop what was restored"))
	}
	if r.opts.DryRun {
		r.log.Info("would place", "file", name, "as", result.Node)
		return result, nil
	}
	owner, err := ownerFor(r.opts, dir)
	if err != nil {
		return RestoreResult{}, err
	}
	p := &placement{dir: r.opts.Dir, names: r.opts.Names, step: r.opts.step, state: restoreState{
		Version: stateVersion, Phase: phaseFetching, Dump: r.opts.Names.DBFilename, AOF: r.opts.Names.AppendDirname,
	}}
	if err := p.begin(); err != nil {
		return RestoreResult{}, err
	}
	if err := writeFile(p.staging(stagedNodes), s.nodesConf(), owner); err != nil {
		return RestoreResult{}, errors.Join(err, p.abandon())
	}
	if err := ctx.Err(); err != nil {
		return RestoreResult{}, errors.Join(err, p.abandon())
	}
	p.step("staged")
	if err := p.rename(stagedNodes, name); err != nil {
		return RestoreResult{}, errors.Join(err, p.abandon())
	}
	p.step("nodes")
	if err := removeStaging(p.dir, p.step); err != nil {
		return RestoreResult{}, err
	}
	r.log.Info("placed", "file", filepath.Join(r.opts.Dir, name), "as", result.Node)
	return result, nil
}

// recheck asks the others once more, after the download, which can take long.
func (s *clusterSeat) recheck(ctx context.Context) error {
	skip, err := s.consult(ctx)
	if err == nil && (skip != "" || s.isReplica()) {
		if skip == "" {
			skip = "this node is now " + s.describe()
		}
		err = status.WithHint(status.ReasonRejected, "run it again: it then does what fits", fmt.Errorf("others have taken the slots of shard %s during the download: %s", s.shard().Shard, skip))
	}
	return err
}

// consultFor asks until the other nodes of this shard have answered, or the wait
// is over: when a whole cluster starts again and one volume is lost, another that
// has newer data, and knows who is the primary by now, needs a moment to say so.
func (s *clusterSeat) consultFor(ctx context.Context, wait time.Duration) (skip string, err error) {
	deadline := time.Now().Add(wait)
	for {
		skip, err = s.consult(ctx)
		settled := skip != "" || err != nil || !s.silent
		if settled || !time.Now().Add(peerPause).Before(deadline) {
			return skip, err
		}
		if err := sleep(ctx, peerPause); err != nil {
			return "", err
		}
	}
}

// consult asks every peer that answers who it is and who owns the slots of this
// shard. skip is why nothing must be restored, for people. Where a node of the
// restored cluster has taken the shard over, this node becomes its replica.
func (s *clusterSeat) consult(ctx context.Context) (skip string, err error) {
	answers, err := s.askAll(ctx)
	if err != nil {
		return "", err
	}
	owner := -1
	s.silent = false
	for i, a := range answers {
		switch {
		case i == s.self:
		case !a.answered:
			s.silent = s.silent || s.nodes[i].shard == s.nodes[s.self].shard
		case a.loading && s.nodes[i].shard == s.nodes[s.self].shard:
			// A replica that was never there before has nothing to load. A primary may
			// load what was restored; or be the replica of this node by now.
			return "", status.WithHint(status.ReasonRejected, "run it again when that one has loaded its data",
				fmt.Errorf("%s, of the same shard, is loading its data, which may be newer than any snapshot", s.nodes[i].peer))
		case a.loading:
			s.log.Info("a peer is loading its data", "peer", s.nodes[i].peer.String())
		case a.id != s.nodes[i].id:
			if err := s.wouldBeCopied(a.nodes); err != nil {
				return "", err
			}
			if held := a.held(); held != "" {
				return fmt.Sprintf("%s is a node of another cluster, or none, and holds %s", s.nodes[i].peer, held), nil
			}
			s.log.Warn("a peer runs, empty, and is not the node that it would be after its restore", "peer", s.nodes[i].peer.String(), "id", a.id, "hint", "restart its pod, with restore.shard set for it, too")
		default:
			if a.follows == s.nodes[s.self].id && a.keys > 0 {
				return "", status.WithHint(status.ReasonRejected, promoteHint,
					fmt.Errorf("replica %s of this node holds %d keys: its data is newer than any snapshot", s.nodes[i].peer, a.keys))
			}
			o := s.ownerIn(a.nodes)
			if o == "" || o == s.nodes[s.self].id {
				if replica := s.missingReplica(a.nodes, answers); replica != "" {
					return "", status.WithHint(status.ReasonRejected, "start that one first. If its data is lost, too, let it start empty, by this restore",
						fmt.Errorf("replica %s of this node was there before, and does not say what it holds: that is newer than any snapshot", replica))
				}
			}
			if o != "" {
				at := slices.IndexFunc(s.nodes, func(n seatNode) bool { return n.id == o })
				if at < 0 {
					return fmt.Sprintf("%s says that slots of this shard belong to node %s", s.nodes[i].peer, o), nil
				}
				owner = at
			}
		}
	}
	if owner >= 0 && owner != s.primaryOf(s.self) {
		s.follow(owner)
	}
	return "", nil
}

// askAll asks every peer that has an address, all at once. One that answers but
// does not tell is an error.
func (s *clusterSeat) askAll(ctx context.Context) ([]nodeAnswer, error) {
	answers := make([]nodeAnswer, len(s.nodes))
	errs := make([]error, len(s.nodes))
	var wg sync.WaitGroup
	gate := make(chan struct{}, manifestFetches)
	for i, n := range s.nodes {
		if i == s.self || n.ip == "" || s.opts.Dial == nil {
			continue
		}
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			conn := s.opts.Dial(n.peer, n.ip)
			defer func() { _ = conn.Close() }()
			answers[i], errs[i] = askNode(ctx, conn)
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	for i, err := range errs {
		if err != nil {
			return nil, status.WithHint(status.ReasonOf(err), "it may be of a living cluster, which must be known before anything is restored: give redis.user, redis.password-file and redis.tls as for the nodes",
				fmt.Errorf("peer %s answers, but does not say what it holds: %w", s.nodes[i].peer, err))
		}
	}
	return answers, nil
}

// wouldBeCopied is an error when a node of another cluster knows a replica whose
// primary had the address of this node. Started empty, this node would be taken
// for that primary: Redis does not ask for the id before it copies.
func (s *clusterSeat) wouldBeCopied(nodes []nodeLine) error {
	if s.self < 0 || s.nodes[s.self].ip == "" {
		return nil
	}
	me := s.nodes[s.self]
	for _, n := range nodes {
		if n.Address != net.JoinHostPort(me.ip, strconv.Itoa(me.peer.Port)) && n.Address != me.ip+":"+strconv.Itoa(me.peer.Port) {
			continue
		}
		for _, r := range nodes {
			if r.Primary == n.ID {
				return status.WithHint(status.ReasonRejected, promoteHint,
					fmt.Errorf("replica %s looks for its primary at the address of this node, which would start empty there, and copy that", r.Address))
			}
		}
	}
	return nil
}

// missingReplica returns a replica of this node that a node of the restored
// cluster has heard of, and that has not answered; "" when there is none.
func (s *clusterSeat) missingReplica(nodes []nodeLine, answers []nodeAnswer) (replica string) {
	for _, n := range nodes {
		if n.Primary != s.nodes[s.self].id || !n.seen {
			continue
		}
		at := slices.IndexFunc(s.nodes, func(x seatNode) bool { return x.id == n.ID })
		if at < 0 {
			return n.Address
		}
		if !answers[at].answered || answers[at].loading {
			return s.nodes[at].peer.String()
		}
	}
	return ""
}

func (s *clusterSeat) primaryOf(n int) int {
	if p := s.nodes[n].primary; p >= 0 {
		return p
	}
	return n
}

// follow makes another node the owner of this node's shard.
func (s *clusterSeat) follow(owner int) {
	shard := s.nodes[s.self].shard
	for i := range s.nodes {
		if n := &s.nodes[i]; n.shard == shard || i == owner {
			n.shard, n.primary = shard, owner
		}
	}
	s.nodes[owner].primary = -1
	s.log.Info("a node of the restored cluster owns this shard's slots by now: this one becomes its replica", "owner", s.nodes[owner].peer.String())
}

// ownerIn returns the id of the node that owns most of the shard's slots, as a
// peer sees it; "" when nobody has any.
func (s *clusterSeat) ownerIn(nodes []nodeLine) string {
	id, most := "", 0
	for _, n := range nodes {
		owned, err := parseSlots(n.Slots)
		if err != nil {
			continue
		}
		if c := commonSlots(owned, s.shard().Manifest.Slots); c > most {
			id, most = n.ID, c
		}
	}
	return id
}

// nodeAnswer is what a peer says of itself.
type nodeAnswer struct {
	answered bool
	loading  bool
	id       string
	follows  string // id of its primary
	keys     uint64
	nodes    []nodeLine
}

// held says what a node holds that must not be disturbed, or "".
func (a nodeAnswer) held() string {
	slots := 0
	for _, n := range a.nodes {
		if owned, err := parseSlots(n.Slots); err == nil {
			slots += countSlots(owned)
		}
	}
	switch {
	case a.keys > 0 && slots > 0:
		return fmt.Sprintf("%d keys in a cluster of %d slots", a.keys, slots)
	case a.keys > 0:
		return fmt.Sprintf("%d keys", a.keys)
	case slots > 0:
		return fmt.Sprintf("a place in a cluster of %d slots", slots)
	}
	return ""
}

// askNode asks one peer. One that is not there has not answered; one that answers
// and does not tell is an error.
func askNode(ctx context.Context, conn PeerConn) (nodeAnswer, error) {
	const timeout = 5 * time.Second
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	reply, err := conn.Do(ctx, "INFO")
	if err != nil {
		if r := status.ReasonOf(err); r == status.ReasonUnreachable || r == status.ReasonTimeout {
			return nodeAnswer{}, nil // nobody is there, or nobody who lives
		}
		return nodeAnswer{}, err
	}
	in, err := infoReply(reply)
	if err != nil {
		return nodeAnswer{}, err
	}
	a := nodeAnswer{answered: true, loading: in.Get("loading") == "1", keys: countKeys(in).keys}
	if a.loading || in.Get("cluster_enabled") != "1" {
		return a, nil
	}
	if reply, err = conn.Do(ctx, "CLUSTER", "MYID"); err != nil {
		return nodeAnswer{}, err
	}
	a.id, _ = reply.(string)
	text, err := askNodes(ctx, conn)
	if err != nil {
		return nodeAnswer{}, err
	}
	if a.nodes, err = parseNodes(text); err != nil {
		return nodeAnswer{}, status.WithReason(status.ReasonProtocol, fmt.Errorf("CLUSTER NODES: %w", err))
	}
	for _, n := range a.nodes {
		if n.myself {
			a.follows = n.Primary
		}
	}
	return a, nil
}

// ClusterName names the cluster that is being restored, apart from others with
// the same pods' names: by its namespace, where there is one.
func ClusterName(instance string, peers []ClusterPeer) string {
	parts := []string{instance, namespace("/etc/resolv.conf")}
	for _, p := range peers {
		parts = append(parts, p.String())
	}
	return strings.Join(parts, "\x00")
}

// namespace returns the Kubernetes namespace as a pod's resolver has it: its
// first search domain is <namespace>.svc.<domain>. "" elsewhere.
func namespace(resolvConf string) string {
	b, err := os.ReadFile(resolvConf)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) > 1 && fields[0] == "search" {
			if ns, rest, ok := strings.Cut(fields[1], "."); ok && strings.HasPrefix(rest, "svc.") {
				return ns
			}
		}
	}
	return ""
}
