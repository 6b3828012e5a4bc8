package backup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A pod of a restored cluster loses its volume, while the others live: its data
// is newer there than in any snapshot.
func TestClusterRestoreOfOneLostNode(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 3)
	f.lose(t)
	pods := newcomers(t, 6)
	nodes := f.allComeBack(t, pods)
	owner(t, nodes[:3], "newer").Do(t, "SET", "newer", "1")
	f.keys = f.read(t, nodes[:3], append(keysOf(f.keys), "newer"))

	lost := 2
	nodes[lost].Kill(t)
	pods[lost].dir = t.TempDir()
	// The replica has the data and is not promoted yet; it may be by now.
	if result, log, err := f.comeBack(t, restoreOf(pods, lost, nil)); err == nil {
		if result.Node != "a replica of node 5 in shard "+f.set[lost].Cluster.Shard {
			t.Fatalf("%+v\n%s", result, log)
		}
		if err := os.Remove(filepath.Join(pods[lost].dir, "nodes.conf")); err != nil {
			t.Fatal(err)
		}
	} else {
		wantError(t, err, status.ReasonRejected, "its data is newer than any snapshot")
		wantNoFiles(t, pods[lost].dir)
	}
	testenv.Eventually(t, 60*time.Second, func() error {
		if role := nodes[5].Do(t, "ROLE").([]any)[0]; role != "master" {
			return fmt.Errorf("the replica is %v", role)
		}
		for _, n := range []int{0, 1} {
			if id := nodes[5].NodeID(t); !strings.Contains(nodeLineOf(t, nodes[n], id), "master") {
				return errors.New("not known to all")
			}
		}
		return nil
	})
	// Now it comes back as the replica of its former replica.
	result, log := f.mustComeBack(t, restoreOf(pods, lost, nil))
	if result.Node != "a replica of node 5 in shard "+f.set[lost].Cluster.Shard || result.ID != "" {
		t.Fatalf("%+v\n%s", result, log)
	}
	nodes[lost] = pods[lost].start(t)
	whole(t, nodes)
	f.holdsAll(t, nodes)
	if n := nodes[lost].DBSize(t); n != nodes[5].DBSize(t) {
		t.Errorf("%d keys", n)
	}
}

func nodeLineOf(t *testing.T, r *testenv.Redis, id string) string {
	t.Helper()
	for line := range strings.Lines(r.Do(t, "CLUSTER", "NODES").(string)) {
		if strings.HasPrefix(line, id) {
			return line
		}
	}
	return ""
}

func keysOf(m map[string]keyValue) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// Peers that are there, and what is made of them.
func TestClusterRestoreAsksThePeers(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 2)
	f.lose(t)
	for _, test := range []struct {
		name       string
		peer       func(t *testing.T) *testenv.Redis
		skip, fail string
		log        string
	}{
		{name: "a server with keys that is no cluster node", peer: func(t *testing.T) *testenv.Redis {
			r := testenv.StartRedis(t)
			r.Do(t, "SET", "a", "1")
			return r
		}, skip: "and holds 1 keys"},
		{name: "a node that owns slots", peer: func(t *testing.T) *testenv.Redis {
			r := testenv.StartClusterNode(t)
			r.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "9")
			return r
		}, skip: "holds a place in a cluster of 10 slots"},
		{name: "an empty node", peer: func(t *testing.T) *testenv.Redis { return testenv.StartClusterNode(t) },
			log: "a peer runs, empty, and is not the node that it would be after its restore"},
		{name: "one that wants a password", peer: func(t *testing.T) *testenv.Redis {
			r := testenv.StartClusterNode(t)
			r.Do(t, "CONFIG", "SET", "requirepass", "hush")
			return r
		}, fail: "answers, but does not say what it holds"},
	} {
		t.Run(test.name, func(t *testing.T) {
			pods := newcomers(t, 2)
			pods[1].livesAt(test.peer(t))
			result, log, err := f.comeBack(t, restoreOf(pods, 0, nil))
			if test.fail != "" {
				wantError(t, err, status.ReasonAuth, test.fail)
			} else if err != nil || !strings.Contains(result.Skipped, test.skip) || (test.skip == "") != (result.Skipped == "") || !strings.Contains(log, test.log) {
				t.Errorf("%+v, %v\n%s", result, err, log)
			}
			if left := tree(t, pods[0].dir); (len(left) > 0) != (test.log != "") {
				t.Errorf("left %v", left)
			}
		})
	}

	t.Run("somebody takes the slots during the download", func(t *testing.T) {
		pods := newcomers(t, 2)
		_, _, err := f.comeBack(t, restoreOf(pods, 0, func(o *RestoreOptions) {
			o.step = func(step string) {
				if step != "downloaded" {
					return
				}
				r := testenv.StartRedisIn(t, pods[1].dir, pods[1].args...)
				r.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "9")
			}
		}))
		wantError(t, err, status.ReasonRejected, "others have taken the slots of shard 00000 during the download")
		wantNoFiles(t, pods[0].dir)
	})
}

// What is in a replica of this very node must not be replaced by a snapshot, nor by
// nothing.
func TestClusterRestoreHeedsItsReplicas(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 3)
	f.lose(t)
	pods := newcomers(t, 6)
	nodes := f.allComeBack(t, pods)
	const lost, replica = 2, 5
	view := nodes[0].Do(t, "CLUSTER", "NODES").(string)
	id := nodes[0].NodeID(t)
	nodes[replica].Kill(t) // first: it must not be promoted
	nodes[lost].Kill(t)
	pods[lost].dir = t.TempDir()
	refused := func(o RestoreOptions, text string) {
		t.Helper()
		_, log, err := f.comeBack(t, o)
		wantError(t, err, status.ReasonRejected, text)
		if left := tree(t, pods[lost].dir); len(left) > 0 {
			t.Errorf("left %v\n%s", left, log)
		}
	}

	// Both restart: the replica is not there yet, while the others are.
	refused(restoreOf(pods, lost, nil), "of this node was there before, and does not say what it holds")

	// It loads what it has.
	answer := func(peer int, with cannedConn) RestoreOptions {
		return restoreOf(pods, lost, func(o *RestoreOptions) {
			o.Cluster.Dial = func(p ClusterPeer, _ string) PeerConn {
				if p == pods[peer].peer {
					return with
				}
				return cannedConn{}
			}
		})
	}
	refused(answer(replica, cannedConn{"INFO": "loading:1\r\n"}), "of the same shard, is loading its data")
	if result, _ := f.mustComeBack(t, answer(1, cannedConn{"INFO": "loading:1\r\n"})); result.ID == "" {
		t.Errorf("another shard is none of its business: %+v", result)
	}
	pods[lost].dir = t.TempDir()
	// The same for its replica, which may have been the primary since a failover.
	_, log, err := f.comeBack(t, restoreOf(pods, replica, func(o *RestoreOptions) {
		o.Dir = pods[lost].dir
		o.Cluster.Dial = func(p ClusterPeer, _ string) PeerConn {
			return map[bool]cannedConn{true: {"INFO": "loading:1\r\n"}}[p == pods[lost].peer]
		}
	}))
	wantError(t, err, status.ReasonRejected, "of the same shard, is loading its data")
	if left := tree(t, pods[lost].dir); len(left) > 0 {
		t.Errorf("left %v\n%s", left, log)
	}

	// The whole cluster restarts, and nobody is there yet.
	asked := 0
	late := answer(replica, nil)
	none := late.Cluster.Dial
	late.Peers.Wait = time.Minute
	late.Cluster.Dial = func(p ClusterPeer, ip string) PeerConn {
		if p == pods[replica].peer {
			if asked++; asked > 2 {
				return cannedConn{"INFO": "loading:1\r\n"}
			}
		}
		return none(p, ip)
	}
	refused(late, "of the same shard, is loading its data")

	// Another cluster lives at the addresses of this one. Were this node to start
	// empty at the old address, its replica would copy that.
	other := strings.Map(func(r rune) rune { // other ids
		return map[rune]rune{'a': 'b', 'b': 'a'}[r] + map[bool]rune{true: r}[r != 'a' && r != 'b']
	}, view)
	foreign := cannedConn{"INFO": "cluster_enabled:1\r\ndb0:keys=1,expires=0\r\n", "MYID": "f" + id[1:], "NODES": other}
	refused(answer(0, foreign), "looks for its primary at the address of this node")
	pods[lost].ip = "127.0.3.9"
	if result, _ := f.mustComeBack(t, answer(0, foreign)); !strings.Contains(result.Skipped, "is a node of another cluster") {
		t.Errorf("%+v", result)
	}
}

// A resolver that fails leaves open who lives: that is not nobody.
func TestClusterRestoreWithAResolverThatFails(t *testing.T) {
	s, _ := dirStore(t)
	f := newClusterFixture(t, s, 2)
	f.lose(t)
	pods := newcomers(t, 2)
	failures := 0
	failing := func(times int, wait time.Duration) RestoreOptions {
		failures = 0
		return restoreOf(pods, 0, func(o *RestoreOptions) {
			o.Cluster.Wait = wait
			o.Cluster.Lookup = func(_ context.Context, host string) ([]string, error) {
				if failures++; failures <= times {
					return nil, &net.DNSError{Err: "server misbehaving", Name: host, IsTemporary: true}
				}
				return []string{pods[1].ip}, nil
			}
		})
	}
	_, log, err := f.comeBack(t, failing(1, 0))
	wantError(t, err, status.ReasonUnreachable, "lookup redis-1.redis-pods: server misbehaving")
	if got := status.HintOf(err); got != "check the DNS" {
		t.Errorf("hint %q\n%s", got, log)
	}
	wantNoFiles(t, pods[0].dir)
	if result, log := f.mustComeBack(t, failing(1, time.Minute)); result.ID == "" || failures != 2 {
		t.Errorf("%+v after %d lookups\n%s", result, failures, log)
	}
}

// Where a cluster lives, its empty pod needs no snapshot: not even of a store that
// is away.
func TestClusterRestoreLeavesItToALivingCluster(t *testing.T) {
	s, at := dirStore(t)
	f := newClusterFixture(t, s, 2)
	alive := newcomers(t, 3)
	for i := range 2 {
		alive[i].livesAt(f.nodes[i])
	}
	skipped := func(t *testing.T, change func(*RestoreOptions)) {
		t.Helper()
		result, log, err := f.comeBack(t, restoreOf(alive, 2, change))
		if err != nil || !strings.Contains(result.Skipped, "is a node of another cluster, or none, and holds") || !strings.Contains(log, "level=WARN msg=\"not restored: a living cluster") {
			t.Errorf("%+v, %v\n%s", result, err, log)
		}
		wantNoFiles(t, alive[2].dir)
	}
	t.Run("a pod beyond restore.cluster-peers", func(t *testing.T) {
		skipped(t, func(o *RestoreOptions) { o.Cluster.Peers = o.Cluster.Peers[:2] })
	})
	t.Run("a shard without a snapshot", func(t *testing.T) {
		if err := os.RemoveAll(filepath.Join(at, "test", "shards", f.set[1].Cluster.Shard)); err != nil {
			t.Fatal(err)
		}
		skipped(t, nil)
	})
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, nil, 0o600); err != nil { // the store is no directory any more
		t.Fatal(err)
	}
	t.Run("the store is away", func(t *testing.T) { skipped(t, nil) })
	failing := func(i int, text string, change func(*RestoreOptions)) {
		t.Helper()
		_, log, err := f.comeBack(t, restoreOf(alive, i, change))
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v, want …%s…\n%s", err, text, log)
		}
		wantNoFiles(t, alive[i].dir)
	}
	t.Run("and a peer does not say", func(t *testing.T) {
		f.nodes[0].Do(t, "CONFIG", "SET", "requirepass", "hush")
		failing(2, "nor is it known whether a cluster lives: peer redis-0.redis-pods", nil)
	})
	t.Run("and nobody lives", func(t *testing.T) {
		f.lose(t)
		failing(2, "not a directory", nil)
	})
}

// A cluster that these snapshots have made lives, too, but its pod comes back by
// them, to its place: with the store away it waits.
func TestClusterRestoreOfItsOwnClusterNeedsTheStore(t *testing.T) {
	s, at := dirStore(t)
	f := newClusterFixture(t, s, 2)
	f.lose(t)
	pods := newcomers(t, 2)
	f.allComeBack(t, pods)
	pods = []*newcomer{pods[0], {dir: t.TempDir(), ip: "127.0.3.7", peer: pods[1].peer}}
	if err := os.RemoveAll(at); err != nil {
		t.Fatal(err)
	}
	_, log, err := f.comeBack(t, restoreOf(pods, 1, func(o *RestoreOptions) { o.IfNone = IfNoneEmpty }))
	if err == nil || !strings.Contains(err.Error(), "is of the cluster that was restored before") {
		t.Errorf("%v\n%s", err, log)
	}
	wantNoFiles(t, pods[1].dir)
}

// cannedConn answers to the last word of a command. One without answers is not
// there.
type cannedConn map[string]string

func (c cannedConn) Do(_ context.Context, args ...string) (any, error) {
	if len(c) == 0 {
		return nil, status.WithReason(status.ReasonUnreachable, errors.New("nobody is there"))
	}
	return c[args[len(args)-1]], nil
}

func (cannedConn) Close() error { return nil }

// What cannot be restored, and what is said then.
func TestClusterRestoreRefuses(t *testing.T) {
	s, _ := dirStore(t)
	base := newTestCatalogue(t, s)
	f := &clusterFixture{base: base}
	shard := func(name, slots string, at time.Time) {
		t.Helper()
		m := testManifest(at, 1)
		var err error
		if m.Slots, err = parseSlots(slots); err != nil {
			t.Fatal(err)
		}
		c, err := base.Shard(name)
		if err != nil {
			t.Fatal(err)
		}
		putSnapshot(t, c, m)
	}
	pods := newcomers(t, 3)
	refused := func(change func(*RestoreOptions), reason status.Reason, text, hint string) {
		t.Helper()
		o := restoreOf(pods, 0, func(o *RestoreOptions) { o.DryRun = true })
		if change != nil {
			change(&o)
		}
		_, _, err := f.comeBack(t, o)
		wantError(t, err, reason, text)
		if got := status.HintOf(err); !strings.Contains(got, hint) {
			t.Errorf("hint %q, want …%s…", got, hint)
		}
	}
	refused(nil, status.ReasonStoreMissing, "no snapshot yet", "restore.if-none")
	if result, _ := f.mustComeBack(t, restoreOf(pods, 0, func(o *RestoreOptions) { o.IfNone = IfNoneEmpty })); result.Skipped != "there is no snapshot yet" {
		t.Errorf("%+v", result)
	}

	shard("00000", "0-8191", noon)
	refused(nil, status.ReasonStoreMissing, "slots 8192-16383 are in none of the 1 snapshots", "no snapshot that is there has slots 8192-16383: their shard was never saved")
	shard("08192", "8192-16383", noon.Add(time.Second))
	// A resharding: 8192-9000 go to the first shard, whose snapshot is of after
	// it; that of the second is of before.
	shard("00000", "0-9000", noon.Add(time.Hour))
	refused(nil, status.ReasonStoreMissing, "slots 8192-9000 are in both 2", "restore.from=2024-")
	// Or the other way round.
	shard("08192", "9001-16383", noon.Add(2*time.Hour))
	shard("00000", "0-8191", noon.Add(3*time.Hour))
	refused(nil, status.ReasonStoreMissing, "slots 8192-9000 are in none of the 2 snapshots", "restore.from="+noon.Add(2*time.Hour+time.Second).Format(time.RFC3339))

	at := noon.Add(2 * time.Hour).Format(time.RFC3339)
	set, err := base.FindCluster(t.Context(), at)
	if err != nil || len(set.Shards) != 2 || formatSlots(set.Shards[0].Manifest.Slots) != "0-9000" {
		t.Errorf("at %s: %v, %v", at, set, err)
	}
	// Both shards become one: the other rests.
	shard("00000", "0-16383", noon.Add(4*time.Hour))
	if set, err = base.FindCluster(t.Context(), "latest"); err != nil || len(set.Shards) != 1 || len(set.Resting) != 1 || set.Resting[0].Shard != "08192" {
		t.Errorf("after the merger: %v, %v", set, err)
	}

	refused(func(o *RestoreOptions) { o.From = set.Shards[0].Manifest.ID }, status.ReasonFile, "is the snapshot of one shard", "give latest")
	refused(func(o *RestoreOptions) { o.From = noon.Add(-time.Hour).Format(time.RFC3339) }, status.ReasonStoreMissing, "no shard has one as old as", "")
	early := func(o *RestoreOptions) { o.From = noon.Add(time.Minute).Format(time.RFC3339) }
	with := func(change func(*RestoreOptions)) func(*RestoreOptions) {
		return func(o *RestoreOptions) { early(o); change(o) }
	}
	refused(with(func(o *RestoreOptions) { o.Cluster.Peers = o.Cluster.Peers[:1] }), status.ReasonFile, "of 2 shards, but restore.cluster-peers are 1", "at least one for every shard")
	refused(with(func(o *RestoreOptions) { o.Cluster.Pod = "redis" }), status.ReasonFile, `pod "redis" has no number`, "restore.shard")
	refused(with(func(o *RestoreOptions) { o.Cluster.Pod = "redis-3" }), status.ReasonFile, "pod redis-3 is number 3, but restore.cluster-peers are 3", "name every pod")
	refused(with(func(o *RestoreOptions) { o.Cluster.Shard = "00001" }), status.ReasonStoreMissing, "there is no shard 00001", "00000, 08192")
	refused(with(func(o *RestoreOptions) { o.Cluster.Shard = "08192/1" }), status.ReasonFile, "is node 3, but restore.cluster-peers are 3", "")
	refused(with(func(o *RestoreOptions) { o.Cluster.Shard = "08192/x" }), status.ReasonFile, "the number of a replica", "")
	refused(with(func(o *RestoreOptions) { o.Cluster.Shard, o.Cluster.PromotesEmpty = "00000/1", true }), status.ReasonRejected, "could be promoted before it has got its data", "cluster-replica-validity-factor")
	refused(with(func(o *RestoreOptions) {
		o.Cluster.Lookup = func(context.Context, string) ([]string, error) { return []string{"127.0.3.9"}, nil }
		for i := range o.Cluster.Peers {
			o.Cluster.Peers[i].Port = 6379
		}
	}), status.ReasonAddress, "lead to the same address", "a name of its own")
}

func TestParseClusterPeers(t *testing.T) {
	got, err := ParseClusterPeers("redis-{0..2}.redis-pods, 10.0.0.7:7000 fd00::1,[fd00::2]:7001,h:1@2")
	want := []ClusterPeer{
		{"redis-0.redis-pods", 6379, 16379}, {"redis-1.redis-pods", 6379, 16379}, {"redis-2.redis-pods", 6379, 16379},
		{"10.0.0.7", 7000, 17000}, {"fd00::1", 6379, 16379}, {"fd00::2", 7001, 17001}, {"h", 1, 2},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []string{"a,a", "a:0", "a:x", "a:60000", "a@", "a:1@x", "{0..5", "a{5..0}", "a{0..9999}", "a{x..1}", ":6379", "redis://a", "a:b:c"} {
		if p, err := ParseClusterPeers(bad); err == nil {
			t.Errorf("ParseClusterPeers(%q) = %v", bad, p)
		}
	}
}

func TestNamespace(t *testing.T) {
	for text, want := range map[string]string{
		"nameserver 10.96.0.10\nsearch prod.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n": "prod",
		"search example.com\n": "",
		"search svc.local\n":   "",
		"":                     "",
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := namespace(path); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := namespace("/nowhere"); got != "" {
		t.Errorf("%q", got)
	}
}

// Snapshots taken in the middle of a move: the restored cluster is in the middle
// of it, too, every key can be read, and redis-cli completes the move.
func TestClusterRestoreInTheMiddleOfAMove(t *testing.T) {
	s, _ := dirStore(t)
	nodes := testenv.StartCluster(t, 2)
	f := &clusterFixture{store: s, base: newTestCatalogue(t, s), nodes: nodes}
	cli := testenv.Program(t, "redis-cli", "apt-get install redis-tools")
	from, to := nodes[0], nodes[1]
	slot := "15495" // of {a}
	if owner(t, nodes, "{a}") == nodes[0] {
		t.Fatal("{a} is in another half")
	}
	from, to = to, from
	for i := range 20 {
		from.Do(t, "SET", fmt.Sprintf("{a}:%d", i), fmt.Sprint(i))
	}
	to.Do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", from.NodeID(t))
	from.Do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", to.NodeID(t))
	for i := range 10 {
		from.Do(t, "MIGRATE", "127.0.0.1", fmt.Sprint(to.Port), fmt.Sprintf("{a}:%d", i), "0", "20000")
	}
	for _, n := range nodes {
		f.set = append(f.set, mustSnapshot(t, newTestSnapshotter(t, n, s)))
	}
	f.lose(t)

	pods := newcomers(t, 2)
	for i := range pods {
		if _, log := f.mustComeBack(t, restoreOf(pods, i, nil)); !strings.Contains(log, "slots were being moved when the snapshot was taken") {
			t.Errorf("log:\n%s", log)
		}
	}
	again := []*testenv.Redis{pods[0].start(t), pods[1].start(t)}
	testenv.Eventually(t, 30*time.Second, func() error {
		for _, n := range again {
			if info := n.Do(t, "CLUSTER", "INFO").(string); !strings.Contains(info, "cluster_state:ok") {
				return errors.New(info)
			}
		}
		return nil
	})
	readAll := func() {
		t.Helper()
		for i := range 20 {
			out, err := exec.Command(cli, "-c", "-h", pods[0].ip, "-p", fmt.Sprint(pods[0].peer.Port), "GET", fmt.Sprintf("{a}:%d", i)).CombinedOutput()
			if err != nil || strings.TrimSpace(string(out)) != fmt.Sprint(i) {
				t.Errorf("{a}:%d is %q, %v", i, out, err)
			}
		}
	}
	readAll()
	if out, err := exec.Command(cli, "--cluster", "fix", again[0].Addr).CombinedOutput(); err != nil {
		t.Errorf("redis-cli --cluster fix: %v\n%s", err, out)
	}
	whole(t, again)
	readAll()
}
