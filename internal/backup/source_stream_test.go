package backup

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

func fromSource(source string) func(*SnapshotOptions) {
	return func(o *SnapshotOptions) { o.Source = source }
}

// streamClient is a client that has a view of its own of the server.
func streamClient(tb testing.TB, o redis.Options) *redis.Client {
	tb.Helper()
	c := redis.New(o)
	tb.Cleanup(func() { _ = c.Close() })
	return c
}

// A snapshot from the stream holds what the server held, and says of which
// moment, from a server of any kind.
func TestStream(t *testing.T) {
	for name, args := range map[string][]string{
		"diskless":             nil,
		"by the server's disk": {"--repl-diskless-sync", "no"},
		"with a delay":         {"--repl-diskless-sync-delay", "2"}, // by whole seconds of a clock: one at least
		"append-only file":     {"--appendonly", "yes"},
		"without checksums":    {"--rdbchecksum", "no"},
		"no data directory":    {"--rename-command", "CONFIG", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name != "with a delay" {
				args = append([]string{"--repl-diskless-sync-delay", "0"}, args...)
			}
			r := testenv.StartRedis(t, args...)
			r.Fill(t, "key", 5000, 100)
			fillRandom(t, r, 200, 10_000)
			r.Do(t, "SET", "with a ttl", "x", "EX", "86400")
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s, fromSource(SourceStream))
			before := time.Now()
			m := mustSnapshot(t, sn)
			if m.Source != SourceStream || m.SourceReason != "backup.source is stream" || m.RDB.Keys != 5201 || m.RDB.Expires != 1 {
				t.Errorf("manifest %+v", m)
			}
			if m.CreatedAt.Before(before) || m.CreatedAt.After(time.Now()) || m.Durations.Save <= 0 {
				t.Errorf("created at %s, saved for %g s", m.CreatedAt, m.Durations.Save)
			}
			if name == "with a delay" && m.CreatedAt.Sub(before) < 200*time.Millisecond {
				t.Errorf("created %s after the request: that is before the fork", m.CreatedAt.Sub(before))
			}
			if got := serverOf(t, sn.Catalogue(), m).Digest(t); got != r.Digest(t) {
				t.Error("the digests differ")
			}
			// The server has nothing left of it.
			testenv.Eventually(t, 10*time.Second, func() error {
				in := info.Parse(r.Do(t, "INFO").(string))
				if in.Get("connected_slaves") != "0" || busy(in) != "" {
					return fmt.Errorf("%s replicas, busy with %q", in.Get("connected_slaves"), busy(in))
				}
				return nil
			})
			if _, err := os.Stat(r.Dir + "/dump.rdb"); os.IsNotExist(err) == (name == "by the server's disk") {
				t.Errorf("dump.rdb: %v", err)
			}
		})
	}
}

// A snapshot holds all that was confirmed before the request, and nothing that was
// sent after it says it was created.
func TestStreamMoment(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "1")
	fillRandom(t, r, 1000, 1000)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s, fromSource(SourceStream))
	for range 3 {
		var mu sync.Mutex
		var sent []time.Time // of each INCR
		confirmed := 0
		ctx, stop := context.WithCancel(testContext(t))
		var writing sync.WaitGroup
		c := r.Client(t)
		r.Do(t, "DEL", "counter")
		writing.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				sent = append(sent, time.Now())
				mu.Unlock()
				if _, err := c.Do(context.WithoutCancel(ctx), "INCR", "counter"); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				confirmed++
				mu.Unlock()
			}
		})
		testenv.Eventually(t, 10*time.Second, func() error {
			mu.Lock()
			defer mu.Unlock()
			if confirmed < 100 {
				return fmt.Errorf("%d confirmed", confirmed)
			}
			return nil
		})
		mu.Lock()
		least := confirmed
		mu.Unlock()
		m := mustSnapshot(t, sn)
		stop()
		writing.Wait()
		most := 0
		for most < len(sent) && !sent[most].After(m.CreatedAt) {
			most++
		}
		v := serverOf(t, sn.Catalogue(), m).Do(t, "GET", "counter").(string)
		got, err := strconv.Atoi(v)
		if err != nil || got < least || got > most {
			t.Errorf("counter %s, want %d to %d", v, least, most)
		}
		t.Logf("counter %d of %d to %d, %d when it was over", got, least, most, len(sent))
	}
}

// A replica is a source like its master, and stays one.
func TestStreamOfReplica(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	master.Fill(t, "key", 1000, 10)
	replica := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	inSync := func() {
		t.Helper()
		testenv.Eventually(t, 20*time.Second, func() error {
			if n := replica.DBSize(t); n != master.DBSize(t) {
				return fmt.Errorf("the replica has %d keys", n)
			}
			return nil
		})
	}
	inSync()
	master.Do(t, "SET", "key:0", "changed") // the offset moves
	testenv.Eventually(t, 20*time.Second, func() error {
		if v := replica.Do(t, "GET", "key:0"); v != "changed" {
			return fmt.Errorf("key:0 is %v", v)
		}
		return nil
	})
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, replica, s, fromSource(SourceStream), func(o *SnapshotOptions) { o.Role = RoleReplica })
	m := mustSnapshot(t, sn)
	in := info.Parse(master.Do(t, "INFO", "replication").(string))
	if m.Server.Role != "slave" || m.RDB.Keys != 1000 || m.Server.ReplicationID != in.Get("master_replid") || m.Server.ReplicationOffset == 0 {
		t.Errorf("server %+v, %d keys, replication id of the master %s", m.Server, m.RDB.Keys, in.Get("master_replid"))
	}
	master.Do(t, "SET", "one more", "x")
	inSync()
	if got := info.Parse(master.Do(t, "INFO", "stats").(string)).Get("sync_full"); got != "1" {
		t.Errorf("%s full syncs of the replica: the stream has cost it its own", got)
	}
}

// TLS, and a user who has the rights of Permissions and no others.
func TestStreamRights(t *testing.T) {
	cert, key := testenv.Certificate(t, t.TempDir(), "server", time.Now().Add(time.Hour))
	port := testenv.FreePort(t)
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--tls-port", strconv.Itoa(port),
		"--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no")
	r.Fill(t, "key", 1000, 100)
	for _, source := range []string{SourceStream, SourceAuto} {
		rule := []string{"ACL", "SETUSER", source, "reset", "on", ">hush"}
		for _, p := range Permissions(source, RDBCompressionAuto) {
			rule = append(rule, "+"+p)
		}
		r.Do(t, rule...)
		o := redis.Options{
			Addr: "127.0.0.1:" + strconv.Itoa(port), Credentials: func() (string, string, error) { return source, "hush", nil },
			TLS: func() (*tls.Config, error) { return redis.TLSFiles{CA: cert}.Config() },
		}
		s, _ := dirStore(t)
		if m := mustSnapshot(t, newSnapshotterFor(t, streamClient(t, o), s, fromSource(SourceStream))); m.RDB.Keys != 1000 {
			t.Errorf("%d keys", m.RDB.Keys)
		}
	}
	if log := r.Do(t, "ACL", "LOG").([]any); len(log) != 0 {
		t.Errorf("refused: %v", log)
	}
}

// meddling is a server with something done to it just before the stream is asked
// for, or just after.
type meddling struct {
	*redis.Client
	before func()
	during func() // between the request and the fork
}

func (m *meddling) Replicate(ctx context.Context, port int, began func(string, int64)) (io.ReadCloser, error) {
	if m.before != nil {
		m.before()
	}
	if m.during != nil {
		go m.during()
	}
	return m.Client.Replicate(ctx, port, began)
}

// waitFor waits until the server shows a state of a replica in INFO.
func waitFor(tb testing.TB, r *testenv.Redis, text string) {
	tb.Helper()
	testenv.Eventually(tb, 20*time.Second, func() error {
		if in := r.Do(tb, "INFO", "replication").(string); !strings.Contains(in, text) {
			return errors.New(in)
		}
		return nil
	})
}

// Between the request and the fork lies repl-diskless-sync-delay: what is flushed
// in it is no snapshot, whatever the server then holds.
func TestTrapStreamFlushedBeforeFork(t *testing.T) {
	for name, tt := range map[string]struct {
		flush [][]string
		want  string
	}{
		"FLUSHALL":           {[][]string{{"FLUSHALL"}}, "FLUSHALL or FLUSHDB came between the request and the start of the stream"},
		"FLUSHDB":            {[][]string{{"FLUSHDB", "ASYNC"}, {"SET", "a", "1"}}, "FLUSHALL or FLUSHDB came between"},
		"in a script":        {[][]string{{"EVAL", "redis.call('flushall')", "0"}}, "FLUSHALL or FLUSHDB came between"},
		"not to be counted":  {[][]string{{"FLUSHALL"}, {"CONFIG", "RESETSTAT"}}, "the server held 1000 keys at the request and none at the start of the stream"},
		"each key by itself": {[][]string{{"EVAL", "for _, k in ipairs(redis.call('keys', '*')) do redis.call('del', k) end", "0"}}, "the server held 1000 keys at the request and none"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "3600")
			r.Fill(t, "key", 1000, 10)
			s, _ := dirStore(t)
			c := r.Client(t)
			flushed := make(chan error, 1)
			m := &meddling{Client: c, during: func() {
				waitFor(t, r, "state=wait_bgsave")
				_, err := c.Pipeline(testContext(t), append(tt.flush, []string{"CONFIG", "SET", "repl-diskless-sync-delay", "0"})...)
				flushed <- err
			}}
			_, err := newSnapshotterFor(t, m, s, fromSource(SourceStream)).Snapshot(testContext(t), nil)
			if err := <-flushed; err != nil {
				t.Fatal(err)
			}
			wantError(t, err, status.ReasonSave, tt.want)
			wantKeys(t, s)
		})
	}
}

// FLUSHALL while the data is on its way kills the child: the connection ends
// without the mark.
func TestTrapStreamFlushedMeanwhile(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--save", "3600 1")
	fillRandom(t, r, 2000, 1000)
	slowSave(t, r, endless)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s, fromSource(SourceStream))
	_, err := during(t, sn, func() { r.Do(t, "FLUSHALL") })
	wantError(t, err, status.ReasonSave, ": the server ended its stream after ")
	wantKeys(t, s)
}

// What ends the child or the server ends the stream, never with a snapshot, nor
// with a server that refuses writes.
func TestTrapStreamCut(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--save", "3600 1")
	fillRandom(t, r, 2000, 1000)
	slowSave(t, r, 10_000) // the child notices that nobody reads it when it writes
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s, fromSource(SourceStream))
	for name, act := range map[string]func(){
		"the child killed":      func() { killSave(t, r) },
		"the connection killed": func() { r.Do(t, "CLIENT", "KILL", "TYPE", "replica") },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := during(t, sn, act)
			wantError(t, err, status.ReasonSave, ": the server ended its stream after ")
			wantKeys(t, s)
			waitSave(t, r, false)
			r.Do(t, "SET", "a", "1")
		})
	}
	_, err := during(t, sn, func() { r.Kill(t) })
	wantError(t, err, status.ReasonSave, ": the server ended its stream after ")
	wantKeys(t, s)
}

// A disk-based sync that somebody else began after the request may be joined: its
// data is of that moment, and nothing of it is later than the snapshot says.
func TestStreamJoinsOtherSync(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync", "no", "--rdb-key-save-delay", "4000")
	fillRandom(t, r, 1000, 100)
	other := testenv.StartRedis(t)
	s, _ := dirStore(t)
	m := &meddling{Client: r.Client(t)}
	m.before = func() {
		other.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(r.Port))
		waitSave(t, r, true)
		signalSave(t, r, syscall.SIGSTOP) // until it was joined
		r.Fill(t, "later", 1000, 10)
	}
	m.during = func() {
		waitFor(t, r, "connected_slaves:2")
		signalSave(t, r, syscall.SIGCONT)
	}
	before := time.Now()
	sn := newSnapshotterFor(t, m, s, fromSource(SourceStream))
	got := mustSnapshot(t, sn)
	if got.RDB.Keys != 1000 || got.CreatedAt.Before(before) {
		t.Errorf("%d keys, created %s after the request", got.RDB.Keys, got.CreatedAt.Sub(before))
	}
	m.before, m.during = nil, nil
	slowSave(t, r, 0)
	if got := mustSnapshot(t, sn); got.RDB.Keys != 2000 {
		t.Errorf("%d keys", got.RDB.Keys)
	}
}

// A child that does not end, and a server that does not begin.
func TestStreamBusy(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "3600")
	fillRandom(t, r, 300, 100)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s, fromSource(SourceStream), func(o *SnapshotOptions) { o.BusyTimeout = 500 * time.Millisecond })
	_, err := sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSaveBusy, "the server began no stream within 500ms")
	r.Do(t, "CONFIG", "SET", "repl-diskless-sync-delay", "0")
	slowSave(t, r, endless)
	r.Do(t, "BGSAVE")
	_, err = sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSaveBusy, "the server could not save for 500ms: it was busy with a save or the sync of a replica")
	wantKeys(t, s)
	killSave(t, r)
}

// lateRedis connects for the stream when there is no time left for it.
type lateRedis struct{ *redis.Client }

func (r lateRedis) Replicate(ctx context.Context, port int, began func(string, int64)) (io.ReadCloser, error) {
	<-ctx.Done()
	return r.Client.Replicate(ctx, port, began)
}

// Wherever the time runs out, that is what is said.
func TestStreamBusyBeforeItConnects(t *testing.T) {
	r := testenv.StartRedis(t)
	s, _ := dirStore(t)
	sn := newSnapshotterFor(t, lateRedis{r.Client(t)}, s, fromSource(SourceStream), func(o *SnapshotOptions) { o.BusyTimeout = time.Millisecond })
	_, err := sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSaveBusy, "the server began no stream within 1ms")
	wantKeys(t, s)
}

// A Sentinel takes every replica that INFO shows for its own, for ever. It must
// not get to know the sidecar.
func TestTrapStreamSeenBySentinel(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	fillRandom(t, r, 2000, 100)
	if port := shownPort(t, r, nil); port != "0" {
		t.Errorf("port %s is shown where there is no Sentinel", port)
	}
	sentinel := testenv.StartSentinel(t, "sentinel monitor main 127.0.0.1 "+strconv.Itoa(r.Port)+" 1", "sentinel down-after-milliseconds main 60000")
	testenv.Eventually(t, 20*time.Second, func() error {
		if v := r.Do(t, "PUBSUB", "NUMSUB", "__sentinel__:hello").([]any); v[1] != int64(1) {
			return errors.New("the Sentinel is not there yet")
		}
		return nil
	})
	sentinel.Do(t, "SENTINEL", "DEBUG", "INFO-PERIOD", "200") // else it looks every 10 s
	seen := func() {                                          // two looks are over: the second began after the sync
		for range 2 {
			age := infoAge(t, sentinel)
			testenv.Eventually(t, 25*time.Second, func() error {
				now := infoAge(t, sentinel)
				if now >= age {
					age = now
					return errors.New("the Sentinel has not looked")
				}
				return nil
			})
		}
	}
	if port := shownPort(t, r, seen); port != strconv.Itoa(sentinelPort) {
		t.Errorf("port %s is shown where there is a Sentinel", port)
	}
	if port := info.Parse(r.Do(t, "INFO", "replication").(string)).Get("connected_slaves"); port != "0" {
		t.Errorf("%s replicas are left", port)
	}
	if replicas := sentinel.Do(t, "SENTINEL", "REPLICAS", "main").([]any); len(replicas) != 0 {
		t.Errorf("the Sentinel knows %v", replicas)
	}
}

// infoAge returns for how many milliseconds a Sentinel has not looked at its
// master's INFO.
func infoAge(tb testing.TB, sentinel *testenv.Redis) int {
	tb.Helper()
	list := sentinel.Do(tb, "SENTINEL", "MASTER", "main").([]any)
	for i := 0; i+1 < len(list); i += 2 {
		if list[i] == "info-refresh" {
			n, err := strconv.Atoi(list[i+1].(string))
			if err != nil {
				tb.Fatal(err)
			}
			return n
		}
	}
	tb.Fatalf("no info-refresh in %v", list)
	return 0
}

// shownPort takes a snapshot and returns what INFO showed of it meanwhile.
func shownPort(tb testing.TB, r *testenv.Redis, meanwhile func()) string {
	tb.Helper()
	s, _ := dirStore(tb)
	slowSave(tb, r, 1000)
	port := ""
	_, err := during(tb, newTestSnapshotter(tb, r, s, fromSource(SourceStream)), func() {
		in := info.Parse(r.Do(tb, "INFO", "replication").(string))
		_, rest, _ := strings.Cut(in.Get("slave0"), "port=")
		port, _, _ = strings.Cut(rest, ",")
		if meanwhile != nil {
			meanwhile()
		}
	})
	if err != nil {
		tb.Fatal(err)
	}
	return port
}

// The fork is refused: said at once, and other than after a BGSAVE the server goes
// on taking writes.
func TestTrapStreamForkRefused(t *testing.T) {
	if !inChild(t, asNobody()) { // root may have as many processes as it likes
		return
	}
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--save", "3600 1")
	r.Fill(t, "key", 100, 10)
	if err := unix.Prlimit(r.Pid, unix.RLIMIT_NPROC, &unix.Rlimit{}, nil); err != nil {
		t.Fatal(err)
	}
	s, _ := dirStore(t)
	_, err := newTestSnapshotter(t, r, s, fromSource(SourceStream)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSave, "PSYNC: ERR BGSAVE failed, replication can't continue")
	wantKeys(t, s)
	wantWrites(t, r, true)
	// The same by BGSAVE: auto knows that the stream would not fare better.
	_, err = newTestSnapshotter(t, r, s, fromSource(SourceAuto)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonMisconf, "the server refused to save: BGSAVE: ERR")
	wantWrites(t, r, false)
	wantKeys(t, s)
}
