package exporter_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Servers and modules that are not at hand, by what they are known to answer.

func TestModules(t *testing.T) {
	s := &replay{info: "redis_version:7.4.0\r\nrun_id:a\r\n", replies: map[string]any{
		"INFO MODULES": "# Modules\r\nmodule:name=search,ver=21005,api=1,filters=0,usedby=[],using=[ReJSON],options=[handle-io-errors]\r\n" +
			"module:name=ReJSON,ver=20803,api=1,filters=2,usedby=[search|other],using=[],options=[]\r\nmodule:nonsense\r\n" +
			"# search_indexes\r\nsearch_number_of_indexes:3\r\nsearch_total_indexing_time:12.5\r\nsearch_unheard_of:1\r\n",
	}}
	e, _ := newExporter(t, s, exporter.Options{Collect: exporter.CollectOptions{Modules: true}})
	expect(t, scrape(t, e), map[string]string{
		`redis_module_info{api="1",filters="0",name="search",usedby="[]",using="[ReJSON]",ver="21005"}`:       "1",
		`redis_module_info{api="1",filters="2",name="ReJSON",usedby="[search|other]",using="[]",ver="20803"}`: "1",
		"redis_search_number_of_indexes":                                "3",
		"redis_search_indexing_time_ms_total":                           "12.5",
		"redis_search_unheard_of":                                       "absent",
		`redis_sidecar_exporter_collector_success{collector="modules"}`: "1",
	})
	s.took()
	off, _ := newExporter(t, s, exporter.Options{})
	expect(t, scrape(t, off), map[string]string{"redis_search_number_of_indexes": "absent"})
	if asked, _ := s.took(); len(asked) == 0 || slices.Contains(asked, "INFO MODULES") {
		t.Errorf("asked %q", asked)
	}
}

func TestTile38(t *testing.T) {
	s := &replay{info: "tile38_version:1.33.0\r\nredis_version:1.33.0\r\nuptime_in_seconds:5\r\n", replies: map[string]any{
		"SERVER EXT": []any{"alloc_bytes", "12345", "tile38_aof_size", "77", "read_only", "false", "id", "abc", "tile38_version", "1.33.0"},
	}}
	e, _ := newExporter(t, s, exporter.Options{Collect: exporter.CollectOptions{Tile38: true}})
	got := scrape(t, e)
	expect(t, got, map[string]string{
		"redis_tile38_mem_alloc_bytes": "12345", "redis_tile38_aof_size_bytes": "77", "redis_tile38_read_only": "0",
		"redis_tile38_id": "absent", "redis_up": "1",
	})
	if reason := downReason(t, got); reason != "" {
		t.Errorf("down: %s", reason)
	}
}

func TestCommandlog(t *testing.T) {
	const all = "CONFIG GET maxclients maxmemory io-threads repl-backlog-size client-output-buffer-limit databases commandlog-execution-slower-than " +
		"commandlog-slow-execution-max-len commandlog-request-larger-than commandlog-large-request-max-len commandlog-reply-larger-than commandlog-large-reply-max-len"
	s := &replay{info: "redis_version:7.2.4\r\nvalkey_version:8.1.1\r\nrun_id:a\r\n", replies: map[string]any{
		"COMMANDLOG LEN slow": int64(1), "COMMANDLOG LEN large-request": int64(2), "COMMANDLOG LEN large-reply": int64(3),
		all: []any{"commandlog-execution-slower-than", "10000", "commandlog-slow-execution-max-len", "128", "commandlog-request-larger-than", "1048576",
			"commandlog-large-request-max-len", "129", "commandlog-reply-larger-than", "-1", "commandlog-large-reply-max-len", "130", "maxclients", "10000"},
	}}
	for _, opts := range []exporter.Options{{}, {Collect: exporter.CollectOptions{ConfigValues: true}}} {
		s.replies["CONFIG GET *"] = s.replies[all]
		e, _ := newExporter(t, s, opts)
		expect(t, scrape(t, e), map[string]string{
			"redis_commandlog_slow_length": "1", "redis_commandlog_large_request_length": "2", "redis_commandlog_large_reply_length": "3",
			"redis_commandlog_execution_slower_than": "10000", "redis_commandlog_slow_execution_max_len": "128",
			"redis_commandlog_request_larger_than": "1.048576e+06", "redis_commandlog_large_request_max_len": "129",
			"redis_commandlog_reply_larger_than": "-1", "redis_commandlog_large_reply_max_len": "130", "redis_config_maxclients": "10000",
		})
	}
}

// Fields of newer servers.
func TestNewerFields(t *testing.T) {
	s := &replay{info: "# Server\r\nredis_version:8.0.0\r\nserver_time_usec:1700000100500000\r\nshutdown_in_milliseconds:2500\r\n" +
		"# Threads\r\nio_thread_0:clients=7,reads=48677,writes=44861\r\nio_thread_1:clients=x,reads=1\r\nio_thread_x:clients=1\r\nio_threads_active:0\r\n" +
		"# Stats\r\ncurrent_active_defrag_time:1500\r\ntotal_active_defrag_time:2500\r\n" +
		"# Persistence\r\ncurrent_fork_perc:25.00\r\ncurrent_save_keys_total:10\r\ncurrent_save_keys_processed:4\r\ncurrent_cow_size:4096\r\ncurrent_cow_peak:8192\r\n" +
		"current_cow_size_age:3\r\nloading:1\r\nloading_start_time:1700000000\r\nloading_total_bytes:200\r\nloading_rdb_used_mem:900\r\nloading_loaded_bytes:50\r\n" +
		"loading_loaded_perc:25.00\r\nloading_eta_seconds:6\r\naof_rewrites:3\r\naof_rewrites_consecutive_failures:1\r\n" +
		"# Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=0,subexpiry=3\r\ndb1:keys=5,expires=2,avg_ttl=0,keys_with_volatile_items=4\r\n"}
	e, _ := newExporter(t, s, exporter.Options{})
	expect(t, scrape(t, e), map[string]string{
		"redis_server_time_seconds": "1.7000001005e+09", "redis_shutdown_remaining_seconds": "2.5",
		`redis_io_thread_clients{thread="0"}`: "7", `redis_io_thread_reads_total{thread="0"}`: "48677", `redis_io_thread_writes_total{thread="0"}`: "44861",
		`redis_io_thread_clients{thread="1"}`: "absent", `redis_io_thread_reads_total{thread="1"}`: "1", `redis_io_thread_clients{thread="x"}`: "absent",
		"redis_active_defrag_current_seconds": "1.5", "redis_active_defrag_seconds_total": "2.5",
		"redis_current_fork_progress_ratio": "0.25", "redis_current_save_keys": "10", "redis_current_save_processed_keys": "4",
		"redis_current_cow_bytes": "4096", "redis_current_cow_peak_bytes": "8192", "redis_current_cow_age_seconds": "3",
		"redis_loading_start_timestamp_seconds": "1.7e+09", "redis_loading_bytes": "200", "redis_loading_loaded_bytes": "50",
		"redis_loading_progress_ratio": "0.25", "redis_loading_eta_seconds": "6", "redis_loading_rdb_used_memory_bytes": "900",
		"redis_aof_rewrites_total": "3", "redis_aof_rewrites_consecutive_failures": "1",
		`redis_db_keys_with_expiring_items{db="db0"}`: "3", `redis_db_keys_with_expiring_items{db="db1"}`: "4", `redis_db_keys_cached{db="db0"}`: "absent",
	})
}

// A server or proxy that knows INFO without a section only.
func TestPlainInfo(t *testing.T) {
	for name, all := range map[string]any{"refused": status.WithReason(status.ReasonRedis, errors.New("ERR syntax error")), "empty": "\r\n"} {
		s := &replay{replies: map[string]any{"INFO ALL": all, "INFO": "redis_version:7.0.0\r\nuptime_in_seconds:5\r\n"}}
		e, _ := newExporter(t, s, exporter.Options{})
		for i, trips := range []int{3, 1, 1} {
			expect(t, scrape(t, e), map[string]string{"redis_up": "1", "redis_uptime_in_seconds": "5"})
			if _, n := s.took(); n != trips {
				t.Errorf("%s: %d round trips in scrape %d", name, n, i)
			}
		}
		s.replies["INFO"] = "\r\n"
		if reason := downReason(t, scrape(t, e)); reason != string(status.ReasonProtocol) {
			t.Errorf("%s: down because of %q", name, reason)
		}
	}
}
