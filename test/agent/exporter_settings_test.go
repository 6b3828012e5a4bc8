package agent_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// hasLine tells whether an answer of metrics has a sample that begins so.
func hasLine(body, begin string) bool {
	return strings.HasPrefix(body, begin) || strings.Contains(body, "\n"+begin)
}

// What settings show, and hide, of a server.
func TestShownMetrics(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "a", "b")
	for name, tt := range map[string]struct {
		flags     []string
		has, lack []string // beginnings of lines
	}{
		"default": {
			nil,
			[]string{"redis_up 1", "process_cpu_seconds_total ", "redis_exporter_build_info{", "redis_sidecar_build_info{", "redis_total_system_memory_bytes ", `redis_db_keys{db="db0"} 1`, `redis_db_keys{db="db15"} 0`},
			[]string{"go_", "redis_connected_client_", "redis_config_key_value", "redis_exporter_last_scrape_ping_time_seconds"},
		},
		"go": {
			[]string{"--include-go-runtime-metrics"},
			[]string{"go_goroutines ", "go_gc_cycles_total_gc_cycles_total ", "process_cpu_seconds_total ", "redis_up 1"}, nil,
		},
		"redis only": {
			[]string{"--redis-only-metrics", "--include-go-runtime-metrics"},
			[]string{
				"redis_up 1", "redis_exporter_scrapes_total ", "redis_sidecar_exporter_read_duration_seconds ", "redis_sidecar_build_info{",
				`redis_sidecar_job_state{name="probe",state="ok"} 1`, `redis_sidecar_probe_verdict{probe="liveness"} 1`, "redis_sidecar_announce_mismatch 0",
			},
			[]string{"process_", "go_", "redis_exporter_build_info"},
		},
		"role": {
			[]string{"--append-instance-role-label"},
			[]string{`redis_up{instance_role="master"} 1`, `redis_connected_clients{instance_role="master"} `, `redis_db_keys{db="db0",instance_role="master"} 1`, "redis_exporter_build_info{build_date="},
			[]string{"redis_up 1", "redis_connected_clients "},
		},
		"namespace": {
			[]string{"--namespace=valkey"},
			[]string{"valkey_up 1", "valkey_memory_used_bytes ", "redis_sidecar_redis_down{", "valkey_exporter_build_info{"},
			[]string{"redis_up", "redis_memory_", "redis_exporter_"},
		},
		"include and exclude": {
			[]string{"--exporter.include=redis_(up|memory_.*)", "--exporter.exclude=redis_memory_used_.*|process_.*"},
			[]string{"redis_up 1", "redis_memory_max_bytes ", "redis_sidecar_build_info{", "redis_sidecar_redis_down{"},
			[]string{"process_", "redis_memory_used_", "redis_connected_clients ", "redis_commands_total"},
		},
		"no system, no empty databases, no latency": {
			[]string{"--include-system-metrics=false", "--include-metrics-for-empty-databases=false", "--exclude-latency-histogram-metrics"},
			[]string{"redis_up 1", `redis_db_keys{db="db0"} 1`},
			[]string{"redis_total_system_memory_bytes", `redis_db_keys{db="db1"}`, "redis_commands_latencies_usec", "redis_latency_spike"},
		},
		"configuration and ping": {
			[]string{"--include-config-metrics", "--ping-on-connect"},
			[]string{`redis_config_value{key="hz"} 10`, `redis_config_key_value{key="appendonly",value="no"} 1`, "redis_exporter_last_scrape_ping_time_seconds "},
			[]string{`redis_config_key_value{key="requirepass"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := start(t, []string{"REDIS_ADDR=" + srv.Addr}, tt.flags...)
			a.waitJob(t, 10*time.Second, "probe", "ok", "")
			a.waitJob(t, 10*time.Second, "announce", "ok", "")
			if !slices.Contains(tt.flags, "--include-config-metrics") {
				body := a.mustGet(t, "/metrics", 200)
				check(t, body, tt.has, tt.lack)
				return
			}
			a.eventually(t, 10*time.Second, func() error { // read beside the scrapes
				if !hasLine(a.mustGet(t, "/metrics", 200), "redis_config_value{") {
					return errors.New("no configuration yet")
				}
				return nil
			})
			check(t, a.mustGet(t, "/metrics", 200), tt.has, tt.lack)
		})
	}
}

func check(t *testing.T, body string, has, lack []string) {
	t.Helper()
	for _, begin := range has {
		if !hasLine(body, begin) {
			t.Errorf("no line begins with %q", begin)
		}
	}
	for _, begin := range lack {
		if hasLine(body, begin) {
			t.Errorf("a line begins with %q", begin)
		}
	}
}

// One client among those of the server, and what it does.
func TestClientList(t *testing.T) {
	t.Parallel()
	srv := testenv.StartRedis(t)
	conn, err := net.DialTimeout("tcp", srv.Addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	began := time.Now().Unix()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("CLIENT ID\r\nCLIENT SETNAME known\r\nSELECT 3\r\nSUBSCRIBE one two\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	id, err := lines.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	id = strings.TrimSpace(strings.TrimPrefix(id, ":"))
	port := strconv.Itoa(conn.LocalAddr().(*net.TCPAddr).Port)

	for name, tt := range map[string]struct {
		flag, label string
	}{
		"without port": {"--export-client-port=false", ""},
		"with port":    {"--export-client-port", `,port="` + port + `"`},
	} {
		a := start(t, []string{"REDIS_ADDR=" + srv.Addr}, "--export-client-list", tt.flag)
		of := `{id="` + id + `",name="known"}`
		var body string
		a.eventually(t, 10*time.Second, func() error {
			body = a.mustGet(t, "/metrics", 200)
			if !strings.Contains(body, of) {
				return errors.New("the client is not there yet")
			}
			return nil
		})
		wantIn(t, name, body, map[string]string{
			`redis_connected_client_info{db="3",flags="P",host="127.0.0.1",id="` + id + `",name="known"` + tt.label + `,resp="2",user="default"}`: "1",
			"redis_connected_client_channel_subscriptions_count" + of:                                                                             "2",
			"redis_connected_client_pattern_matching_subscriptions_count" + of:                                                                    "0",
		})
		created, err := strconv.ParseFloat(valueIn(body, "redis_connected_client_created_at_timestamp"+of), 64)
		if err != nil || created < float64(began-1) || created > float64(time.Now().Unix()+1) {
			t.Errorf("%s: created at %v, want about %d: %v", name, created, began, err)
		}
	}
}

// With skip-checkkeys-for-role-master only a replica tells of its keys.
func TestKeysOfReplicasOnly(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	master.Do(t, "RPUSH", "queue", "a", "b")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.DBSize(t); n != 1 {
			return fmt.Errorf("the replica has %d keys", n)
		}
		return nil
	})
	for _, tt := range []struct {
		srv  *testenv.Redis
		want string
	}{{master, ""}, {replica, "2"}} {
		a := start(t, []string{"REDIS_ADDR=" + tt.srv.Addr}, "--skip-checkkeys-for-role-master", "--check-single-keys=queue", "--check-keys=q*", "--announce.mode=off")
		a.eventually(t, 10*time.Second, func() error {
			for _, collector := range []string{"single_keys", "keys"} {
				if err := a.isMetric(`redis_sidecar_exporter_background_success{collector="`+collector+`"}`, "1"); err != nil {
					return err
				}
			}
			return nil
		})
		wantIn(t, tt.srv.Addr, a.mustGet(t, "/metrics", 200), map[string]string{`redis_key_size{db="db0",key="queue"}`: tt.want})
	}
}
