package exporter_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// shape lists name, type and labels of every series, without what differs from
// run to run: values, identities, which commands were called.
func shape(families []*dto.MetricFamily) string {
	moving := map[string]bool{"address": true, "node_id": true, "cmd": true, "err": true, "event_name": true, "master_address": true, "master_port": true, "master_replid": true,
		"os": true, "process_id": true, "redis_build_id": true, "redis_version": true, "run_id": true, "slave_port": true,
		"slave_state": true, "tcp_port": true}
	lines := make(map[string]bool)
	for _, mf := range families {
		if strings.HasPrefix(mf.GetName(), "redis_cluster_stats_messages_") {
			continue // which kinds of messages were sent by now
		}
		for _, m := range mf.Metric {
			var labels []string
			for _, l := range m.Label {
				value := l.GetValue()
				if moving[l.GetName()] {
					value = "*"
				}
				labels = append(labels, l.GetName()+"="+strconv.Quote(value))
			}
			lines[fmt.Sprintf("%s %s {%s}\n", strings.ToLower(mf.GetType().String()), mf.GetName(), strings.Join(labels, ","))] = true
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(lines)), "")
}

// settled scrapes until check is content, and returns that scrape.
func settled(t *testing.T, e *exporter.Exporter, check func(map[string]string) error) []*dto.MetricFamily {
	t.Helper()
	var families []*dto.MetricFamily
	testenv.Eventually(t, time.Minute, func() error {
		families = e.Scrape(t.Context())
		return check(samples(t, text(t, families)))
	})
	return families
}

// has is a check for settled: a series with a value.
func has(series, value string) func(map[string]string) error {
	return func(got map[string]string) error {
		if got[series] != value {
			return fmt.Errorf("%s is %q, not %q", series, got[series], value)
		}
		return nil
	}
}

// hasAll is has for several series.
func hasAll(want map[string]string) func(map[string]string) error {
	return func(got map[string]string) error {
		var problems []error
		for series, value := range want {
			problems = append(problems, has(series, value)(got))
		}
		return errors.Join(problems...)
	}
}

func TestStandalone(t *testing.T) {
	srv := testenv.StartRedis(t, "--maxmemory", "64mb", "--latency-monitor-threshold", "1", "--databases", "4",
		"--appendonly", "yes", "--slowlog-log-slower-than", slowerThan)
	srv.Do(t, "SET", "a", "1", "EX", "1000")
	srv.Do(t, "SET", "b", "1")
	srv.Do(t, "DEBUG", "SLEEP", slowSleep)
	c := srv.Client(t)
	if _, err := c.Do(t.Context(), "LPUSH", "a", "x"); err == nil {
		t.Fatal("LPUSH on a string went well")
	}
	e, board := newExporter(t, c, exporter.Options{Version: "1.2.3", Commit: "abc", Date: "today"})
	e.Scrape(t.Context())
	e.Scrape(t.Context())
	families := settled(t, e, has("redis_aof_rewrite_in_progress", "0"))
	golden(t, "standalone.txt", shape(families))

	got := samples(t, text(t, families))
	expect(t, got, map[string]string{
		"redis_up":                         "1",
		`redis_db_keys{db="db0"}`:          "2",
		`redis_db_keys_expiring{db="db0"}`: "1",
		`redis_db_keys{db="db3"}`:          "0",
		`redis_db_keys{db="db4"}`:          "absent",
		"redis_memory_max_bytes":           "6.7108864e+07",
		"redis_config_maxmemory":           "6.7108864e+07",
		"redis_config_maxclients":          "10000",
		`redis_config_client_output_buffer_limit_bytes{class="pubsub",limit="hard"}`: "3.3554432e+07",
		"redis_slowlog_length":                                                "1",
		"redis_slowlog_last_id":                                               "0",
		`redis_errors_total{err="WRONGTYPE"}`:                                 "1",
		`redis_commands_total{cmd="set"}`:                                     "2",
		`redis_commands_total{cmd="lpush"}`:                                   "1",
		"redis_aof_enabled":                                                   "1",
		"redis_sidecar_exporter_dropped_series_total":                         "0",
		`redis_commands_failed_calls_total{cmd="lpush"}`:                      "1",
		`redis_commands_rejected_calls_total{cmd="lpush"}`:                    "0",
		`redis_commands_latencies_usec_bucket{cmd="set",le="+Inf"}`:           "2",
		`redis_commands_latencies_usec_bucket{cmd="set",le="541065"}`:         "2",
		`redis_commands_latencies_usec_bucket{cmd="debug",le="270532"}`:       "0",
		`redis_commands_latencies_usec_bucket{cmd="debug",le="1.073741e+06"}`: "1", // and all that takes longer
	})
	if v := number(t, got["redis_last_slow_execution_duration_seconds"]); v < 0.35 || v > 20 {
		t.Errorf("last slow execution took %v s", v)
	}
	if v := number(t, got[`redis_latency_spike_duration_seconds{event_name="command"}`]); v < 0.001 {
		t.Errorf("latency spike of %v s", v)
	}
	started := number(t, got["redis_start_time_seconds"])
	if age := float64(time.Now().Unix()) - started; age < 0 || age > 120 {
		t.Errorf("started %v s ago", age)
	}
	for name, v := range got {
		if strings.HasPrefix(name, "redis_sidecar_exporter_collector_success") && v != "1" {
			t.Errorf("%s = %s", name, v)
		}
	}
	report, _ := board.Report(status.Exporter)
	if report.State != status.OK || !strings.HasSuffix(report.Message, ", standalone") {
		t.Errorf("the Board says %s: %s", report.State, report.Message)
	}

	// A restart: the first scrape after it is good, and tells.
	testenv.Eventually(t, time.Minute, func() error { // the start is given in whole seconds
		if time.Now().Unix() <= int64(started) {
			return fmt.Errorf("still the second of the start")
		}
		return nil
	})
	srv.Restart(t)
	after := scrape(t, e)
	if reason := downReason(t, after); reason != "" {
		t.Errorf("down after a restart: %s", reason)
	}
	if v := number(t, after["redis_start_time_seconds"]); v <= started {
		t.Errorf("start time %v after a restart, %v before", v, started)
	}
	expect(t, after, map[string]string{"redis_slowlog_length": "0", `redis_db_keys{db="db0"}`: "2"})
}

func number(t *testing.T, s string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(s, 64)
	if err != nil {
		t.Errorf("not a number: %q", s)
	}
	return v
}

func TestReplication(t *testing.T) {
	primary := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
	onReplica, _ := newExporter(t, replica.Client(t), exporter.Options{})
	onPrimary, _ := newExporter(t, primary.Client(t), exporter.Options{})

	link := fmt.Sprintf(`{master_host="127.0.0.1",master_port="%d"}`, primary.Port)
	families := settled(t, onReplica, has("redis_master_link_up"+link, "1"))
	golden(t, "replica.txt", shape(families))
	expect(t, samples(t, text(t, families)), map[string]string{
		fmt.Sprintf(`redis_slave_info{master_host="127.0.0.1",master_port="%d",read_only="1"}`, primary.Port): "1",
		"redis_master_sync_in_progress" + link: "0",
		"redis_slave_priority":                 "100",
		"redis_connected_slaves":               "0",
	})

	slave := fmt.Sprintf(`{slave_ip="127.0.0.1",slave_port="%d",slave_state="online"}`, replica.Port)
	families = settled(t, onPrimary, func(got map[string]string) error {
		if got["redis_connected_slave_offset_bytes"+slave] == "" || got["redis_connected_slave_lag_seconds"+slave] == "" {
			return fmt.Errorf("no replica online")
		}
		return nil
	})
	golden(t, "primary.txt", shape(families))
	expect(t, samples(t, text(t, families)), map[string]string{"redis_connected_slaves": "1", "redis_slave_priority": "absent"})

	primary.Stop(t)
	got := samples(t, text(t, settled(t, onReplica, has("redis_master_link_up"+link, "0"))))
	expect(t, got, map[string]string{"redis_up": "1", "redis_master_last_io_seconds_ago" + link: "-1"})
	if reason := downReason(t, scrape(t, onPrimary)); reason != string(status.ReasonUnreachable) {
		t.Errorf("the stopped primary is down because of %q", reason)
	}
}

func TestCluster(t *testing.T) {
	nodes := testenv.StartCluster(t, 3)
	e, board := newExporter(t, nodes[0].Client(t), exporter.Options{})
	// A node that is late for a second or two counts as lost until it has answered.
	families := settled(t, e, hasAll(map[string]string{
		"redis_cluster_state": "1", "redis_cluster_known_nodes": "3", "redis_cluster_slots_ok": "16384",
	}))
	golden(t, "cluster.txt", shape(families))
	got := samples(t, text(t, families))
	expect(t, got, map[string]string{
		"redis_cluster_enabled": "1", "redis_cluster_size": "3", "redis_cluster_slots_assigned": "16384",
		"redis_cluster_slots_ok": "16384", "redis_cluster_slots_fail": "0", "redis_cluster_my_epoch": "1",
		`redis_db_keys{db="db0"}`: "0", `redis_db_keys{db="db1"}`: "absent",
	})
	if number(t, got["redis_cluster_messages_sent_total"]) == 0 || got["redis_cluster_stats_messages_ping_sent"] == "" {
		t.Error("no messages of the cluster bus")
	}
	if r, _ := board.Report(status.Exporter); !strings.HasSuffix(r.Message, ", cluster") {
		t.Errorf("the Board says %q", r.Message)
	}

	nodes[1].Stop(t)
	nodes[2].Stop(t)
	settled(t, e, has("redis_cluster_state", "0"))
}

func TestSentinel(t *testing.T) {
	primary := testenv.StartRedis(t)
	srv := testenv.StartSentinel(t, fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 1", primary.Port),
		"sentinel down-after-milliseconds mymaster 1000")
	e, board := newExporter(t, srv.Client(t), exporter.Options{})
	address := fmt.Sprintf(`master_address="127.0.0.1:%d"`, primary.Port)
	families := settled(t, e, has(`redis_sentinel_master_status{`+address+`,master_name="mymaster",master_status="ok"}`, "1"))
	golden(t, "sentinel.txt", shape(families))
	got := samples(t, text(t, families))
	expect(t, got, map[string]string{
		"redis_up": "1", "redis_sentinel_masters": "1", "redis_sentinel_tilt": "0",
		`redis_sentinel_master_slaves{` + address + `,master_name="mymaster"}`:    "0",
		`redis_sentinel_master_sentinels{` + address + `,master_name="mymaster"}`: "1",
		`redis_db_keys{db="db0"}`: "absent",
	})
	if r, _ := board.Report(status.Exporter); r.State != status.OK || !strings.HasSuffix(r.Message, ", sentinel") {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
	// A Sentinel knows neither CONFIG GET nor SLOWLOG nor LATENCY: nothing of it is asked.
	errs := number(t, got["redis_total_error_replies"])
	for range 5 {
		got = scrape(t, e)
	}
	if now := number(t, got["redis_total_error_replies"]); now != errs {
		t.Errorf("%v error replies, %v before", now, errs)
	}

	primary.Stop(t)
	settled(t, e, has(`redis_sentinel_master_status{`+address+`,master_name="mymaster",master_status="ok"}`, ""))
}
