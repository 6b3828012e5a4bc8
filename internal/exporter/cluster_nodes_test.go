package exporter_test

import (
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// node returns the labels of a node's series.
func node(t *testing.T, srv *testenv.Redis, role string) string {
	t.Helper()
	return fmt.Sprintf(`{address="127.0.0.1:%d",node_id="%s",role="%s"}`, srv.Port, srv.NodeID(t), role)
}

// The cluster as one node sees it: a replica joins, slots move, a node stops
// answering, and comes back.
func TestClusterNodes(t *testing.T) {
	nodes := testenv.StartCluster(t, 3)
	replica := testenv.StartClusterNode(t)
	nodes[0].Meet(t, replica)
	e, _ := newExporter(t, nodes[0].Client(t), exporter.Options{})
	settled(t, e, has(`redis_cluster_nodes{role="master",state="ok"}`, "4"))
	settled(t, e, has("redis_cluster_links{direction=\"to\"}", "3"))
	testenv.Eventually(t, time.Minute, func() error {
		_, err := replica.Client(t).Do(t.Context(), "CLUSTER", "REPLICATE", nodes[0].NodeID(t))
		return err
	})
	one, two, three, four := node(t, nodes[0], "master"), node(t, nodes[1], "master"), node(t, nodes[2], "master"), node(t, replica, "slave")
	settled(t, e, has("redis_cluster_node_up"+four, "1"))
	settled(t, e, has(`redis_cluster_links{direction="from"}`, "3"))
	// A node that is late for a second or two counts as lost until it has answered.
	got := samples(t, text(t, settled(t, e, hasAll(map[string]string{
		`redis_cluster_nodes{role="master",state="ok"}`:   "3",
		`redis_cluster_nodes{role="slave",state="ok"}`:    "1",
		`redis_cluster_nodes{role="master",state="fail"}`: "0",
		"redis_cluster_node_up" + one:                     "1", "redis_cluster_node_link_up" + one: "1", "redis_cluster_node_slots" + one: "5461",
		"redis_cluster_node_up" + two: "1", "redis_cluster_node_link_up" + two: "1", "redis_cluster_node_slots" + two: "5461",
		"redis_cluster_node_up" + three: "1", "redis_cluster_node_link_up" + three: "1", "redis_cluster_node_slots" + three: "5462",
		"redis_cluster_node_slots" + four: "0",
		"redis_cluster_slots_migrating":   "0", "redis_cluster_slots_importing": "0",
	}))))
	now := number(t, got["redis_server_time_seconds"])
	if pong := number(t, got["redis_cluster_node_last_pong_timestamp_seconds"+two]); pong < now-10 || pong > now+1 {
		t.Errorf("last pong at %v, now %v", pong, now)
	}

	nodes[0].Do(t, "CLUSTER", "SETSLOT", "7", "MIGRATING", nodes[1].NodeID(t))
	nodes[0].Do(t, "CLUSTER", "SETSLOT", "8", "MIGRATING", nodes[1].NodeID(t))
	nodes[0].Do(t, "CLUSTER", "SETSLOT", "16000", "IMPORTING", nodes[2].NodeID(t))
	expect(t, scrape(t, e), map[string]string{"redis_cluster_slots_migrating": "2", "redis_cluster_slots_importing": "1", "redis_cluster_node_slots" + one: "5461"})

	nodes[2].Signal(t, syscall.SIGSTOP)
	settled(t, e, func(got map[string]string) error {
		down := number(t, got[`redis_cluster_nodes{role="master",state="fail"}`]) + number(t, got[`redis_cluster_nodes{role="master",state="pfail"}`])
		if down != 1 || got["redis_cluster_node_up"+three] != "0" || got["redis_cluster_node_slots"+three] != "5462" {
			return fmt.Errorf("%v nodes down, node 3 %s", down, got["redis_cluster_node_up"+three])
		}
		return nil
	})
	nodes[2].Signal(t, syscall.SIGCONT)
	settled(t, e, has("redis_cluster_node_up"+three, "1"))
}

// A cluster larger than what has series of its own: the counts are whole, this
// node is shown, and what is left out is counted.
func TestClusterNodesAreBounded(t *testing.T) {
	var nodes, links = strings.Builder{}, []any{}
	for i := range 1500 {
		fmt.Fprintf(&nodes, "id%d 10.0.0.1:%d@%d master - 0 0 0 connected\n", i, i, i)
		links = append(links, []any{"direction", []string{"to", "from", "sideways"}[i%3], "send-buffer-allocated", int64(10)})
	}
	nodes.WriteString("me 10.0.0.2:1@2 myself,slave id0 0 0 0 connected\n")
	e, _ := newExporter(t, &replay{info: "redis_version:7.0.0\r\ncluster_enabled:1\r\n", replies: map[string]any{
		"CLUSTER NODES": nodes.String(), "CLUSTER LINKS": links,
	}}, exporter.Options{})
	got := scrape(t, e)
	expect(t, got, map[string]string{
		`redis_cluster_nodes{role="master",state="ok"}`:                                 "1500",
		`redis_cluster_node_up{address="10.0.0.2:1",node_id="me",role="slave"}`:         "1",
		`redis_cluster_node_up{address="10.0.0.1:999",node_id="id999",role="master"}`:   "1",
		`redis_cluster_node_up{address="10.0.0.1:1000",node_id="id1000",role="master"}`: "absent",
		"redis_sidecar_exporter_dropped_series_total":                                   strconv.Itoa(500),
		`redis_cluster_links{direction="to"}`:                                           "500",
		`redis_cluster_links{direction="sideways"}`:                                     "absent",
		`redis_cluster_links_send_buffer_allocated_bytes{direction="from"}`:             "5000",
		`redis_sidecar_exporter_collector_success{collector="cluster_nodes"}`:           "1",
	})
}
