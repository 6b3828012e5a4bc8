package testenv

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

// StartSentinel starts a Sentinel with the given lines of sentinel.conf, such as
// "sentinel monitor mymaster 127.0.0.1 6379 1", and waits until it answers.
func StartSentinel(tb testing.TB, config ...string) *Redis {
	tb.Helper()
	r := &Redis{Dir: tb.TempDir()}
	path := r.WriteFile(tb, "sentinel.conf", strings.Join(config, "\n")+"\n")
	return StartRedisIn(tb, r.Dir, path, "--sentinel")
}

// StartCluster starts n primaries in cluster mode that share all slots evenly
// and waits until each holds the cluster for whole. args are as for StartRedis.
func StartCluster(tb testing.TB, n int, args ...string) []*Redis {
	tb.Helper()
	const slots = 16384
	nodes := make([]*Redis, n)
	for i := range nodes {
		nodes[i] = StartClusterNode(tb, args...)
		nodes[i].Do(tb, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*slots/n), strconv.Itoa((i+1)*slots/n-1))
		nodes[i].Do(tb, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, node := range nodes[1:] {
		nodes[0].Meet(tb, node)
	}
	for _, node := range nodes {
		Eventually(tb, 30*time.Second, func() error {
			info := node.Do(tb, "CLUSTER", "INFO").(string)
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d\r\n", n)) {
				return fmt.Errorf("cluster seen by %s:\n%s", node.Addr, info)
			}
			return nil
		})
	}
	return nodes
}

// StartClusterNode starts a server in cluster mode that knows no other.
func StartClusterNode(tb testing.TB, args ...string) *Redis {
	tb.Helper()
	return StartRedis(tb, append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
		"--cluster-port", strconv.Itoa(FreePort(tb))}, args...)...)
}

// Meet makes two nodes of a cluster, and all that they know, know each other.
// It does not wait for that.
func (r *Redis) Meet(tb testing.TB, other *Redis) {
	tb.Helper()
	bus := other.Do(tb, "CONFIG", "GET", "cluster-port").([]any)[1].(string)
	r.Do(tb, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.Port), bus)
}

// NodeID returns the server's id in its cluster.
func (r *Redis) NodeID(tb testing.TB) string {
	tb.Helper()
	return r.Do(tb, "CLUSTER", "MYID").(string)
}
