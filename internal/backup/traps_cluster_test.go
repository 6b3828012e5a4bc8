package backup

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// What is tempting when a cluster is to be restored, and what becomes of it on
// real servers; and that our way does not do it. Every test first falls into its
// trap on purpose.

// plainInto writes the plain data of a shard's snapshot into a directory.
func (f *clusterFixture) plainInto(t *testing.T, shard int, dir string) {
	t.Helper()
	at, err := f.base.Shard(f.set[shard].Cluster.Shard)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(plainRDB(t, at, f.set[shard]))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "dump.rdb"), b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// placeOf returns the place of a node, as it sees it.
func placeOf(t *testing.T, r *testenv.Redis) clusterPlace {
	t.Helper()
	place, err := parsePlace(r.Do(t, "CLUSTER", "NODES").(string))
	if err != nil {
		t.Fatal(err)
	}
	return place
}

// An RDB without a nodes.conf: the node claims the slots of its keys, no more.
func TestTrapRDBAloneClaimsOnlyTheSlotsOfItsKeys(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 2)
	f.lose(t)
	pods := newcomers(t, 2)
	f.plainInto(t, 0, pods[0].dir)
	trapped := pods[0].start(t)
	slots := placeOf(t, trapped).slots
	keys := trapped.DBSize(t)
	if n := countSlots(slots); n == 0 || int64(n) > keys || n >= countSlots(f.set[0].Slots) {
		t.Errorf("the trap has gone: %d slots for %d keys", n, keys)
	}
	if info := trapped.Do(t, "CLUSTER", "INFO").(string); !strings.Contains(info, "cluster_state:fail") {
		t.Errorf("the trap has gone: %s", info)
	}
	// Nor can the rest be given to it in one command, as a script would.
	out, err := exec.Command(testenv.Program(t, "redis-cli", "apt-get install redis-tools"), "-h", pods[0].ip, "-p", strconv.Itoa(pods[0].peer.Port),
		"CLUSTER", "ADDSLOTSRANGE", "0", "8191").CombinedOutput()
	if !strings.Contains(string(out), "is already busy") {
		t.Errorf("the trap has gone: ADDSLOTSRANGE: %s %v", out, err)
	}
	trapped.Kill(t)

	pods[0].dir = t.TempDir()
	f.mustComeBack(t, restoreOf(pods, 0, nil))
	ours := pods[0].start(t)
	if got := placeOf(t, ours).slots; formatSlots(got) != formatSlots(f.set[0].Slots) {
		t.Errorf("slots %s, want %s", formatSlots(got), formatSlots(f.set[0].Slots))
	}
	if n := ours.DBSize(t); n != keys {
		t.Errorf("%d keys, want %d", n, keys)
	}
}

// Such a node meets the living cluster: it takes slots from their owner, and with
// them newer data.
func TestTrapMeetingALiveClusterTakesSlots(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 2)
	victim := f.nodes[0]
	pods := newcomers(t, 2)
	f.plainInto(t, 0, pods[0].dir)
	trapped := pods[0].start(t)
	// By its epoch it wins, as a node does that has seen a failover.
	trapped.Do(t, "CLUSTER", "SET-CONFIG-EPOCH", "1000")
	before := countSlots(placeOf(t, victim).slots)
	trapped.Do(t, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(victim.Port), busPort(t, victim))
	testenv.Eventually(t, 30*time.Second, func() error {
		if now := countSlots(placeOf(t, victim).slots); now >= before {
			return fmt.Errorf("the owner still has its %d slots", now)
		}
		return nil
	})
	trapped.Kill(t)

	// Our way asks the living cluster first, and then restores nothing.
	fresh := newClusterFixture(t, s, 2)
	fresh.base = f.base
	alive := newcomers(t, 2)
	for i := range alive {
		alive[i].ip = "127.0.0.1"
		alive[i].peer.Port = fresh.nodes[i].Port
	}
	alive[1].dir = t.TempDir()
	result, log := fresh.mustComeBack(t, restoreOf(alive, 1, nil))
	if !strings.Contains(result.Skipped, "is a node of another cluster, or none, and holds") {
		t.Errorf("%+v\n%s", result, log)
	}
	wantNoFiles(t, alive[1].dir)
	if info := fresh.nodes[0].Do(t, "CLUSTER", "INFO").(string); !strings.Contains(info, "cluster_state:ok") {
		t.Error(info)
	}
}

func busPort(t *testing.T, r *testenv.Redis) string {
	t.Helper()
	return r.Do(t, "CONFIG", "GET", "cluster-port").([]any)[1].(string)
}

// The nodes.conf of the old node travels with the data: two nodes with one id.
func TestTrapCopiedNodesConfIsASecondNodeOfTheSameID(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 2)
	pods := newcomers(t, 2)
	conf, err := os.ReadFile(filepath.Join(f.nodes[0].Dir, "nodes.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(pods[0].dir, "nodes.conf"), conf, 0o600); err != nil {
		t.Fatal(err)
	}
	f.plainInto(t, 0, pods[0].dir)
	trapped := pods[0].start(t)
	if trapped.NodeID(t) != f.nodes[0].NodeID(t) {
		t.Error("the trap has gone: the copy has an id of its own")
	}
	// The cluster follows the copy: clients are sent there, and find old data.
	testenv.Eventually(t, 30*time.Second, func() error {
		if nodes := f.nodes[1].Do(t, "CLUSTER", "NODES").(string); !strings.Contains(nodes, pods[0].ip+":") {
			return fmt.Errorf("the other node still knows the original:\n%s", nodes)
		}
		return nil
	})
	trapped.Kill(t)
	f.lose(t)

	pods[0].dir = t.TempDir()
	f.mustComeBack(t, restoreOf(pods, 0, nil))
	text, err := os.ReadFile(filepath.Join(pods[0].dir, "nodes.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range f.set {
		for _, n := range m.Cluster.Nodes {
			if strings.Contains(string(text), n.ID) || strings.Contains(string(text), n.Address) {
				t.Errorf("the new nodes.conf knows the old node %s at %s:\n%s", n.ID, n.Address, text)
			}
		}
	}
	// Nor do two clusters from the same snapshots share ids.
	clone := newcomers(t, 2)
	f.mustComeBack(t, restoreOf(clone, 0, func(o *RestoreOptions) { o.Cluster.Name = "staging" }))
	other, err := os.ReadFile(filepath.Join(clone[0].dir, "nodes.conf"))
	if err != nil {
		t.Fatal(err)
	}
	lines, err := parseNodes(string(other))
	if err != nil || len(lines) != 2 {
		t.Fatalf("%v\n%s", err, other)
	}
	for _, n := range lines {
		if strings.Contains(string(text), n.ID) {
			t.Errorf("a clone has node id %s, too", n.ID)
		}
	}
}

// redis-cli --cluster create does not take nodes with keys.
func TestTrapClusterCreateRefusesNodesWithKeys(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 3)
	f.lose(t)
	pods := newcomers(t, 3)
	create := []string{"--cluster-yes", "--cluster", "create"}
	for i, pod := range pods {
		f.plainInto(t, i, pod.dir)
		create = append(create, pod.start(t).Addr)
	}
	out, err := exec.Command(testenv.Program(t, "redis-cli", "apt-get install redis-tools"), create...).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "is not empty") {
		t.Errorf("the trap has gone: %v\n%s", err, out)
	}

	fresh := newcomers(t, 3)
	var nodes []*testenv.Redis
	for i := range fresh {
		f.mustComeBack(t, restoreOf(fresh, i, nil))
	}
	for _, pod := range fresh {
		nodes = append(nodes, pod.start(t))
	}
	whole(t, nodes)
	f.holdsAll(t, nodes)
}

// A primary that comes back empty, as another node but at its old address, takes
// its replica's keys away: replication goes by the address. Its restore finds the
// replica through the others, and does not let it start.
func TestTrapEmptyNodeAtTheAddressOfAPrimary(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 2)
	primary, other := f.nodes[0], f.nodes[1]
	replica := testenv.StartClusterNode(t, "--cluster-replica-no-failover", "yes") // not promoted yet
	replica.Meet(t, other)
	testenv.Eventually(t, 30*time.Second, func() error {
		if nodes := replica.Do(t, "CLUSTER", "NODES").(string); !strings.Contains(nodes, primary.NodeID(t)) {
			return fmt.Errorf("the primary is not known:\n%s", nodes)
		}
		return nil
	})
	replica.Do(t, "CLUSTER", "REPLICATE", primary.NodeID(t))
	keys := primary.DBSize(t)
	testenv.Eventually(t, 30*time.Second, func() error {
		if n := replica.DBSize(t); n != keys || keys == 0 {
			return fmt.Errorf("the replica has %d of %d keys", n, keys)
		}
		if nodes := other.Do(t, "CLUSTER", "NODES").(string); strings.Count(nodes, primary.NodeID(t)) != 2 {
			return fmt.Errorf("the other does not know whose replica it is:\n%s", nodes)
		}
		return nil
	})
	primary.Kill(t)
	linkDown(t, replica)

	pods := newcomers(t, 3)
	for i, r := range []*testenv.Redis{primary, other, replica} {
		pods[i].livesAt(r)
	}
	refused := func(what string) {
		t.Helper()
		_, log, err := f.comeBack(t, restoreOf(pods, 0, func(o *RestoreOptions) { o.IfNone = IfNoneEmpty }))
		if err == nil || status.ReasonOf(err) != status.ReasonRejected ||
			!strings.Contains(err.Error(), "replica "+replica.Addr+" looks for its primary at the address of this node, which would start empty there, and copy that") {
			t.Errorf("%s: %v\n%s", what, err, log)
		}
		if left := tree(t, pods[0].dir); len(left) > 0 {
			t.Errorf("%s: left %v", what, left)
		}
	}
	refused("with snapshots")
	none, _ := dirStore(t)
	f.base = newTestCatalogue(t, none)
	refused("without a snapshot")
	if n := replica.DBSize(t); n != keys {
		t.Errorf("the replica has %d keys, had %d", n, keys)
	}

	primary.Dir = t.TempDir()
	primary.Start(t)
	testenv.Eventually(t, 30*time.Second, func() error {
		if n := replica.DBSize(t); n != 0 {
			return fmt.Errorf("the trap has gone: the replica has %d keys", n)
		}
		return nil
	})
}
