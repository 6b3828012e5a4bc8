package probe_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/probe"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var _ probe.Server = (*redis.Client)(nil)

const (
	started = "ok: the server has answered and was not LOADING"
	alive   = "ok: it answers"
)

// quick is a policy for tests that wait for its limits.
func quick() probe.Policy {
	p := probe.DefaultPolicy()
	p.DeadAfter, p.BusyGrace, p.MaxLag = 3*time.Second, 200*time.Millisecond, time.Second
	return p
}

// monitor runs a Monitor that looks at addr 20 times a second. change may alter
// its options before.
func monitor(t *testing.T, o redis.Options, p probe.Policy, change ...func(*probe.Options)) *probe.Monitor {
	t.Helper()
	return monitorOn(t, status.NewBoard(slog.New(slog.DiscardHandler), nil), o, p, change...)
}

// monitorOn is monitor with the board that it reports to.
func monitorOn(t *testing.T, board *status.Board, o redis.Options, p probe.Policy, change ...func(*probe.Options)) *probe.Monitor {
	t.Helper()
	o.Timeout, o.Name = probe.AskTimeout, "probe"
	fresh := o
	fresh.Timeout = probe.FreshTimeout
	options := probe.Options{
		Interval: 50 * time.Millisecond,
		Policy:   p,
		Fresh: func(ctx context.Context) error {
			c := redis.New(fresh)
			defer c.Close()
			_, err := c.Do(ctx, "PING")
			return err
		},
		FreshEvery: 2,
	}
	for _, c := range change {
		c(&options)
	}
	m := probe.NewMonitor(redis.New(o), options, board.Register(status.Probe, probe.Reasons()...))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("Run did not end within 10 s")
		}
	})
	return m
}

// becomes waits until a probe's line matches a pattern in full.
func becomes(t *testing.T, m *probe.Monitor, k probe.Kind, pattern string) {
	t.Helper()
	re := regexp.MustCompile("^(?:" + pattern + ")$")
	testenv.Eventually(t, 20*time.Second, func() error {
		if line := m.Verdicts().Of(k).Line(k); !re.MatchString(line) {
			return fmt.Errorf("%s: got %q, want %q", k, line, pattern)
		}
		return nil
	})
}

// become waits until the lines of all three probes, of one moment, match their
// patterns in full. A look of 50 ms is missed for the moment whenever the machine is
// busy.
func become(t *testing.T, m *probe.Monitor, startup, liveness, readiness string) {
	t.Helper()
	re := map[probe.Kind]*regexp.Regexp{}
	for k, pattern := range map[probe.Kind]string{probe.Startup: startup, probe.Liveness: liveness, probe.Readiness: readiness} {
		re[k] = regexp.MustCompile("^(?:" + pattern + ")$")
	}
	testenv.Eventually(t, 20*time.Second, func() error {
		v := m.Verdicts()
		for _, k := range probe.Kinds() {
			if line := v.Of(k).Line(k); !re[k].MatchString(line) {
				return fmt.Errorf("%s: got %q, want %q", k, line, re[k])
			}
		}
		return nil
	})
}

// holds checks the present line of a startup probe, which does not change while the
// same server runs.
func holds(t *testing.T, m *probe.Monitor, want string) {
	t.Helper()
	if got := m.Verdicts().Of(probe.Startup).Line(probe.Startup); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestServerHealthyAndGone(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	become(t, m, started, alive, "ok: master")

	r.Kill(t)
	becomes(t, m, probe.Readiness, `not ready: PING: connect: connection refused`)
	becomes(t, m, probe.Startup, `not started: PING: connect: connection refused`)
	becomes(t, m, probe.Liveness, `not alive: no connection for (?:[3-9]|\d\d) s: PING: connect: connection refused`)
	r.Start(t)
	becomes(t, m, probe.Readiness, "ok: master")
	becomes(t, m, probe.Liveness, alive)
}

func TestServerUnixSocket(t *testing.T) {
	t.Parallel()
	path := t.TempDir() + "/redis.sock"
	m := monitor(t, redis.Options{Network: "unix", Addr: path}, quick())
	becomes(t, m, probe.Startup, `not started: PING: connect: no such file or directory`)
	testenv.StartRedis(t, "--unixsocket", path)
	becomes(t, m, probe.Readiness, "ok: master")
}

// big leaves a directory with a dump of n keys.
func big(t *testing.T, n int) *testenv.Redis {
	t.Helper()
	r := testenv.StartRedis(t, "--rdbcompression", "no")
	r.Fill(t, "key", n, 1000)
	r.Do(t, "SAVE")
	r.Stop(t)
	return r
}

func TestServerLoading(t *testing.T) {
	t.Parallel()
	dir := big(t, 20000).Dir
	// 20,000 keys of 1 KB with 1 ms each, a look at the sockets every 16 KiB.
	r := testenv.StartRedisIn(t, dir, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "16384")
	p := quick()
	p.DeadAfter = 200 * time.Millisecond // it answers, however long it takes
	m := monitor(t, redis.Options{Addr: r.Addr}, p)
	becomes(t, m, probe.Startup, `not started: LOADING \d+ %, \d+\.\d [KM]iB of \d+\.\d MiB(, about \d+ s left)?`)
	becomes(t, m, probe.Liveness, `ok: LOADING \d+ %, .*`)
	becomes(t, m, probe.Readiness, `not ready: LOADING \d+ %, .*`)
	r.Do(t, "CONFIG", "SET", "key-load-delay", "0")
	becomes(t, m, probe.Readiness, "ok: master")
	holds(t, m, started)
}

// A server that loads and hardly ever looks at its sockets is not dead.
func TestServerLoadingAnswersSeldom(t *testing.T) {
	t.Parallel()
	dir := big(t, 20000).Dir
	r := testenv.StartRedisIn(t, dir, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "16384")
	p := quick()
	p.DeadAfter, p.LoadingStuck = 100*time.Millisecond, 20*time.Second
	m := monitor(t, redis.Options{Addr: r.Addr}, p)
	becomes(t, m, probe.Startup, `not started: LOADING .*`)
	// From here on about 1,500 keys of 1 ms between two looks at the sockets.
	r.Do(t, "CONFIG", "SET", "loading-process-events-interval-bytes", "1572864")
	for range 2 {
		becomes(t, m, probe.Liveness, `ok: no answer for 1 s, death is declared after 20 s`)
		becomes(t, m, probe.Liveness, `ok: LOADING .*`) // it was its turn to answer
		if v := m.Verdicts(); v.Startup.OK || !v.Liveness.OK || v.Readiness.OK {
			t.Errorf("%+v", v)
		}
	}
}

func TestServerBusy(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--lua-time-limit", "100")
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	becomes(t, m, probe.Readiness, "ok: master")

	ended := make(chan error, 1)
	go func() {
		c := redis.New(redis.Options{Addr: r.Addr, Timeout: time.Minute})
		defer c.Close()
		_, err := c.Do(context.Background(), "EVAL", "while true do end", "0")
		ended <- err
	}()
	becomes(t, m, probe.Readiness, `not ready: BUSY for \d+ s: a script or function runs too long`)
	becomes(t, m, probe.Liveness, `ok: it answers: PING: BUSY Redis is busy running a script. .*`)
	holds(t, m, started)
	r.Do(t, "SCRIPT", "KILL")
	if err := <-ended; !redis.IsReply(err) {
		t.Errorf("EVAL: %v", err)
	}
	becomes(t, m, probe.Readiness, "ok: master")
}

func TestServerStopped(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	becomes(t, m, probe.Readiness, "ok: master")
	r.Signal(t, syscall.SIGSTOP)
	become(t, m, started, `ok: no answer for [0-3] s, death is declared after 3 s`, `not ready: no answer for [0-3] s`)
	become(t, m, started, `not alive: no answer for (?:[3-9]|\d\d) s`, `not ready: no answer for (?:[3-9]|\d\d) s`)
	r.Signal(t, syscall.SIGCONT)
	become(t, m, started, alive, "ok: master")
}

// Run ends at once although a question waits for an answer that does not come.
func TestServerStoppedDoesNotHoldUp(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, probe.DefaultPolicy())
	becomes(t, m, probe.Readiness, "ok: master")
	r.Signal(t, syscall.SIGSTOP)
	becomes(t, m, probe.Readiness, `not ready: no answer for \d+ s`)
	// The clean-up of monitor fails when Run takes long.
}

// pings returns how often PING was called.
func pings(t *testing.T, r *testenv.Redis) int64 {
	t.Helper()
	in, err := r.Client(t).Info(t.Context(), "commandstats")
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(strings.TrimPrefix(in.Get("cmdstat_ping"), "calls="), ",")
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestServerPaused(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, probe.DefaultPolicy())
	becomes(t, m, probe.Readiness, "ok: master")
	r.Do(t, "CLIENT", "PAUSE", "4000", "ALL")
	become(t, m, started, `ok: no answer for \d s, death is declared after 60 s`, `not ready: no answer for \d s`)
	become(t, m, started, alive, "ok: master")

	// Writes wait, reads do not: nothing for a probe to say.
	r.Do(t, "CLIENT", "PAUSE", "60000", "WRITE")
	asked := pings(t, r)
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := pings(t, r) - asked; n < 5 {
			return fmt.Errorf("asked %d times", n)
		}
		return nil
	})
	become(t, m, started, alive, "ok: master")
}

func TestServerPassword(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	becomes(t, m, probe.Readiness, "ok: master")
	r.Do(t, "CONFIG", "SET", "requirepass", "secret")
	// An open connection stays logged in; the next one is not.
	kill := redis.New(redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "", "secret", nil }})
	defer kill.Close()
	if _, err := kill.Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal"); err != nil {
		t.Fatal(err)
	}
	becomes(t, m, probe.Readiness, `ok: as before; PING: NOAUTH .*`)
	holds(t, m, started)
	becomes(t, m, probe.Liveness, `ok: it answers: PING: NOAUTH .*`)

	late := monitor(t, redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "", "wrong", nil }}, quick())
	becomes(t, late, probe.Readiness, `not ready: PING: WRONGPASS invalid username-password pair or user is disabled.`)
	holds(t, late, started)
	becomes(t, late, probe.Liveness, `ok: it answers: PING: WRONGPASS .*`)

	right := monitor(t, redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "", "secret", nil }}, quick())
	becomes(t, right, probe.Readiness, "ok: master")
}

func TestServerPermissions(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	as := func(user string) *probe.Monitor {
		return monitor(t, redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return user, "pw", nil }}, quick())
	}
	r.Do(t, "ACL", "SETUSER", "nothing", "on", ">pw", "-@all")
	r.Do(t, "ACL", "SETUSER", "ping", "on", ">pw", "-@all", "+ping")
	r.Do(t, "ACL", "SETUSER", "info", "on", ">pw", "-@all", "+info")

	m := as("nothing")
	becomes(t, m, probe.Readiness, `not ready: PING: NOPERM .*`)
	holds(t, m, started)
	becomes(t, m, probe.Liveness, `ok: it answers: PING: NOPERM .*`)
	becomes(t, as("ping"), probe.Readiness, "ok: it answers PING; INFO is not permitted, so a replica's lag is not known")
	becomes(t, as("info"), probe.Readiness, "ok: master")

	r.Do(t, "ACL", "SETUSER", "nothing", "+ping", "+info")
	becomes(t, m, probe.Readiness, "ok: master")
}

// A Sentinel answers INFO without the sections of replication, and has no data.
func TestServerSentinel(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t)
	s := testenv.StartSentinel(t, fmt.Sprintf("sentinel monitor mymaster 127.0.0.1 %d 1", master.Port))
	board := status.NewBoard(slog.New(slog.DiscardHandler), nil)
	m := monitorOn(t, board, redis.Options{Addr: s.Addr}, quick(), func(o *probe.Options) { o.Policy.UnreadyOnMisconf = true })
	become(t, m, started, alive, "ok: sentinel")
	testenv.Eventually(t, 10*time.Second, func() error {
		rep, _ := board.Report(status.Probe)
		if d, _ := rep.Detail.(probe.Detail); rep.State != status.OK || rep.Message != "ready: sentinel" || d.Role != probe.Sentinel || d.RunID == "" {
			return fmt.Errorf("%+v", rep)
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
	s.Do(t, "ACL", "SETUSER", "info", "on", ">pw", "-@all", "+info")
	s.Do(t, "ACL", "SETUSER", "ping", "on", ">pw", "-@all", "+ping")
	as := func(user string) *probe.Monitor {
		return monitor(t, redis.Options{Addr: s.Addr, Credentials: func() (string, string, error) { return user, "pw", nil }}, quick())
	}
	becomes(t, as("info"), probe.Readiness, "ok: sentinel")
	becomes(t, as("ping"), probe.Readiness, "ok: it answers PING; INFO is not permitted, so a replica's lag is not known")

	s.Kill(t)
	becomes(t, m, probe.Readiness, "not ready: PING: connect: connection refused")
	becomes(t, m, probe.Liveness, `not alive: no connection for (?:[3-9]|\d\d) s: PING: connect: connection refused`)
}

func TestServerMaxClients(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	// Its connection is never given up for a new one, which it would not get.
	m := monitor(t, redis.Options{Addr: r.Addr}, probe.DefaultPolicy())
	becomes(t, m, probe.Readiness, "ok: master")
	r.Do(t, "CONFIG", "SET", "maxclients", "1")
	become(t, m, started, alive, `ok: master; new connections are refused: PING: ERR max number of clients reached`)

	late := monitor(t, redis.Options{Addr: r.Addr}, quick())
	become(t, late, started, `ok: it answers: PING: ERR max number of clients reached`, `not ready: PING: ERR max number of clients reached`)
}

func TestServerMisconf(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--save", "3600 1")
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	choosy := quick()
	choosy.UnreadyOnMisconf = true
	strict := monitor(t, redis.Options{Addr: r.Addr}, choosy)
	becomes(t, m, probe.Readiness, "ok: master")
	// A file mode would not stop root, so the directory goes.
	if err := os.RemoveAll(r.Dir); err != nil {
		t.Fatal(err)
	}
	r.Do(t, "BGSAVE")
	becomes(t, m, probe.Readiness, "ok: master; MISCONF: the last save failed, writes are refused")
	becomes(t, strict, probe.Readiness, "not ready: MISCONF: the last save failed, writes are refused")
	becomes(t, m, probe.Liveness, `ok: it answers: PING: MISCONF Redis is configured to save RDB snapshots.*`)
	r.Do(t, "CONFIG", "SET", "save", "")
	becomes(t, strict, probe.Readiness, "ok: master")
}

// replicaOf starts a replica of r.
func replicaOf(t *testing.T, r *testenv.Redis, args ...string) *testenv.Redis {
	t.Helper()
	return testenv.StartRedis(t, append([]string{"--replicaof", "127.0.0.1 " + strconv.Itoa(r.Port)}, args...)...)
}

func TestServerReplica(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	strict := replicaOf(t, r, "--replica-serve-stale-data", "no")
	lax := replicaOf(t, r)
	stale, patient := quick(), quick()
	stale.AllowStale = true
	patient.MaxLag = time.Minute
	mp := monitor(t, redis.Options{Addr: lax.Addr}, patient)
	ms, ml := monitor(t, redis.Options{Addr: strict.Addr}, quick()), monitor(t, redis.Options{Addr: lax.Addr}, quick())
	mo := monitor(t, redis.Options{Addr: lax.Addr}, stale)
	for _, m := range []*probe.Monitor{ms, ml, mo, mp} {
		becomes(t, m, probe.Readiness, "ok: replica, in touch with its master")
	}
	r.Kill(t)
	becomes(t, ms, probe.Readiness, "not ready: MASTERDOWN: the link to the master is down and replica-serve-stale-data is no")
	becomes(t, ms, probe.Liveness, `ok: it answers: PING: MASTERDOWN .*`)
	becomes(t, mp, probe.Readiness, `ok: replica, the link to the master is down for \d+ s, allowed are 60 s`)
	become(t, ml, started, alive, `not ready: the link to the master is down for \d+ s, more than 1 s`)
	becomes(t, mo, probe.Readiness, `ok: replica, serving stale data: the link to the master is down for \d+ s`)
	r.Start(t)
	for _, m := range []*probe.Monitor{ms, ml, mo, mp} {
		becomes(t, m, probe.Readiness, "ok: replica, in touch with its master")
	}
}

// copyOf makes r a replica of master, whose copy stops after 100 KB until the
// returned function is called.
func copyOf(t *testing.T, r, master *testenv.Redis) (goOn func()) {
	t.Helper()
	link := testenv.StartProxy(t, master.Addr)
	link.Set(testenv.Fault{Kind: testenv.Hang, AfterDownload: 100 << 10})
	_, port, _ := strings.Cut(link.Addr, ":")
	r.Do(t, "REPLICAOF", "127.0.0.1", port)
	return func() { link.Set(testenv.Fault{}) }
}

func TestServerFirstFullSync(t *testing.T) {
	t.Parallel()
	master := func(diskless string) *testenv.Redis {
		r := testenv.StartRedis(t, "--repl-diskless-sync", diskless, "--repl-diskless-sync-delay", "0", "--rdbcompression", "no")
		r.Fill(t, "key", 1000, 1000)
		return r
	}
	p := quick()
	p.AllowStale = true // does not make a replica without data ready
	for _, tc := range []struct{ diskless, copying string }{
		{"no", `not ready: first full copy from the master: \d+ %, \d+\.\d KiB of \d+\.\d [KM]iB`},
		{"yes", `not ready: first full copy from the master: \d+\.\d KiB`}, // of nobody knows how much
	} {
		replica := testenv.StartRedis(t)
		goOn := copyOf(t, replica, master(tc.diskless))
		m := monitor(t, redis.Options{Addr: replica.Addr}, p)
		become(t, m, started, alive, tc.copying)
		goOn()
		becomes(t, m, probe.Readiness, "ok: replica, in touch with its master")

		// Another full copy later: it serves what it has.
		goOn = copyOf(t, replica, master(tc.diskless))
		becomes(t, m, probe.Readiness, `ok: replica, serving stale data: the link to the master is down for \d+ s`)
		testenv.Eventually(t, 20*time.Second, func() error {
			if in := replica.Do(t, "INFO", "replication").(string); !strings.Contains(in, "master_sync_in_progress:1") {
				return errors.New("no copy runs: " + in)
			}
			return nil
		})
		becomes(t, m, probe.Readiness, `ok: replica, serving stale data: the link to the master is down for \d+ s`)
		goOn()
		becomes(t, m, probe.Readiness, "ok: replica, in touch with its master")
	}
}

// A replica that has no copy yet, while the master prepares one.
func TestServerWaitsForItsFirstCopy(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--repl-diskless-sync", "no")
	r.Fill(t, "key", 1000, 10)
	r.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "60000") // µs: the child takes a minute
	m := monitor(t, redis.Options{Addr: replicaOf(t, r).Addr}, quick())
	become(t, m, started, alive, "not ready: first full copy from the master")
	r.Do(t, "FLUSHALL") // ends the child, too
}

func TestServerCluster(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "500")
	// The user of docs/probes.md.
	r.Do(t, "ACL", "SETUSER", "sidecar", "on", ">pw", "+ping", "+info", "+cluster|info", "+client|setname")
	m := monitor(t, redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "sidecar", "pw", nil }}, quick())
	becomes(t, m, probe.Readiness, "ok: master; the cluster is not formed yet")
	r.Do(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	becomes(t, m, probe.Readiness, "ok: master, cluster ok")
	r.Do(t, "CLUSTER", "DELSLOTS", "7")
	become(t, m, started, alive, "not ready: cluster_state is fail, it was ok before")
	r.Do(t, "CLUSTER", "ADDSLOTS", "7")
	becomes(t, m, probe.Readiness, "ok: master, cluster ok")
}

// What a user may not ask is not asked at every look.
func TestServerCountsFewRefusals(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ rules, counted, line string }{
		{"+info", "cmdstat_info", "ok: master"},
		{"+ping", "cmdstat_ping", "ok: it answers PING; INFO is not permitted, so a replica's lag is not known"},
	} {
		t.Run(tc.rules, func(t *testing.T) {
			t.Parallel()
			r := testenv.StartRedis(t)
			r.Do(t, "ACL", "SETUSER", "app", "on", ">pw", "-@all", tc.rules)
			m := monitor(t, redis.Options{Addr: r.Addr, Credentials: func() (string, string, error) { return "app", "pw", nil }}, quick(),
				func(o *probe.Options) { o.Fresh = nil })
			becomes(t, m, probe.Readiness, tc.line)
			c := r.Client(t)
			count := func() (calls, refused int64) {
				in, err := c.Info(t.Context(), "all")
				if err != nil {
					t.Fatal(err)
				}
				text, _, _ := strings.Cut(strings.TrimPrefix(in.Get(tc.counted), "calls="), ",")
				calls, _ = strconv.ParseInt(text, 10, 64)
				refused, _ = in.Int("total_error_replies")
				return calls, refused
			}
			calls, refused := count()
			testenv.Eventually(t, 10*time.Second, func() error {
				if now, _ := count(); now < calls+40 {
					return errors.New("not asked often enough yet")
				}
				return nil
			})
			if _, now := count(); now > refused+1 {
				t.Errorf("%d commands were refused meanwhile", now-refused)
			}
			becomes(t, m, probe.Readiness, tc.line)
		})
	}
}

// The server's own statistics of errors must not count our questions.
func TestServerCountsNoErrors(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	becomes(t, m, probe.Readiness, "ok: master")
	c := r.Client(t)
	testenv.Eventually(t, 10*time.Second, func() error {
		in, err := c.Info(t.Context(), "commandstats")
		if err != nil {
			return err
		}
		if !strings.HasPrefix(in.Get("cmdstat_ping"), "calls=") || strings.HasPrefix(in.Get("cmdstat_ping"), "calls=1,") {
			return errors.New("not asked twice yet")
		}
		return nil
	})
	in, err := c.Info(t.Context(), "stats")
	if err != nil {
		t.Fatal(err)
	}
	if got := in.Get("total_error_replies"); got != "0" {
		t.Errorf("total_error_replies is %s", got)
	}
}

func TestServerThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Listener.Close()
	web.Listener = l
	web.Start()
	defer web.Close()
	m := monitor(t, redis.Options{Addr: l.Addr().String()}, quick())
	becomes(t, m, probe.Liveness, `ok: cannot ask the server, which is no proof of death: .*`)
	becomes(t, m, probe.Readiness, `not ready: cannot ask the server: .*`)

	m = monitor(t, redis.Options{Addr: "redis.invalid:6379"}, quick())
	becomes(t, m, probe.Liveness, `ok: cannot ask the server, which is no proof of death: PING: lookup redis.invalid.*`)
}

func TestOnce(t *testing.T) {
	t.Parallel()
	const patience = 20 * time.Second
	look := func(t *testing.T, addr string, timeout time.Duration) probe.Verdicts {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		c := redis.New(redis.Options{Addr: addr})
		defer c.Close()
		return probe.Once(ctx, c, probe.DefaultPolicy())
	}
	is := func(t *testing.T, v probe.Verdicts, startup, liveness, readiness string) {
		t.Helper()
		for k, want := range map[probe.Kind]string{probe.Startup: startup, probe.Liveness: liveness, probe.Readiness: readiness} {
			if got := v.Of(k).Line(k); !regexp.MustCompile("^" + want + "$").MatchString(got) {
				t.Errorf("%s: got %q, want %q", k, got, want)
			}
		}
	}
	r := testenv.StartRedis(t)
	is(t, look(t, r.Addr, patience), started, alive, "ok: master")
	r.Signal(t, syscall.SIGSTOP)
	is(t, look(t, r.Addr, 300*time.Millisecond), "not started: no answer in time",
		"ok: no answer, but one look cannot tell a hung server from a busy one", "not ready: no answer in time")
	r.Signal(t, syscall.SIGCONT)
	r.Kill(t)
	refused := "PING: connect: connection refused"
	is(t, look(t, r.Addr, patience), "not started: "+refused, "not alive: "+refused, "not ready: "+refused)

	cluster := testenv.StartRedis(t, "--cluster-enabled", "yes")
	is(t, look(t, cluster.Addr, patience), started, alive, "ok: master; the cluster is not formed yet")
	is(t, look(t, testenv.StartSentinel(t).Addr, patience), started, alive, "ok: sentinel")
}

func TestHandlersAskAndMetrics(t *testing.T) {
	t.Parallel()
	r := testenv.StartRedis(t)
	m := monitor(t, redis.Options{Addr: r.Addr}, quick())
	becomes(t, m, probe.Readiness, "ok: master")

	mux := http.NewServeMux()
	for _, k := range probe.Kinds() {
		mux.Handle(k.Path(), m.Handler(k))
	}
	srv := httptest.NewServer(mux)
	defer srv.Close()
	answers := func(k probe.Kind, code int, body string) error {
		t.Helper()
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, k.Path(), nil))
		if h := rec.Header(); h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s: header %v", k, h)
		}
		if rec.Code != code || !regexp.MustCompile("^"+body+"\n$").MatchString(rec.Body.String()) {
			return fmt.Errorf("%s: got %d %q, want %d %q", k, rec.Code, rec.Body, code, body)
		}
		return nil
	}
	ask := func(k probe.Kind) probe.Verdict {
		t.Helper()
		v, err := probe.Ask(t.Context(), nil, srv.URL, k)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	const want = `redis_sidecar_probe_unanswered_seconds 0
redis_sidecar_probe_verdict{probe="liveness"} 1
redis_sidecar_probe_verdict{probe="readiness"} 1
redis_sidecar_probe_verdict{probe="startup"} 1
`
	testenv.Eventually(t, 20*time.Second, func() error { // between two looks one answer may be late
		err := errors.Join(answers(probe.Startup, 200, started), answers(probe.Liveness, 200, alive), answers(probe.Readiness, 200, "ok: master"))
		if got, want := ask(probe.Readiness), (probe.Verdict{OK: true, Reason: probe.ReasonOK, Message: "master"}); got != want {
			err = errors.Join(err, fmt.Errorf("Ask: got %+v, want %+v", got, want))
		}
		if diff := cmp.Diff(want, testenv.MetricsText(t, probe.NewMetrics(m))); diff != "" {
			err = errors.Join(err, fmt.Errorf("metrics (-want +got):\n%s", diff))
		}
		return err
	})

	r.Signal(t, syscall.SIGSTOP)
	becomes(t, m, probe.Liveness, `not alive: no answer for \d+ s`)
	start := time.Now()
	if err := errors.Join(answers(probe.Startup, 200, started), answers(probe.Liveness, 503, `not alive: no answer for \d+ s`),
		answers(probe.Readiness, 503, `not ready: no answer for \d+ s`)); err != nil {
		t.Error(err)
	}
	if v := ask(probe.Liveness); v.OK || !strings.HasPrefix(v.Message, "no answer for ") {
		t.Errorf("Ask: %+v", v)
	}
	if took := time.Since(start); took > 4*time.Second {
		t.Errorf("the answers about a stopped server took %s", took)
	}

	rec := httptest.NewRecorder()
	mux.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, "/livez", nil))
	if rec.Code != http.StatusMethodNotAllowed || rec.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", rec.Code, rec.Header())
	}
}

func TestAskNoSidecar(t *testing.T) {
	t.Parallel()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	}))
	_, err := probe.Ask(t.Context(), nil, srv.URL, probe.Liveness)
	if want := "ask the sidecar: " + srv.URL + "/livez: not the answer of a redis-sidecar: 200 OK"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	srv.Close()
	if _, err := probe.Ask(t.Context(), nil, srv.URL, probe.Liveness); err == nil || !strings.HasPrefix(err.Error(), "ask the sidecar: ") {
		t.Errorf("got %v", err)
	}
}
