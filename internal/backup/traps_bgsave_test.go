package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// The traps of a save. In each of them INFO says that all is well, or says it a
// moment later.

// The child is killed from the outside, as by the OOM killer.
func TestTrapChildKilled(t *testing.T) {
	for _, points := range []string{"", "3600 1"} {
		t.Run("save "+strconv.Quote(points), func(t *testing.T) {
			r := testenv.StartRedis(t, "--save", points)
			fillRandom(t, r, 300, 1000)
			slowSave(t, r, endless)
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s)
			_, err := during(t, sn, func() { killSave(t, r) })
			reason := status.ReasonSave
			if points != "" {
				reason = status.ReasonMisconf
			}
			wantError(t, err, reason, "snapshot: the save failed after ")
			if got := errors.Is(err, errWritesRefused); got != (points != "") {
				t.Errorf("writes refused: %v: %v", got, err)
			}
			// The warning is true.
			_, err = r.Client(t).Do(testContext(t), "SET", "a", "1")
			if got := status.ReasonOf(err) == status.ReasonMisconf; got != (points != "") {
				t.Errorf("SET after the failed save: %v", err)
			}
			wantKeys(t, s)
			slowSave(t, r, 0)
			mustSnapshot(t, sn)
			r.Do(t, "SET", "a", "1")
		})
	}
}

// FLUSHALL kills the child, rdb_last_bgsave_status stays ok, and with save points
// an empty dump.rdb is written at once.
func TestTrapFlushAll(t *testing.T) {
	for _, points := range []string{"", "3600 1"} {
		t.Run("save "+strconv.Quote(points), func(t *testing.T) {
			r := testenv.StartRedis(t, "--save", points)
			fillRandom(t, r, 300, 1000)
			slowSave(t, r, endless)
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s)
			_, err := during(t, sn, func() { r.Do(t, "FLUSHALL") })
			wantError(t, err, status.ReasonSave, "snapshot: the server stopped its save after ")
			wantKeys(t, s)
			slowSave(t, r, 0)
			if m := mustSnapshot(t, sn); m.RDB.Keys != 0 {
				t.Errorf("%d keys after FLUSHALL", m.RDB.Keys)
			}
		})
	}
}

// Somebody else's BGSAVE runs: its file is not taken, the next one is.
func TestTrapOtherSave(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 200, 10)
	slowSave(t, r, 3000)
	r.Do(t, "BGSAVE")
	r.Do(t, "SET", "after", "x")
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	if m.RDB.Keys != 201 {
		t.Errorf("%d keys, want the 201 of after the other save", m.RDB.Keys)
	}
}

// So does a rewrite of the append-only file.
func TestTrapRewrite(t *testing.T) {
	r := testenv.StartRedis(t, "--appendonly", "yes")
	r.Fill(t, "key", 200, 10)
	slowSave(t, r, 3000)
	busyWith(t, r, "BGREWRITEAOF")
	s, _ := dirStore(t)
	if m := mustSnapshot(t, newTestSnapshotter(t, r, s)); m.RDB.Keys != 200 {
		t.Errorf("%d keys", m.RDB.Keys)
	}
}

// The diskless sync of a replica looks like a save and writes no file.
func TestTrapDisklessSync(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
	r.Fill(t, "key", 400, 10)
	slowSave(t, r, 10_000)
	replica := testenv.StartRedis(t)
	replica.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(r.Port)) // when it runs: the time that its start takes is none of the sync's
	waitSave(t, r, true)
	for _, command := range [][]string{{"BGSAVE"}, {"BGSAVE", "SCHEDULE"}} {
		if reply, err := r.Client(t).Do(testContext(t), command...); err == nil || !strings.Contains(err.Error(), "already in progress") {
			t.Errorf("%q: %v, %v", command, reply, err)
		}
	}
	s, _ := dirStore(t)

	_, err := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.BusyTimeout = 200 * time.Millisecond }).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSaveBusy, "snapshot: the server could not save for 200ms: it was busy with a save or the sync of a replica")
	wantKeys(t, s)

	slowSave(t, r, 0)
	if m := mustSnapshot(t, newTestSnapshotter(t, r, s)); m.RDB.Keys != 400 {
		t.Errorf("%d keys", m.RDB.Keys)
	}
}

// waitingRedis calls act once, when the server is first asked whether it is busy:
// after its role was found to be the right one, before its save.
type waitingRedis struct {
	*redis.Client
	act func()
}

func (r *waitingRedis) Do(ctx context.Context, args ...string) (any, error) {
	if act := r.act; act != nil && len(args) == 2 && args[1] == "persistence" {
		r.act = nil
		act()
	}
	return r.Client.Do(ctx, args...)
}

// A master that becomes the replica of somebody else while the snapshot waits for
// its turn has somebody else's data soon, or none: that must not become the
// latest.
func TestTrapRoleLostWhileWaiting(t *testing.T) {
	for role, want := range map[Role]string{
		RoleMaster: "no snapshot is taken of this server: it is a replica",
		RoleAny:    "this replica is not connected to its master",
	} {
		t.Run(string(role), func(t *testing.T) {
			r := testenv.StartRedis(t)
			s, _ := dirStore(t)
			q := &waitingRedis{Client: r.Client(t), act: func() { r.Do(t, "REPLICAOF", "127.0.0.1", "1") }}
			m, err := newSnapshotterFor(t, q, s, func(o *SnapshotOptions) { o.Role = role }).Snapshot(testContext(t), nil)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("snapshot %s of a %s, %v, want an error: %s", m.ID, m.Server.Role, err, want)
			}
			wantKeys(t, s)
		})
	}
}

// A server that restarts during its save counts from 0 again.
func TestTrapServerRestarts(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	slowSave(t, r, 5000)
	s, _ := dirStore(t)
	_, err := during(t, newTestSnapshotter(t, r, s), func() {
		r.Kill(t)
		r.Start(t)
	})
	if status.ReasonOf(err) != status.ReasonSave {
		t.Errorf("reason %s: %v", status.ReasonOf(err), err)
	}
	wantKeys(t, s)
}

// A server that is killed during its save and does not come back is named as what
// is gone, and one that hangs as what does not answer.
func TestTrapServerIsGone(t *testing.T) {
	for name, tt := range map[string]struct {
		act    func(*testenv.Redis)
		reason status.Reason
		want   string
	}{
		"killed":  {func(r *testenv.Redis) { r.Kill(t) }, status.ReasonUnreachable, "snapshot: redis-server is gone: it said nothing for 500ms during the save: INFO persistence: "},
		"stopped": {func(r *testenv.Redis) { r.Signal(t, syscall.SIGSTOP) }, status.ReasonTimeout, "snapshot: redis-server does not answer: it said nothing for 500ms during the save: INFO persistence: "},
	} {
		t.Run(name, func(t *testing.T) {
			r := testenv.StartRedis(t)
			fillRandom(t, r, 300, 1000)
			slowSave(t, r, 5000)
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s)
			sn.patience = 500 * time.Millisecond
			_, err := during(t, sn, func() { tt.act(r) })
			wantError(t, err, tt.reason, tt.want)
			if !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("%v", err)
			}
			wantKeys(t, s)
		})
	}
}

// A pod that is killed leaves temp-<pid>.rdb of its save for ever: such files are
// not taken for those of the next save.
func TestTrapTempFileStays(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 100, 10)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	mustSnapshot(t, sn)
	old, err := os.ReadFile(filepath.Join(r.Dir, "dump.rdb"))
	if err != nil {
		t.Fatal(err)
	}
	slowSave(t, r, endless)
	r.Do(t, "BGSAVE")
	waitTempFile(t, r)
	r.Signal(t, syscall.SIGSTOP) // so that nobody cleans up
	killSave(t, r)
	r.Kill(t)
	r.Start(t)
	if left, err := filepath.Glob(filepath.Join(r.Dir, "temp-*.rdb")); err != nil || len(left) != 1 {
		t.Errorf("left behind: %q, %v, want one file", left, err)
	}
	for _, name := range []string{"temp-99999.rdb", "temp-1.rdb", fmt.Sprintf("temp-%d.rdb", r.Pid), "temp-1700000000.42.rdb", "temp-.rdb"} {
		r.WriteFile(t, name, string(old))
	}
	r.Do(t, "SET", "one more", "x")
	for range 5 {
		if m := mustSnapshot(t, sn); m.RDB.Keys != 101 {
			t.Fatalf("%d keys, want 101", m.RDB.Keys)
		}
	}
}

// quickRedis is a real server whose BGSAVE seems to be over before the reply
// comes: it is held back until the file was renamed.
type quickRedis struct {
	*redis.Client
	tb     testing.TB
	dump   string
	meddle func() // called then
}

func (q *quickRedis) Pipeline(ctx context.Context, cmds ...[]string) ([]any, error) {
	before, err := os.Stat(q.dump)
	if err != nil {
		return nil, err
	}
	replies, err := q.Client.Pipeline(ctx, cmds...)
	if len(cmds) > 1 && cmds[1][0] == "BGSAVE" {
		testenv.Eventually(q.tb, 10*time.Second, func() error {
			now, err := os.Stat(q.dump)
			if err == nil && os.SameFile(before, now) {
				err = errors.New("dump.rdb is still the old one")
			}
			return err
		})
		if q.meddle != nil {
			q.meddle()
		}
	}
	return replies, err
}

// The number of an inode is used again by a later file, so another number is no
// proof of another file, nor the same of the same. A save that is over before
// anybody looks is found by the rename that inotify saw; a dump.rdb that somebody
// else wrote after it is not.
func TestTrapInodeReused(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Do(t, "SET", "a", "1")
	r.Do(t, "SAVE")
	s, _ := dirStore(t)
	q := &quickRedis{Client: r.Client(t), tb: t, dump: filepath.Join(r.Dir, "dump.rdb")}
	sn := newSnapshotterFor(t, q, s)
	for i := range 10 {
		r.Do(t, "SET", "round", strconv.Itoa(i))
		m := mustSnapshot(t, sn)
		if got := roundOf(t, sn.Catalogue(), m); got != strconv.Itoa(i) {
			t.Fatalf("round %d: the snapshot is of round %s", i, got)
		}
	}

	// The same, but a SAVE or a FLUSHALL with save points comes after it.
	for name, meddle := range map[string]func(){
		"SAVE": func() {
			r.Do(t, "SET", "round", "-1")
			waitSave(t, r, false) // SAVE is refused before the server has noticed the end of the child
			r.Do(t, "SAVE")
		},
		"FLUSHALL": func() {
			r.Do(t, "CONFIG", "SET", "save", "3600 1")
			r.Do(t, "FLUSHALL")
			r.Do(t, "CONFIG", "SET", "save", "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			r.Do(t, "SET", "round", "7")
			rounds := 0
			q.meddle = func() { rounds++; meddle() }
			m, err := sn.Snapshot(testContext(t), nil)
			wantError(t, err, status.ReasonSave, "the save was over before its file was seen in "+r.Dir+", 3 times")
			if rounds != 3 {
				t.Errorf("%d tries, snapshot %s", rounds, m.ID)
			}
		})
	}
}

// persistence returns INFO persistence.
func persistence(tb testing.TB, r *testenv.Redis) info.Info {
	tb.Helper()
	in, err := askInfo(testContext(tb), r.Client(tb), "persistence")
	if err != nil {
		tb.Fatal(err)
	}
	return in
}

// wantInfo checks fields of INFO persistence, given as name and value.
func wantInfo(tb testing.TB, r *testenv.Redis, fields ...string) {
	tb.Helper()
	in := persistence(tb, r)
	for i := 0; i < len(fields); i += 2 {
		if got := in.Get(fields[i]); got != fields[i+1] {
			tb.Errorf("%s:%s, want %s", fields[i], got, fields[i+1])
		}
	}
}

// A server that has never saved says that its last save was well, and a moment
// ago, and there is no file.
func TestTrapFreshServer(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	wantInfo(t, r, "rdb_last_bgsave_status", "ok", "rdb_bgsave_in_progress", "0")
	if last := r.Do(t, "LASTSAVE").(int64); time.Since(time.Unix(last, 0)) > time.Minute {
		t.Errorf("LASTSAVE %d is not the start of the server", last)
	}
	if exists(filepath.Join(r.Dir, "dump.rdb")) {
		t.Error("there is a dump.rdb")
	}
	slowSave(t, r, endless)
	s, _ := dirStore(t)
	_, err := during(t, newTestSnapshotter(t, r, s), func() { r.Do(t, "FLUSHALL") })
	wantError(t, err, status.ReasonSave, "the server stopped its save after ")
	wantInfo(t, r, "rdb_last_bgsave_status", "ok")
	wantKeys(t, s)
}

// Two saves in one second have one LASTSAVE: the second does not show by it.
func TestTrapTwoSavesInOneSecond(t *testing.T) {
	r := testenv.StartRedis(t)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	const tries = 50
	for try := 0; ; try++ {
		if try == tries {
			t.Fatalf("no two of %d pairs of saves were in one second", tries)
		}
		r.Do(t, "SET", "round", strconv.Itoa(2*try))
		first := mustSnapshot(t, sn)
		before := r.Do(t, "LASTSAVE")
		r.Do(t, "SET", "round", strconv.Itoa(2*try+1))
		second := mustSnapshot(t, sn)
		for i, m := range []Manifest{first, second} {
			if got, want := roundOf(t, sn.Catalogue(), m), strconv.Itoa(2*try+i); got != want {
				t.Fatalf("the snapshot is of round %s, want %s", got, want)
			}
		}
		if r.Do(t, "LASTSAVE") == before {
			return
		}
	}
}

// rdb_saves counts the saves that were begun: it rises for one that fails.
func TestTrapSavesCountsStarts(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	slowSave(t, r, endless)
	s, _ := dirStore(t)
	_, err := during(t, newTestSnapshotter(t, r, s), func() { killSave(t, r) })
	wantError(t, err, status.ReasonSave, "the save failed after ")
	wantInfo(t, r, "rdb_saves", "1", "rdb_last_bgsave_status", "err")
	wantKeys(t, s)
}

// Everything that INFO, LASTSAVE and the directory show says that the save is
// well: the status is ok, LASTSAVE has moved on, no other save was begun, dump.rdb
// is a new file. It is what FLUSHALL has written, an RDB without keys.
func TestTrapInfoCannotAnswer(t *testing.T) {
	r := testenv.StartRedis(t, "--save", "3600 1")
	fillRandom(t, r, 300, 1000)
	slowSave(t, r, endless)
	s, _ := dirStore(t)
	var saves string
	_, err := during(t, newTestSnapshotter(t, r, s), func() {
		saves = persistence(t, r).Get("rdb_saves")
		r.Do(t, "FLUSHALL")
	})
	wantError(t, err, status.ReasonSave, "the server stopped its save after ")
	wantInfo(t, r, "rdb_last_bgsave_status", "ok", "rdb_bgsave_in_progress", "0", "rdb_saves", saves)
	if last := r.Do(t, "LASTSAVE").(int64); time.Since(time.Unix(last, 0)) > 10*time.Second {
		t.Errorf("LASTSAVE %d", last)
	}
	if st, err := os.Stat(filepath.Join(r.Dir, "dump.rdb")); err != nil || st.Size() == 0 || st.Size() > 1000 {
		t.Errorf("dump.rdb: %v, %v, want the empty one that FLUSHALL writes", st, err)
	}
	wantKeys(t, s)
}

// A replica that is told of another master, or resyncs with its own, kills its
// child like FLUSHALL does, and then has another data set.
func TestTrapFullResync(t *testing.T) {
	const diskless = "--repl-diskless-sync-delay"
	first, second := testenv.StartRedis(t, diskless, "0"), testenv.StartRedis(t, diskless, "0")
	fillRandom(t, first, 300, 1000)
	second.Do(t, "SET", "other", "data")
	replica := testenv.StartRedis(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(first.Port))
	linkUp := func() error {
		in, err := askInfo(testContext(t), replica.Client(t), "replication")
		if err == nil && in.Get("master_link_status") != "up" {
			err = errors.New("the link is not up")
		}
		return err
	}
	testenv.Eventually(t, 20*time.Second, linkUp)
	slowSave(t, replica, endless)
	s, _ := dirStore(t)
	_, err := during(t, newTestSnapshotter(t, replica, s, func(o *SnapshotOptions) { o.Role = RoleAny }), func() {
		replica.Do(t, "REPLICAOF", "127.0.0.1", strconv.Itoa(second.Port))
		testenv.Eventually(t, 20*time.Second, linkUp)
	})
	wantError(t, err, status.ReasonSave, "the server stopped its save after ")
	wantInfo(t, replica, "rdb_last_bgsave_status", "ok")
	wantKeys(t, s)
}

// multiRedis sends BGSAVE as a transaction.
type multiRedis struct{ *redis.Client }

func (m multiRedis) Pipeline(ctx context.Context, cmds ...[]string) ([]any, error) {
	if len(cmds) < 2 || cmds[1][0] != "BGSAVE" {
		return m.Client.Pipeline(ctx, cmds...)
	}
	wrapped := append([][]string{cmds[0], {"MULTI"}, {"BGSAVE"}, {"EXEC"}}, cmds[2:]...)
	replies, err := m.Client.Pipeline(ctx, wrapped...)
	if err != nil {
		return nil, err
	}
	exec, ok := replies[3].([]any)
	if !ok || len(exec) != 1 {
		return nil, fmt.Errorf("EXEC: %v", replies[3])
	}
	return append([]any{replies[0], exec[0]}, replies[4:]...), nil
}

// In MULTI a BGSAVE is only scheduled: what then runs is a save of a later moment.
// Only a save that has started is taken.
func TestTrapBGSaveInMulti(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 100, 10)
	s, _ := dirStore(t)
	_, err := newSnapshotterFor(t, multiRedis{r.Client(t)}, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSave, `BGSAVE: "Background saving scheduled"`)
	wantKeys(t, s)
	waitSave(t, r, false)
	if m := mustSnapshot(t, newTestSnapshotter(t, r, s)); m.RDB.Keys != 100 {
		t.Errorf("%d keys", m.RDB.Keys)
	}
}

// A save whose file cannot be renamed to dump.rdb: with save points the server
// refuses all writes from then on. The snapshot is whole all the same, and the
// log says what has happened; so does the next one, until the server is mended.
func TestTrapStopWrites(t *testing.T) {
	for _, points := range []string{"", "3600 1"} {
		t.Run("save "+strconv.Quote(points), func(t *testing.T) {
			r := testenv.StartRedis(t, "--save", points)
			r.Fill(t, "key", 100, 10)
			slowSave(t, r, 3000) // long enough to be found in time, in one of three tries
			dump := filepath.Join(r.Dir, "dump.rdb")
			if err := os.Mkdir(dump, 0o755); err != nil {
				t.Fatal(err)
			}
			s, _ := dirStore(t)
			var log testenv.Log
			sn := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
			if m := mustSnapshot(t, sn); m.RDB.Keys != 100 {
				t.Errorf("%d keys", m.RDB.Keys)
			}
			wantInfo(t, r, "rdb_last_bgsave_status", "err")
			_, err := r.Client(t).Do(testContext(t), "SET", "a", "1")
			if got := status.ReasonOf(err) == status.ReasonMisconf; got != (points != "") {
				t.Errorf("SET after the failed save: %v", err)
			}
			if got := log.String(); !strings.Contains(got, "the server could not keep its own dump") || strings.Contains(got, "MISCONF") != (points != "") {
				t.Errorf("the log does not say what has happened:\n%s", got)
			}
			if err := os.Remove(dump); err != nil {
				t.Fatal(err)
			}
			slowSave(t, r, 0)
			mustSnapshot(t, sn)
			r.Do(t, "SET", "a", "1")
		})
	}
}

// The kernel refuses the fork: BGSAVE is answered with a bare error.
func TestTrapForkRefused(t *testing.T) {
	if !inChild(t, asNobody()) { // root may have as many processes as it likes
		return
	}
	r := testenv.StartRedis(t, "--save", "3600 1")
	r.Fill(t, "key", 100, 10)
	var before unix.Rlimit
	if err := unix.Prlimit(r.Pid, unix.RLIMIT_NPROC, nil, &before); err != nil {
		t.Fatal(err)
	}
	limit := func(n uint64) {
		t.Helper()
		if err := unix.Prlimit(r.Pid, unix.RLIMIT_NPROC, &unix.Rlimit{Cur: n, Max: before.Max}, nil); err != nil {
			t.Fatal(err)
		}
	}
	limit(0)
	s, _ := dirStore(t)
	_, err := newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonMisconf, "the server refused to save: ")
	if !errors.Is(err, errWritesRefused) || !strings.Contains(status.HintOf(err), "memory for a fork") {
		t.Errorf("%v (hint: %s)", err, status.HintOf(err))
	}
	waitLog(t, r, "fork: Resource temporarily unavailable") // else it refused for another reason
	wantInfo(t, r, "rdb_last_bgsave_status", "err")
	wantKeys(t, s)
	limit(before.Cur)
	mustSnapshot(t, newTestSnapshotter(t, r, s))
	r.Do(t, "SET", "a", "1")
}

// The server's disk is full: seldom unforeseen, but others write there, too.
func TestTrapDiskFull(t *testing.T) {
	if !inChild(t, ownMounts()) {
		return
	}
	dir := mountTmpfs(t, "2m")
	r := testenv.StartRedisIn(t, dir, "--rdbcompression", "no")
	fillRandom(t, r, 1200, 1000)
	slowSave(t, r, 10_000)
	s, _ := dirStore(t)
	filler := filepath.Join(dir, "filler")
	_, err := during(t, newTestSnapshotter(t, r, s), func() { fill(t, filler) })
	wantError(t, err, status.ReasonSave, "the save failed after ")
	waitLog(t, r, "No space left on device") // else it failed for another reason
	wantInfo(t, r, "rdb_last_bgsave_status", "err")
	if left, err := filepath.Glob(filepath.Join(dir, "temp-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
	wantKeys(t, s)
	// The next one does not even try: no dump of a save that fails is known, and
	// that is what is asked first.
	_, err = newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonDiskFull, " free, the save needs about ")
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	slowSave(t, r, 0)
	mustSnapshot(t, newTestSnapshotter(t, r, s))
}

// A replica without persistence removes the dump that its master sent, if it is
// told to: a dump.rdb may be gone at any time.
func TestTrapSyncFilesDeleted(t *testing.T) {
	master := testenv.StartRedis(t, "--repl-diskless-sync", "no")
	master.Fill(t, "key", 500, 10)
	replica := testenv.StartRedis(t, "--rdb-del-sync-files", "yes", "--replicaof", "127.0.0.1 "+strconv.Itoa(master.Port))
	testenv.Eventually(t, 20*time.Second, func() error {
		if n := replica.DBSize(t); n != 500 {
			return fmt.Errorf("the replica has %d keys", n)
		}
		if exists(filepath.Join(replica.Dir, "dump.rdb")) {
			return errors.New("the replica's dump.rdb is still there")
		}
		return nil
	})
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, replica, s, func(o *SnapshotOptions) { o.Role = RoleAny })
	if m := mustSnapshot(t, sn); m.RDB.Keys != 500 {
		t.Errorf("%d keys", m.RDB.Keys)
	}
	slowSave(t, replica, 1000)
	m, err := during(t, sn, func() { // and while it is read
		if err := os.Remove(filepath.Join(replica.Dir, "dump.rdb")); err != nil {
			t.Error(err)
		}
	})
	if err != nil || m.RDB.Keys != 500 {
		t.Errorf("%d keys, %v", m.RDB.Keys, err)
	}
}
