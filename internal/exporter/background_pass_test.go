package exporter_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/exporter"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

const (
	counted = `redis_keys_count{db="db0",key="k1:*"}`
	grouped = `redis_key_group_count{db="db0",key_group="k1"}`
)

// passTime is how long a pass over many keys of a real server may take. The pauses are
// nine times as long as an answer took, which on a machine that is busy is long.
const passTime = 5 * time.Minute

// newSlow runs an exporter of s in the background.
func newSlow(t *testing.T, s *slowServer, o exporter.BackgroundOptions) (*exporter.Exporter, *status.Board) {
	t.Helper()
	o.Server = s
	e, board := newExporter(t, &replay{info: "redis_version:7.0.0\r\n"}, exporter.Options{Background: o})
	runBackground(t, e)
	return e, board
}

// manyKeys starts a server with n keys k1:… and ten others.
func manyKeys(t *testing.T, n int) *testenv.Redis {
	t.Helper()
	srv := testenv.StartRedis(t)
	srv.Do(t, "DEBUG", "POPULATE", strconv.Itoa(n), "k1")
	for i := range 10 {
		srv.Do(t, "SET", "other:"+strconv.Itoa(i), "x")
	}
	return srv
}

// A pass over many keys takes many slices. In between the other collectors have
// their turn, and its progress shows.
func TestManyKeysInSlices(t *testing.T) {
	srv := manyKeys(t, 50_000)
	c := srv.Client(t)
	for _, cmd := range []string{"SELECT 3", "DEBUG POPULATE 5000 k3", "SELECT 0"} {
		if _, err := c.Do(t.Context(), strings.Fields(cmd)...); err != nil {
			t.Fatal(err)
		}
	}
	e, board := newApart(t, srv, exporter.BackgroundOptions{
		Interval: 50 * time.Millisecond, Budget: 50 * time.Millisecond, BatchSize: 500, Clients: exporter.ClientOptions{Enabled: true},
		Keys: exporter.KeyOptions{Count: slices.Concat(keysIn(0, "k1:*"), keysIn(3, "k*"))}, Groups: exporter.GroupOptions{Patterns: []string{`^(k%d+):`}},
	})
	halfway := map[string]bool{}
	var got map[string]string
	testenv.Eventually(t, passTime, func() error {
		got = scrape(t, e)
		for _, name := range []string{"count_keys", "key_groups"} {
			if p := number(t, got[about("progress_ratio", name)]); p > 0 && p < 1 {
				halfway[name] = true
			}
		}
		if got[counted] == "" || got[grouped] == "" {
			return fmt.Errorf("counted %q, grouped %q", got[counted], got[grouped])
		}
		return nil
	})
	expect(t, got, map[string]string{
		counted: "50000", grouped: "50000", `redis_key_group_count{db="db0",key_group="unclassified"}`: "10",
		`redis_number_of_distinct_key_groups{db="db0"}`: "2", `redis_number_of_distinct_key_groups{db="db3"}`: "1",
		`redis_keys_count{db="db3",key="k*"}`: "5000", `redis_key_group_count{db="db3",key_group="k3"}`: "5000",
		about("success", "count_keys"): "1", about("success", "key_groups"): "1", about("success", "clients"): "1",
	})
	if n := number(t, got[about("runs_total", "clients")]); n < 5 {
		t.Errorf("clients ran %v times meanwhile", n)
	}
	if !halfway["count_keys"] || !halfway["key_groups"] {
		t.Errorf("progress was seen of %v only", halfway)
	}
	if r, _ := board.Report(status.Exporter); r.State != status.OK {
		t.Errorf("the Board says %s: %s", r.State, r.Message)
	}
}

// newApart runs background collectors of srv. Its scrapes are of a server that is
// not there, so that they can be many at no cost to srv.
func newApart(t *testing.T, srv *testenv.Redis, o exporter.BackgroundOptions) (*exporter.Exporter, *status.Board) {
	t.Helper()
	o.Server = srv.Client(t)
	e, board := newExporter(t, &replay{info: "redis_version:7.0.0\r\n"}, exporter.Options{Background: o})
	runBackground(t, e)
	return e, board
}

// underWay waits until a pass is well under way.
func underWay(t *testing.T, e *exporter.Exporter, collector string) {
	t.Helper()
	testenv.Eventually(t, passTime, func() error {
		if p := number(t, scrape(t, e)[about("progress_ratio", collector)]); p < 0.2 || p == 1 {
			return fmt.Errorf("progress %v", p)
		}
		return nil
	})
}

// A connection that breaks costs nothing: the cursor is still good.
func TestPassOutlivesConnection(t *testing.T) {
	srv := manyKeys(t, 200_000)
	e, _ := newApart(t, srv, exporter.BackgroundOptions{
		Interval: time.Hour, Budget: 100 * time.Millisecond, ScanRate: 100_000, Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")},
	})
	underWay(t, e, "count_keys")
	srv.Do(t, "CLIENT", "KILL", "TYPE", "normal")
	testenv.Eventually(t, passTime, func() error { return has(counted, "200000")(scrape(t, e)) })
	expect(t, scrape(t, e), map[string]string{about("runs_total", "count_keys"): "1", about("success", "count_keys"): "1"})
}

// A pass begins again when the server was started anew: another process does not
// know its cursor.
func TestPassAfterRestart(t *testing.T) {
	srv := manyKeys(t, 2500)
	srv.Do(t, "SAVE") // what is there after the restart
	srv.Do(t, "DEBUG", "POPULATE", "200000", "k1")
	e, _ := newApart(t, srv, exporter.BackgroundOptions{
		Interval: time.Hour, Budget: 100 * time.Millisecond, ScanRate: 50_000, Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")},
	})
	underWay(t, e, "count_keys")
	srv.Kill(t)
	srv.Start(t)
	testenv.Eventually(t, passTime, func() error {
		switch got := scrape(t, e); got[counted] {
		case "2500":
			return nil
		case "":
			return errors.New("no count")
		default:
			t.Fatalf("%s keys of two servers", got[counted])
			return nil
		}
	})
	expect(t, scrape(t, e), map[string]string{about("runs_total", "count_keys"): "2", about("success", "count_keys"): "1"})
}

// The same when nothing tells of the restart: the client just has a new connection.
func TestPassAfterUnseenRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowServer{wait: 10 * time.Millisecond, keys: 100_000}
		e, board := newSlow(t, s, exporter.BackgroundOptions{Interval: time.Hour, Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")}})
		<-time.After(9 * time.Second)
		s.set(func(s *slowServer) { s.runID = "another" })
		<-time.After(2 * time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "absent", about("runs_total", "count_keys"): "1", about("success", "count_keys"): "0"})
		if r, _ := board.Report(status.Exporter); r.Reason != status.ReasonUnreachable || !strings.Contains(r.Message, "started anew") {
			t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
		}
		<-time.After(13 * time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "100", about("runs_total", "count_keys"): "2", about("success", "count_keys"): "1"})
	})
}

// A server that cannot answer for a moment does not end a pass, one that cannot
// for long does.
func TestPassOverTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowServer{wait: 10 * time.Millisecond, keys: 100_000}
		e, _ := newSlow(t, s, exporter.BackgroundOptions{Interval: time.Hour, Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")}})
		<-time.After(5 * time.Second)
		s.fail(status.WithReason(status.ReasonUnreachable, errors.New("refused")))
		<-time.After(10 * time.Second)
		expect(t, scrape(t, e), map[string]string{about("runs_total", "count_keys"): "0"})
		s.fail(nil)
		<-time.After(12 * time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "100", about("runs_total", "count_keys"): "1", about("progress_ratio", "count_keys"): "1"})
		s.set(func(s *slowServer) { s.keys = 100_000_000 }) // so that the next lasts
		<-time.After(80 * time.Minute)
		s.fail(status.WithReason(status.ReasonUnreachable, errors.New("refused")))
		<-time.After(28 * time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "100", about("success", "count_keys"): "1"})
		<-time.After(3 * time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "100", about("success", "count_keys"): "0", about("runs_total", "count_keys"): "2"})
	})
}

// What was read before lasts while a long pass goes on, and is replaced by it
// as a whole.
func TestLongPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowServer{wait: 10 * time.Millisecond, keys: 1000}
		e, _ := newSlow(t, s, exporter.BackgroundOptions{
			Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")}, Clients: exporter.ClientOptions{Enabled: true}})
		<-time.After(time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "1", about("progress_ratio", "count_keys"): "1"})
		s.set(func(s *slowServer) { s.keys = 10_000_000 }) // which take 1,000 s
		<-time.After(560 * time.Second)
		got := scrape(t, e)
		expect(t, got, map[string]string{counted: "1", about("success", "count_keys"): "1", about("runs_total", "count_keys"): "1"})
		if p := number(t, got[about("progress_ratio", "count_keys")]); p < 0.4 || p > 0.6 {
			t.Errorf("progress %v after half the time", p)
		}
		if n := number(t, got[about("runs_total", "clients")]); n < 6 { // each at the end of a slice, so later than an interval
			t.Errorf("clients ran %v times in ten minutes", n)
		}
		<-time.After(530 * time.Second)
		expect(t, scrape(t, e), map[string]string{counted: "10000", about("success", "count_keys"): "1", about("runs_total", "count_keys"): "2"})
	})
}

// A pass that would take too long is given up. It says what kept it, and what
// was read before goes in the end.
func TestPassGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		rate      int
		way, wait time.Duration
		want      string
	}{
		"pauses":  {0, 0, 10 * time.Millisecond, "raise exporter.interval"},
		"rate":    {5000, 0, 10 * time.Millisecond, "exporter.scan-rate, 5000 keys per second: raise that"},
		"answers": {0, 50 * time.Millisecond, 0, "exporter.check-keys-batch-size"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slowServer{way: c.way, wait: c.wait, keys: 1000}
				e, board := newSlow(t, s, exporter.BackgroundOptions{
					Budget: 100 * time.Millisecond, ScanRate: c.rate, Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")}})
				<-time.After(time.Second)
				expect(t, scrape(t, e), map[string]string{counted: "1"})
				s.set(func(s *slowServer) { s.keys = 1_000_000_000 })
				<-time.After(55 * time.Minute)
				expect(t, scrape(t, e), map[string]string{counted: "1", about("success", "count_keys"): "1"})
				<-time.After(7 * time.Minute)
				expect(t, scrape(t, e), map[string]string{counted: "absent", about("success", "count_keys"): "0"})
				r, _ := board.Report(status.Exporter)
				if r.State != status.Warning || r.Reason != status.ReasonTimeout || !strings.Contains(r.Message, "of about 1000000000 keys") ||
					!strings.Contains(r.Message, "given up after 1h0m0s") || !strings.Contains(r.Message, c.want) {
					t.Errorf("the Board says %s, %s: %s", r.State, r.Reason, r.Message)
				}
				for range 10 { // it does not come back with the next pass
					<-time.After(time.Minute)
					expect(t, scrape(t, e), map[string]string{counted: "absent"})
				}
			})
		})
	}
}

// Single keys may take many slices, too.
func TestSingleKeysInSlices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var keys []exporter.Key
		for i := range 1000 {
			keys = append(keys, exporter.Key{Key: strconv.Itoa(i)})
		}
		s := &slowServer{wait: 100 * time.Millisecond, keys: 1000}
		e, _ := newSlow(t, s, exporter.BackgroundOptions{Budget: 2 * time.Second, Keys: exporter.KeyOptions{Single: keys}})
		<-time.After(30 * time.Second)
		got := scrape(t, e)
		expect(t, got, map[string]string{about("success", "single_keys"): "1", about("runs_total", "single_keys"): "1"})
		if n := len(only(got, "redis_key_size")); n != 1000 {
			t.Errorf("%d keys are shown", n)
		}
	})
}

// Exporters that share a gate read one at a time, and together no more than a
// single one may; one whose server is away keeps none of them up.
func TestGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slowServer{wait: 10 * time.Millisecond, keys: 100_000}
		o := exporter.BackgroundOptions{Interval: time.Hour, Gate: exporter.NewGate(), Keys: exporter.KeyOptions{Count: keysIn(0, "k1:*")}}
		away := &slowServer{way: time.Hour, wait: time.Hour, keys: 1000}
		newSlow(t, away, o)
		var all []*exporter.Exporter
		for range 3 {
			e, _ := newSlow(t, s, o)
			all = append(all, e)
		}
		start := time.Now()
		<-time.After(20 * time.Second)
		s.mu.Lock()
		busy := s.busy
		s.mu.Unlock()
		if share := busy.Seconds() / time.Since(start).Seconds(); share < 0.09 || share > 0.101 {
			t.Errorf("they took %v of the server's time", share)
		}
		<-time.After(11 * time.Second)
		for i, e := range all {
			got := scrape(t, e)
			expect(t, got, map[string]string{counted: "100", about("success", "count_keys"): "1"})
			if took := number(t, got[about("duration_seconds", "count_keys")]); took < 29 || took > 31 {
				t.Errorf("exporter %d took %v s", i, took)
			}
		}
	})
}
