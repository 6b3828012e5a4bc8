package backup

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

const (
	nodeA = "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca"
	nodeB = "67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1"
	nodeC = "07c37dfeb235213a872192d90877d0cd55635b91"
)

func TestParsePlace(t *testing.T) {
	const (
		a     = nodeA + " 127.0.0.1:30001@31001 myself,master - 0 0 7 connected 7000 0-5460 [5461->-" + nodeB + "] [9-<-" + nodeB + "]\n"
		b     = nodeB + " 127.0.0.1:30002@31002,redis-1.redis,shard-id=1 master,fail? - 0 1426238316232 2 connected 5461-6999\n"
		c     = nodeC + " 127.0.0.1:30004@31004,host slave " + nodeA + " 0 1426238317239 4 connected\n"
		selfC = nodeC + " :0@0 myself,slave " + nodeB + " 0 0 4 connected\n"
	)
	master, err := parsePlace(c + b + a)
	if err != nil {
		t.Fatal(err)
	}
	want := clusterPlace{
		nodeID: nodeA,
		slots:  []SlotRange{{0, 5460}, {7000, 7000}},
		cluster: &Cluster{
			Size: 2, Epoch: 7,
			Nodes: []ClusterNode{
				{ID: nodeA, Address: "127.0.0.1:30001", Role: "master", Epoch: 7, Slots: "0-5460 7000"},
				{ID: nodeB, Address: "127.0.0.1:30002", Hostname: "redis-1.redis", Role: "master", Epoch: 2, Failing: true, Slots: "5461-6999"},
				{ID: nodeC, Address: "127.0.0.1:30004", Hostname: "host", Role: "slave", Primary: nodeA, Epoch: 4},
			},
			Migrating: []OpenSlot{{5461, nodeB}},
			Importing: []OpenSlot{{9, nodeB}},
		},
	}
	if diff := cmp.Diff(want, master, cmp.AllowUnexported(clusterPlace{})); diff != "" {
		t.Errorf("master (-want +got):\n%s", diff)
	}
	replica, err := parsePlace(selfC + b)
	if err != nil || replica.nodeID != nodeC || fmt.Sprint(replica.slots) != "[{5461 6999}]" {
		t.Errorf("replica: %+v, %v", replica, err)
	}
	for _, bad := range []string{
		"", c + b, "garbage",
		"x y myself,master - 0 0 0 connected 1-x\n",
		"x y myself,master - 0 0 x connected 1-2\n",
		"x y myself,master - 0 0 0 connected 0-5 3-9\n",
		"x y myself,master - 0 0 0 connected 16384\n",
		"x y myself,master - 0 0 0 connected [1-?-z]\n",
	} {
		if place, err := parsePlace(bad); err == nil {
			t.Errorf("parsePlace(%q) = %+v", bad, place)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add(nodeA + " 127.0.0.1:30001@31001 myself,master - 0 0 7 connected 0-5460 [5461->-" + nodeB + "]\n")
	f.Fuzz(func(t *testing.T, text string) {
		place, err := parsePlace(text)
		if err != nil {
			return
		}
		if _, err := parseSlots(formatSlots(place.slots)); err != nil {
			t.Error(err)
		}
		if ps := place.cluster.problems(); len(ps) > 0 {
			t.Errorf("cannot be recorded: %v", ps)
		}
	})
}

// A cluster of a thousand nodes with the slots in the worst order can be
// recorded.
func TestManifestOfTheLargestCluster(t *testing.T) {
	var text strings.Builder
	for n := range 1200 {
		flags := "master"
		if n == 0 {
			flags = "myself,master"
		}
		fmt.Fprintf(&text, "%040x [fd00:1234:5678:9abc:def0:1234:5678:9abc]:6379@16379,redis-%d.redis-pods.some-namespace.svc.cluster.local %s - 0 0 %d connected", n, n, flags, n)
		if n < 2 {
			for slot := n; slot < slotCount; slot += 2 {
				fmt.Fprintf(&text, " %d", slot)
			}
		}
		text.WriteByte('\n')
	}
	place, err := parsePlace(text.String())
	if err != nil {
		t.Fatal(err)
	}
	m := testManifest(noon, 1)
	m.Slots, m.Cluster = place.slots, place.cluster
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseManifest(b); err != nil {
		t.Error(err)
	}
	if len(m.Cluster.Nodes) != maxClusterNodes || m.Cluster.Size != 2 || m.Cluster.Nodes[0].Slots == "" {
		t.Errorf("%d nodes of %d", len(m.Cluster.Nodes), m.Cluster.Size)
	}
}

// Which place in the store a shard's snapshots have.
func TestForShard(t *testing.T) {
	slots := func(text string) []SlotRange {
		t.Helper()
		s, err := parseSlots(text)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	type there struct{ shard, slots string } // shard "" is the instance itself
	for _, test := range []struct {
		name  string
		store []there // oldest first
		slots string
		want  string
	}{
		{"the first", nil, "5461-10922", "test/shards/05461"},
		{"the next", []there{{"00000", "0-5460"}, {"05461", "5461-10922"}}, "5461-10922", "test/shards/05461"},
		{"of another shard", []there{{"00000", "0-5460"}}, "5461-10922", "test/shards/05461"},
		{"gave its lowest slots away", []there{{"05461", "5461-10922"}}, "6827-10922", "test/shards/05461"},
		{"took lower slots", []there{{"05461", "5461-10922"}}, "100 5461-10922", "test/shards/05461"},
		{"new, with the lowest slots of others", []there{{"00000", "0-5460"}, {"05461", "5461-10922"}}, "0-1364 5461-6826", "test/shards/00000-2"},
		{"new, for the second time", []there{{"00000", "0-5460"}, {"00000-2", "0-1364 5461-6826"}}, "0-1364 5461-6826", "test/shards/00000-2"},
		{"two that became one", []there{{"00000", "0-5460"}, {"05461", "5461-16383"}}, "0-16383", "test/shards/05461"},
		{"exactly half is not enough", []there{{"00000", "0-99"}}, "0-49", "test/shards/00000-2"},
		{"the newest snapshot counts", []there{{"00000", "0-99"}, {"00000", "0-30"}}, "0-49", "test/shards/00000"},
		{"an instance by hand", []there{{"", "5461-10922"}}, "5461-10922", "test"},
		{"an instance by hand of another", []there{{"", "0-5460"}}, "5461-10922", "test/shards/05461"},
		{"an instance of before the cluster", []there{{"", ""}}, "5461-10922", "test/shards/05461"},
		{"no slots", []there{{"00000", "0-5460"}}, "", "test"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := dirStore(t)
			base := newTestCatalogue(t, s)
			for i, x := range test.store {
				at := base
				if x.shard != "" {
					at = base.at(x.shard)
				}
				m := testManifest(noon.Add(time.Duration(i)*time.Hour), 1)
				m.Slots = slots(x.slots)
				putSnapshot(t, at, m)
			}
			got, err := base.forShard(t.Context(), slots(test.slots))
			if err != nil || got.Instance() != test.want {
				t.Errorf("%v, %v, want %s", got, err, test.want)
			}
		})
	}
}

func TestShardNames(t *testing.T) {
	for _, bad := range []string{"", "a/b", "..", "snapshots", "shards", strings.Repeat("a", 64), "a b"} {
		if ValidShard(bad) == nil {
			t.Errorf("ValidShard(%q) is nil", bad)
		}
	}
	for _, good := range []string{"auto", "none", "05461", "05461-2", "east"} {
		if err := ValidShard(good); err != nil {
			t.Error(err)
		}
	}
	for instance, want := range map[string]string{"a/shards/05461": "05461", "shards/1": "1", "a": "", "a/05461": "", "a/shards/1/2": ""} {
		if got := ShardOf(instance); got != want {
			t.Errorf("ShardOf(%q) = %q", instance, got)
		}
	}
}

// One instance for a whole cluster: every shard gets a place of its own, the
// master's and the replica's are the same, also when they change their roles, and
// a node without slots has none.
func TestSnapshotsOfACluster(t *testing.T) {
	nodes := testenv.StartCluster(t, 3)
	replica := testenv.StartClusterNode(t)
	nodes[0].Meet(t, replica)
	empty := testenv.StartClusterNode(t)
	nodes[0].Meet(t, empty)
	acquainted(t, append(nodes[:3:3], replica, empty))
	replica.Do(t, "CLUSTER", "REPLICATE", nodes[1].NodeID(t))
	linkUp(t, replica)
	s, _ := dirStore(t)
	base := newTestCatalogue(t, s)

	var taken []Manifest
	for i, want := range []string{"test/shards/00000", "test/shards/05461", "test/shards/10922"} {
		sn := newTestSnapshotter(t, nodes[i], s)
		m := mustSnapshot(t, sn)
		if m.Instance != want || sn.Catalogue().Instance() != want {
			t.Errorf("shard %d is %s, want %s", i, m.Instance, want)
		}
		taken = append(taken, m)
	}
	m := mustSnapshot(t, newTestSnapshotter(t, replica, s))
	if m.Instance != "test/shards/05461" || m.Server.Role != "slave" {
		t.Errorf("of the replica: %s, %s", m.Instance, m.Server.Role)
	}
	if located, err := newTestSnapshotter(t, replica, s).Locate(t.Context()); err != nil || located.Instance() != "test/shards/05461" {
		t.Errorf("located %v, %v", located, err)
	}

	// One manifest shows the whole cluster.
	c := taken[1].Cluster
	if c == nil || c.Shard != "05461" || c.Size != 3 || len(c.Nodes) != 5 || c.Epoch < 3 {
		t.Fatalf("cluster: %+v", c)
	}
	for i, want := range []ClusterNode{
		{ID: nodes[0].NodeID(t), Address: nodes[0].Addr, Role: "master", Slots: "0-5460"},
		{ID: nodes[1].NodeID(t), Address: nodes[1].Addr, Role: "master", Slots: "5461-10921"},
		{ID: nodes[2].NodeID(t), Address: nodes[2].Addr, Role: "master", Slots: "10922-16383"},
	} {
		got := c.Nodes[i]
		got.Epoch, got.Failing = 0, false
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("node %d (-want +got):\n%s", i, diff)
		}
	}

	// A failover changes nothing.
	replica.Do(t, "CLUSTER", "FAILOVER", "TAKEOVER")
	testenv.Eventually(t, 20*time.Second, func() error {
		if role := nodes[1].Do(t, "ROLE").([]any)[0]; role != "slave" {
			return fmt.Errorf("still %v", role)
		}
		return nil
	})
	linkUp(t, nodes[1])
	for _, n := range []*testenv.Redis{replica, nodes[1]} {
		if m := mustSnapshot(t, newTestSnapshotter(t, n, s)); m.Instance != "test/shards/05461" {
			t.Errorf("after the failover: %s", m.Instance)
		}
	}

	// By name, and by hand.
	if m := mustSnapshot(t, newTestSnapshotter(t, replica, s, func(o *SnapshotOptions) { o.Shard = "east" })); m.Instance != "test/shards/east" {
		t.Errorf("by name: %s", m.Instance)
	}
	if m := mustSnapshot(t, newTestSnapshotter(t, replica, s, func(o *SnapshotOptions) { o.Instance, o.Shard = "own", ShardNone })); m.Instance != "own" || m.Cluster.Shard != "" {
		t.Errorf("by hand: %s", m.Instance)
	}

	_, err := newTestSnapshotter(t, empty, s).Snapshot(testContext(t), nil)
	if err == nil || !strings.Contains(err.Error(), "no snapshot is taken of this server: its shard owns no slots") {
		t.Errorf("of a node without slots: %v", err)
	}

	shards, err := base.Shards(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range shards {
		names = append(names, ShardOf(c.Instance()))
	}
	if diff := cmp.Diff([]string{"00000", "05461", "10922", "east"}, names); diff != "" {
		t.Errorf("shards (-want +got):\n%s", diff)
	}
}

// acquainted waits until each of the nodes knows all others by their ids. One that
// was only heard of has another id until it answers.
func acquainted(t *testing.T, nodes []*testenv.Redis) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second, func() error {
		for _, n := range nodes {
			known := n.Do(t, "CLUSTER", "NODES").(string)
			for _, other := range nodes {
				if !strings.Contains(known, other.NodeID(t)) {
					return fmt.Errorf("%s does not know %s:\n%s", n.Addr, other.Addr, known)
				}
			}
			if strings.Contains(known, "handshake") {
				return fmt.Errorf("%s:\n%s", n.Addr, known)
			}
		}
		return nil
	})
}

// linkUp waits until a replica has its master's data.
func linkUp(t *testing.T, r *testenv.Redis) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second, func() error {
		in, err := askInfo(t.Context(), r.Client(t), "replication")
		if err == nil && in.Get("master_link_status") != "up" {
			err = fmt.Errorf("the link is %q", in.Get("master_link_status"))
		}
		return err
	})
}

// A slot on its way is recorded by both sides.
func TestSnapshotWhileSlotsMove(t *testing.T) {
	nodes := testenv.StartCluster(t, 2)
	a, b := nodes[0], nodes[1]
	a.Do(t, "CLUSTER", "SETSLOT", "93", "MIGRATING", b.NodeID(t))
	b.Do(t, "CLUSTER", "SETSLOT", "93", "IMPORTING", a.NodeID(t))
	s, _ := dirStore(t)
	from, to := mustSnapshot(t, newTestSnapshotter(t, a, s)), mustSnapshot(t, newTestSnapshotter(t, b, s))
	if diff := cmp.Diff([]OpenSlot{{93, b.NodeID(t)}}, from.Cluster.Migrating); diff != "" {
		t.Errorf("migrating (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]OpenSlot{{93, a.NodeID(t)}}, to.Cluster.Importing); diff != "" {
		t.Errorf("importing (-want +got):\n%s", diff)
	}
}

// noServer is a server that is away.
type noServer struct{}

func (noServer) Do(context.Context, ...string) (any, error) { return nil, errors.New("no server") }

func (noServer) Pipeline(context.Context, ...[]string) ([]any, error) {
	return nil, errors.New("no server")
}
