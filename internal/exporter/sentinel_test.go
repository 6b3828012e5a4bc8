package exporter_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// One Sentinel, a primary and its replica: what each command adds, that the
// documented rights are enough, and that a secret stays one.
func TestSentinelMasters(t *testing.T) {
	primary := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(primary.Port))
	watcher := testenv.StartSentinel(t,
		fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 1", primary.Port),
		"sentinel down-after-milliseconds mymaster 1000", "sentinel failover-timeout mymaster 60000", "sentinel parallel-syncs mymaster 3",
		"sentinel sentinel-user watcher", "sentinel sentinel-pass geheim")
	watcher.Do(t, append([]string{"ACL", "SETUSER", "sentinel-sidecar"}, append(rights(t, "sentinel-sidecar"), "+sentinel|config")...)...)
	c := newClient(t, redis.Options{Addr: watcher.Addr, Name: "sidecar", Credentials: password("sentinel-sidecar", "secret")})
	e, board := newExporter(t, c, exporter.Options{Collect: exporter.CollectOptions{SentinelPeers: true, ConfigValues: true}})
	address := fmt.Sprintf(`{master_address="127.0.0.1:%d",master_name="mymaster"}`, primary.Port)
	settled(t, e, has("redis_sentinel_master_ok_slaves"+address, "1"))
	expect(t, scrape(t, e), map[string]string{
		"redis_sentinel_master_setting_ckquorum" + address:                    "1",
		"redis_sentinel_master_ok_sentinels" + address:                        "1",
		"redis_sentinel_master_setting_failover_timeout" + address:            "60000",
		"redis_sentinel_master_setting_parallel_syncs" + address:              "3",
		"redis_sentinel_master_setting_down_after_milliseconds" + address:     "1000",
		"redis_sentinel_master_config_epoch" + address:                        "0",
		`redis_sentinel_config_key_value{key="resolve-hostnames",value="no"}`: "1",
		`redis_sentinel_config_key_value{key="announce-port",value="0"}`:      "1",
		`redis_sentinel_config_value{key="announce-port"}`:                    "0",
	})
	for range 50 {
		scrape(t, e)
	}
	got := scrape(t, e)
	if v := number(t, got["redis_sentinel_master_last_ok_ping_reply_seconds"+address]); v < 0 || v > 20 { // it asks once in a second
		t.Errorf("last answer to PING %v s ago", v)
	}
	for series := range got {
		if strings.Contains(series, "geheim") || strings.Contains(series, "sentinel-pass") || strings.Contains(series, "sentinel-user") {
			t.Errorf("%s tells a secret", series)
		}
	}
	expect(t, got, map[string]string{`redis_errors_total{err="NOPERM"}`: "absent", "redis_total_error_replies": "0"})
	if r, _ := board.Report(status.Exporter); r.State != status.OK {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
}

// The others are seen and lost.
func TestSentinelQuorum(t *testing.T) {
	primary := testenv.StartRedis(t)
	var watchers []*testenv.Redis
	for range 3 {
		watchers = append(watchers, testenv.StartSentinel(t,
			fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 2", primary.Port), "sentinel down-after-milliseconds mymaster 1000"))
	}
	e, board := newExporter(t, watchers[0].Client(t), exporter.Options{Collect: exporter.CollectOptions{SentinelPeers: true}})
	address := fmt.Sprintf(`{master_address="127.0.0.1:%d",master_name="mymaster"}`, primary.Port)
	const good = `redis_sentinel_master_ckquorum_status{master_name="mymaster",message="OK 3 usable Sentinels. Quorum and failover authorization can be reached"}`
	const bad = `redis_sentinel_master_ckquorum_status{master_name="mymaster",message="NOQUORUM too few Sentinels for the quorum and for the majority"}`
	settled(t, e, has("redis_sentinel_master_ok_sentinels"+address, "3"))
	peer := watchers[1].Do(t, "SENTINEL", "MYID").(string)
	settled(t, e, has(fmt.Sprintf(`redis_sentinel_peer_info{flags="sentinel",ip="127.0.0.1",master_address="127.0.0.1:%d",master_name="mymaster",name="%s",port="%d",runid="%s"}`,
		primary.Port, peer, watchers[1].Port, peer), "1")) // flags has more in it until the link is there
	families := settled(t, e, has(good, "1")) // a Sentinel that is late for a second counts as down
	expect(t, samples(t, text(t, families)), map[string]string{bad: "absent"})

	watchers[1].Stop(t)
	watchers[2].Stop(t)
	settled(t, e, has("redis_sentinel_master_ok_sentinels"+address, "1"))
	for range 3 { // an answer of the command, not a refusal: it is asked again
		expect(t, scrape(t, e), map[string]string{good: "absent", bad: "0",
			`redis_sidecar_exporter_collector_success{collector="sentinel"}`:                     "1",
			`redis_sidecar_exporter_command_refused{command="sentinel|ckquorum",reason="redis"}`: "absent"})
	}
	if r, _ := board.Report(status.Exporter); r.State != status.OK {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
	watchers[1].Start(t)
	settled(t, e, func(got map[string]string) error {
		if got[strings.Replace(good, "OK 3", "OK 2", 1)] != "1" {
			return fmt.Errorf("no quorum of two: %s", got["redis_sentinel_master_ok_sentinels"+address])
		}
		return nil
	})

	// A primary more, and one less: what is asked follows.
	watchers[0].Do(t, "SENTINEL", "MONITOR", "other", "127.0.0.1", strconv.Itoa(primary.Port), "1")
	settled(t, e, has(fmt.Sprintf(`redis_sentinel_master_setting_ckquorum{master_address="127.0.0.1:%d",master_name="other"}`, primary.Port), "1"))
	watchers[0].Do(t, "SENTINEL", "REMOVE", "other")
	got := scrape(t, e)
	expect(t, got, map[string]string{"redis_sentinel_masters": "1",
		`redis_sentinel_master_ckquorum_status{master_name="other",message="ERR"}`: "absent"})
}
