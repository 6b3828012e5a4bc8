package exporter_test

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// What is wrong in redis_exporter and must not come back here, one test for
// each line of "Differences" in docs/metrics.md that no other test holds.

// The buckets of a histogram are the same for every command and at all times,
// count and sum are from one moment, and the last bucket is the count.
func TestDefectBucketsComeAndGo(t *testing.T) {
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	e, _ := newExporter(t, c, exporter.Options{})
	edges := func(got map[string]string) map[string][]string {
		out := make(map[string][]string)
		for series := range got {
			if rest, ok := strings.CutPrefix(series, `redis_commands_latencies_usec_bucket{cmd="`); ok {
				cmd, le, _ := strings.Cut(rest, `",`)
				out[cmd] = append(out[cmd], le)
			}
		}
		for cmd := range out {
			slices.Sort(out[cmd])
		}
		return out
	}
	scrape(t, e)
	before := edges(scrape(t, e))["info"]
	if len(before) != 22 {
		t.Fatalf("%d buckets", len(before))
	}
	for _, args := range [][]string{{"DEBUG", "SLEEP", "0.05"}, {"SET", "a", "1"}, {"DEBUG", "SLEEP", "0.6"}} {
		if _, err := c.Do(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
		got := scrape(t, e)
		for cmd, list := range edges(got) {
			if !slices.Equal(list, before) {
				t.Errorf("%s has other buckets: %v", cmd, list)
			}
			count := got[`redis_commands_latencies_usec_count{cmd="`+cmd+`"}`]
			if inf := got[`redis_commands_latencies_usec_bucket{cmd="`+cmd+`",le="+Inf"}`]; inf != count {
				t.Errorf("%s: %s calls, %s in the last bucket", cmd, count, inf)
			}
		}
		for _, cmd := range []string{"debug", "set"} {
			calls := got[`redis_commands_total{cmd="`+cmd+`"}`]
			if count := got[`redis_commands_latencies_usec_count{cmd="`+cmd+`"}`]; calls != count {
				t.Errorf("%s: %q calls by commandstats, %q by the histogram", cmd, calls, count)
			}
		}
	}
}

// Quantiles are the percentages that dashboards of redis_exporter select, each
// once, with the count and sum of the command.
func TestDefectQuantiles(t *testing.T) {
	srv := testenv.StartRedis(t, "--latency-tracking-info-percentiles", "50 99 99.9")
	for range 10 {
		srv.Do(t, "SET", "a", "1")
	}
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	got := scrape(t, e)
	expect(t, got, map[string]string{`redis_latency_percentiles_usec_count{cmd="set"}`: "10"})
	if got[`redis_latency_percentiles_usec_sum{cmd="set"}`] == "" {
		t.Error("no sum")
	}
	for _, q := range []string{"50", "99", "99.9"} {
		if number(t, got[`redis_latency_percentiles_usec{cmd="set",quantile="`+q+`"}`]) < 0 {
			t.Errorf("quantile %s", q)
		}
	}
}

// The key space is read by name, whatever fields a version adds and in any order.
func TestDefectKeyspaceByPosition(t *testing.T) {
	e, _ := newExporter(t, &replay{info: "redis_version:9.0.0\r\n# Keyspace\r\ndb0:new=7,avg_ttl=2000,expires=2,keys=5,subexpiry=1\r\n"}, exporter.Options{})
	expect(t, scrape(t, e), map[string]string{
		`redis_db_keys{db="db0"}`: "5", `redis_db_keys_expiring{db="db0"}`: "2", `redis_db_avg_ttl_seconds{db="db0"}`: "2",
		`redis_db_keys_cached{db="db0"}`: "absent", `redis_db_keys_with_expiring_items{db="db0"}`: "1",
	})
}

// Nothing is asked that the server does not know: its own statistics of errors
// and of unknown commands do not move in 100 scrapes.
func TestDefectUnknownCommands(t *testing.T) {
	primary := testenv.StartRedis(t)
	for name, srv := range map[string]*testenv.Redis{
		"standalone": testenv.StartRedis(t),
		"cluster":    testenv.StartClusterNode(t),
		"sentinel":   testenv.StartSentinel(t, fmt.Sprintf("sentinel monitor a 127.0.0.1 %d 1", primary.Port)),
	} {
		e, _ := newExporter(t, srv.Client(t), exporter.Options{Collect: exporter.CollectOptions{
			ConfigValues: true, Modules: true, SentinelPeers: true, Ping: true,
		}})
		var got map[string]string
		for range 100 {
			got = scrape(t, e)
		}
		expect(t, got, map[string]string{"redis_up": "1", "redis_total_error_replies": "0", "redis_unexpected_error_replies": "0"})
		for series := range got {
			if strings.HasPrefix(series, "redis_errors_total") || strings.HasPrefix(series, "redis_sidecar_exporter_command_refused") {
				t.Errorf("%s: %s", name, series)
			}
		}
	}
}

// One connection serves all scrapes.
func TestDefectConnectionPerScrape(t *testing.T) {
	srv := testenv.StartRedis(t, "--requirepass", "geheim")
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("", "geheim")}), exporter.Options{})
	first := scrape(t, e)
	var last map[string]string
	for range 20 {
		last = scrape(t, e)
	}
	for _, metric := range []string{"redis_connections_received_total", "redis_connected_clients"} {
		if first[metric] != last[metric] {
			t.Errorf("%s went from %s to %s", metric, first[metric], last[metric])
		}
	}
	if n := last[`redis_commands_total{cmd="auth"}`]; n != "" && n != "1" {
		t.Errorf("%s times AUTH", n)
	}
}

// redis_up tells whether the server answers; a part that fails has its own
// metric and costs its own series only.
func TestDefectUpMeansFinished(t *testing.T) {
	s := &replay{info: "redis_version:7.0.0\r\nuptime_in_seconds:5\r\n", replies: map[string]any{
		"SLOWLOG LEN": "what?", "SLOWLOG GET 1": []any{}, "LATENCY LATEST": []any{}, "LATENCY HISTOGRAM": []any{},
	}}
	e, _ := newExporter(t, s, exporter.Options{})
	expect(t, scrape(t, e), map[string]string{
		"redis_up": "1", "redis_uptime_in_seconds": "5",
		`redis_sidecar_exporter_collector_success{collector="slowlog"}`: "0",
		`redis_sidecar_exporter_collector_success{collector="latency"}`: "1",
	})
}

// changes(redis_start_time_seconds) counts restarts and nothing else.
func TestDefectStartTimeMoves(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	first := scrape(t, e)["redis_start_time_seconds"]
	end := time.Now().Add(2200 * time.Millisecond) // across two changes of the second
	for n := 0; n < 20 || time.Now().Before(end); n++ {
		if now := scrape(t, e)["redis_start_time_seconds"]; now != first {
			t.Fatalf("start time %s, then %s", first, now)
		}
	}
}

// The memory of the machine is there without any flag.
func TestDefectNoSystemMemory(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	if v := number(t, scrape(t, e)["redis_total_system_memory_bytes"]); v < 1<<26 {
		t.Errorf("%v bytes", v)
	}
}

// A Sentinel has no databases, and nothing of its own words becomes a label but
// the one answer that dashboards know.
func TestDefectSentinelSeries(t *testing.T) {
	const server = "redis_version:7.0.0\r\nredis_mode:sentinel\r\n# Sentinel\r\nsentinel_masters:1\r\nmaster0:name=a,status=ok,address=h:1,slaves=0,sentinels=1\r\n"
	seen := make(map[string]bool)
	for i, reply := range []any{
		"OK 3 usable Sentinels. Quorum and failover authorization can be reached", "OK 3 something new", "OK",
		status.WithReason(status.ReasonRedis, fmt.Errorf("SENTINEL CKQUORUM: NOQUORUM 1 usable Sentinels at %d", 4711)),
		status.WithReason(status.ReasonRedis, fmt.Errorf("SENTINEL CKQUORUM: NOQUORUM 2 usable Sentinels at %d", 4712)),
		status.WithReason(status.ReasonRedis, fmt.Errorf("SENTINEL CKQUORUM: ERR whatever %d", 4713)),
	} {
		e, _ := newExporter(t, &replay{info: server, replies: map[string]any{"SENTINEL CKQUORUM a": reply}}, exporter.Options{})
		got := scrape(t, e)
		want := "1"
		if i > 2 {
			want = "0"
		}
		for series, value := range got {
			if strings.HasPrefix(series, "redis_db_") {
				t.Errorf("a Sentinel has %s", series)
			}
			if strings.HasPrefix(series, "redis_sentinel_master_ckquorum_status") {
				seen[series] = true
				if value != want {
					t.Errorf("%s = %s, want %s", series, value, want)
				}
			}
		}
	}
	if got := slices.Sorted(maps.Keys(seen)); len(got) != 4 {
		t.Errorf("the messages are %q", got)
	}
}

// Each metric says what it means; those whose texts are swapped there are right.
func TestDefectHelpTexts(t *testing.T) {
	for _, d := range exporter.Docs() {
		switch d.Name {
		case "redis_commands_rejected_calls_total":
			if !strings.Contains(d.Help, "before they were executed") {
				t.Errorf("%s: %s", d.Name, d.Help)
			}
		case "redis_commands_failed_calls_total":
			if !strings.Contains(d.Help, "were executed and ended with an error") {
				t.Errorf("%s: %s", d.Name, d.Help)
			}
		}
		if strings.HasSuffix(d.Help, d.Name+" metric") {
			t.Errorf("%s has no help text", d.Name)
		}
	}

	// And they are right by the server: one call that is rejected, one that fails.
	srv := testenv.StartRedis(t)
	c := srv.Client(t)
	_, _ = c.Do(t.Context(), "LPUSH", "list") // too few arguments
	srv.Do(t, "SET", "string", "1")
	_, _ = c.Do(t.Context(), "LPUSH", "string", "x") // wrong type
	_, _ = c.Do(t.Context(), "LPUSH", "string", "x")
	e, _ := newExporter(t, c, exporter.Options{})
	expect(t, scrape(t, e), map[string]string{
		`redis_commands_rejected_calls_total{cmd="lpush"}`: "1", `redis_commands_failed_calls_total{cmd="lpush"}`: "2",
	})
}

// The configuration is asked by name unless all of it is wanted.
func TestDefectWholeConfiguration(t *testing.T) {
	s := &replay{info: "redis_version:7.0.0\r\n"}
	for _, all := range []bool{false, true} {
		e, _ := newExporter(t, s, exporter.Options{Collect: exporter.CollectOptions{ConfigValues: all}, Files: exporter.FileOptions{Local: true}})
		scrape(t, e)
		asked, _ := s.took()
		n := 0
		for _, line := range asked {
			if strings.HasPrefix(line, "CONFIG GET") {
				n++
			}
		}
		if n != 1 || slices.Contains(asked, "CONFIG GET *") != all {
			t.Errorf("asked %q", asked)
		}
	}
}

// Every reason for which a server can be down is one of a closed set, and the
// error's text is nowhere.
func TestDefectErrorsAsLabels(t *testing.T) {
	port := testenv.FreePort(t)
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: "127.0.0.1:" + strconv.Itoa(port)}), exporter.Options{})
	got := scrapeIn(t, e, answer)
	if reason := downReason(t, got); reason != string(status.ReasonUnreachable) {
		t.Errorf("down because of %q", reason)
	}
	for series := range got {
		if strings.Contains(series, strconv.Itoa(port)) || strings.Contains(series, "refused\"") {
			t.Errorf("%s tells the error", series)
		}
	}
}
