package backup

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// clusterFixture is a cluster with data of every kind, saved shard by shard, and
// what its keys are worth.
type clusterFixture struct {
	store Store
	base  *Catalogue
	set   []Manifest // in the order of the shards
	nodes []*testenv.Redis
	keys  map[string]keyValue
}

// keyValue is all that there is to know of a key.
type keyValue struct {
	Dump   string
	Expire int64 // unix milliseconds; -1: never
}

// newClusterFixture saves a cluster of n shards into a store.
func newClusterFixture(t *testing.T, s Store, n int) *clusterFixture {
	t.Helper()
	// None of them shall be taken for dead, and its slots for down, for a short while
	// in which it gets no time.
	nodes := testenv.StartCluster(t, n, "--cluster-node-timeout", "15000")
	f := &clusterFixture{store: s, base: newTestCatalogue(t, s), nodes: nodes}
	var names []string
	write := func(name string, args ...string) {
		names = append(names, name)
		owner(t, f.nodes, name).Do(t, append([]string{args[0], name}, args[1:]...)...)
	}
	for i := range 300 {
		write(fmt.Sprintf("string:%d", i), "SET", fmt.Sprintf("value %d", i))
	}
	for i := range 20 {
		write(fmt.Sprintf("{user:%d}:name", i), "SET", "somebody")
		write(fmt.Sprintf("{user:%d}:visits", i), "HSET", "home", "1", "shop", strconv.Itoa(i))
		write(fmt.Sprintf("{user:%d}:cart", i), "RPUSH", "a", "b", "c")
		write(fmt.Sprintf("score:%d", i), "ZADD", "1", "x", "2.5", "y")
		write(fmt.Sprintf("tags:%d", i), "SADD", "1", "2", strconv.Itoa(i))
		write(fmt.Sprintf("log:%d", i), "XADD", "1-1", "field", "value")
		write(fmt.Sprintf("session:%d", i), "SET", "token", "EX", strconv.Itoa(86400+i))
	}
	f.keys = f.read(t, f.nodes, names)
	for _, node := range f.nodes {
		f.set = append(f.set, mustSnapshot(t, newTestSnapshotter(t, node, s)))
	}
	return f
}

// read returns what the owners of the keys hold.
func (f *clusterFixture) read(t *testing.T, nodes []*testenv.Redis, names []string) map[string]keyValue {
	t.Helper()
	out := map[string]keyValue{}
	clients := map[*testenv.Redis]*redis.Client{}
	for _, name := range names {
		node := owner(t, nodes, name)
		if clients[node] == nil {
			clients[node] = node.Client(t)
		}
		replies, err := clients[node].Pipeline(testContext(t), []string{"DUMP", name}, []string{"PEXPIRETIME", name})
		if err != nil {
			t.Fatal(err)
		}
		dump, ok1 := replies[0].(string)
		expire, ok2 := replies[1].(int64)
		if !ok1 || !ok2 {
			t.Fatalf("%s of %s: %v", name, node.Addr, replies)
		}
		out[name] = keyValue{dump, expire}
	}
	return out
}

// owner returns the node that owns a key's slot, as the first node that is up
// says it.
func owner(t *testing.T, nodes []*testenv.Redis, key string) *testenv.Redis {
	t.Helper()
	slot := int(nodes[0].Do(t, "CLUSTER", "KEYSLOT", key).(int64))
	lines, err := parseNodes(nodes[0].Do(t, "CLUSTER", "NODES").(string))
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range lines {
		owned, _ := parseSlots(n.Slots)
		if commonSlots(owned, []SlotRange{{slot, slot}}) == 0 {
			continue
		}
		for _, node := range nodes {
			if node.Addr == n.Address {
				return node
			}
		}
	}
	t.Fatalf("slot %d has no owner in\n%s", slot, nodes[0].Do(t, "CLUSTER", "NODES"))
	return nil
}

// lose kills all nodes.
func (f *clusterFixture) lose(t *testing.T) {
	t.Helper()
	for _, n := range f.nodes {
		n.Kill(t)
	}
}

// newcomer is a pod of the cluster to come: an empty directory, and an address
// that no node had before.
type newcomer struct {
	dir  string
	ip   string
	peer ClusterPeer
	args []string
}

// newcomers are n pods, redis-0 and so on, each at a loopback address of its own.
func newcomers(t *testing.T, n int, args ...string) []*newcomer {
	t.Helper()
	var out []*newcomer
	for i := range n {
		c := &newcomer{dir: t.TempDir(), ip: "127.0.3." + strconv.Itoa(i+1)}
		c.peer = ClusterPeer{Host: fmt.Sprintf("redis-%d.redis-pods", i), Port: testenv.FreePort(t), BusPort: testenv.FreePort(t)}
		c.args = append([]string{
			"--port", strconv.Itoa(c.peer.Port), "--bind", c.ip, "--bind-source-addr", c.ip, "--protected-mode", "no",
			"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(c.peer.BusPort), "--cluster-node-timeout", "2000",
			"--repl-diskless-sync-delay", "0",
		}, args...)
		out = append(out, c)
	}
	return out
}

// options are those of the restore of one pod.
func restoreOf(pods []*newcomer, i int, change func(*RestoreOptions)) RestoreOptions {
	var peers []ClusterPeer
	addresses := map[string]string{}
	for _, p := range pods {
		peers = append(peers, p.peer)
		addresses[p.peer.Host] = p.ip
	}
	o := RestoreOptions{Dir: pods[i].dir, Cluster: &ClusterRestore{
		Shard: ShardAuto, Pod: fmt.Sprintf("redis-%d", i), Peers: peers, Name: "test",
		Address: pods[i].ip, Wait: 0,
		Dial: func(peer ClusterPeer, ip string) PeerConn {
			return redis.New(redis.Options{Addr: net.JoinHostPort(ip, strconv.Itoa(peer.Port))})
		},
		Lookup: func(_ context.Context, host string) ([]string, error) {
			if a, ok := addresses[host]; ok {
				return []string{a}, nil
			}
			return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
		},
	}}
	if change != nil {
		change(&o)
	}
	return o
}

// comeBack restores one pod.
func (f *clusterFixture) comeBack(t *testing.T, o RestoreOptions) (RestoreResult, string, error) {
	t.Helper()
	var log bytes.Buffer
	result, err := Restore(testContext(t), o, f.base, textLog(&log), nil)
	return result, log.String(), err
}

func (f *clusterFixture) mustComeBack(t *testing.T, o RestoreOptions) (RestoreResult, string) {
	t.Helper()
	result, log, err := f.comeBack(t, o)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return result, log
}

func (c *newcomer) start(t *testing.T) *testenv.Redis {
	t.Helper()
	return testenv.StartRedisIn(t, c.dir, c.args...)
}

// livesAt has others find a server that runs where the pod is.
func (c *newcomer) livesAt(r *testenv.Redis) { c.ip, c.peer.Port = "127.0.0.1", r.Port }

// allComeBack restores all pods, then starts them.
func (f *clusterFixture) allComeBack(t *testing.T, pods []*newcomer) (nodes []*testenv.Redis) {
	t.Helper()
	for i := range pods {
		f.mustComeBack(t, restoreOf(pods, i, nil))
	}
	for _, pod := range pods {
		nodes = append(nodes, pod.start(t))
	}
	whole(t, nodes)
	return nodes
}

// whole waits until every node holds the cluster for whole, knows as many nodes,
// and redis-cli has nothing to say against it.
func whole(t *testing.T, nodes []*testenv.Redis) {
	t.Helper()
	testenv.Eventually(t, 60*time.Second, func() error {
		for _, n := range nodes {
			info := n.Do(t, "CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r\n", len(nodes))) {
				return fmt.Errorf("%s: %s\n%s", n.Addr, info, n.Do(t, "CLUSTER", "NODES"))
			}
			if role := n.Do(t, "ROLE").([]any); role[0] == "slave" && role[3] != "connected" {
				return fmt.Errorf("%s: %v", n.Addr, role)
			}
		}
		return clusterCheck(t, nodes[0].Addr)
	})
}

// clusterCheck runs redis-cli --cluster check.
func clusterCheck(t *testing.T, addr string) error {
	t.Helper()
	out, err := exec.Command(testenv.Program(t, "redis-cli", "apt-get install redis-tools"), "--cluster", "check", addr).CombinedOutput()
	text := string(out)
	if err != nil || !strings.Contains(text, "[OK] All 16384 slots covered.") || strings.Contains(text, "[ERR]") || strings.Contains(text, "[WARNING]") {
		return fmt.Errorf("redis-cli --cluster check: %w\n%s", err, text)
	}
	return nil
}

// holdsAll checks every key.
func (f *clusterFixture) holdsAll(t *testing.T, nodes []*testenv.Redis) {
	t.Helper()
	var names []string
	for name := range f.keys {
		names = append(names, name)
	}
	if diff := cmp.Diff(f.keys, f.read(t, nodes, names)); diff != "" {
		t.Errorf("keys (-before +after):\n%s", diff)
	}
	t.Logf("%d keys read back", len(names))
}

// The data and all addresses of a cluster are lost. Every pod restores its part,
// without talking to the others, and the servers find each other.
func TestLostClusterComesBack(t *testing.T) {
	for _, test := range []struct {
		name   string
		shards int
		pods   int
		args   []string
		late   bool // the names of later pods are not known to earlier ones
	}{
		{"three shards", 3, 3, []string{"--appendonly", "yes"}, false},
		{"three shards and replicas", 3, 6, nil, false},
		{"two shards, three replicas, one after the other", 2, 5, nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s, _ := s3Store(t)
			f := newClusterFixture(t, s, test.shards)
			f.lose(t)
			pods := newcomers(t, test.pods, test.args...)
			var nodes []*testenv.Redis
			for i, pod := range pods {
				o := restoreOf(pods, i, nil)
				if test.late {
					all := o.Cluster.Lookup
					o.Cluster.Lookup = func(ctx context.Context, host string) ([]string, error) {
						if at := slices.IndexFunc(pods, func(p *newcomer) bool { return p.peer.Host == host }); at > i {
							return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
						}
						return all(ctx, host)
					}
				}
				result, log := f.mustComeBack(t, o)
				if i < test.shards {
					if result.ID != f.set[i].ID || result.Keys != f.set[i].RDB.Keys || !strings.HasPrefix(result.Node, "the primary of shard") {
						t.Errorf("pod %d: %+v", i, result)
					}
				} else if result.ID != "" || !strings.HasPrefix(result.Node, "a replica of node "+strconv.Itoa((i-test.shards)%test.shards)) {
					t.Errorf("pod %d: %+v", i, result)
				}
				if unknown := strings.Contains(log, "are not known yet"); unknown != (test.late && i < test.pods-1) {
					t.Errorf("pod %d: log:\n%s", i, log)
				}
				if test.late {
					nodes = append(nodes, pod.start(t))
				}
			}
			if !test.late {
				for _, pod := range pods {
					nodes = append(nodes, pod.start(t))
				}
			}
			whole(t, nodes)
			f.holdsAll(t, nodes)
			for i, n := range nodes {
				if role := n.Do(t, "ROLE").([]any)[0]; (role == "master") != (i < test.shards) {
					t.Errorf("node %d is %s", i, role)
				}
				if slices.ContainsFunc(f.set, func(m Manifest) bool { return m.Server.NodeID == n.NodeID(t) }) {
					t.Errorf("node %d has the id of an old one", i)
				}
			}

			// At the next start of the pods, restore has nothing to do.
			for i := range pods {
				result, _ := f.mustComeBack(t, restoreOf(pods, i, nil))
				if result.Skipped == "" {
					t.Errorf("pod %d is restored again: %+v", i, result)
				}
			}
			if test.pods == 6 {
				f.survivesAFailover(t, nodes)
			}
		})
	}
}

// survivesAFailover loses a primary: its replica, which got all its data from the
// restored one, takes over.
func (f *clusterFixture) survivesAFailover(t *testing.T, nodes []*testenv.Redis) {
	t.Helper()
	nodes[0].Kill(t)
	testenv.Eventually(t, 60*time.Second, func() error {
		if role := nodes[3].Do(t, "ROLE").([]any)[0]; role != "master" {
			return fmt.Errorf("the replica is %v", role)
		}
		for _, n := range nodes[1:] { // each finds out by itself
			if info := n.Do(t, "CLUSTER", "INFO").(string); !strings.Contains(info, "cluster_state:ok") {
				return fmt.Errorf("%s: %s", n.Addr, info)
			}
		}
		return nil
	})
	f.holdsAll(t, nodes[1:])
}

// Killed at each step, and started all the same: a cluster's node never claims
// slots without its data, nor data without its place.
func TestClusterRestoreKilledAtEveryStep(t *testing.T) {
	root := t.TempDir()
	s := openStore(t, "file://"+root, nil)
	f := newClusterFixture(t, s, 2)
	f.lose(t)
	for number, role := range []string{"primary", "primary", "replica"} {
		if number == 0 {
			continue // as number 1
		}
		pods := newcomers(t, 3)
		var steps []string
		f.mustComeBack(t, restoreOf(pods, number, func(o *RestoreOptions) { o.step = func(step string) { steps = append(steps, step) } }))
		complete, err := os.ReadFile(filepath.Join(pods[number].dir, "nodes.conf"))
		if err != nil {
			t.Fatal(err)
		}
		after := []string{"nodes", "state removed", "working directory removed"}
		if role == "primary" && !slices.Contains(steps, "nodes placeholder") || !slices.Contains(steps, "nodes") {
			t.Errorf("steps of the %s: %q", role, steps)
		}
		for _, step := range steps {
			for _, appendonly := range []string{"no", "yes"} {
				t.Run(role+" "+step+" appendonly "+appendonly, func(t *testing.T) {
					pods[number].dir = t.TempDir()
					o := restoreOf(pods, number, func(o *RestoreOptions) {
						o.step = func(s string) {
							if s == step {
								panic(killed{})
							}
						}
					})
					func() {
						defer func() {
							if _, ok := recover().(killed); !ok {
								t.Errorf("not killed after %q", step)
							}
						}()
						_, _, _ = f.comeBack(t, o)
					}()
					// What a server makes of it.
					left := *pods[number]
					left.dir = copyOf(t, left.dir)
					left.args = append(slices.Clone(left.args), "--appendonly", appendonly)
					checkLeft(t, f, left, role, slices.Contains(after, step), string(complete))

					// The next run completes it.
					result, log := f.mustComeBack(t, restoreOf(pods, number, nil))
					if got, err := os.ReadFile(filepath.Join(pods[number].dir, "nodes.conf")); err != nil || string(got) != string(complete) {
						t.Errorf("nodes.conf after the next run: %v\n%s\nwant\n%s\n%s", err, got, complete, log)
					}
					if exists(filepath.Join(pods[number].dir, stagingName)) {
						t.Error("the working directory stays")
					}
					if role == "primary" && !slices.Contains(after[1:], step) && result.ID != f.set[number].ID {
						t.Errorf("the next run: %+v", result)
					}
					next := *pods[number]
					next.args = left.args
					checkLeft(t, f, next, role, true, string(complete))
				})
			}
		}
	}
}

// killed ends a restore as a crash does: nothing is cleaned up.
type killed struct{}

// checkLeft starts a server on a directory: it is complete, or the server starts
// as an empty node without slots, or not at all.
func checkLeft(t *testing.T, f *clusterFixture, at newcomer, role string, complete bool, conf string) {
	t.Helper()
	server := testenv.StartRedis(t, at.args...)
	server.Kill(t)
	server.Dir = at.dir
	log, err := server.TryStart(t)
	if err != nil {
		if complete || !strings.Contains(log, "corrupted cluster config file") {
			t.Errorf("the server refused to start:\n%s", log)
		}
		return
	}
	defer server.Kill(t)
	place, err := parsePlace(server.Do(t, "CLUSTER", "NODES").(string))
	if err != nil {
		t.Fatal(err)
	}
	keys, known := server.DBSize(t), strings.Contains(conf, place.nodeID)
	switch {
	case !known && (len(place.slots) > 0 || keys > 0):
		t.Errorf("a node of its own claims slots %s, with %d keys", shortSlots(place.slots), keys)
	case known && !complete:
		t.Errorf("the node is there before its restore was complete, with %d keys", keys)
	case complete && !known:
		t.Errorf("the restored node is another: %s", place.nodeID)
	case complete && role == "primary" && keys != int64(f.set[1].RDB.Keys):
		t.Errorf("%d keys, want %d", keys, f.set[1].RDB.Keys)
	}
}
