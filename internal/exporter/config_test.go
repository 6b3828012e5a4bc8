package exporter_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// Every parameter, but for those that hold a secret or, unless that is asked
// for, a user.
func TestConfigValues(t *testing.T) {
	srv := testenv.StartRedis(t, "--requirepass", "geheim1", "--masterauth", "geheim2", "--masteruser", "replicator",
		"--tls-key-file-pass", "geheim3", "--tls-client-key-file-pass", "geheim4", "--maxmemory", "64mb")
	for _, reveal := range []bool{false, true} {
		c := newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("", "geheim1")})
		e, _ := newExporter(t, c, exporter.Options{Collect: exporter.CollectOptions{ConfigValues: true, RevealUsers: reveal}})
		got := scrape(t, e)
		user := "absent"
		if reveal {
			user = "1"
		}
		expect(t, got, map[string]string{
			`redis_config_key_value{key="maxmemory",value="67108864"}`:                   "1",
			`redis_config_value{key="maxmemory"}`:                                        "6.7108864e+07",
			`redis_config_key_value{key="maxmemory-policy",value="noeviction"}`:          "1",
			`redis_config_value{key="maxmemory-policy"}`:                                 "absent",
			`redis_config_key_value{key="tls-auth-clients",value="yes"}`:                 "1",
			`redis_config_key_value{key="masteruser",value="replicator"}`:                user,
			"redis_config_maxmemory":                                                     "6.7108864e+07",
			"redis_config_maxclients":                                                    "10000",
			`redis_db_keys{db="db15"}`:                                                   "0",
			`redis_config_client_output_buffer_limit_bytes{class="pubsub",limit="hard"}`: "3.3554432e+07",
		})
		keys := 0
		for series := range got {
			if strings.Contains(series, "geheim") || strings.Contains(series, "pass\"") || strings.Contains(series, "masterauth") {
				t.Errorf("%s tells a secret", series)
			}
			if strings.HasPrefix(series, "redis_config_key_value{") {
				keys++
			}
		}
		if keys < 150 {
			t.Errorf("only %d parameters", keys)
		}
	}
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("", "geheim1")}), exporter.Options{})
	expect(t, scrape(t, e), map[string]string{`redis_config_value{key="maxmemory"}`: "absent"})
}

// The names of users are shown where there are none.
func TestConfigWithoutUser(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{Collect: exporter.CollectOptions{ConfigValues: true}})
	expect(t, scrape(t, e), map[string]string{`redis_config_key_value{key="masteruser",value=""}`: "1"})
}

// The files of a real server, by its own configuration.
func TestFiles(t *testing.T) {
	srv := testenv.StartRedis(t, "--dbfilename", "my.rdb", "--appendonly", "yes", "--appendfilename", "my.aof", "--appenddirname", "logs")
	// A scrape does not wait for a disk that is slow, and then has no sizes.
	sized := func(o exporter.FileOptions) map[string]string {
		t.Helper()
		e, _ := newExporter(t, srv.Client(t), exporter.Options{Files: o})
		return samples(t, text(t, settled(t, e, func(got map[string]string) error {
			if got["redis_data_dir_size_bytes"] == "" {
				return errors.New("no sizes")
			}
			return nil
		})))
	}
	got := sized(exporter.FileOptions{Local: true})
	expect(t, got, map[string]string{"redis_rdb_current_size_bytes": "0"}) // the append-only file proves the directory
	if free, all := number(t, got["redis_data_dir_free_bytes"]), number(t, got["redis_data_dir_size_bytes"]); free <= 0 || all < free {
		t.Errorf("%v of %v bytes free", free, all)
	}

	srv.Fill(t, "key", 1000, 100)
	srv.Do(t, "SET", "a", strings.Repeat("x", 5000))
	srv.Do(t, "SAVE")
	st, err := os.Stat(filepath.Join(srv.Dir, "my.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	got = sized(exporter.FileOptions{Local: true})
	if v := number(t, got["redis_rdb_current_size_bytes"]); v != float64(st.Size()) {
		t.Errorf("%v bytes, the file has %d", v, st.Size())
	}
	if v := number(t, got["redis_aof_files_size_bytes"]); v < 5000 || v > 1e6 {
		t.Errorf("%v bytes of append-only file", v)
	}

	expect(t, sized(exporter.FileOptions{DataDir: srv.Dir}), map[string]string{"redis_rdb_current_size_bytes": fmt.Sprint(st.Size()),
		`redis_sidecar_exporter_collector_success{collector="files"}`: "1"})
	elsewhere, _ := newExporter(t, srv.Client(t), exporter.Options{Files: exporter.FileOptions{DataDir: "/no such directory"}})
	expect(t, scrape(t, elsewhere), map[string]string{"redis_rdb_current_size_bytes": "absent", "redis_data_dir_free_bytes": "absent",
		`redis_sidecar_exporter_collector_success{collector="files"}`: "1"})
	off, _ := newExporter(t, srv.Client(t), exporter.Options{})
	expect(t, scrape(t, off), map[string]string{"redis_rdb_current_size_bytes": "absent", "redis_data_dir_free_bytes": "absent",
		`redis_sidecar_exporter_collector_success{collector="files"}`: "absent"})
}

// The time of PING is there when it is asked for, also on a connection that
// broke since the last scrape.
func TestPing(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{Collect: exporter.CollectOptions{Ping: true}})
	for range 2 {
		got := scrape(t, e)
		if v := number(t, got["redis_exporter_last_scrape_ping_time_seconds"]); v <= 0 || v > 10 {
			t.Errorf("PING took %v s", v)
		}
		expect(t, got, map[string]string{"redis_up": "1"})
		srv.Restart(t)
	}
	srv.Stop(t)
	expect(t, scrapeIn(t, e, answer), map[string]string{"redis_exporter_last_scrape_ping_time_seconds": "absent"})

	other := testenv.StartRedis(t)
	without, _ := newExporter(t, other.Client(t), exporter.Options{})
	expect(t, scrape(t, without), map[string]string{"redis_exporter_last_scrape_ping_time_seconds": "absent"})
}

// The switch that leaves out what is empty.
func TestSkipEmptyDatabases(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "a", "1")
	e, _ := newExporter(t, srv.Client(t), exporter.Options{Collect: exporter.CollectOptions{SkipEmptyDatabases: true}})
	expect(t, scrape(t, e), map[string]string{`redis_db_keys{db="db0"}`: "1", `redis_db_keys{db="db1"}`: "absent", `redis_db_keys_expiring{db="db1"}`: "absent"})
}
