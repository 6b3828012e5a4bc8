package backup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/redis-sidecar/redis-sidecar/internal/redis"
	"github.com/redis-sidecar/redis-sidecar/internal/scratch"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// loader is a scratch server as the program makes it.
type loader struct{ scratch.Server }

func newLoader(tb testing.TB) loader {
	tb.Helper()
	return loader{scratch.Server{
		Program: testenv.Program(tb, "redis-server", "apt-get install redis-server"),
		Connect: func(socket string) scratch.Client { return redis.New(redis.Options{Network: "unix", Addr: socket}) },
	}}
}

func (l loader) Load(ctx context.Context, dir string, databases int, progress func(int64)) (string, []Database, error) {
	r, err := l.Server.Load(ctx, dir, databases, progress)
	var counts []Database
	for _, db := range r.Databases {
		counts = append(counts, Database(db))
	}
	return r.Version, counts, err
}

// someKeys fills several databases, with keys that expire soon among them. The server
// removes none of these until it is told to, however long that takes.
func someKeys(tb testing.TB, r *testenv.Redis) {
	tb.Helper()
	r.Do(tb, "DEBUG", "SET-ACTIVE-EXPIRE", "0")
	fillRandom(tb, r, 300, 500)
	for i := range 25 {
		r.Do(tb, "SET", fmt.Sprintf("short:%d", i), "x", "PX", "1500")
		r.Do(tb, "SET", fmt.Sprintf("long:%d", i), "x", "EX", "100000")
	}
	c := r.Client(tb)
	replies, err := c.Pipeline(testContext(tb), []string{"SELECT", "9"}, []string{"SET", "a", "1"}, []string{"SET", "b", "1", "PX", "1500"}, []string{"SELECT", "0"})
	for _, v := range replies {
		if e, ok := v.(error); ok {
			err = e
		}
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// TestTrapExpiredKeysAreCounted: a master drops what has expired when it loads an
// RDB. A verification some time later must not call that a loss.
func TestTrapExpiredKeysAreCounted(t *testing.T) {
	r := testenv.StartRedis(t)
	someKeys(t, r)
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	want := []Database{{Index: 0, Keys: 350, Expires: 50}, {Index: 9, Keys: 2, Expires: 1}}
	if diff := cmp.Diff(want, m.RDB.Databases); diff != "" {
		t.Fatalf("the snapshot (-want +got):\n%s", diff)
	}
	r.Do(t, "DEBUG", "SET-ACTIVE-EXPIRE", "1")
	testenv.Eventually(t, 20*time.Second, func() error { // they have expired at the server
		if n := r.DBSize(t); n != 325 {
			return fmt.Errorf("%d keys are left", n)
		}
		return nil
	})
	master := serverOf(t, c, m)
	if n := master.DBSize(t); n != 325 {
		t.Errorf("a master that loads it has %d keys, want 325: the trap is gone", n)
	}
	tmp := t.TempDir()
	var phases []Phase
	_, v, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{
		Load: newLoader(t), TempDir: tmp, Tool: "test", Pod: "redis-0",
		Progress: func(p Progress) {
			if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
				phases = append(phases, p.Phase)
			}
		},
	})
	if err != nil || v.Level != LevelLoaded || !strings.HasPrefix(v.Server, "redis ") || !v.OK() {
		t.Fatalf("verification %+v, %v", v, err)
	}
	if diff := cmp.Diff([]Phase{PhaseVerify, PhaseLoad}, phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	got, err := c.Verification(testContext(t), m.ID)
	if err != nil || got == nil {
		t.Fatalf("record: %v, %v", got, err)
	}
	if diff := cmp.Diff(v, *got); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestTrapRedisCheckRDBTrustsZeroChecksum: with rdbchecksum no, redis-check-rdb
// calls a file with a flipped byte good, and a server loads it. The sums in the
// manifest tell.
func TestTrapRedisCheckRDBTrustsZeroChecksum(t *testing.T) {
	r := testenv.StartRedis(t, "--rdbchecksum", "no", "--rdbcompression", "no")
	r.Do(t, "SET", "key", strings.Repeat("abc", 200))
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	b, err := os.ReadFile(plainRDB(t, c, m))
	if err != nil {
		t.Fatal(err)
	}
	at := strings.Index(string(b), "abcabc")
	if at < 0 || m.RDB.Checksummed {
		t.Fatalf("no plain value in the file, or it has a checksum: %t", m.RDB.Checksummed)
	}
	b[at+2] ^= 1
	plain := filepath.Join(t.TempDir(), "dump.rdb")
	if err := os.WriteFile(plain, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("redis-check-rdb", plain).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "RDB looks OK") {
		t.Fatalf("redis-check-rdb sees the flipped byte, the trap is gone: %v\n%s", err, out)
	}
	// As if it had happened before the compression: what is stored fits the manifest.
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	stored := enc.EncodeAll(b, nil)
	put(t, s, c.ObjectKey(m), string(stored))
	m.Object.Size, m.Object.SHA256 = int64(len(stored)), hexSHA256(stored)
	if err := c.publish(testContext(t), m); err != nil {
		t.Fatal(err)
	}
	for _, load := range []LoadServer{nil, newLoader(t)} {
		_, v, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Load: load, TempDir: t.TempDir(), Tool: "test"})
		wantError(t, err, status.ReasonCorrupt, "crc64: ")
		if v.OK() || v.Level != LevelFull {
			t.Errorf("verification %+v", v)
		}
		got, err := c.Verification(testContext(t), m.ID)
		if err != nil || got == nil || !strings.Contains(got.Damage, "crc64: ") {
			t.Errorf("record %+v, %v", got, err)
		}
	}
}

// What a server finds is damage only if it is the file's fault.
func TestVerifyLoadTrouble(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 50, 100)
	s, _ := dirStore(t)
	c := newTestCatalogue(t, s)
	m := mustSnapshot(t, newTestSnapshotter(t, r, s))
	tests := []struct {
		name   string
		load   LoadServer
		reason status.Reason
		want   string
		level  Level
		damage bool
	}{
		{"no such program", loader{scratch.Server{Program: "/nonexistent/redis-server"}}, status.ReasonFile, "no server to load into", LevelFull, false},
		{"another program", loader{scratch.Server{Program: "/bin/true"}}, status.ReasonFile, "is not what a redis-server says", LevelFull, false},
		{"the server calls it damaged", answer{err: status.WithReason(status.ReasonCorrupt, errors.New("Internal error in RDB"))}, status.ReasonCorrupt, "is damaged: Internal error", LevelLoaded, true},
		{"other keys", answer{counts: []Database{{Index: 0, Keys: 49}, {Index: 3, Keys: 1}}}, status.ReasonCorrupt, "keys in database 0: 49, the manifest says 50; keys in database 3: 1, the manifest says 0", LevelLoaded, true},
		{"other keys that expire", answer{counts: []Database{{Index: 0, Keys: 50, Expires: 2}}}, status.ReasonCorrupt, "keys with a time to live in database 0: 2", LevelLoaded, true},
		{"out of memory", answer{err: status.WithReason(status.ReasonRejected, errors.New("killed"))}, status.ReasonRejected, "killed", LevelFull, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tmp := t.TempDir()
			_, v, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Load: tt.load, TempDir: tmp, Tool: "test"})
			wantError(t, err, tt.reason, tt.want)
			if v.Level != tt.level || v.OK() == tt.damage {
				t.Errorf("verification %+v", v)
			}
			if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
	_, _, err := c.VerifyAndRecord(testContext(t), m.ID, VerifyOptions{Load: newLoader(t), TempDir: "/nonexistent", Tool: "test"})
	wantError(t, err, status.ReasonFile, "/nonexistent")
	if !strings.Contains(status.HintOf(err), "TMPDIR") {
		t.Errorf("hint %q", status.HintOf(err))
	}
	huge := m
	huge.RDB.Size = 1 << 60
	if _, _, err := scratchDir(t.TempDir(), huge.RDB.Size); status.ReasonOf(err) != status.ReasonDiskFull {
		t.Errorf("room for 1 EiB: %v", err)
	}
}

// answer is a server that says what a test wants.
type answer struct {
	counts []Database
	err    error
}

func (a answer) Load(context.Context, string, int, func(int64)) (string, []Database, error) {
	return "redis 7.0.15", a.counts, a.err
}

// Directories of killed processes are removed, those in use are not.
func TestScratchDirSweep(t *testing.T) {
	parent := t.TempDir()
	used, release, err := scratchDir(parent, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	left := filepath.Join(parent, scratchPrefix+"left")
	young := filepath.Join(parent, scratchPrefix+"young")
	other := filepath.Join(parent, "other")
	hourAgo := time.Now().Add(-time.Hour)
	for _, dir := range []string{left, young, other} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "lock"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{left, other, used} {
		if err := os.Chtimes(filepath.Join(dir, "lock"), hourAgo, hourAgo); err != nil {
			t.Fatal(err)
		}
	}
	_, release2, err := scratchDir(parent, 1)
	if err != nil {
		t.Fatal(err)
	}
	release2()
	var got []string
	for _, dir := range []string{used, left, young, other} {
		if _, err := os.Stat(dir); err == nil {
			got = append(got, filepath.Base(dir))
		}
	}
	if diff := cmp.Diff([]string{filepath.Base(used), filepath.Base(young), "other"}, got); diff != "" {
		t.Errorf("left (-want +got):\n%s", diff)
	}
}

// A disk that fills up while the RDB is written is said to be full.
func TestVerifyLoadDiskFull(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = localWriter{f}.Write([]byte("x"))
	if status.ReasonOf(err) != status.ReasonDiskFull || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v (reason %s)", err, status.ReasonOf(err))
	}
}
