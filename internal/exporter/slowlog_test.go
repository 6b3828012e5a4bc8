package exporter_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// With slowerThan a server logs what takes slowSleep, and nothing of what takes no
// time, unless something else keeps the server from its processor for so long.
const (
	slowerThan = "300000" // microseconds
	slowSleep  = "0.35"   // seconds
)

// slowCount returns how many entries of a command were counted.
func slowCount(got map[string]string, cmd string) string {
	return got[`redis_slowlog_execution_duration_seconds_count{cmd="`+cmd+`"}`]
}

// New entries are counted once, by command, with their time; those that were
// there before are not; those that nobody could read are missed.
func TestSlowlog(t *testing.T) {
	srv := testenv.StartRedis(t, "--slowlog-log-slower-than", slowerThan, "--slowlog-max-len", "5")
	c := srv.Client(t)
	do := func(args ...string) {
		t.Helper()
		if _, err := c.Do(t.Context(), args...); err != nil {
			t.Fatal(err)
		}
	}
	do("DEBUG", "SLEEP", slowSleep)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	got := scrape(t, e)
	expect(t, got, map[string]string{"redis_slowlog_length": "1", "redis_slowlog_missed_entries_total": "0"})
	if n := slowCount(got, "debug"); n != "" {
		t.Errorf("%s entries from before", n)
	}

	do("DEBUG", "SLEEP", slowSleep)
	got = scrape(t, e)
	expect(t, got, map[string]string{
		`redis_slowlog_execution_duration_seconds_count{cmd="debug"}`:            "1",
		`redis_slowlog_execution_duration_seconds_bucket{cmd="debug",le="0.25"}`: "0",
		`redis_slowlog_execution_duration_seconds_bucket{cmd="debug",le="10"}`:   "1",
	})
	if sum := number(t, got[`redis_slowlog_execution_duration_seconds_sum{cmd="debug"}`]); sum < 0.35 || sum > 10 {
		t.Errorf("they took %v s", sum)
	}

	// Several at once, one of them of a subcommand, in one follow-up.
	do("CONFIG", "SET", "slowlog-log-slower-than", "0")
	do("SET", "key", "secret value")
	do("SET", "key", "secret value")
	do("CONFIG", "SET", "slowlog-log-slower-than", slowerThan)
	got = scrape(t, e)
	expect(t, got, map[string]string{"redis_slowlog_missed_entries_total": "0", "redis_slowlog_length": "5"})
	if n := slowCount(got, "set"); n != "2" {
		t.Errorf("%q of SET", n)
	}
	if n := slowCount(got, "config|set"); n != "1" {
		t.Errorf("%q of CONFIG SET", n)
	}
	for series := range got {
		if strings.Contains(series, "secret") || strings.Contains(series, "key\"") && strings.Contains(series, "slowlog") {
			t.Errorf("%s tells an argument", series)
		}
	}
	if again := scrape(t, e); slowCount(again, "set") != "2" || slowCount(again, "debug") != "1" {
		t.Errorf("counted again: %s", slowCount(again, "set"))
	}

	// More than the log keeps.
	do("CONFIG", "SET", "slowlog-log-slower-than", "0")
	for range 20 {
		do("GET", "key")
	}
	do("CONFIG", "SET", "slowlog-log-slower-than", "-1")
	got = scrape(t, e)
	read, missed := number(t, slowCount(got, "get")), number(t, got["redis_slowlog_missed_entries_total"])
	if read != 5 || missed != 16 { // CONFIG SET logs itself: 21 entries
		t.Errorf("%v read, %v missed", read, missed)
	}

	// SLOWLOG RESET goes on with the numbers.
	do("SLOWLOG", "RESET")
	expect(t, scrape(t, e), map[string]string{"redis_slowlog_length": "0", "redis_slowlog_missed_entries_total": "16"})
	do("CONFIG", "SET", "slowlog-log-slower-than", slowerThan)
	do("DEBUG", "SLEEP", slowSleep)
	got = scrape(t, e)
	expect(t, got, map[string]string{"redis_slowlog_missed_entries_total": "16"})
	if n := slowCount(got, "debug"); n != "2" {
		t.Errorf("%q of DEBUG after a reset", n)
	}
}

// The log of the sidecar gets what was slow, and nothing of what it was about.
func TestSlowlogIsLogged(t *testing.T) {
	srv := testenv.StartRedis(t, "--slowlog-log-slower-than", "10000")
	var log bytes.Buffer
	board := status.NewBoard(slog.New(slog.NewTextHandler(&log, nil)), nil)
	e := exporter.New(srv.Client(t), board.Register(status.Exporter), exporter.Options{Collect: exporter.CollectOptions{LogSlowlog: true}})
	scrape(t, e)
	srv.Do(t, "EVAL", "local t = redis.call('TIME'); repeat local n = redis.call('TIME') until (n[1]-t[1])*1000000+n[2]-t[2] > 20000; return ARGV[1]", "0", "geheim")
	scrape(t, e)
	scrape(t, e)
	if n := strings.Count(log.String(), `msg="slow command" job=exporter command=eval duration=`); n != 1 || !strings.Contains(log.String(), "client=127.0.0.1:") {
		t.Errorf("logged %d times:\n%s", n, log.String())
	}
	if strings.Contains(log.String(), "geheim") || strings.Contains(log.String(), "TIME") {
		t.Errorf("arguments are logged:\n%s", log.String())
	}
}

// entries makes the reply to SLOWLOG GET, newest first.
func entries(args ...[]any) []any {
	var out []any
	for _, a := range args {
		out = append(out, []any{a[0], int64(1700000000), int64(20000), a[1:], "127.0.0.1:1", ""})
	}
	return out
}

// What is one server and what is another, told by run id, uptime and numbers.
func TestSlowlogOfAnotherServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const stats = "# Commandstats\r\ncmdstat_get:calls=1,usec=1\r\n"
		s := &replay{replies: map[string]any{"SLOWLOG LEN": int64(1)}}
		is := func(run string, uptime int, list []any) {
			s.info = "redis_version:7.0.0\r\nrun_id:" + run + "\r\nuptime_in_seconds:" + strconv.Itoa(uptime) + "\r\n" + stats
			s.replies["SLOWLOG GET 1"] = list[:min(len(list), 1)]
			for n := 2; n <= 128; n++ {
				s.replies["SLOWLOG GET "+strconv.Itoa(n)] = list[:min(len(list), n)]
			}
		}
		e, _ := newExporter(t, s, exporter.Options{})
		for i, c := range []struct {
			run    string
			uptime int
			list   []any
			count  string
			missed string
		}{
			{"a", 100, entries(), "", "0"},
			{"a", 110, entries([]any{int64(0), "GET"}), "1", "0"},                         // the first ever
			{"a", 120, entries([]any{int64(2), "GET"}, []any{int64(1), "get"}), "3", "0"}, // two more
			{"b", 5, entries([]any{int64(1), "GET"}, []any{int64(0), "GET"}), "5", "0"},   // restarted since: both are new
			{"c", 900, entries([]any{int64(50), "GET"}), "5", "0"},                        // another one, that ran before: nothing is
			{"c", 910, entries([]any{int64(51), "GET"}), "6", "0"},
			{"c", 920, entries([]any{int64(7), "GET"}), "6", "0"}, // numbers fell
			{"c", 930, entries([]any{int64(500), "GET"}, []any{int64(499), "GET"}), "8", "491"},
			{"d", 3, entries(), "8", "491"},
			{"d", 13, entries([]any{int64(0), "GET"}), "9", "491"},
		} {
			is(c.run, c.uptime, c.list)
			got := scrape(t, e)
			if slowCount(got, "get") != c.count || got["redis_slowlog_missed_entries_total"] != c.missed {
				t.Errorf("scrape %d: counted %q and missed %s, want %q and %s", i, slowCount(got, "get"), got["redis_slowlog_missed_entries_total"], c.count, c.missed)
			}
			<-time.After(10 * time.Second)
		}

		// The follow-up that fails is made up for.
		is("d", 23, entries([]any{int64(2), "GET"}, []any{int64(1), "GET"}))
		good := s.replies["SLOWLOG GET 18"]
		s.replies["SLOWLOG GET 18"] = errUnknown
		if got := scrape(t, e); slowCount(got, "get") != "9" {
			t.Errorf("counted %s without a reply", slowCount(got, "get"))
		}
		s.replies["SLOWLOG GET 18"] = good
		got := scrape(t, e)
		expect(t, got, map[string]string{`redis_slowlog_execution_duration_seconds_count{cmd="get"}`: "11", "redis_slowlog_missed_entries_total": "491"})
	})
}

// Names that are no command's, and too many that are.
func TestSlowlogNamesAreClosed(t *testing.T) {
	var info strings.Builder
	info.WriteString("redis_version:7.0.0\r\nrun_id:a\r\n# Commandstats\r\n")
	for i := range 200 {
		fmt.Fprintf(&info, "cmdstat_c%d:calls=1,usec=1\r\n", i)
	}
	s := &replay{info: info.String(), replies: map[string]any{"SLOWLOG LEN": int64(1), "SLOWLOG GET 1": []any{}}}
	e, _ := newExporter(t, s, exporter.Options{})
	scrape(t, e)
	id := int64(0)
	slow := func(args ...any) map[string]string {
		s.replies["SLOWLOG GET 1"] = entries(append([]any{id}, args...))
		id++
		return scrape(t, e)
	}
	slow()
	slow(int64(7))
	slow("b840fc02d524045429941cc15f59e41cb7be6c52", "GET", "x") // renamed
	if got := slow("GET", "C1"); slowCount(got, "other") != "4" || slowCount(got, "get") != "" {
		t.Errorf("%s others", slowCount(got, "other"))
	}
	for i := range 200 {
		slow("C"+strconv.Itoa(i), "x")
	}
	got := slow("c0")
	names := 0
	for series := range got {
		if strings.HasPrefix(series, "redis_slowlog_execution_duration_seconds_count{") {
			names++
		}
	}
	if names != 100 && names != 101 || slowCount(got, "c0") != "2" || slowCount(got, "c199") != "" {
		t.Errorf("%d commands; c0 %s times, c199 %q times", names, slowCount(got, "c0"), slowCount(got, "c199"))
	}
	if n := slowCount(got, "other"); n != "105" { // 4, and all but the first 99
		t.Errorf("%s others", n)
	}
}

// One new entry, or none, costs no round trip more; more cost one.
func TestSlowlogRoundTrips(t *testing.T) {
	s := &replay{info: "redis_version:7.0.0\r\nrun_id:a\r\n", replies: map[string]any{"SLOWLOG LEN": int64(0), "SLOWLOG GET 1": []any{}}}
	e, _ := newExporter(t, s, exporter.Options{})
	scrape(t, e)
	for _, c := range []struct {
		newest int64
		asks   string
		trips  int
	}{{0, "", 1}, {0, "", 1}, {1, "", 1}, {3, "SLOWLOG GET 18", 2}, {1000, "SLOWLOG GET 128", 2}} {
		list := entries([]any{c.newest, "GET"})
		s.replies["SLOWLOG GET 1"], s.replies["SLOWLOG GET 18"], s.replies["SLOWLOG GET 128"] = list, list, list
		s.took()
		scrape(t, e)
		asked, trips := s.took()
		last := ""
		if trips > 1 {
			last = asked[len(asked)-1]
		}
		if trips != c.trips || last != c.asks {
			t.Errorf("newest %d: %d round trips, %q", c.newest, trips, last)
		}
	}
}

// Entries that come while the new ones are asked for push none of these out: here
// each of the scrape's own commands is one.
func TestSlowlogOfItself(t *testing.T) {
	srv := testenv.StartRedis(t, "--slowlog-log-slower-than", "0")
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	scrape(t, e)
	for range 5 {
		srv.Do(t, "SET", "a", "b")
	}
	got := scrape(t, e)
	if slowCount(got, "set") != "5" || got["redis_slowlog_missed_entries_total"] != "0" {
		t.Errorf("%s of 5 were counted, %s are missed", slowCount(got, "set"), got["redis_slowlog_missed_entries_total"])
	}
}
