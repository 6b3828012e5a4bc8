package config

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// volume is a mounted ConfigMap, updated as kubelet's atomic writer does it.
type volume struct {
	dir string
	n   int
	now string // the directory behind ..data
}

func newVolume(t *testing.T, files map[string]string) *volume {
	t.Helper()
	v := &volume{dir: filepath.Join(t.TempDir(), "volume")}
	if err := os.Mkdir(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v.update(t, files)
	return v
}

// path is the redis.conf of the volume.
func (v *volume) path() string { return filepath.Join(v.dir, "redis.conf") }

// update writes the files into a new directory, swaps the link ..data, and
// removes the old directory and the links of files that are no more.
func (v *volume) update(t *testing.T, files map[string]string) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	v.n++
	fresh := fmt.Sprintf("..2026_11_23_06_15_%02d.%09d", v.n, v.n)
	must(os.Mkdir(filepath.Join(v.dir, fresh), 0o755))
	for name, text := range files {
		writeFile(t, filepath.Join(v.dir, fresh, name), text)
	}
	must(os.Symlink(fresh, filepath.Join(v.dir, "..data_tmp")))
	must(os.Rename(filepath.Join(v.dir, "..data_tmp"), filepath.Join(v.dir, "..data")))
	for name := range files {
		err := os.Symlink(filepath.Join("..data", name), filepath.Join(v.dir, name))
		if err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(v.dir)
	must(err)
	for _, e := range entries {
		if _, kept := files[e.Name()]; !kept && !strings.HasPrefix(e.Name(), "..") {
			must(os.Remove(filepath.Join(v.dir, e.Name())))
		}
	}
	if v.now != "" {
		must(os.RemoveAll(filepath.Join(v.dir, v.now)))
	}
	v.now = fresh
}

func conf(lines ...string) map[string]string {
	return map[string]string{"redis.conf": strings.Join(lines, "\n") + "\n"}
}

// running is a job at work.
type running struct {
	t     *testing.T
	job   *Job
	board *status.Board
	log   *testenv.Log
}

// start runs a job until the end of the test. Unless the test says otherwise the
// clock is slow, so that only events make the job do anything.
func start(t *testing.T, o Options, server Server) *running {
	t.Helper()
	if o.Debounce == 0 {
		o.Debounce = 20 * time.Millisecond
	}
	if o.Interval == 0 {
		o.Interval = 10 * time.Minute
	}
	r := &running{t: t, log: &testenv.Log{}}
	r.board = status.NewBoard(slog.New(slog.NewTextHandler(r.log, nil)), nil)
	r.job = New(o, server, r.board.Register(status.Config, FailureReasons()...))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.job.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return r
}

func (r *running) report() (status.Report, Detail) {
	r.t.Helper()
	report, ok := r.board.Report(status.Config)
	if !ok {
		r.t.Fatal("not registered")
	}
	detail, _ := report.Detail.(Detail)
	return report, detail
}

// until waits until the job reports this state and reason, and the check holds.
func (r *running) until(state status.State, reason status.Reason, check func(Detail) error) Detail {
	r.t.Helper()
	var detail Detail
	testenv.Eventually(r.t, 20*time.Second, func() error {
		var report status.Report
		report, detail = r.report()
		if report.State != state || report.Reason != reason {
			return fmt.Errorf("the job is %s %s: %s\n%s", report.State, report.Reason, report.Message, r.log)
		}
		if check != nil {
			return check(detail)
		}
		return nil
	})
	return detail
}

// hash waits for a detail with the present content of the file.
func atHash(path string) func(Detail) error {
	tree, _ := Load(path)
	return func(d Detail) error {
		if d.Hash != tree.Hash {
			return errors.New("the file was not read yet")
		}
		return nil
	}
}

func value(t *testing.T, s *testenv.Redis, name string) string {
	t.Helper()
	reply := s.Do(t, "CONFIG", "GET", name).([]any)
	if len(reply) != 2 {
		t.Fatalf("CONFIG GET %s: %v", name, reply)
	}
	return reply[1].(string)
}

func wantValue(t *testing.T, s *testenv.Redis, name, want string) {
	t.Helper()
	if got := value(t, s, name); got != want {
		t.Errorf("%s is %q, want %q", name, got, want)
	}
}

func namesOf(changes []Change) string { return names(changes) }

func TestVolumeSwapIsApplied(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb", "save 100 1"))
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	r := start(t, Options{Path: v.path()}, s.Client(t))
	d := r.until(status.OK, "", nil)
	if len(d.Applied) > 0 {
		t.Errorf("a server that was started with the file was changed: %v", d.Applied)
	}

	begun := time.Now()
	v.update(t, conf("maxmemory 200mb", "maxmemory-policy ALLKEYS-LRU", "save 100 1", "save 300 5", "client-output-buffer-limit pubsub 1mb 2mb 3",
		"notify-keyspace-events KEA", "slave-priority 50", "appendfsync always", "oom-score-adj-values 1 2 3", "latency-tracking-info-percentiles 99"))
	d = r.until(status.OK, "", atHash(v.path()))
	t.Logf("from the swap to the report: %s", time.Since(begun).Round(time.Millisecond))
	for name, want := range map[string]string{
		"maxmemory": "209715200", "maxmemory-policy": "allkeys-lru", "save": "100 1 300 5", "notify-keyspace-events": "AKE",
		"replica-priority": "50", "appendfsync": "always", "oom-score-adj-values": "1 2 3", "latency-tracking-info-percentiles": "99",
		"client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 1048576 2097152 3",
	} {
		wantValue(t, s, name, want)
	}
	if len(d.Applied) != 9 || d.AppliedAt.Before(begun) {
		t.Errorf("applied at %s: %v", d.AppliedAt, d.Applied)
	}
	if !strings.Contains(r.log.String(), "maxmemory 104857600 -> 200mb") {
		t.Errorf("the log does not say what was applied:\n%s", r.log)
	}

	// Several updates in a row: the last one wins.
	for i := range 5 {
		v.update(t, conf(fmt.Sprintf("maxmemory %dmb", 300+i)))
	}
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "maxmemory", "318767104")
}

func TestRemovedLineGoesBack(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb", "timeout 5", "save 100 1", "hz 20", "databases 4", "client-output-buffer-limit pubsub 1 2 3",
		"client-output-buffer-limit normal 4mb 5mb 6"))
	// What the file does not set was set on the command line.
	s := testenv.StartRedisIn(t, t.TempDir(), v.path(), "--timeout", "77", "--maxmemory-samples", "9")
	r := start(t, Options{Path: v.path()}, s.Client(t))
	r.until(status.OK, "", nil)
	wantValue(t, s, "timeout", "5") // the file wins over the command line

	v.update(t, conf("maxmemory-samples 3", "client-output-buffer-limit normal 4mb 5mb 6"))
	d := r.until(status.Warning, status.ReasonRestart, atHash(v.path()))
	for name, want := range map[string]string{
		"maxmemory": "0", "save": "3600 1 300 100 60 10000", "hz": "10", "maxmemory-samples": "3",
		"timeout":                    "77", // what the server was started with
		"client-output-buffer-limit": "normal 4194304 5242880 6 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
	} {
		wantValue(t, s, name, want)
	}
	if got := namesOf(d.Restart); got != "databases" {
		t.Errorf("needs a restart: %s", got)
	}

	v.update(t, conf("databases 4"))
	d = r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "maxmemory-samples", "9")
	if got := namesOf(d.Outside); !strings.Contains(got, "maxmemory-samples") || !strings.Contains(got, "timeout") {
		t.Errorf("set outside of the file: %s", got)
	}
}

func TestRestartAndManualAreNamed(t *testing.T) {
	v := newVolume(t, conf("databases 16", "maxmemory 1mb", "requirepass first-secret", "user alice on >alice-secret"))
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	client := redis.New(redis.Options{Addr: s.Addr, Credentials: func() (string, string, error) { return "", "first-secret", nil }})
	defer client.Close()
	r := start(t, Options{Path: v.path()}, client)
	r.until(status.OK, "", nil)

	v.update(t, conf("databases 32", "maxmemory 2mb", "requirepass second-secret", "user alice on >other-secret", "port 7", "bind 127.0.0.1 ::1",
		"appenddirname other", "replicaof 10.0.0.1 6379", "replica-announce-ip 10.0.0.2", "masterauth third-secret", "maxclients 2000000",
		"client-output-buffer-limit normal 1 2 3", "maxmemory-clients 100", "dbfilename other.rdb"))
	d := r.until(status.Warning, status.ReasonRejected, atHash(v.path()))
	if got, want := namesOf(d.Restart), "appenddirname, bind, databases, dbfilename, masterauth, port, requirepass, user"; got != want {
		t.Errorf("restart: %s\nwant %s", got, want)
	}
	if got, want := namesOf(d.Ignored), "replica-announce-ip, replicaof"; got != want {
		t.Errorf("ignored: %s, want %s", got, want)
	}
	if got, want := namesOf(d.Refused), "client-output-buffer-limit normal, maxclients, maxmemory-clients"; got != want {
		t.Errorf("refused: %s, want %s", got, want)
	}
	if got, want := namesOf(d.Applied), "maxmemory"; got != want {
		t.Errorf("applied: %s, want %s", got, want)
	}
	for _, c := range d.Restart {
		if c.Why == "" {
			t.Errorf("%s: no reason", c.Name)
		}
	}
	if got := testenv.Metrics(t, r.job)["redis_sidecar_config_restart_required"]; got != 8 {
		t.Errorf("restart_required is %v", got)
	}

	report, _ := r.report()
	all, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(all), r.log.String()} {
		if strings.Contains(text, "secret") {
			t.Errorf("a secret got out: %s", text)
		}
	}
}

func TestBadFileKeepsTheOldState(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb", "timeout 1"))
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	r := start(t, Options{Path: v.path()}, s.Client(t))
	r.until(status.OK, "", nil)

	v.update(t, conf("maxmemory 200mb", "timeout 5 # seconds", "appendfsync often", "requirepass \"hunter2", "dsn-role master", "evict-on-expire 1", "maxmemroy 3mb"))
	d := r.until(status.Failing, status.ReasonSyntax, atHash(v.path()))
	want := []string{
		`:2: timeout: wrong number of arguments; redis.conf has no trailing comments: put it on a line of its own`,
		`:3: appendfsync: "often" is not a value of it; one of everysec, always, no`,
		`:4: requirepass: unbalanced quotes; close the quote, and put a blank behind it; within "..." a quote is written \"`,
		`:5: dsn-role: unknown directive; no version of Redis that this sidecar knows has it: a replica is made by replicaof <host> <port>; without it a server is a master`,
		`:6: evict-on-expire: unknown directive; no version of Redis that this sidecar knows has it: there is no such switch: expired keys always go; for how eagerly see active-expire-effort`,
		`:7: maxmemroy: unknown directive; did you mean maxmemory?`,
	}
	for i, line := range want {
		if i >= len(d.Problems) || d.Problems[i] != v.path()+line {
			t.Errorf("problems are\n%s\nwant %s", strings.Join(d.Problems, "\n"), line)
			break
		}
	}
	wantValue(t, s, "maxmemory", "104857600")
	report, _ := r.report()
	if want := v.path() + want[0] + " (and 5 more problems)"; report.Message != want {
		t.Errorf("message %q, want %q", report.Message, want)
	}
	m := testenv.Metrics(t, r.job)
	if m["redis_sidecar_config_last_reload_successful"] != 0 || m[`redis_sidecar_config_reloads_total{result="invalid"}`] != 1 {
		t.Errorf("metrics: %v", m)
	}

	v.update(t, conf("maxmemory 200mb"))
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "maxmemory", "209715200")
	wantValue(t, s, "timeout", "0")
	m = testenv.Metrics(t, r.job)
	if m["redis_sidecar_config_last_reload_successful"] != 1 || m[`redis_sidecar_config_reloads_total{result="success"}`] != 2 {
		t.Errorf("metrics: %v", m)
	}
	if strings.Contains(r.log.String(), "hunter2") {
		t.Errorf("a secret got into the log:\n%s", r.log)
	}
}

// A person who corrects a bad file, and not well enough, sees so in the log.
func TestTheNextBadFileIsLoggedToo(t *testing.T) {
	t.Parallel()
	v := newVolume(t, conf("maxmemory 1gb # enough"))
	r := start(t, Options{Path: v.path()}, testenv.StartRedis(t).Client(t))
	says := func(text string, times int) {
		t.Helper()
		testenv.Eventually(t, 10*time.Second, func() error {
			if got := strings.Count(r.log.String(), text); got != times {
				return fmt.Errorf("%q stands %d times, want %d, in:\n%s", text, got, times, r.log)
			}
			return nil
		})
	}
	says("maxmemory: wrong number of arguments", 1)
	v.update(t, conf("maxmemory enough"))
	says("redis.conf:1: maxmemory: ", 2)
	v.update(t, conf("maxmemory 1gb"))
	says("msg=recovered", 1)
}

func TestRefusedValueChangesNothing(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb", "timeout 1"))
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	r := start(t, Options{Path: v.path(), Interval: 50 * time.Millisecond, Patience: time.Hour}, s.Client(t))
	r.until(status.OK, "", nil)

	v.update(t, conf("maxmemory 200mb", `proc-title-template "{nonsense}"`, "timeout 2"))
	d := r.until(status.Failing, status.ReasonRejected, atHash(v.path()))
	report, _ := r.report()
	if want := v.path() + ":2: proc-title-template: CONFIG SET"; !strings.HasPrefix(report.Message, want) {
		t.Errorf("message %q, want %q…", report.Message, want)
	}
	wantValue(t, s, "maxmemory", "104857600")
	wantValue(t, s, "timeout", "1")
	if got := namesOf(d.Drift); got != "maxmemory, proc-title-template, timeout" {
		t.Errorf("not applied: %s", got)
	}

	// It is not sent again at every turn.
	calls := func() string {
		for line := range strings.SplitSeq(s.Do(t, "INFO", "commandstats").(string), "\r\n") {
			if strings.HasPrefix(line, "cmdstat_config|set:") {
				return line
			}
		}
		return ""
	}
	before, reports := calls(), 0
	testenv.Eventually(t, 20*time.Second, func() error {
		if reports = int(count(t, r.board)); reports < 10 {
			return fmt.Errorf("%d failures", reports)
		}
		return nil
	})
	if after := calls(); after != before {
		t.Errorf("CONFIG SET was repeated: %s, then %s", before, after)
	}

	v.update(t, conf("maxmemory 200mb", "timeout 2"))
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "maxmemory", "209715200")
}

// count returns how often the job failed with ReasonRejected.
func count(t *testing.T, b *status.Board) float64 {
	t.Helper()
	return testenv.Metrics(t, status.NewMetrics(b))[`redis_sidecar_job_failures_total{name="config",reason="`+string(status.ReasonRejected)+`"}`]
}

func TestDriftIsReportedAndLeftAlone(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb", "timeout 1"))
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	r := start(t, Options{Path: v.path(), Interval: 50 * time.Millisecond}, s.Client(t))
	r.until(status.OK, "", nil)

	s.Do(t, "CONFIG", "SET", "maxmemory", "300mb")
	d := r.until(status.Warning, status.ReasonDrift, nil)
	if got := namesOf(d.Drift); got != "maxmemory" {
		t.Errorf("drift: %s", got)
	}
	if got := testenv.Metrics(t, r.job)["redis_sidecar_config_drift"]; got != 1 {
		t.Errorf("drift is %v", got)
	}
	wantValue(t, s, "maxmemory", "314572800")

	// Any change of the file puts all of it in force again.
	v.update(t, conf("maxmemory 100mb", "timeout 2"))
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "maxmemory", "104857600")

	// And so does a restart, here of a server that does not read the file.
	s.Do(t, "CONFIG", "SET", "timeout", "99")
	r.until(status.Warning, status.ReasonDrift, nil)
	s.Restart(t)
	r.until(status.OK, "", nil)
	wantValue(t, s, "timeout", "2")
}

func TestServerDownAndRestarted(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb"))
	s := testenv.StartRedis(t) // without the file
	s.Kill(t)
	r := start(t, Options{Path: v.path(), Interval: 100 * time.Millisecond}, s.Client(t))
	r.until(status.Failing, status.ReasonUnreachable, nil)
	s.Start(t)
	r.until(status.OK, "", nil)
	wantValue(t, s, "maxmemory", "104857600")

	s.Kill(t)
	r.until(status.Failing, status.ReasonUnreachable, nil)
	v.update(t, conf("maxmemory 200mb")) // while it is down
	s.Start(t)
	r.until(status.OK, "", nil)
	wantValue(t, s, "maxmemory", "209715200")
}

func TestMissingPermission(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb"))
	s := testenv.StartRedis(t)
	s.Do(t, "ACL", "SETUSER", "sidecar", "on", ">pw", "+info", "+config|get")
	client := redis.New(redis.Options{Addr: s.Addr, Credentials: func() (string, string, error) { return "sidecar", "pw", nil }})
	defer client.Close()
	r := start(t, Options{Path: v.path(), Interval: 20 * time.Millisecond, Patience: time.Second}, client)
	r.until(status.Failing, status.ReasonNoPerm, nil)
	if !strings.Contains(r.log.String(), "needs +config|set") {
		t.Errorf("the log does not name the right:\n%s", r.log)
	}
	s.Do(t, "ACL", "SETUSER", "sidecar", "-config|get", "+config|set")
	r.until(status.Failing, status.ReasonNoPerm, func(Detail) error {
		report, _ := r.report()
		if !strings.HasPrefix(report.Message, "CONFIG GET") {
			return errors.New(report.Message)
		}
		return nil
	})
	s.Do(t, "ACL", "SETUSER", "sidecar", "+config|get")
	r.until(status.OK, "", nil)
	wantValue(t, s, "maxmemory", "104857600")
	// Refused commands are not repeated at every turn of 20 ms.
	if log := s.Do(t, "ACL", "LOG").([]any); len(log) > 8 {
		t.Errorf("ACL LOG has %d entries", len(log))
	}
}

func TestRenamedConfig(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb", `rename-command CONFIG ""`))
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	r := start(t, Options{Path: v.path()}, s.Client(t))
	r.until(status.Failing, status.ReasonUnknownCmd, nil)
	if !strings.Contains(r.log.String(), "rename-command") {
		t.Errorf("the log does not say why:\n%s", r.log)
	}
}

// A Sentinel is told so, once, and is not sent what it does not know.
func TestSentinel(t *testing.T) {
	v := newVolume(t, conf("maxmemory 100mb"))
	s := testenv.StartSentinel(t)
	r := start(t, Options{Path: v.path(), Interval: 20 * time.Millisecond}, s.Client(t))
	r.until(status.Failing, status.ReasonRejected, nil)
	before, _ := r.report()
	if want := "the server is a Sentinel: it has none of the parameters of redis.conf"; before.Message != want {
		t.Errorf("got %q, want %q", before.Message, want)
	}
	testenv.Eventually(t, 10*time.Second, func() error {
		if now, _ := r.report(); now.NextRun.Sub(before.NextRun) < 60*time.Millisecond {
			return errors.New("it does not look again")
		}
		return nil
	})
	in, err := s.Client(t).Info(t.Context(), "stats")
	if err != nil {
		t.Fatal(err)
	}
	if got := in.Get("total_error_replies"); got != "0" {
		t.Errorf("%s error replies", got)
	}
	if n := strings.Count(r.log.String(), "\n"); n != 1 {
		t.Errorf("%d log lines:\n%s", n, r.log)
	}
	if n := testenv.Metrics(t, r.job)[`redis_sidecar_config_reloads_total{result="error"}`]; n != 1 {
		t.Errorf("%v applications counted", n)
	}
}

func TestIncludesAreFollowed(t *testing.T) {
	dir := t.TempDir()
	v := newVolume(t, map[string]string{
		"redis.conf": "include " + dir + "/more.conf\ninclude " + dir + "/conf.d/*.conf\nmaxmemory-samples 3\n",
	})
	writeFile(t, filepath.Join(dir, "more.conf"), "timeout 1\nmaxmemory-samples 9\n")
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := testenv.StartRedisIn(t, t.TempDir(), v.path())
	r := start(t, Options{Path: v.path()}, s.Client(t))
	r.until(status.OK, "", nil)
	wantValue(t, s, "maxmemory-samples", "3")

	// An editor that writes a new file and renames it.
	writeFile(t, filepath.Join(dir, "more.conf.new"), "timeout 2\n")
	if err := os.Rename(filepath.Join(dir, "more.conf.new"), filepath.Join(dir, "more.conf")); err != nil {
		t.Fatal(err)
	}
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "timeout", "2")

	// A file that is written in place, and a new one for the wildcard.
	writeFile(t, filepath.Join(dir, "more.conf"), "timeout 3\n")
	writeFile(t, filepath.Join(dir, "conf.d", "10-a.conf"), "maxmemory 1mb\n")
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "timeout", "3")
	wantValue(t, s, "maxmemory", "1048576")

	// A missing file is fatal for the server, and so it is here.
	if err := os.Remove(filepath.Join(dir, "more.conf")); err != nil {
		t.Fatal(err)
	}
	r.until(status.Failing, status.ReasonFile, nil)
	wantValue(t, s, "timeout", "3")
	writeFile(t, filepath.Join(dir, "more.conf"), "timeout 4\n")
	r.until(status.OK, "", atHash(v.path()))
	wantValue(t, s, "timeout", "4")
}

func TestNoFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "later", "redis.conf")
	s := testenv.StartRedis(t)
	r := start(t, Options{Path: path, Interval: 50 * time.Millisecond}, s.Client(t))
	r.until(status.Failing, status.ReasonFile, nil)
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, "timeout 8\n")
	r.until(status.OK, "", atHash(path)) // it may have been read before all of it was there
	wantValue(t, s, "timeout", "8")
}

func TestMetricsExistFromTheStart(t *testing.T) {
	j := New(Options{Path: "/nowhere"}, nil, nil)
	m := testenv.Metrics(t, j)
	for _, name := range []string{
		`redis_sidecar_config_reloads_total{result="success"}`, `redis_sidecar_config_reloads_total{result="invalid"}`, `redis_sidecar_config_reloads_total{result="rejected"}`,
		`redis_sidecar_config_reloads_total{result="error"}`, "redis_sidecar_config_last_reload_successful",
		"redis_sidecar_config_last_reload_success_timestamp_seconds", "redis_sidecar_config_restart_required", "redis_sidecar_config_drift",
	} {
		if got, ok := m[name]; !ok || got != 0 {
			t.Errorf("%s is %v, %v", name, got, ok)
		}
	}
}
