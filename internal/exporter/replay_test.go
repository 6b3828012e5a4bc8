package exporter_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// replay is a server that gives recorded replies: of versions that are not
// installed, and for what must not move.
type replay struct {
	info    string
	replies map[string]any // by command line

	mu    sync.Mutex
	asked []string // command lines, in order
	trips int
}

var errUnknown = status.WithReason(status.ReasonUnknownCmd, errors.New("ERR unknown command"))

func (s *replay) Pipeline(_ context.Context, commands ...[]string) ([]any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips++
	out := make([]any, len(commands))
	for i, c := range commands {
		line := strings.Join(c, " ")
		s.asked = append(s.asked, line)
		reply, ok := s.replies[line]
		if !ok && strings.HasPrefix(line, "CONFIG GET ") {
			reply, ok = s.config(c[2:])
		}
		switch {
		case ok:
			out[i] = reply
		case line == "INFO ALL":
			out[i] = s.info
		default:
			out[i] = errUnknown
		}
	}
	return out, nil
}

// config answers CONFIG GET of some parameters from a recording of others.
func (s *replay) config(parameters []string) (reply any, ok bool) {
	for line, recorded := range s.replies {
		list, isList := recorded.([]any)
		if !isList || !strings.HasPrefix(line, "CONFIG GET ") {
			continue
		}
		found := []any{}
		for i := 0; i+1 < len(list); i += 2 {
			if name, _ := list[i].(string); slices.Contains(parameters, name) {
				found = append(found, list[i], list[i+1])
			}
		}
		return found, true
	}
	return nil, false
}

// took returns the commands since the last call, and the round trips.
func (s *replay) took() (asked []string, trips int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked, trips = s.asked, s.trips
	s.asked, s.trips = nil, 0
	return asked, trips
}

// loadReplay reads a recording: info.txt, and replies.json by command line.
func loadReplay(tb testing.TB, dir string) *replay {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "info.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, "replies.json"))
	if err != nil {
		tb.Fatal(err)
	}
	s := &replay{info: string(text)}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&s.replies); err != nil {
		tb.Fatalf("%s: %v", dir, err)
	}
	for line, reply := range s.replies {
		s.replies[line] = resp(tb, reply)
	}
	return s
}

// recordings returns the directories of all recorded servers.
func recordings(tb testing.TB) []string {
	tb.Helper()
	dirs, err := filepath.Glob("testdata/replay/*/info.txt")
	if err != nil || len(dirs) == 0 {
		tb.Fatalf("no recordings: %v", err)
	}
	for i, file := range dirs {
		dirs[i] = filepath.Dir(file)
	}
	return dirs
}

// resp turns decoded JSON into a reply: numbers are integers.
func resp(tb testing.TB, v any) any {
	tb.Helper()
	switch v := v.(type) {
	case json.Number:
		n, err := v.Int64()
		if err != nil {
			tb.Fatal(err)
		}
		return n
	case []any:
		for i := range v {
			v[i] = resp(tb, v[i])
		}
	}
	return v
}

var durations = regexp.MustCompile(`(?m)^(redis_(?:sidecar_)?exporter_[a-z_]*(?:duration|connect_time)_seconds(?:_sum)?(?:{[^}]*})?) .*`)

// Every value of a recorded server, as it is shown.
func TestReplay(t *testing.T) {
	for _, dir := range recordings(t) {
		name := filepath.Base(dir)
		t.Run(name, func(t *testing.T) {
			e, _ := newExporter(t, loadReplay(t, dir), exporter.Options{})
			got := text(t, e.Scrape(t.Context()))
			samples(t, got) // no series twice
			got = durations.ReplaceAllString(got, "$1 X")
			golden(t, filepath.Join("replay", name, "metrics.prom"), got)
		})
	}
}

// What servers say that are not at hand, field by field.
func TestFields(t *testing.T) {
	for _, c := range []struct {
		name, info string
		want       map[string]string
	}{
		{
			name: "words and numbers",
			info: "# Persistence\r\nrdb_last_bgsave_status:ok\r\naof_last_write_status:err\r\nmem_fragmentation_ratio:-nan\r\nused_memory:12\r\nused_memory:13\r\nlatest_fork_usec:2500\r\nfoo:1\r\n",
			want: map[string]string{
				"redis_rdb_last_bgsave_status": "1", "redis_aof_last_write_status": "0",
				"redis_mem_fragmentation_ratio": "absent", "redis_memory_used_bytes": "12",
				"redis_latest_fork_seconds": "0.0025", "redis_foo": "absent",
			},
		},
		{
			name: "passed through by prefix",
			info: "cluster_stats_messages_auth-req_sent:7\r\ncluster_new_thing:3\r\ndb_nonsense:x\r\ndb_thing:4\r\ndb_keys:99\r\n",
			want: map[string]string{
				"redis_cluster_stats_messages_auth_req_sent": "7", "redis_cluster_new_thing": "3",
				"redis_db_nonsense": "absent", "redis_db_thing": "4", "redis_db_keys": "absent",
			},
		},
		{
			name: "redis 7.4: a fourth field of keyspace is not KeyDB's",
			info: "redis_version:7.4.1\r\n# Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=1500,subexpiry=1\r\n",
			want: map[string]string{
				`redis_db_keys{db="db0"}`: "5", `redis_db_keys_expiring{db="db0"}`: "2",
				`redis_db_avg_ttl_seconds{db="db0"}`: "1.5", `redis_db_keys_cached{db="db0"}`: "absent",
				`redis_db_keys{db="db15"}`: "0", `redis_db_keys_expiring{db="db15"}`: "0",
				`redis_db_avg_ttl_seconds{db="db15"}`: "absent", `redis_db_keys{db="db16"}`: "absent",
			},
		},
		{
			name: "keydb: cached keys, several primaries",
			info: "# Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=0,cached_keys=3\r\n# Replication\r\nrole:active-replica\r\n" +
				"master_host:a\r\nmaster_port:1\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:4\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:8\r\n" +
				"master_1_host:b\r\nmaster_1_port:2\r\nmaster_1_link_status:down\r\nmaster_1_last_io_seconds_ago:-1\r\nmaster_1_sync_in_progress:1\r\n",
			want: map[string]string{
				`redis_db_keys_cached{db="db0"}`:                                    "3",
				`redis_master_link_up{master_host="a",master_port="1"}`:             "1",
				`redis_master_last_io_seconds_ago{master_host="a",master_port="1"}`: "4",
				`redis_slave_repl_offset{master_host="a",master_port="1"}`:          "8",
				`redis_master_link_up{master_host="b",master_port="2"}`:             "0",
				`redis_master_last_io_seconds_ago{master_host="b",master_port="2"}`: "-1",
				`redis_master_sync_in_progress{master_host="b",master_port="2"}`:    "1",
			},
		},
		{
			name: "replicas, with IPv6 and with the fields of newer servers",
			info: "# Replication\r\nrole:master\r\nslave0:ip=fd00::1,port=6379,state=online,offset=42,lag=1,type=replica\r\nslave1:ip=b,port=6380,state=wait_bgsave,offset=0\r\nslave_read_only:1\r\n",
			want: map[string]string{
				`redis_connected_slave_offset_bytes{slave_ip="fd00::1",slave_port="6379",slave_state="online"}`: "42",
				`redis_connected_slave_lag_seconds{slave_ip="fd00::1",slave_port="6379",slave_state="online"}`:  "1",
				`redis_connected_slave_offset_bytes{slave_ip="b",slave_port="6380",slave_state="wait_bgsave"}`:  "0",
				`redis_connected_slave_lag_seconds{slave_ip="b",slave_port="6380",slave_state="wait_bgsave"}`:   "absent",
			},
		},
		{
			name: "valkey: two more labels, I/O threads",
			info: "# Server\r\nredis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:9.0.0\r\nvalkey_release_stage:ga\r\nredis_mode:standalone\r\nos:Linux\r\n# CPU\r\nused_active_time_main_thread:1.5\r\nused_active_time_io_thread_1:0.25\r\nused_active_time_io_thread_x:1\r\n",
			want: map[string]string{
				`redis_instance_info{master_replid="",maxmemory_policy="",os="Linux",process_id="",redis_build_id="",redis_mode="standalone",redis_version="7.2.4",role="",run_id="",tcp_port="",valkey_release_stage="ga",valkey_version="9.0.0"}`: "1",
				"redis_active_time_main_thread_seconds_total":           "1.5",
				`redis_active_time_io_thread_seconds_total{thread="1"}`: "0.25",
				`redis_active_time_io_thread_seconds_total{thread="x"}`: "absent",
			},
		},
		{
			name: "valkey 8: server_mode instead of redis_mode",
			info: "redis_version:7.2.4\r\nvalkey_version:8.0.1\r\nserver_mode:sentinel\r\n# Sentinel\r\nsentinel_masters:1\r\n",
			want: map[string]string{
				"redis_sentinel_masters": "1", `redis_db_keys{db="db0"}`: "absent",
				`redis_instance_info{master_replid="",maxmemory_policy="",os="",process_id="",redis_build_id="",redis_mode="sentinel",redis_version="7.2.4",role="",run_id="",tcp_port="",valkey_release_stage="",valkey_version="8.0.1"}`: "1",
			},
		},
		{
			name: "valkey 9.1: certificates, scripting engines",
			info: "# TLS\r\ntls_server_cert_serial:2F0C\r\ntls_server_cert_expires_in_seconds:-5\r\ntls_client_cert_serial:none\r\ntls_client_cert_expires_in_seconds:0\r\ntls_ca_cert_serial:11\r\ntls_ca_cert_expires_in_seconds:x\r\n" +
				"# Scripting Engines\r\nengines_count:3\r\nengines_total_used_memory:50\r\nengine_0:name=LUA,module=lua,abi_version=4,used_memory=20,memory_overhead=21\r\nengine_1:memory_overhead=31,used_memory=30,abi_version=2,module=m,name=JS\r\nengine_2:used_memory=1\r\nengine_x:name=X\r\n",
			want: map[string]string{
				"redis_tls_server_cert_expires_in_seconds": "-5", "redis_tls_client_cert_expires_in_seconds": "absent",
				"redis_tls_ca_cert_expires_in_seconds":                                                    "absent",
				`redis_tls_certificate_info{certificate="server",serial="2F0C"}`:                          "1",
				`redis_tls_certificate_info{certificate="ca",serial="11"}`:                                "1",
				`redis_tls_certificate_info{certificate="client",serial="none"}`:                          "absent",
				"redis_scripting_engines_count":                                                           "3",
				"redis_scripting_engines_memory_used_bytes":                                               "50",
				`redis_scripting_engine_info{abi_version="4",engine="LUA",module="lua"}`:                  "1",
				`redis_scripting_engine_memory_used_bytes{abi_version="4",engine="LUA",module="lua"}`:     "20",
				`redis_scripting_engine_memory_overhead_bytes{abi_version="4",engine="LUA",module="lua"}`: "21",
				`redis_scripting_engine_memory_used_bytes{abi_version="2",engine="JS",module="m"}`:        "30",
				`redis_scripting_engine_info{abi_version="",engine="",module=""}`:                         "absent",
				`redis_scripting_engine_info{abi_version="",engine="X",module=""}`:                        "absent",
			},
		},
		{
			name: "redis 8.8: the slow log's own statistics, in milliseconds",
			info: "# Stats\r\nslowlog_commands_count:3\r\nslowlog_commands_time_ms_sum:1500.5\r\nslowlog_commands_time_ms_max:750\r\n" +
				"# Commandstats\r\ncmdstat_debug:calls=4,usec=10,usec_per_call=2.50,rejected_calls=0,failed_calls=0,slowlog_count=3,slowlog_time_ms_sum=1500.5,slowlog_time_ms_max=750\r\ncmdstat_get:calls=1,usec=1,usec_per_call=1.00,rejected_calls=0,failed_calls=0\r\n",
			want: map[string]string{
				"redis_slowlog_commands_total": "3", "redis_slowlog_commands_duration_seconds_total": "1.5005",
				"redis_slowlog_commands_duration_seconds_max":                "0.75",
				`redis_commands_slowlog_total{cmd="debug"}`:                  "3",
				`redis_commands_slowlog_duration_seconds_total{cmd="debug"}`: "1.5005",
				`redis_commands_slowlog_duration_seconds_max{cmd="debug"}`:   "0.75",
				`redis_commands_slowlog_total{cmd="get"}`:                    "absent",
			},
		},
		{
			name: "commandstats before 6.2, latencystats of a known and of an unknown command",
			info: "# Commandstats\r\ncmdstat_get:calls=4,usec=10,usec_per_call=2.50\r\ncmdstat_client|id:calls=1,usec=3,usec_per_call=3.00,rejected_calls=2,failed_calls=1\r\n" +
				"# Latencystats\r\nlatency_percentiles_usec_get:p50=1.003,p99=2.007,p99.9=2.007,p50=7\r\nlatency_percentiles_usec_gone:p50=1\r\n# Errorstats\r\nerrorstat_ERR:count=3\r\n",
			want: map[string]string{
				`redis_commands_total{cmd="get"}`:                           "4",
				`redis_commands_duration_seconds_total{cmd="get"}`:          "1e-05",
				`redis_commands_rejected_calls_total{cmd="get"}`:            "absent",
				`redis_commands_rejected_calls_total{cmd="client|id"}`:      "2",
				`redis_commands_failed_calls_total{cmd="client|id"}`:        "1",
				`redis_latency_percentiles_usec{cmd="get",quantile="50"}`:   "1.003",
				`redis_latency_percentiles_usec{cmd="get",quantile="99.9"}`: "2.007",
				`redis_latency_percentiles_usec_sum{cmd="get"}`:             "10",
				`redis_latency_percentiles_usec_count{cmd="get"}`:           "4",
				`redis_latency_percentiles_usec_count{cmd="gone"}`:          "absent",
				`redis_errors_total{err="ERR"}`:                             "3",
			},
		},
		{
			name: "sentinel: no databases",
			info: "redis_mode:sentinel\r\n# Sentinel\r\nsentinel_masters:2\r\nmaster0:name=a,status=ok,address=10.0.0.1:6379,slaves=2,sentinels=3\r\nmaster1:name=b,status=sdown,address=h:1,slaves=0,sentinels=1\r\n",
			want: map[string]string{
				"redis_sentinel_masters": "2",
				`redis_sentinel_master_status{master_address="10.0.0.1:6379",master_name="a",master_status="ok"}`: "1",
				`redis_sentinel_master_status{master_address="h:1",master_name="b",master_status="sdown"}`:        "0",
				`redis_sentinel_master_slaves{master_address="10.0.0.1:6379",master_name="a"}`:                    "2",
				`redis_sentinel_master_sentinels{master_address="h:1",master_name="b"}`:                           "1",
				`redis_db_keys{db="db0"}`: "absent",
			},
		},
		{
			name: "labels that are not UTF-8, and too long",
			info: "# Errorstats\r\nerrorstat_\xff\xfeA:count=1\r\nerrorstat_" + strings.Repeat("x", 1000) + ":count=2\r\n",
			want: map[string]string{
				"redis_errors_total{err=\"\uFFFDA\"}":                        "1",
				`redis_errors_total{err="` + strings.Repeat("x", 256) + `"}`: "2",
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, _ := newExporter(t, &replay{info: c.info}, exporter.Options{})
			got := scrape(t, e)
			if reason := downReason(t, got); reason != "" {
				t.Errorf("down: %s", reason)
			}
			expect(t, got, c.want)
		})
	}
}

// A server before 6.2 tells no time of its own: rounding must not look like a
// restart, and a restart must.
func TestStartTimeIsStable(t *testing.T) {
	synctest.Test(t, startTimeIsStable) // so that all of it is in one second
}

func startTimeIsStable(t *testing.T) {
	s := &replay{info: "redis_version:6.0.16\r\nrun_id:a\r\nserver_time_usec:1700000100999999\r\nuptime_in_seconds:100\r\n"}
	e, _ := newExporter(t, s, exporter.Options{})
	expect(t, scrape(t, e), map[string]string{"redis_start_time_seconds": "1.7e+09"})

	s.info = "redis_version:6.0.16\r\nrun_id:a\r\nuptime_in_seconds:100\r\n"
	first := scrape(t, e)["redis_start_time_seconds"]
	for _, uptime := range []int{99, 101, 100} {
		s.info = fmt.Sprintf("redis_version:6.0.16\r\nrun_id:a\r\nuptime_in_seconds:%d\r\n", uptime)
		expect(t, scrape(t, e), map[string]string{"redis_start_time_seconds": first})
	}
	s.info = "redis_version:6.0.16\r\nrun_id:b\r\nuptime_in_seconds:7\r\n"
	if got := scrape(t, e)["redis_start_time_seconds"]; got == first {
		t.Error("a restart did not change the start time")
	}
}

// More series than a family may have are dropped and counted, real databases
// before empty ones.
func TestSeriesAreBounded(t *testing.T) {
	var info strings.Builder
	info.WriteString("redis_version:7.0.0\r\n# Errorstats\r\n")
	for i := range 2500 {
		fmt.Fprintf(&info, "errorstat_E%d:count=1\r\n", i)
	}
	info.WriteString("# Keyspace\r\ndb1000000:keys=1,expires=0\r\n")
	for i := range 200 {
		fmt.Fprintf(&info, "cluster_x%d:1\r\n", i)
	}
	s := &replay{info: info.String(), replies: map[string]any{
		"CONFIG GET maxclients maxmemory io-threads repl-backlog-size client-output-buffer-limit databases": []any{"databases", "2000000000"},
	}}
	e, _ := newExporter(t, s, exporter.Options{})
	got := scrape(t, e)
	expect(t, got, map[string]string{
		`redis_errors_total{err="E1999"}`:                              "1",
		`redis_errors_total{err="E2000"}`:                              "absent",
		`redis_db_keys{db="db1000000"}`:                                "1",
		"redis_cluster_x0":                                             "1",
		"redis_sidecar_exporter_dropped_series_total":                  "574", // 500 errors, 72 fields, 2 of the empty databases
		`redis_sidecar_exporter_collector_success{collector="errors"}`: "1",
	})
}
