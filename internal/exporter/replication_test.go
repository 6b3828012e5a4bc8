package exporter_test

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// What a primary and its replica say of a stream that flows, and of one that is
// held up.
func TestReplicationLag(t *testing.T) {
	primary := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
	onPrimary, _ := newExporter(t, primary.Client(t), exporter.Options{})
	onReplica, _ := newExporter(t, replica.Client(t), exporter.Options{})
	link := fmt.Sprintf(`{master_host="127.0.0.1",master_port="%d"}`, primary.Port)
	slave := fmt.Sprintf(`{slave_ip="127.0.0.1",slave_port="%d",slave_state="online"}`, replica.Port)

	settled(t, onReplica, has("redis_master_link_up"+link, "1"))
	settled(t, onPrimary, has("redis_connected_slave_lag_bytes"+slave, "0"))
	expect(t, scrape(t, onReplica), map[string]string{
		"redis_slave_read_only": "1", "redis_replica_announced": "1",
		"redis_master_sync_progress_ratio" + link: "absent", "redis_master_link_down_since_seconds" + link: "absent",
		`redis_master_failover_state{state="no-failover"}`: "1", `redis_master_failover_state{state="waiting-for-sync"}`: "0",
	})

	replica.Signal(t, syscall.SIGSTOP)
	primary.Do(t, "SET", "key", string(make([]byte, 10000)))
	testenv.Eventually(t, time.Minute, func() error {
		got := scrape(t, onPrimary)["redis_connected_slave_lag_bytes"+slave]
		if v, err := strconv.ParseFloat(got, 64); err != nil || v < 10000 {
			return fmt.Errorf("a lag of %q bytes", got)
		}
		return nil
	})
	replica.Signal(t, syscall.SIGCONT)
	settled(t, onPrimary, has("redis_connected_slave_lag_bytes"+slave, "0"))
	testenv.Eventually(t, time.Minute, func() error {
		got := scrape(t, onReplica)
		if a, b := got["redis_slave_read_repl_offset"+link], got["redis_slave_repl_offset"+link]; a != b || a == "" {
			return fmt.Errorf("read up to %q, applied up to %q", a, b)
		}
		return nil
	})

	primary.Kill(t)
	settled(t, onReplica, func(got map[string]string) error {
		v, err := strconv.ParseFloat(got["redis_master_link_down_since_seconds"+link], 64)
		if err != nil || v < 1 {
			return fmt.Errorf("down since %q", got["redis_master_link_down_since_seconds"+link])
		}
		return nil
	})
}

// The progress of a full synchronisation that is stuck after a third.
func TestReplicationSync(t *testing.T) {
	primary := testenv.StartRedis(t, "--repl-diskless-sync", "no", "--rdbcompression", "no")
	primary.Fill(t, "key", 60, 1<<20)
	proxy := testenv.StartProxy(t, primary.Addr)
	proxy.Set(testenv.Fault{Kind: testenv.Hang, AfterDownload: 20 << 20})
	_, port, err := net.SplitHostPort(proxy.Addr)
	if err != nil {
		t.Fatal(err)
	}
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+port)
	e, _ := newExporter(t, replica.Client(t), exporter.Options{})
	link := fmt.Sprintf(`{master_host="127.0.0.1",master_port="%s"}`, port)
	settled(t, e, func(got map[string]string) error {
		if got["redis_master_sync_in_progress"+link] != "1" {
			return errors.New("no synchronisation")
		}
		part, err := strconv.ParseFloat(got["redis_master_sync_progress_ratio"+link], 64)
		if err != nil || part <= 0 || part >= 1 {
			return fmt.Errorf("progress %q", got["redis_master_sync_progress_ratio"+link])
		}
		total, read, left := number(t, got["redis_master_sync_bytes"+link]), number(t, got["redis_master_sync_read_bytes"+link]), number(t, got["redis_master_sync_left_bytes"+link])
		if total < 60<<20 || read+left != total || read/total > part+0.01 || read/total < part-0.01 {
			t.Errorf("%v of %v bytes, %v left, a share of %v", read, total, left, part)
		}
		if got["redis_master_sync_last_io_seconds_ago"+link] == "" {
			t.Error("no time of the last part")
		}
		return nil
	})
}

// What cannot be had from a real server at will.
func TestReplicationFields(t *testing.T) {
	for _, c := range []struct {
		name, info string
		want       map[string]string
	}{
		{"a synchronisation of unknown size",
			"# Replication\r\nrole:slave\r\nmaster_host:a\r\nmaster_port:1\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\nmaster_sync_total_bytes:0\r\n" +
				"master_sync_read_bytes:500\r\nmaster_sync_left_bytes:-500\r\nmaster_sync_perc:0.00\r\nmaster_sync_last_io_seconds_ago:2\r\nmaster_link_down_since_seconds:-1\r\n",
			map[string]string{
				`redis_master_sync_bytes{master_host="a",master_port="1"}`:               "absent",
				`redis_master_sync_left_bytes{master_host="a",master_port="1"}`:          "absent",
				`redis_master_sync_progress_ratio{master_host="a",master_port="1"}`:      "absent",
				`redis_master_sync_read_bytes{master_host="a",master_port="1"}`:          "500",
				`redis_master_sync_last_io_seconds_ago{master_host="a",master_port="1"}`: "2",
				`redis_master_link_down_since_seconds{master_host="a",master_port="1"}`:  "-1",
			}},
		{"replicas: one ahead of INFO, one that has confirmed nothing, and a primary without offset of its own",
			"# Replication\r\nrole:master\r\nmaster_failover_state:waiting-for-sync\r\nslave0:ip=a,port=1,state=online,offset=120,lag=0\r\n" +
				"slave1:ip=b,port=1,state=wait_bgsave,offset=0,lag=0\r\nmaster_repl_offset:100\r\nmin_slaves_good_slaves:1\r\n",
			map[string]string{
				`redis_connected_slave_lag_bytes{slave_ip="a",slave_port="1",slave_state="online"}`:      "0",
				`redis_connected_slave_lag_bytes{slave_ip="b",slave_port="1",slave_state="wait_bgsave"}`: "absent",
				`redis_master_failover_state{state="waiting-for-sync"}`:                                  "1",
				`redis_master_failover_state{state="no-failover"}`:                                       "0",
				"redis_min_slaves_good_slaves":                                                           "1",
			}},
		{"no offset", "# Replication\r\nrole:master\r\nslave0:ip=a,port=1,state=online,offset=120,lag=0\r\n",
			map[string]string{`redis_connected_slave_lag_bytes{slave_ip="a",slave_port="1",slave_state="online"}`: "absent"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, _ := newExporter(t, &replay{info: c.info}, exporter.Options{})
			expect(t, scrape(t, e), c.want)
		})
	}
}
