package backup

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redis-sidecar/redis-sidecar/internal/info"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// wantWrites checks whether the server takes writes.
func wantWrites(tb testing.TB, r *testenv.Redis, taken bool) {
	tb.Helper()
	_, err := r.Client(tb).Do(testContext(tb), "SET", "write", "x")
	if refused := status.ReasonOf(err) == status.ReasonMisconf; refused == taken || err != nil && !refused {
		tb.Fatalf("a write: %v, want it taken: %v", err, taken)
	}
}

func configOf(tb testing.TB, r *testenv.Redis) []any {
	tb.Helper()
	return r.Do(tb, "CONFIG", "GET", "*").([]any)
}

// The disk fills up during the save, and the server refuses all writes. The
// snapshot comes by the stream at once; the server takes writes again as soon as
// there is room, and nobody has touched its configuration.
func TestTrapDiskFullStopsWrites(t *testing.T) {
	if !inChild(t, ownMounts()) {
		return
	}
	dir := mountTmpfs(t, "16m")
	filler := filepath.Join(dir, "filler")
	r := testenv.StartRedisIn(t, dir, "--save", "3600 1000000", "--repl-diskless-sync-delay", "0")
	fillRandom(t, r, 500, 8000)
	digest, config := r.Digest(t), configOf(t, r)

	for _, source := range []string{SourceAuto, SourceBGSave} {
		t.Run(source, func(t *testing.T) {
			slowSave(t, r, 10_000)
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s, fromSource(source))
			m, err := during(t, sn, func() {
				fill(t, filler)
				slowSave(t, r, 0) // from the next child on
			})
			if source == SourceAuto {
				if err != nil {
					t.Fatal(err)
				}
				if m.Source != SourceStream || !strings.HasPrefix(m.SourceReason, "BGSAVE failed: the save failed after ") {
					t.Errorf("source %s: %s", m.Source, m.SourceReason)
				}
				if got := serverOf(t, sn.Catalogue(), m).Digest(t); got != digest {
					t.Error("the digests differ")
				}
				// The next one does not try it again, although the disk looks empty.
				if err := os.Truncate(filler, 0); err != nil {
					t.Fatal(err)
				}
				if m := mustSnapshot(t, sn); m.Source != SourceStream || !strings.HasPrefix(m.SourceReason, "BGSAVE failed before: ") {
					t.Errorf("source %s: %s", m.Source, m.SourceReason)
				}
				fill(t, filler)
			} else {
				wantError(t, err, status.ReasonMisconf, "the server refuses writes until a save succeeds (MISCONF)")
				wantKeys(t, s)
			}
			waitSave(t, r, false)
			wantWrites(t, r, false) // a stream does not end it

			mend := newMender(sn.opts, r.Client(t), sn.log)
			for range 2 {
				if err := mend.look(testContext(t), true); err != nil {
					t.Fatal(err)
				}
				if state := mend.state(); !strings.Contains(state, " free, the save needs about ") {
					t.Errorf("with a full disk: %q", state)
				}
			}
			wantWrites(t, r, false)
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			if err := mend.look(testContext(t), true); err != nil || mend.state() != "" {
				t.Errorf("with room: %q, %v", mend.state(), err)
			}
			wantWrites(t, r, true)
			r.Do(t, "DEL", "write")
			if err := os.Remove(filepath.Join(dir, "dump.rdb")); err != nil { // as it was
				t.Fatal(err)
			}
		})
	}
	r.Do(t, "CONFIG", "SET", "rdb-key-save-delay", "0")
	if diff := cmp.Diff(config, configOf(t, r)); diff != "" {
		t.Errorf("the configuration was changed (-before +after):\n%s", diff)
	}
}

// A server with repl-diskless-sync no makes a dump to stream it. Where it would
// refuse writes if that failed, and nobody knows whether there is room, it is not
// asked; where it failed, that is said and mended.
func TestTrapStreamDiskFullStopsWrites(t *testing.T) {
	if !inChild(t, ownMounts()) {
		return
	}
	dir := mountTmpfs(t, "16m")
	filler := filepath.Join(dir, "filler")
	r := testenv.StartRedisIn(t, dir, "--save", "3600 1000000", "--repl-diskless-sync", "no")
	fillRandom(t, r, 500, 8000)

	for _, source := range []string{SourceAuto, SourceStream} {
		s, _ := dirStore(t)
		sn := newTestSnapshotter(t, r, s, fromSource(source), func(o *SnapshotOptions) { o.DataDir = "/nonexistent" })
		_, err := sn.Snapshot(testContext(t), nil)
		wantError(t, err, status.ReasonFile, "whether there is room for it is not known: data directory of the server: stat /nonexistent")
		wantInfo(t, r, "rdb_saves", "0")
		// Without save points nothing can be lost by trying.
		r.Do(t, "CONFIG", "SET", "save", "")
		if m := mustSnapshot(t, sn); m.Source != SourceStream {
			t.Errorf("source %s", m.Source)
		}
		r.Do(t, "CONFIG", "SET", "save", "3600 1000000")
		r.Do(t, "CONFIG", "RESETSTAT")
		if err := os.Remove(filepath.Join(dir, "dump.rdb")); err != nil {
			t.Fatal(err)
		}
	}

	slowSave(t, r, 10_000)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s, fromSource(SourceStream))
	failed := make(chan error, 1)
	go func() {
		_, err := sn.Snapshot(testContext(t), nil)
		failed <- err
	}()
	waitSave(t, r, true)
	fill(t, filler)
	err := <-failed
	slowSave(t, r, 0)
	wantError(t, err, status.ReasonMisconf, "the save failed, which the server makes to stream it: ")
	wantError(t, err, status.ReasonMisconf, "the server refuses writes until a save succeeds (MISCONF)")
	wantKeys(t, s)
	wantWrites(t, r, false)
	mend := newMender(sn.opts, r.Client(t), sn.log)
	if err := mend.look(testContext(t), true); err != nil || mend.state() == "" {
		t.Errorf("with a full disk: %q, %v", mend.state(), err)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := mend.look(testContext(t), true); err != nil || mend.state() != "" {
		t.Errorf("with room: %q, %v", mend.state(), err)
	}
	wantWrites(t, r, true)
}

// What is in the way of a save is shown as it is now; the log hears of it once a
// minute.
func TestMenderDoesNotFillTheLog(t *testing.T) {
	var log strings.Builder
	m := newMender(SnapshotOptions{}, nil, slog.New(slog.NewTextHandler(&log, nil)))
	clock := time.Now()
	m.now = func() time.Time { return clock }
	for i := range 65 {
		m.ill(fmt.Errorf("%d bytes are missing", i))
		clock = clock.Add(2 * time.Second)
	}
	if got := strings.Count(log.String(), "level=ERROR"); got != 3 || m.state() != "64 bytes are missing" {
		t.Errorf("%d lines, state %q:\n%s", got, m.state(), &log)
	}
	m.well()
	m.ill(errors.New("again"))
	if !strings.Contains(log.String(), "why_not_yet=again") {
		t.Error("new trouble was not told")
	}
}

// While saves fail and room is not what they lack, the mender asks less and less
// often.
func TestMenderIsPatient(t *testing.T) {
	r := testenv.StartRedis(t, "--save", "3600 1000000")
	r.Do(t, "SET", "a", "1")
	if err := os.Mkdir(filepath.Join(r.Dir, "dump.rdb"), 0o755); err != nil { // nothing can be renamed to it
		t.Fatal(err)
	}
	r.Do(t, "BGSAVE")
	waitSave(t, r, false)
	wantWrites(t, r, false)
	saves := func() string {
		return info.Parse(r.Do(t, "INFO", "persistence").(string)).Get("rdb_saves")
	}
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	m := newMender(sn.opts, r.Client(t), sn.log)
	clock := time.Now()
	m.now = func() time.Time { return clock }
	look := func(mayAsk bool, want string) {
		t.Helper()
		if err := m.look(testContext(t), mayAsk); err != nil || !strings.Contains(m.state(), want) || (m.state() == "") != (want == "") {
			t.Fatalf("%q, %v, want %q", m.state(), err, want)
		}
	}
	look(false, "one is asked for soon")
	if got := saves(); got != "1" {
		t.Errorf("%s saves before it may ask", got)
	}
	for i, seconds := range []int{10, 20, 40, 80, 160, 320, 600, 600} {
		wait := time.Duration(seconds) * time.Second
		look(true, "the save failed again")
		clock = clock.Add(wait - time.Second)
		look(true, "the last one failed")
		if got := saves(); got != strconv.Itoa(i+2) {
			t.Errorf("%s saves, want %d", got, i+2)
		}
		clock = clock.Add(time.Second)
	}
	if err := os.Remove(filepath.Join(r.Dir, "dump.rdb")); err != nil {
		t.Fatal(err)
	}
	look(true, "")
	wantWrites(t, r, true)

	// A server that takes writes after a failed save is left alone.
	r.Do(t, "CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
	if err := errors.Join(os.Remove(filepath.Join(r.Dir, "dump.rdb")), os.Mkdir(filepath.Join(r.Dir, "dump.rdb"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r.Do(t, "BGSAVE")
	waitSave(t, r, false)
	n := saves()
	look(true, "")
	if got := saves(); got != n {
		t.Errorf("%s saves, want %s", got, n)
	}
}

// auto takes the source that works, and says why.
func TestAutoSource(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	r.Fill(t, "key", 1000, 100)
	r.Do(t, "ACL", "SETUSER", "denied", "on", ">hush", "+@all", "~*", "-config")
	dump := filepath.Join(r.Dir, "dump.rdb")
	free, err := availableBytes(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	for name, tt := range map[string]struct {
		before func() error
		dir    string
		want   string
		reason string
		later  string // reason of the next one, if another
	}{
		"all is well": {want: SourceBGSave, reason: "the server's data directory can be read and has room"},
		"no such directory": {
			dir: filepath.Join(other, "absent"), want: SourceStream, reason: "data directory of the server: stat " + other + "/absent: no such file or directory",
		},
		"not a directory": {dir: "/dev/null", want: SourceStream, reason: "data directory of the server: /dev/null is not a directory"},
		"another directory": {
			dir: other, want: SourceStream, reason: "BGSAVE failed: the save was over before its file was seen in " + other + ", 3 times",
			later: "BGSAVE failed before: the save was over before its file was seen in " + other + ", 3 times",
		},
		"no room": {
			before: func() error { return errors.Join(os.WriteFile(dump, nil, 0o600), os.Truncate(dump, free)) },
			want:   SourceStream, reason: r.Dir + " has ",
		},
		"unreadable": {
			before: func() error { return os.Symlink("dump.rdb", dump) },
			want:   SourceStream, reason: "data directory of the server: open " + dump + ": too many levels of symbolic links",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.RemoveAll(dump); err != nil {
				t.Fatal(err)
			}
			if tt.before != nil {
				if err := tt.before(); err != nil {
					t.Fatal(err)
				}
			}
			s, _ := dirStore(t)
			sn := newTestSnapshotter(t, r, s, fromSource(SourceAuto), func(o *SnapshotOptions) { o.DataDir = tt.dir })
			m := mustSnapshot(t, sn)
			if m.Source != tt.want || !strings.HasPrefix(m.SourceReason, tt.reason) || m.RDB.Keys != 1000 {
				t.Errorf("%s: %s, %d keys; want %s: %s", m.Source, m.SourceReason, m.RDB.Keys, tt.want, tt.reason)
			}
			if tt.later != "" {
				if m := mustSnapshot(t, sn); m.Source != tt.want || m.SourceReason != tt.later {
					t.Errorf("the next: %s: %s, want %s", m.Source, m.SourceReason, tt.later)
				}
			}
			// With bgsave there is no choice.
			if tt.want == SourceStream {
				_, err := newTestSnapshotter(t, r, s, fromSource(SourceBGSave), func(o *SnapshotOptions) { o.DataDir = tt.dir }).Snapshot(testContext(t), nil)
				if name != "unreadable" { // as the test is root, it is readable once it was saved
					text, _ := strings.CutPrefix(tt.reason, "BGSAVE failed: ")
					wantError(t, err, status.ReasonOf(err), text)
				}
			}
		})
	}
}

// Without CONFIG GET the server does not tell where its data is.
func TestAutoSourceWithoutConfig(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0", "--rename-command", "CONFIG", "")
	r.Fill(t, "key", 1000, 100)
	s, _ := dirStore(t)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s, fromSource(SourceAuto)))
	if m.Source != SourceStream || !strings.HasPrefix(m.SourceReason, "where does the server keep its data: CONFIG GET: ERR unknown command") {
		t.Errorf("%s: %s", m.Source, m.SourceReason)
	}
	_, err := newTestSnapshotter(t, r, s, fromSource(SourceBGSave)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonUnknownCmd, "snapshot: where does the server keep its data: ")
	// Told where it is, it is the better source again.
	m = mustSnapshot(t, newTestSnapshotter(t, r, s, fromSource(SourceAuto), func(o *SnapshotOptions) { o.DataDir = r.Dir }))
	if m.Source != SourceBGSave {
		t.Errorf("%s: %s", m.Source, m.SourceReason)
	}
}

// Both sources fork, and neither does where the memory is too little for it.
func TestMemoryHeadroom(t *testing.T) {
	r := testenv.StartRedis(t, "--repl-diskless-sync-delay", "0")
	fillRandom(t, r, 1000, 10_000)
	in := info.Parse(r.Do(t, "INFO", "memory").(string))
	resident, _ := in.Int("used_memory_rss")
	used, _ := in.Int("used_memory")
	s, _ := dirStore(t)
	for _, source := range Sources() {
		sn := func(limit int64) *Snapshotter {
			return newTestSnapshotter(t, r, s, fromSource(source), func(o *SnapshotOptions) { o.MemoryLimit = limit })
		}
		_, err := sn(resident).Snapshot(testContext(t), nil)
		wantError(t, err, status.ReasonMemory, "snapshot: there is not enough memory for the server to fork: it uses ")
		if status.HintOf(err) == "" || errors.Is(err, errWritesRefused) {
			t.Errorf("hint %q: %v", status.HintOf(err), err)
		}
		stats := info.Parse(r.Do(t, "INFO").(string))
		if stats.Get("rdb_saves") != "0" || stats.Get("total_forks") != "0" {
			t.Errorf("%s: %s saves, %s forks", source, stats.Get("rdb_saves"), stats.Get("total_forks"))
		}
	}
	for _, source := range Sources() {
		sn := newTestSnapshotter(t, r, s, fromSource(source), func(o *SnapshotOptions) { o.MemoryLimit = 2*resident + used })
		mustSnapshot(t, sn)
	}
}

func TestExpectedCopy(t *testing.T) {
	for text, want := range map[string]int64{
		"used_memory:1000\r\n": 100,
		"used_memory:1000\r\nrdb_last_cow_size:0\r\naof_last_cow_size:0\r\n":   100,
		"used_memory:1000\r\nrdb_last_cow_size:30\r\naof_last_cow_size:0\r\n":  30,
		"used_memory:1000\r\nrdb_last_cow_size:30\r\naof_last_cow_size:70\r\n": 70,
		"": 0,
	} {
		in := info.Parse(text)
		if got := expectedCopy(in, in); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

// What a save needs on the disk: the last dump and what has grown since, or all.
func TestCheckSpace(t *testing.T) {
	f := facts{dir: t.TempDir(), dbfilename: "dump.rdb"}
	free, err := availableBytes(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	memory := func(used, dataset int64) info.Info {
		return info.Parse(fmt.Sprintf("used_memory:%d\r\nused_memory_dataset:%d", used, dataset))
	}
	counters := func(n int64) info.Info {
		return info.Parse(fmt.Sprintf("used_memory_dataset:0\r\n# Keyspace\r\ndb0:keys=%d,expires=%d", n, n))
	}
	// Others write to this disk, too: nothing here is near the limit.
	for _, tt := range []struct {
		name string
		dump string // "" is none
		info info.Info
		ok   bool
	}{
		{"no dump, little data", "", memory(free, free/2), true},
		{"no dump, much data", "", memory(free, 2*free), false},
		{"no dump, data that may grow until the fork", "", memory(free, free-free/10), false},
		{"no dump, few counters", "", counters(free / 82), true},
		{"no dump, many counters that expire", "", counters(free / 41), false},
		{"a dump that tells nothing", strings.Repeat("x", 1000), memory(2*free, 2*free), true},
		{"a short dump", "REDIS", memory(2*free, 2*free), true},
		{"little more than then", rdbHead(free), memory(free+free/4, 9*free), true},
		{"much more than then", rdbHead(1_000_000), memory(free, 9*free), false},
		{"less than then", rdbHead(9 * free), memory(free, 9*free), true},
	} {
		path := filepath.Join(f.dir, f.dbfilename)
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if tt.dump != "" {
			if err := os.WriteFile(path, []byte(tt.dump), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		f.info = tt.info
		_, err := f.checkSpace()
		if tt.ok && err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		if !tt.ok {
			wantError(t, err, status.ReasonDiskFull, " free, the save needs about ")
			if status.HintOf(err) == "" {
				t.Error("no hint")
			}
		}
	}
}

// rdbHead is the begin of a dump of a server that used so much memory.
func rdbHead(used int64) string {
	digits := strconv.FormatInt(used, 10)
	return "REDIS0010\xfa\tredis-ver\x067.0.15\xfa\x08used-mem" + string(rune(len(digits))) + digits + "\xfa\x08aof-base\xc0\x00"
}

// The server's own dumps tell how much memory it used, and the guess for a server
// that has none is not too little.
func TestSpaceOfRealServers(t *testing.T) {
	for name, fill := range map[string]func(*testenv.Redis){
		"small values":  func(r *testenv.Redis) { r.Fill(t, "key", 20_000, 10) },
		"large values":  func(r *testenv.Redis) { fillRandom(t, r, 500, 10_000) },
		"middle values": func(r *testenv.Redis) { fillRandom(t, r, 3000, 300) },
		// An RDB larger than used_memory_dataset.
		"counters that expire": func(r *testenv.Redis) {
			r.Do(t, "EVAL", "for i = 1, 20000 do redis.call('SET', string.format('rl:%011d', i), i % 9000 + 10, 'EX', 86400) end", "0")
		},
		"numbers": func(r *testenv.Redis) { r.Do(t, "EVAL", "for i = 1, 20000 do redis.call('set', i, i) end", "0") },
		"hashes": func(r *testenv.Redis) {
			r.Do(t, "EVAL", "for i = 1, 20000 do redis.call('hset', 'h' .. i % 500, i, 'value ' .. i * 7919) end", "0")
		},
	} {
		r := testenv.StartRedis(t, "--rdbcompression", "no")
		fill(r)
		f, err := learn(testContext(t), r.Client(t), "")
		if err != nil {
			t.Fatal(err)
		}
		used, _ := f.info.Int("used_memory")
		most, ok := f.mostSaved()
		r.Do(t, "SAVE")
		if size := f.lastDump(); !ok || size > most {
			t.Errorf("%s: the dump is %d bytes, taken to be %d at most", name, size, most)
		}
		if dataset, _ := f.info.Int("used_memory_dataset"); name == "counters that expire" && f.lastDump() <= dataset {
			t.Errorf("%s: a dump of %d bytes, no larger than the data set of %d", name, f.lastDump(), dataset)
		}
		if g := f.growth(); g > used/10 {
			t.Errorf("%s: grown by %d of %d without a write", name, g, used)
		}
		r.Fill(t, "later", 1000, 10_000)
		if f, err = learn(testContext(t), r.Client(t), ""); err != nil {
			t.Fatal(err)
		}
		if g := f.growth(); g < 10_000_000 || g > 16_000_000 {
			t.Errorf("%s: grown by %d, written 10 MB", name, g)
		}
	}
}

func TestUsedMem(t *testing.T) {
	for head, want := range map[string]int64{
		rdbHead(123456789012):                                  123456789012,
		"REDIS0011\xfa\x08used-mem\xc2\x00\x00\x10\x00xx":      1 << 20,
		"REDIS0011\xfa\x08used-mem\xc1\x00\x10xxxx":            4096,
		"REDIS0011\xfa\x08used-mem\xc0\x10xxxxx":               16,
		"REDIS0011\xfa\x08used-mem\xc2\x00\x00":                0, // cut
		"REDIS0011\xfa\x08used-mem\x30123":                     0,
		"REDIS0011\xfa\x08used-mem\xc3\x04\x04abcdefg":         0, // compressed
		"REDIS0011\xfa\x05ctime\xc2\x00\x00\x10\x00\xfe\x00xx": 0,
		"": 0,
	} {
		if got := usedMem([]byte(head)); got != want {
			t.Errorf("%q: %d, want %d", head, got, want)
		}
	}
}

// A pod that is killed during a save leaves the child's file; restarts and other
// saves keep it. It is told of, and removed only when that is allowed.
func TestTrapLeftoverOfKilledPod(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 500, 1000)
	r.Do(t, "SAVE")
	slowSave(t, r, endless)
	r.Do(t, "BGSAVE")
	left := waitTempFile(t, r)
	killSave(t, r)
	r.WriteFile(t, left, strings.Repeat("x", 5000)) // the server, still alive, removes it
	r.Restart(t)
	r.Do(t, "BGSAVE")
	waitSave(t, r, false)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	mustSnapshot(t, sn)
	if files, _ := sn.Leftovers(); files != 0 {
		t.Errorf("%d files are called old, which are not older than the server", files)
	}

	old := time.Now().Add(-time.Hour)
	age := func(name string) {
		t.Helper()
		r.WriteFile(t, name, strings.Repeat("x", 100))
		if err := os.Chtimes(filepath.Join(r.Dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	leftovers := []string{left, "temp-1700000000.99998.rdb", "temp-rewriteaof-99998.aof", "temp-rewriteaof-bg-99998.aof"}
	others := []string{fmt.Sprintf("temp-%d.rdb", r.Pid), fmt.Sprintf("temp-rewriteaof-%d.aof", r.Pid), "temp-x.rdb", "temp-1.rdb.bak", "temp-rewriteaof-.aof", "appendonly.aof"}
	for _, name := range slices.Concat(leftovers, others) {
		age(name)
	}
	r.WriteFile(t, "temp-99997.rdb", "new")
	there := func() (found []string) {
		for _, name := range slices.Concat(leftovers, others, []string{"temp-99997.rdb", "dump.rdb"}) {
			if _, err := os.Stat(filepath.Join(r.Dir, name)); err == nil {
				found = append(found, name)
			}
		}
		return found
	}
	for range 2 {
		mustSnapshot(t, sn)
		if files, bytes := sn.Leftovers(); files != 4 || bytes != 400 {
			t.Errorf("%d files of %d bytes, want 4 of 400", files, bytes)
		}
	}
	if diff := cmp.Diff(slices.Concat(leftovers, others, []string{"temp-99997.rdb", "dump.rdb"}), there()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	sn = newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.RemoveLeftovers = true })
	mustSnapshot(t, sn)
	if files, bytes := sn.Leftovers(); files != 0 || bytes != 0 {
		t.Errorf("%d files of %d bytes are left", files, bytes)
	}
	if diff := cmp.Diff(slices.Concat(others, []string{"temp-99997.rdb", "dump.rdb"}), there()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

// The job tells that the server refuses writes, and ends it.
func TestJobMends(t *testing.T) {
	r := testenv.StartRedis(t, "--save", "3600 1000000")
	dump := filepath.Join(r.Dir, "dump.rdb")
	if err := os.Mkdir(dump, 0o755); err != nil {
		t.Fatal(err)
	}
	r.Do(t, "BGSAVE")
	waitSave(t, r, false)
	schedule, err := ParseSchedule("@daily")
	if err != nil {
		t.Fatal(err)
	}
	board := status.NewBoard(slog.New(slog.NewTextHandler(t.Output(), nil)), nil)
	opts := Options{Schedule: schedule, Snapshot: SnapshotOptions{Instance: "test", Pod: "redis-0", Tool: "test"}}
	j, err := New(opts, r.Client(t), nil, board.Register(status.Backup, Reasons()...))
	if err != nil {
		t.Fatal(err)
	}
	want := func(refused float64, detail string) {
		t.Helper()
		testenv.Eventually(t, 10*time.Second, func() error {
			rep, _ := board.Report(status.Backup)
			got := testenv.Metrics(t, NewMetrics(j))["redis_sidecar_backup_writes_refused"]
			if d := rep.Detail.(Detail).WritesRefused; got != refused || !strings.Contains(d, detail) || (d == "") != (detail == "") {
				return fmt.Errorf("metric %v, detail %q", got, d)
			}
			return nil
		})
	}
	stop := j.startMending(testContext(t))
	want(1, "the save failed again")
	stop()
	wantWrites(t, r, false)
	if err := os.Remove(dump); err != nil {
		t.Fatal(err)
	}
	j.mend.failures = 0 // its pause is over
	defer j.startMending(testContext(t))()
	want(0, "")
	wantWrites(t, r, true)
}
