package agent_test

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A cluster of three shards is saved by the program, shard by shard under one
// instance; all data and all addresses are lost; the program, as the init
// container of six new pods, and the servers bring it back, with replicas.
func TestLostClusterComesBack(t *testing.T) {
	t.Parallel()
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, "snapshots")
	env := append(s3.Environ(), "REDIS_SIDECAR_BACKUP_STORE="+s3.URL("snapshots", "prod"), "REDIS_SIDECAR_BACKUP_INSTANCE=redis")

	const shards, pods = 3, 6
	old := testenv.StartCluster(t, shards, "--cluster-node-timeout", "15000") // nothing fails over in this test
	want := map[string]string{}
	for i := range 330 {
		key := fmt.Sprintf("key:%d", i)
		if i%11 == 0 {
			key = fmt.Sprintf("{tag:%d}:%d", i%7, i)
		}
		value := "value " + strconv.Itoa(i)
		if out := redisCLI(t, old[0].Addr, "SET", key, value, "EX", "86400"); out != "OK" {
			t.Fatalf("SET %s: %s", key, out)
		}
		want[key] = value
	}
	for i, node := range old {
		out := mustRun(t, env, "backup", "now", "--redis.addr=redis://"+node.Addr, "--pod.name=redis-"+strconv.Itoa(i))
		if !strings.Contains(out, "verified") {
			t.Errorf("backup now: %s", out)
		}
	}
	list := mustRun(t, env, "backup", "list")
	for _, text := range []string{"shard 00000\n", "shard 05461\n", "shard 10922\n", "the newest snapshots of 3 shards make a whole cluster, taken within "} {
		if !strings.Contains(list, text) {
			t.Errorf("backup list without %q:\n%s", text, list)
		}
	}
	if out := mustRun(t, env, "backup", "verify", "--shard=05461", "latest"); !strings.Contains(out, "intact") {
		t.Errorf("backup verify: %s", out)
	}
	if r := run(t, env, "backup", "verify", "latest"); r.code != 2 || !strings.Contains(r.stderr, "name one with --shard: 00000, 05461, 10922") {
		t.Errorf("backup verify without a shard: %d %s", r.code, r.stderr)
	}
	for _, node := range old {
		node.Kill(t)
	}

	var peers []string
	dirs, args := make([]string, pods), make([][]string, pods)
	for i := range pods {
		ip, port, bus := "127.0.4."+strconv.Itoa(i+1), strconv.Itoa(testenv.FreePort(t)), strconv.Itoa(testenv.FreePort(t))
		peers = append(peers, ip+":"+port+"@"+bus)
		dirs[i] = t.TempDir()
		args[i] = []string{"--port", port, "--bind", ip, "--bind-source-addr", ip, "--protected-mode", "no", "--appendonly", "yes",
			"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "15000", "--repl-diskless-sync-delay", "0"}
	}
	restore := func(pod int, more ...string) string {
		return mustRun(t, env, append([]string{"restore", "--restore.dir=" + dirs[pod], "--pod.name=redis-" + strconv.Itoa(pod), "--restore.shard=auto",
			"--restore.cluster-peers=" + strings.Join(peers, ",")}, more...)...)
	}
	if out := restore(1, "--dry-run"); !strings.Contains(out, "the primary of shard 05461, slots 5461-10921") {
		t.Errorf("dry run: %s", out)
	}
	for pod := range pods {
		out := restore(pod)
		if pod < shards && !strings.HasPrefix(out, "restored ") || pod >= shards && !strings.HasPrefix(out, "placed nodes.conf: the node is a replica of node "+strconv.Itoa(pod-shards)) {
			t.Errorf("pod %d: %s", pod, out)
		}
	}
	nodes := make([]*testenv.Redis, pods)
	for pod := range pods {
		nodes[pod] = testenv.StartRedisIn(t, dirs[pod], args[pod]...)
	}
	testenv.Eventually(t, 60*time.Second, func() error {
		for _, n := range nodes {
			if info := redisCLI(t, n.Addr, "CLUSTER", "INFO"); !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:6") {
				return fmt.Errorf("%s: %s", n.Addr, info)
			}
			if info := redisCLI(t, n.Addr, "INFO", "replication"); strings.Contains(info, "master_link_status:down") {
				return fmt.Errorf("%s: %s", n.Addr, info)
			}
		}
		out, err := exec.Command(testenv.Program(t, "redis-cli", "apt-get install redis-tools"), "--cluster", "check", nodes[5].Addr).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "[OK] All 16384 slots covered.") || strings.Contains(string(out), "[ERR]") || strings.Contains(string(out), "[WARNING]") {
			return fmt.Errorf("redis-cli --cluster check: %w\n%s", err, out)
		}
		return nil
	})
	for key, value := range want {
		if got := redisCLI(t, nodes[4].Addr, "GET", key); got != value {
			t.Errorf("%s is %q, want %q", key, got, value)
		}
	}
	t.Logf("%d keys read back", len(want))
	if out := restore(0); !strings.HasPrefix(out, "nothing restored: the directory holds data") {
		t.Errorf("at the next start: %s", out)
	}
}

// redisCLI runs one command, wherever in the cluster its key is.
func redisCLI(t *testing.T, addr string, args ...string) string {
	t.Helper()
	host, port, _ := strings.Cut(addr, ":")
	out, err := exec.Command(testenv.Program(t, "redis-cli", "apt-get install redis-tools"), append([]string{"-c", "-h", host, "-p", port}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("redis-cli %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
