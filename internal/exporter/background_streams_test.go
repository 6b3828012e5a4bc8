package exporter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// fillStreams makes stream orders in database 0 with two groups, a stream
// without entries, and one in database 2.
func fillStreams(t *testing.T, srv *testenv.Redis) {
	t.Helper()
	c := srv.Client(t)
	for _, cmd := range []string{
		"XADD orders 1000-1 a b", "XADD orders 2000-1 a b", "XADD orders 2000-7 a b", "XADD orders 5000-2 a b",
		"XGROUP CREATE orders billing 0", "XREADGROUP GROUP billing worker-1 COUNT 2 STREAMS orders >",
		"XREADGROUP GROUP billing worker-2 COUNT 1 STREAMS orders >", "XACK orders billing 1000-1",
		"XGROUP CREATE orders lost 2000-1", "XADD empty 700-1 a b", "XDEL empty 700-1", "SET text hello",
		"SELECT 2", "XADD orders:eu 9-0 a b", "SELECT 0",
	} {
		if _, err := c.Do(t.Context(), strings.Fields(cmd)...); err != nil {
			t.Fatalf("%s: %v", cmd, err)
		}
	}
}

func TestStreams(t *testing.T) {
	srv := testenv.StartRedis(t)
	fillStreams(t, srv)
	keys := slices.Concat(keysIn(0, "orders", "empty", "missing"), keysIn(2, "orders*"), keysIn(5, "*"))
	e, board := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Streams: exporter.StreamOptions{Check: keys}})
	got := ranBackground(t, e, "streams")
	series := func(metric, stream string) string {
		return "redis_stream_" + metric + `{db="db0",stream="` + stream + `"}`
	}
	group := func(metric, group string) string {
		return "redis_stream_group_" + metric + `{db="db0",group="` + group + `",stream="orders"}`
	}
	consumer := func(metric, name string) string {
		return "redis_stream_group_consumer_" + metric + `{consumer="` + name + `",db="db0",group="billing",stream="orders"}`
	}
	want := map[string]string{
		series("length", "orders"): "4", series("radix_tree_keys", "orders"): "1", series("radix_tree_nodes", "orders"): "2",
		series("last_generated_id", "orders"): "5000", series("groups", "orders"): "2", series("max_deleted_entry_id", "orders"): "0",
		series("first_entry_id", "orders"): "1000", series("last_entry_id", "orders"): "5000", series("entries_added_total", "orders"): "4",
		group("consumers", "billing"): "2", group("messages_pending", "billing"): "2", group("last_delivered_id", "billing"): "2000",
		group("entries_read", "billing"): "3", group("lag", "billing"): "1",
		group("consumers", "lost"): "0", group("messages_pending", "lost"): "0", group("last_delivered_id", "lost"): "2000",
		// entries_read and lag of the group that began in the middle: nil, so absent.
		consumer("messages_pending", "worker-1"): "1", consumer("messages_pending", "worker-2"): "1",
		series("length", "empty"): "0", series("radix_tree_keys", "empty"): "0", series("radix_tree_nodes", "empty"): "1",
		series("last_generated_id", "empty"): "700", series("groups", "empty"): "0", series("max_deleted_entry_id", "empty"): "700",
		series("first_entry_id", "empty"): "0", series("last_entry_id", "empty"): "0", series("entries_added_total", "empty"): "1",
		`redis_stream_length{db="db2",stream="orders:eu"}`: "1", `redis_stream_radix_tree_keys{db="db2",stream="orders:eu"}`: "1",
		`redis_stream_radix_tree_nodes{db="db2",stream="orders:eu"}`: "2", `redis_stream_last_generated_id{db="db2",stream="orders:eu"}`: "9",
		`redis_stream_groups{db="db2",stream="orders:eu"}`: "0", `redis_stream_max_deleted_entry_id{db="db2",stream="orders:eu"}`: "0",
		`redis_stream_first_entry_id{db="db2",stream="orders:eu"}`: "9", `redis_stream_last_entry_id{db="db2",stream="orders:eu"}`: "9",
		`redis_stream_entries_added_total{db="db2",stream="orders:eu"}`: "1",
	}
	shown := only(got, "redis_stream_")
	for name, v := range only(shown, "redis_stream_group_consumer_idle_seconds") {
		if seconds := number(t, v); seconds < 0 || seconds > 30 {
			t.Errorf("%s %s", name, v)
		}
		delete(shown, name)
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	expect(t, got, map[string]string{about("success", "streams"): "1", `redis_errors_total{err="ERR"}`: "absent"})
	if r, _ := board.Report("exporter"); r.State != "ok" {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}

	// A deleted entry makes the lag unknown, and reading on makes it known again.
	srv.Do(t, "XDEL", "orders", "5000-2")
	srv.Do(t, "XADD", "orders", "6000-1", "a", "b")
	lag := group("lag", "billing")
	testenv.Eventually(t, time.Minute, func() error { return has(lag, "")(scrape(t, e)) })
	srv.Do(t, "XREADGROUP", "GROUP", "billing", "worker-1", "STREAMS", "orders", ">")
	testenv.Eventually(t, time.Minute, func() error {
		if _, known := scrape(t, e)[lag]; !known {
			return fmt.Errorf("no lag")
		}
		return nil
	})
}

func TestSingleStreams(t *testing.T) {
	srv := testenv.StartRedis(t)
	fillStreams(t, srv)
	srv.Do(t, "XADD", "odd*", "1-1", "a", "b")
	keys := []exporter.Key{{Key: "orders"}, {Key: "odd*"}, {Key: "text"}, {Key: "missing"}}
	e, board := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, Streams: exporter.StreamOptions{Single: keys, NoConsumers: true}})
	got := ranBackground(t, e, "single_streams")
	expect(t, got, map[string]string{
		`redis_stream_length{db="db0",stream="orders"}`: "4", `redis_stream_length{db="db0",stream="odd*"}`: "1",
		`redis_stream_group_lag{db="db0",group="billing",stream="orders"}`: "1",
		`redis_commands_total{cmd="xinfo|consumers"}`:                      "absent",
		`redis_errors_total{err="WRONGTYPE"}`:                              "absent",
		about("success", "single_streams"):                                 "0",
	})
	for name := range only(got, "redis_stream_group_consumer_") {
		t.Errorf("%s is there", name)
	}
	if r, _ := board.Report("exporter"); r.State != "warning" || !strings.Contains(r.Message, "text in db0 is a string, not a stream") {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
}

func TestKeyGroups(t *testing.T) {
	srv := testenv.StartRedis(t, "--databases", "4")
	for prefix, n := range map[string]int{"user": 10, "cart": 200, "page": 30} {
		for i := range n {
			srv.Do(t, "SET", fmt.Sprintf("%s:%d", prefix, i), "0123456789")
		}
	}
	c := srv.Client(t)
	for _, cmd := range []string{"SET plain 1", "SET a,b 1", "SELECT 3", "SET overflow:1 1", "SET x:1 1", "SET y:1 1", "SET y:2 1", "SET none 1"} {
		if _, err := c.Do(t.Context(), strings.Fields(cmd)...); err != nil {
			t.Fatal(err)
		}
	}
	patterns := []string{"^(user):%d+$", "^(a,b)$", "^([^:]+):"}
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{Interval: quick, BatchSize: 50, Groups: exporter.GroupOptions{Patterns: patterns, MaxDistinct: 3}})
	got := ranBackground(t, e, "key_groups")
	count := func(db int, group string) string {
		return fmt.Sprintf(`redis_key_group_count{db="db%d",key_group="%s"}`, db, group)
	}
	distinct := func(db int) string { return fmt.Sprintf(`redis_number_of_distinct_key_groups{db="db%d"}`, db) }
	want := map[string]string{
		distinct(0): "5", distinct(1): "0", distinct(2): "0", distinct(3): "4",
		count(0, "cart"): "200", count(0, "page"): "30", count(0, "user"): "10", count(0, "overflow"): "2",
		// Four groups: those of most memory, of equal memory those of fewer keys first.
		count(3, "overflow"): "2", count(3, "y"): "2", count(3, "unclassified"): "1",
	}
	if diff := cmp.Diff(want, only(got, "redis_key_group_count", "redis_number_of_distinct")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	one := number(t, fmt.Sprint(srv.Do(t, "MEMORY", "USAGE", "user:1")))
	if v := number(t, got[`redis_key_group_memory_usage_bytes{db="db0",key_group="user"}`]); v != 10*one {
		t.Errorf("10 users take %v bytes, one %v", v, one)
	}
	if v := number(t, got["redis_last_key_groups_scrape_duration_milliseconds"]); v <= 0 {
		t.Errorf("it took %v ms", v)
	}
	expect(t, got, map[string]string{about("success", "key_groups"): "1"})
}

// What XINFO STREAM says of a stream whose producers give ids of their own.
func TestIdempotentStream(t *testing.T) {
	server := &replay{info: "redis_version:8.6.0\r\n", replies: map[string]any{
		"INFO server": "redis_version:8.6.0\r\n", "INFO replication": "role:master\r\n",
		"INFO keyspace": "# Keyspace\r\ndb0:keys=1,expires=0\r\n", "SELECT 0": "OK", "TYPE orders": "stream",
		"XINFO STREAM orders": []any{"length", int64(4), "idmp-duration", int64(60), "idmp-maxsize", int64(100), "pids-tracked", int64(3),
			"iids-tracked", int64(7), "iids-added", int64(11), "iids-duplicates", int64(2)},
		"XINFO GROUPS orders": []any{},
	}}
	e, _ := newExporter(t, server, exporter.Options{Background: exporter.BackgroundOptions{
		Server: server, Interval: time.Hour, Streams: exporter.StreamOptions{Check: keysIn(0, "orders")},
	}})
	runBackground(t, e)
	testenv.Eventually(t, time.Minute, func() error { return has(about("runs_total", "streams"), "1")(scrape(t, e)) })
	want := map[string]string{}
	for metric, value := range map[string]string{
		"length": "4", "idmp_duration_seconds": "60", "idmp_max_size": "100", "idmp_producer_ids_tracked": "3",
		"idmp_idempotent_ids_tracked": "7", "idmp_entries_added_total": "11", "idmp_duplicates_total": "2", "groups": "absent",
	} {
		want["redis_stream_"+metric+`{db="db0",stream="orders"}`] = value
	}
	expect(t, scrape(t, e), want)
}
