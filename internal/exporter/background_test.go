package exporter_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// runBackground runs the background collectors of an exporter until the test
// ends or stop is called.
func runBackground(tb testing.TB, e *exporter.Exporter) (stop func()) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- e.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("Run: %v", err)
		}
	})
	tb.Cleanup(stop)
	return stop
}

// newBackground runs an exporter of srv whose background collectors have a
// connection of their own.
func newBackground(tb testing.TB, srv *testenv.Redis, o exporter.BackgroundOptions) (*exporter.Exporter, *status.Board) {
	tb.Helper()
	o.Server = srv.Client(tb)
	e, board := newExporter(tb, srv.Client(tb), exporter.Options{Background: o})
	runBackground(tb, e)
	return e, board
}

// about is a series of a background collector.
func about(series, collector string) string {
	return `redis_sidecar_exporter_background_` + series + `{collector="` + collector + `"}`
}

// ranBackground scrapes until a collector has finished a further run, so one
// that began after the call, and returns the next scrape: what a scrape has of the
// server is older than what it has of the collectors.
func ranBackground(tb testing.TB, e *exporter.Exporter, collector string) map[string]string {
	tb.Helper()
	runs := func(got map[string]string) int {
		n, err := strconv.Atoi(got[about("runs_total", collector)])
		if err != nil {
			tb.Fatalf("runs of %s: %v", collector, err)
		}
		return n
	}
	got := scrape(tb, e)
	want := runs(got) + 2
	testenv.Eventually(tb, time.Minute, func() error {
		if got = scrape(tb, e); runs(got) < want {
			return fmt.Errorf("%s ran %d times, not %d", collector, runs(got), want)
		}
		return nil
	})
	return scrape(tb, e)
}

// quick is an interval for tests.
const quick = 20 * time.Millisecond

func TestNothingInTheBackground(t *testing.T) {
	srv := testenv.StartRedis(t)
	e, _ := newBackground(t, srv, exporter.BackgroundOptions{})
	got := scrape(t, e)
	expect(t, got, map[string]string{"redis_last_key_groups_scrape_duration_milliseconds": "0"})
	for series := range got {
		if strings.HasPrefix(series, "redis_sidecar_exporter_background") {
			t.Errorf("%s though nothing runs", series)
		}
	}
}

// Every collector that is on has its series before it ran.
func TestBackgroundSeriesFromTheStart(t *testing.T) {
	s := &replay{info: "redis_version:7.0.0\r\nrun_id:a\r\n", replies: map[string]any{}}
	key := []exporter.Key{{Key: "a*"}}
	e, _ := newExporter(t, s, exporter.Options{Background: exporter.BackgroundOptions{
		Server: s, Keys: exporter.KeyOptions{Check: key, Single: key, Count: key}, Streams: exporter.StreamOptions{Check: key, Single: key},
		Groups: exporter.GroupOptions{Patterns: []string{"a"}}, Scripts: exporter.ScriptOptions{Files: []string{"x"}},
		Clients: exporter.ClientOptions{Enabled: true}, Search: exporter.SearchOptions{Enabled: true},
	}})
	got := scrape(t, e)
	for _, name := range []string{
		"single_keys", "keys", "count_keys", "single_streams", "streams", "key_groups", "scripts", "clients", "search_indexes",
	} {
		expect(t, got, map[string]string{
			about("runs_total", name): "0", about("success", name): "0", about("duration_seconds", name): "0",
			about("dropped_series_total", name): "0", about("progress_ratio", name): "1",
		})
		if _, ok := got[about("age_seconds", name)]; !ok {
			t.Errorf("%s has no age", name)
		}
	}
}

// A background run that hangs ends by its budget, and a scrape neither waits
// for it nor loses what was read before.
func TestBackgroundOfHungServer(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "a", "1")
	other := testenv.StartRedis(t)
	e, board := newExporter(t, other.Client(t), exporter.Options{Background: exporter.BackgroundOptions{
		Server: srv.Client(t), Interval: time.Second, Budget: time.Second, Keys: exporter.KeyOptions{Single: []exporter.Key{{Key: "a"}}},
	}})
	runBackground(t, e)
	const series = `redis_key_value{db="db0",key="a"}`
	expect(t, ranBackground(t, e, "single_keys"), map[string]string{series: "1", about("success", "single_keys"): "1"})

	srv.Signal(t, syscall.SIGSTOP)
	// Many scrapes go by while one run hangs: none waits for its end.
	last, scrapes, most := "", 0, 0
	testenv.Eventually(t, time.Minute, func() error {
		got := scrape(t, e)
		if runs := got[about("runs_total", "single_keys")]; runs != last {
			last, scrapes = runs, 0
		}
		if got[about("progress_ratio", "single_keys")] != "1" {
			scrapes++
		}
		most = max(most, scrapes)
		if got[series] != "1" || got[about("success", "single_keys")] != "0" || most < 5 {
			return fmt.Errorf("value %q, success %q, %d scrapes in a run", got[series], got[about("success", "single_keys")], most)
		}
		return nil
	})
	scrape(t, e) // what the Board says is older than what a scrape shows
	if r, _ := board.Report(status.Exporter); r.State != status.Warning || r.Reason != status.ReasonTimeout ||
		!strings.Contains(r.Message, "single_keys") {
		t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
	}
	// Five intervals and a budget later it is not shown any more.
	testenv.Eventually(t, time.Minute, func() error {
		if v, ok := scrape(t, e)[series]; ok {
			return fmt.Errorf("still %s", v)
		}
		return nil
	})
	srv.Signal(t, syscall.SIGCONT)
	testenv.Eventually(t, time.Minute, func() error { return has(series, "1")(scrape(t, e)) })
	if r, _ := board.Report(status.Exporter); r.State != status.OK {
		t.Errorf("the Board says %s afterwards", r.State)
	}
}

// What the ACL forbids is asked once, of a command or of a key.
func TestBackgroundACL(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "MSET", "mine", "1", "other", "2")
	srv.Do(t, "ACL", "SETUSER", "exporter", "on", ">secret", "~mine", "+@all", "-scan", "-client|list", "-acl")
	c := newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("exporter", "secret")})
	e, board := newExporter(t, srv.Client(t), exporter.Options{Background: exporter.BackgroundOptions{
		Server: c, Interval: quick, Clients: exporter.ClientOptions{Enabled: true},
		Keys: exporter.KeyOptions{
			Check: []exporter.Key{{Key: "m*"}}, Count: []exporter.Key{{Key: "m*"}}, Single: []exporter.Key{{Key: "mine"}, {Key: "other"}},
		},
	}})
	runBackground(t, e)
	for range 3 {
		for _, name := range []string{"keys", "single_keys", "count_keys", "clients"} {
			ranBackground(t, e, name)
		}
	}
	got := scrape(t, e)
	expect(t, got, map[string]string{
		// SCAN, CLIENT LIST; TYPE and MEMORY USAGE of the key of others.
		`redis_errors_total{err="NOPERM"}`:      "4",
		`redis_key_value{db="db0",key="mine"}`:  "1",
		`redis_key_value{db="db0",key="other"}`: "absent",
		about("success", "keys"):                "0",
		about("success", "count_keys"):          "0",
		about("success", "single_keys"):         "0",
		about("success", "clients"):             "0",
	})
	if r, _ := board.Report(status.Exporter); r.State != status.Warning || r.Reason != status.ReasonNoPerm {
		t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
	}
}

// The commands that a collector says it needs are enough.
func TestBackgroundCommands(t *testing.T) {
	srv := testenv.StartRedis(t)
	srv.Do(t, "SET", "s", "1")
	srv.Do(t, "PFADD", "hll", "a")
	srv.Do(t, "XADD", "x", "1-1", "a", "b")
	srv.Do(t, "XGROUP", "CREATE", "x", "g", "0")
	key := []exporter.Key{{Key: "*"}, {Key: "s"}, {Key: "x"}, {DB: 1, Key: "*"}}
	file := srv.WriteFile(t, "a.lua", "return {'a', '1'}")
	o := exporter.BackgroundOptions{
		Interval: quick, Keys: exporter.KeyOptions{Check: key, Count: key}, Streams: exporter.StreamOptions{Check: []exporter.Key{{Key: "x*"}, {Key: "x"}}},
		Groups: exporter.GroupOptions{Patterns: []string{"a"}}, Scripts: exporter.ScriptOptions{Files: []string{file}},
		Clients: exporter.ClientOptions{Enabled: true},
	}
	commands, keys := exporter.BackgroundCommands(exporter.Options{Background: o})
	if !keys {
		t.Error("no keys are read")
	}
	rules := []string{"ACL", "SETUSER", "exporter", "on", ">secret", "~*"}
	for _, name := range commands {
		rules = append(rules, "+"+name)
	}
	srv.Do(t, rules...)
	o.Server = newClient(t, redis.Options{Addr: srv.Addr, Credentials: password("exporter", "secret")})
	e, _ := newExporter(t, srv.Client(t), exporter.Options{Background: o})
	runBackground(t, e)
	for _, name := range []string{"keys", "count_keys", "streams", "key_groups", "scripts", "clients"} {
		expect(t, ranBackground(t, e, name), map[string]string{about("success", name): "1"})
	}
	got := scrape(t, e)
	for series := range got {
		if strings.HasPrefix(series, "redis_errors_total") {
			t.Errorf("%s %s", series, got[series])
		}
	}
}

// A Sentinel has clients and no keys: it is asked what it is, and for its clients.
func TestBackgroundOfSentinel(t *testing.T) {
	for _, mode := range []string{"redis_mode:sentinel", "server_mode:sentinel"} { // the second is Valkey's
		s := &replay{replies: map[string]any{"INFO server": mode + "\r\n", "INFO replication": "", "INFO keyspace": "", "CLIENT LIST": clientList(1)}}
		e, _ := newExporter(t, &replay{info: mode + "\r\nrun_id:a\r\n"}, exporter.Options{Background: exporter.BackgroundOptions{
			Server: s, Interval: quick, Keys: exporter.KeyOptions{Check: []exporter.Key{{Key: "*"}}}, Clients: exporter.ClientOptions{Enabled: true},
		}})
		runBackground(t, e)
		expect(t, ranBackground(t, e, "clients"), map[string]string{about("success", "keys"): "1", about("success", "clients"): "1",
			`redis_connected_client_output_list_length{id="3",name="worker-0"}`: "0"})
		asked, _ := s.took()
		for _, line := range asked {
			if !strings.HasPrefix(line, "INFO ") && line != "CLIENT LIST" {
				t.Errorf("it was asked %s", line)
			}
		}
	}
}

// A loading server is asked again soon, not an interval later.
func TestBackgroundOfLoadingServer(t *testing.T) {
	slow := loading(t, 3000, 10, 1000*time.Microsecond)
	e, _ := newBackground(t, slow, exporter.BackgroundOptions{Interval: time.Hour, Keys: exporter.KeyOptions{Single: []exporter.Key{{Key: "key:1"}}}})
	testenv.Eventually(t, time.Minute, func() error { return has(`redis_key_size{db="db0",key="key:1"}`, "10")(scrape(t, e)) })
}

// slowServer answers INFO at once and everything else after a while, as a
// server with n keys.
type slowServer struct {
	way  time.Duration // that everything takes in addition
	wait time.Duration
	keys int

	mu      sync.Mutex
	fails   error
	runID   string
	busy    time.Duration // in which it worked
	running int
}

func (s *slowServer) Pipeline(ctx context.Context, commands ...[]string) ([]any, error) {
	took := s.way
	s.mu.Lock()
	fails, keys, id := s.fails, s.keys, s.runID
	if commands[0][0] != "INFO" {
		if s.running++; s.running > 1 {
			panic("two pipelines at once")
		}
		defer func() {
			s.mu.Lock()
			s.running--
			s.mu.Unlock()
		}()
		took += s.wait
		s.busy += s.wait
	}
	s.mu.Unlock()
	if err := pause(ctx, took); err != nil {
		return nil, err
	}
	if fails != nil {
		return nil, fails
	}
	out := make([]any, len(commands))
	for i, c := range commands {
		switch strings.Join(c[:min(len(c), 2)], " ") {
		case "INFO keyspace":
			out[i] = fmt.Sprintf("# Keyspace\r\ndb0:keys=%d,expires=0\r\n", keys)
		case "INFO server":
			out[i] = "redis_version:7.0.0\r\nrun_id:a" + id + "\r\n"
		case "INFO replication":
			out[i] = "role:master\r\n"
		case "INFO ALL":
			out[i] = "redis_version:7.0.0\r\nrun_id:a\r\n"
		default:
			switch c[0] {
			case "TYPE":
				out[i] = "list"
			case "CLIENT":
				out[i] = clientList(1)
			case "LLEN":
				out[i] = int64(1)
			case "SCAN":
				cursor, _ := strconv.Atoi(c[1])
				if cursor += 1000; cursor >= keys {
					cursor = 0
				}
				out[i] = []any{strconv.Itoa(cursor), []any{"k"}}
			}
		}
	}
	return out, nil
}

// pause waits for d, or until ctx ends. No timer runs for a time of 0: in a bubble of
// synctest one that is due at once runs where it is looked at, and the race detector
// (Go 1.26) crashes when another of that bubble does so at the same time.
func pause(ctx context.Context, d time.Duration) error {
	if d == 0 {
		return ctx.Err()
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// set changes what the server is.
func (s *slowServer) set(change func(s *slowServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *slowServer) fail(err error) { s.set(func(s *slowServer) { s.fails = err }) }

// A scan takes at most a tenth of the server's time, and no more keys per
// second than was agreed.
func TestScanRate(t *testing.T) {
	for _, c := range []struct {
		name      string
		rate      int
		way, wait time.Duration
		keys      int
		min, max  float64 // seconds
	}{
		{"a tenth", 0, 0, 10 * time.Millisecond, 100_000, 9.9, 10.3},
		{"a tenth, though more is allowed", 100_000, 0, 10 * time.Millisecond, 100_000, 9.9, 10.3},
		{"by keys", 5_000, 0, 10 * time.Millisecond, 100_000, 19.8, 20.3},
		{"the way is no work", 0, 20 * time.Millisecond, 10 * time.Millisecond, 100_000, 11.9, 12.4},
		{"a tenth of the time is work", 0, 50 * time.Millisecond, 0, 100_000, 9.4, 9.8},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowServer{way: c.way, wait: c.wait, keys: c.keys}
				e, _ := newExporter(t, &replay{info: "redis_version:7.0.0\r\n"}, exporter.Options{Background: exporter.BackgroundOptions{
					Server: s, ScanRate: c.rate, Keys: exporter.KeyOptions{Count: []exporter.Key{{Key: "k*"}}},
				}})
				runBackground(t, e)
				<-time.After(29 * time.Second)
				got := scrape(t, e)
				expect(t, got, map[string]string{`redis_keys_count{db="db0",key="k*"}`: strconv.Itoa(c.keys / 1000), about("success", "count_keys"): "1"})
				if took := number(t, got[about("duration_seconds", "count_keys")]); took < c.min || took > c.max {
					t.Errorf("%v s, want %v to %v", took, c.min, c.max)
				}
			})
		})
	}
}

// What was read lasts over failures for a while, and comes back.
func TestStaleSeries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowServer{wait: time.Millisecond, keys: 1000}
		e, _ := newExporter(t, &replay{info: "redis_version:7.0.0\r\n"}, exporter.Options{Background: exporter.BackgroundOptions{
			Server: s, Keys: exporter.KeyOptions{Count: []exporter.Key{{Key: "k*"}}},
		}})
		runBackground(t, e)
		<-time.After(time.Second)
		const series = `redis_keys_count{db="db0",key="k*"}`
		expect(t, scrape(t, e), map[string]string{series: "1", about("success", "count_keys"): "1"})
		s.fail(status.WithReason(status.ReasonProtocol, errors.New("broken")))
		<-time.After(5 * time.Minute)
		expect(t, scrape(t, e), map[string]string{series: "1", about("success", "count_keys"): "0"})
		<-time.After(time.Minute)
		expect(t, scrape(t, e), map[string]string{series: "absent", about("success", "count_keys"): "0"})
		s.fail(nil)
		<-time.After(70 * time.Second)
		expect(t, scrape(t, e), map[string]string{series: "1", about("success", "count_keys"): "1"})
	})
}

// Collectors run one at a time, each at its interval; a server that cannot
// answer at the moment is asked again sooner.
func TestIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowServer{wait: 100 * time.Millisecond, keys: 1000}
		e, _ := newExporter(t, &replay{info: "redis_version:7.0.0\r\n"}, exporter.Options{Background: exporter.BackgroundOptions{
			Server: s, Keys: exporter.KeyOptions{Count: []exporter.Key{{Key: "k*"}}}, Clients: exporter.ClientOptions{Enabled: true},
		}})
		runBackground(t, e)
		runs := func(name string) float64 { return number(t, scrape(t, e)[about("runs_total", name)]) }
		<-time.After(10 * time.Minute)
		for _, name := range []string{"count_keys", "clients"} {
			if n := runs(name); n < 9 || n > 12 {
				t.Errorf("%s ran %v times in 10 min", name, n)
			}
		}
		s.fail(status.WithReason(status.ReasonUnreachable, errors.New("refused")))
		before := runs("count_keys")
		<-time.After(2 * time.Minute)
		if n := runs("count_keys") - before; n < 5 {
			t.Errorf("count_keys tried %v times in 2 min", n)
		}
	})
}
