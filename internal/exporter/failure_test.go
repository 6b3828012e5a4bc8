package exporter_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

const (
	// answer is the time of a scrape that is to get an answer or a refusal: enough on
	// any machine.
	answer = 20 * time.Second
	// silence is that of one which is to get none. It is longer than a scrape must
	// have for its failure to count, see TestScrapeWithoutTime.
	silence = time.Second
)

// scrapeIn scrapes with a deadline and fails the test when the answer comes after
// it. How long after leaves room for a machine that is busy; it is still before
// the times of redis.Options and of exporter.Options, by default 5 s, would be over.
func scrapeIn(t *testing.T, e *exporter.Exporter, d time.Duration) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	start := time.Now()
	got := samples(t, text(t, e.Scrape(ctx)))
	if took := time.Since(start); took > d+3*time.Second {
		t.Errorf("a scrape with %s took %s", d, took)
	}
	return got
}

func password(user, pass string) func() (string, string, error) {
	return func() (string, string, error) { return user, pass, nil }
}

func TestHungServer(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, board := newExporter(t, srv.Client(t), exporter.Options{})
	if reason := downReason(t, scrape(t, e)); reason != "" {
		t.Fatalf("down before: %s", reason)
	}
	srv.Signal(t, syscall.SIGSTOP)
	for range 2 { // on the kept connection, then on one that is accepted and not served
		got := scrapeIn(t, e, silence)
		if reason := downReason(t, got); reason != string(status.ReasonTimeout) {
			t.Errorf("down because of %q", reason)
		}
		expect(t, got, map[string]string{`redis_sidecar_exporter_collector_success{collector="info"}`: "0"})
	}
	if r, _ := board.Report(status.Exporter); r.State != status.Failing || r.Reason != status.ReasonTimeout {
		t.Errorf("the Board says %s, %s", r.State, r.Reason)
	}
	srv.Signal(t, syscall.SIGCONT)
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != "" {
		t.Errorf("down afterwards: %s", reason)
	}
	if r, _ := board.Report(status.Exporter); r.State != status.OK {
		t.Errorf("the Board says %s afterwards", r.State)
	}
}

func TestClosedPort(t *testing.T) {
	c := newClient(t, redis.Options{Addr: "127.0.0.1:" + strconv.Itoa(testenv.FreePort(t))})
	e, _ := newExporter(t, c, exporter.Options{})
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonUnreachable) {
		t.Errorf("down because of %q", reason)
	}
}

// A peer that is no Redis server.
func TestOtherProtocol(t *testing.T) {
	addr := testenv.Listen(t, func(_ context.Context, c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n") })
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: addr}), exporter.Options{})
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonProtocol) {
		t.Errorf("down because of %q", reason)
	}
}

func TestPassword(t *testing.T) {
	srv := testenv.StartRedis(t, "--requirepass", "right")
	for name, credentials := range map[string]func() (string, string, error){
		"none":  nil,
		"wrong": password("", "wrong"),
	} {
		e, board := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr, Credentials: credentials}), exporter.Options{})
		got := scrapeIn(t, e, answer)
		if reason := downReason(t, got); reason != string(status.ReasonAuth) {
			t.Errorf("%s: down because of %q", name, reason)
		}
		for series := range got {
			if strings.Contains(series, "wrong") || strings.Contains(series, "NOAUTH") {
				t.Errorf("%s: %s tells too much", name, series)
			}
		}
		if r, _ := board.Report(status.Exporter); r.Reason != status.ReasonAuth {
			t.Errorf("%s: the Board says %s, %s", name, r.State, r.Reason)
		}
	}
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("", "right")}), exporter.Options{})
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != "" {
		t.Errorf("right password: down because of %q", reason)
	}
}

func TestBusyScript(t *testing.T) {
	srv := testenv.StartRedis(t, "--busy-reply-threshold", "50")
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	scrape(t, e)
	loop := newClient(t, redis.Options{Addr: srv.Addr, Timeout: time.Minute})
	ended := make(chan error)
	go func() {
		_, err := loop.Do(context.Background(), "EVAL", "while true do end", "0")
		ended <- err
	}()
	testenv.Eventually(t, time.Minute, func() error {
		if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonBusy) {
			return fmt.Errorf("down because of %q", reason)
		}
		return nil
	})
	srv.Do(t, "SCRIPT", "KILL")
	if err := <-ended; err == nil {
		t.Error("the script was not killed")
	}
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != "" {
		t.Errorf("down afterwards: %s", reason)
	}
}

// loading starts a server that loads keys with values of a size, each with a delay.
func loading(t *testing.T, keys, size int, delay time.Duration) *testenv.Redis {
	t.Helper()
	srv := testenv.StartRedis(t)
	srv.Fill(t, "key", keys, size)
	srv.Do(t, "SAVE")
	srv.Stop(t)
	return testenv.StartRedisIn(t, srv.Dir, "--key-load-delay", strconv.FormatInt(delay.Microseconds(), 10), "--loading-process-events-interval-bytes", "1024")
}

// A server that loads answers INFO: that is data, not death.
func TestLoading(t *testing.T) {
	slow := loading(t, 20000, 10, 500*time.Microsecond)
	e, _ := newExporter(t, slow.Client(t), exporter.Options{})
	got := scrapeIn(t, e, answer)
	if reason := downReason(t, got); reason != "" {
		t.Errorf("down because of %q", reason)
	}
	expect(t, got, map[string]string{"redis_loading_dump_file": "1"})
}

func TestMaxClients(t *testing.T) {
	srv := testenv.StartRedis(t, "--maxclients", "1")
	c := newClient(t, redis.Options{Addr: srv.Addr})
	testenv.Eventually(t, time.Minute, func() error { _, err := c.Do(t.Context(), "PING"); return err })
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr}), exporter.Options{})
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonMaxClients) {
		t.Errorf("down because of %q", reason)
	}
}

// What the ACL forbids is asked once, not at every scrape, and the Board says
// what is missing.
func TestRefusedCommands(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "ACL", "SETUSER", "exporter", "on", ">secret", "+info", "+slowlog|len", "+ping")
	e, board := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("exporter", "secret")}), exporter.Options{})
	for range 20 {
		scrape(t, e)
	}
	got := scrape(t, e)
	if reason := downReason(t, got); reason != "" {
		t.Fatalf("down because of %q", reason)
	}
	want := map[string]string{
		`redis_errors_total{err="NOPERM"}`: "4", "redis_slowlog_length": "0", "redis_slowlog_last_id": "absent",
		"redis_config_maxmemory": "absent", `redis_db_keys{db="db15"}`: "0",
	}
	for _, c := range []string{"config|get", "slowlog|get", "latency|latest", "latency|histogram"} {
		want[`redis_sidecar_exporter_command_refused{command="`+c+`",reason="noperm"}`] = "1"
	}
	for c, ok := range map[string]string{"config": "0", "slowlog": "0", "latency": "0", "histogram": "0", "info": "1", "keyspace": "1"} {
		want[`redis_sidecar_exporter_collector_success{collector="`+c+`"}`] = ok
	}
	expect(t, got, want)
	r, _ := board.Report(status.Exporter)
	if r.State != status.Warning || r.Reason != status.ReasonNoPerm ||
		r.Message != "metrics are missing, the server's ACL does not allow config|get, slowlog|get, latency|latest, latency|histogram" {
		t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
	}

	// A new connection is a new chance.
	srv.Do(t, "ACL", "SETUSER", "exporter", "+config|get", "+slowlog", "+latency")
	srv.Restart(t) // forgets the user: the next scrape fails, and the plan with it
	if reason := downReason(t, scrape(t, e)); reason != string(status.ReasonAuth) {
		t.Errorf("down because of %q", reason)
	}
	srv.Do(t, "ACL", "SETUSER", "exporter", "on", ">secret", "+@all")
	expect(t, scrape(t, e), map[string]string{"redis_up": "1", "redis_slowlog_last_id": "0", "redis_config_maxmemory": "0"})
	if r, _ := board.Report(status.Exporter); r.State != status.OK {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
}

// rights returns those that docs/metrics.md names for a user, with the password
// "secret".
func rights(tb testing.TB, user string) []string {
	tb.Helper()
	page, err := os.ReadFile(filepath.Join(testenv.Root(tb), "docs", "metrics.md"))
	if err != nil {
		tb.Fatal(err)
	}
	_, line, ok := strings.Cut(string(page), "\nACL SETUSER "+user+" ")
	line, _, ok2 := strings.Cut(line, "\n")
	if !ok || !ok2 {
		tb.Fatalf("docs/metrics.md has no line ACL SETUSER %s", user)
	}
	return strings.Fields(strings.ReplaceAll(line, "PASSWORD", "secret"))
}

// The rights that docs/metrics.md names are enough: the exporter adds nothing to
// the errors that it counts.
func TestLeastPrivilege(t *testing.T) {
	for mode, args := range map[string][]string{"standalone": nil, "cluster": {"--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(testenv.FreePort(t))}} {
		srv := testenv.StartRedis(t, args...)
		srv.Do(t, append([]string{"ACL", "SETUSER", "sidecar"}, rights(t, "sidecar")...)...)
		c := newClient(t, redis.Options{Addr: srv.Addr, Name: "redis-sidecar", Credentials: password("sidecar", "secret")})
		e, board := newExporter(t, c, exporter.Options{})
		for range 100 {
			scrape(t, e)
		}
		got := scrape(t, e)
		expect(t, got, map[string]string{"redis_up": "1", "redis_total_error_replies": "0", `redis_errors_total{err="NOPERM"}`: "absent"})
		if r, _ := board.Report(status.Exporter); r.State != status.OK {
			t.Errorf("%s: the Board says %s: %s", mode, r.State, r.Message)
		}
		if log := srv.Do(t, "ACL", "LOG"); len(log.([]any)) != 0 {
			t.Errorf("%s: ACL LOG %v", mode, log)
		}
	}
}

// A user who may not even run INFO.
func TestInfoForbidden(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "ACL", "SETUSER", "exporter", "on", ">secret", "+ping")
	e, _ := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("exporter", "secret")}), exporter.Options{})
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonNoPerm) {
		t.Errorf("down because of %q", reason)
	}
}

func TestRenamedConfig(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "redis.conf")
	if err := os.WriteFile(conf, []byte("rename-command CONFIG hidden\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	srv := testenv.StartRedisIn(t, dir, conf)
	for command, want := range map[string]map[string]string{
		"hidden": {"redis_config_maxmemory": "0", `redis_sidecar_exporter_command_refused{command="config|get",reason="unknown_command"}`: "absent"},
		"CONFIG": {"redis_config_maxmemory": "absent", `redis_sidecar_exporter_command_refused{command="config|get",reason="unknown_command"}`: "1"},
		"-":      {"redis_config_maxmemory": "absent", `redis_sidecar_exporter_command_refused{command="config|get",reason="unknown_command"}`: "absent"},
	} {
		e, _ := newExporter(t, newClient(t, redis.Options{Addr: srv.Addr}), exporter.Options{ConfigCommand: command})
		got := scrape(t, e)
		want[`redis_sidecar_exporter_collector_success{collector="config"}`] = "1"
		want[`redis_db_keys{db="db15"}`] = "0"
		expect(t, got, want)
	}
}

// A refused command is tried again after a while, though the connection lives.
func TestRefusalExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &replay{info: "redis_version:7.0.0\r\nrun_id:a\r\n", replies: map[string]any{}}
		denied := status.WithReason(status.ReasonNoPerm, errors.New("NOPERM"))
		s.replies["SLOWLOG LEN"] = denied
		e, _ := newExporter(t, s, exporter.Options{})
		asks := func() (n int) {
			asked, _ := s.took()
			for _, line := range asked {
				if line == "SLOWLOG LEN" {
					n++
				}
			}
			return n
		}
		for i, c := range []struct {
			wait time.Duration
			asks int
		}{{0, 1}, {time.Minute, 0}, {8 * time.Minute, 0}, {time.Minute, 1}, {time.Minute, 0}} {
			_ = pause(t.Context(), c.wait) // it does not end before
			expect(t, scrape(t, e), map[string]string{"redis_slowlog_length": "absent"})
			if n := asks(); n != c.asks {
				t.Errorf("scrape %d asked %d times", i, n)
			}
		}
		s.replies["SLOWLOG LEN"] = int64(7)
		<-time.After(10 * time.Minute)
		expect(t, scrape(t, e), map[string]string{"redis_slowlog_length": "7"})

		// Loading is no refusal.
		s.replies["SLOWLOG LEN"] = status.WithReason(status.ReasonLoading, errors.New("LOADING"))
		expect(t, scrape(t, e), map[string]string{"redis_slowlog_length": "absent", `redis_sidecar_exporter_collector_success{collector="slowlog"}`: "0"})
		s.replies["SLOWLOG LEN"] = int64(8)
		expect(t, scrape(t, e), map[string]string{"redis_slowlog_length": "8"})
	})
}

// One round trip for a server that is known, two for one that is not; what it
// is decides what it is asked.
func TestRoundTrips(t *testing.T) {
	const seven = "INFO ALL|CONFIG GET maxclients maxmemory io-threads repl-backlog-size client-output-buffer-limit databases|SLOWLOG LEN|SLOWLOG GET 1|LATENCY LATEST|LATENCY HISTOGRAM"
	const six = "INFO ALL|CONFIG GET maxclients|CONFIG GET maxmemory|CONFIG GET io-threads|CONFIG GET repl-backlog-size|CONFIG GET client-output-buffer-limit|CONFIG GET databases|SLOWLOG LEN|SLOWLOG GET 1|LATENCY LATEST"
	none := status.WithReason(status.ReasonLoading, errors.New("LOADING")) // an error that is not remembered
	s := &replay{replies: map[string]any{}}
	for line := range strings.SplitSeq(seven+"|"+six, "|") {
		if line != "INFO ALL" {
			s.replies[line] = none
		}
	}
	s.replies["CLUSTER INFO"] = "cluster_state:ok\r\n"
	const cluster = "|CLUSTER INFO|CLUSTER NODES|CLUSTER LINKS"
	s.replies["CLUSTER NODES"], s.replies["CLUSTER LINKS"] = none, none
	const valkey = "INFO ALL|CONFIG GET maxclients maxmemory io-threads repl-backlog-size client-output-buffer-limit databases " +
		"commandlog-execution-slower-than commandlog-slow-execution-max-len commandlog-request-larger-than " +
		"commandlog-large-request-max-len commandlog-reply-larger-than commandlog-large-reply-max-len|" +
		"SLOWLOG LEN|SLOWLOG GET 1|COMMANDLOG LEN slow|COMMANDLOG LEN large-request|COMMANDLOG LEN large-reply|LATENCY LATEST|LATENCY HISTOGRAM"
	const watching = "INFO ALL|SENTINEL MASTERS|SENTINEL CKQUORUM a|SENTINEL SENTINELS a|SENTINEL SLAVES a|SENTINEL CKQUORUM b|SENTINEL SENTINELS b|SENTINEL SLAVES b"
	for line := range strings.SplitSeq(valkey+"|"+watching, "|") {
		if line != "INFO ALL" {
			s.replies[line] = none
		}
	}
	e, _ := newExporter(t, s, exporter.Options{})
	for i, c := range []struct {
		info  string
		asked string
		trips int
	}{
		{"redis_version:7.0.15\r\nrun_id:a\r\n", seven, 2},
		{"redis_version:7.0.15\r\nrun_id:a\r\n", seven, 1},
		{"redis_version:6.2.14\r\nrun_id:b\r\n", seven + "|" + strings.TrimPrefix(six, "INFO ALL|"), 2},
		{"redis_version:6.2.14\r\nrun_id:b\r\n", six, 1},
		{"redis_version:7.2.0\r\nrun_id:c\r\nredis_mode:sentinel\r\n", six, 1},
		{"redis_version:7.2.0\r\nrun_id:c\r\nredis_mode:sentinel\r\n", "INFO ALL", 1},
		{"redis_version:7.2.0\r\nrun_id:c\r\nredis_mode:sentinel\r\n# Sentinel\r\nmaster0:name=b,status=ok\r\nmaster1:name=a,status=ok\r\n", watching, 2},
		{"redis_version:7.2.0\r\nrun_id:c\r\nredis_mode:sentinel\r\n# Sentinel\r\nmaster0:name=a,status=odown\r\nmaster1:name=b,status=ok\r\n", watching, 1},
		{"redis_version:8.0.0\r\nrun_id:d\r\ncluster_enabled:1\r\n", watching + "|" + strings.TrimPrefix(seven, "INFO ALL|") + cluster, 2},
		{"redis_version:8.0.0\r\nrun_id:d\r\ncluster_enabled:1\r\n", seven + cluster, 1},
		{"redis_version:8.0.0\r\nrun_id:d\r\ncluster_enabled:1\r\ncluster_connections:4000\r\n", seven + cluster + "|" +
			strings.TrimPrefix(seven, "INFO ALL|") + "|CLUSTER INFO|CLUSTER NODES", 2},
		{"redis_version:6.2.0\r\nrun_id:f\r\ncluster_enabled:1\r\n", seven + "|CLUSTER INFO|CLUSTER NODES|" +
			strings.TrimPrefix(six, "INFO ALL|") + "|CLUSTER INFO|CLUSTER NODES", 2},
		{"redis_version:7.2.4\r\nvalkey_version:8.0.2\r\nrun_id:g\r\n", six + "|CLUSTER INFO|CLUSTER NODES|" + strings.TrimPrefix(seven, "INFO ALL|"), 2},
		{"redis_version:7.2.4\r\nvalkey_version:8.1.0\r\nrun_id:h\r\n", seven + "|" + strings.TrimPrefix(valkey, "INFO ALL|"), 2},
		{"redis_version:7.2.4\r\nvalkey_version:8.1.0\r\nrun_id:h\r\n", valkey, 1},
	} {
		s.info = c.info
		scrape(t, e)
		asked, trips := s.took()
		if got := strings.Join(asked, "|"); got != c.asked || trips != c.trips {
			t.Errorf("scrape %d: %d round trips: %s", i, trips, got)
		}
	}
}

// Killed and started again: down with the reason at once, then up with the first
// scrape, on a new connection.
func TestDeadServer(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	if reason := downReason(t, scrape(t, e)); reason != "" {
		t.Fatalf("down before: %s", reason)
	}
	srv.Kill(t)
	for range 2 {
		if reason := downReason(t, scrapeIn(t, e, answer)); reason != string(status.ReasonUnreachable) {
			t.Errorf("down because of %q", reason)
		}
	}
	srv.Start(t)
	if reason := downReason(t, scrapeIn(t, e, answer)); reason != "" {
		t.Errorf("down afterwards: %s", reason)
	}
}

// A replica that lost its master and serves no stale data answers most commands
// with MASTERDOWN, but none of those a scrape needs: it is up, and its link is
// down.
func TestMasterDown(t *testing.T) {
	srv := testenv.StartRedis(t, "--replicaof", "127.0.0.1 1", "--replica-serve-stale-data", "no")
	if _, err := srv.Client(t).Do(t.Context(), "GET", "a"); status.ReasonOf(err) != status.ReasonMasterDown {
		t.Fatalf("GET: %v, want MASTERDOWN", err)
	}
	e, _ := newExporter(t, srv.Client(t), exporter.Options{})
	got := scrapeIn(t, e, answer)
	if reason := downReason(t, got); reason != "" {
		t.Errorf("down because of %q", reason)
	}
	expect(t, got, map[string]string{
		`redis_master_link_up{master_host="127.0.0.1",master_port="1"}`: "0",
		"redis_slowlog_length": "0", "redis_config_maxmemory": "0",
	})
	expect(t, scrape(t, e), map[string]string{"redis_total_error_replies": got["redis_total_error_replies"]})
	for name, v := range got {
		if strings.HasPrefix(name, "redis_sidecar_exporter_collector_success") && v != "1" {
			t.Errorf("%s is %s", name, v)
		}
	}
}
