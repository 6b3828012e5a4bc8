package backup

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var _ Store = store.Store(nil)

const testBucket = "snapshots"

// openStore opens a store of the test's own by URL.
func openStore(tb testing.TB, url string, getenv func(string) string) store.Store {
	tb.Helper()
	s, err := store.Open(context.Background(), url, store.Options{Getenv: getenv, Version: "test", Stall: 30 * time.Second, Patience: 3 * time.Second})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	return s
}

// dirStore returns a store in a temporary directory, and that directory.
func dirStore(tb testing.TB) (store.Store, string) {
	tb.Helper()
	dir := tb.TempDir()
	return openStore(tb, "file://"+dir, nil), dir
}

// s3Store returns a store in a bucket of a server of the test's own.
func s3Store(tb testing.TB) (store.Store, *testenv.S3) {
	tb.Helper()
	s3 := testenv.StartS3(tb)
	s3.CreateBucket(tb, testBucket)
	return openStore(tb, s3.URL(testBucket, "pre/fix"), s3.Getenv), s3
}

// newTestSnapshotter returns one for instance "test" beside a real server.
func newTestSnapshotter(tb testing.TB, r *testenv.Redis, s Store, change ...func(*SnapshotOptions)) *Snapshotter {
	tb.Helper()
	return newSnapshotterFor(tb, r.Client(tb), s, change...)
}

func newSnapshotterFor(tb testing.TB, redis Redis, s Store, change ...func(*SnapshotOptions)) *Snapshotter {
	tb.Helper()
	opts := SnapshotOptions{
		Instance: "test",
		Pod:      "redis-0",
		Tool:     "redis-sidecar test",
		Log:      slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&opts)
	}
	sn, err := NewSnapshotter(opts, redis, s)
	if err != nil {
		tb.Fatal(err)
	}
	return sn
}

// testContext ends well before the test binary's own time is over.
func testContext(tb testing.TB) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	tb.Cleanup(cancel)
	return ctx
}

// mustSnapshot takes a snapshot that has to succeed.
func mustSnapshot(tb testing.TB, sn *Snapshotter) Manifest {
	tb.Helper()
	m, err := sn.Snapshot(testContext(tb), nil)
	if err != nil {
		tb.Fatalf("%v (reason %s, hint: %s)", err, status.ReasonOf(err), status.HintOf(err))
	}
	return m
}

// during takes a snapshot and calls act once, from the progress callback, as soon
// as the save runs and its file is open.
func during(tb testing.TB, sn *Snapshotter, act func()) (Manifest, error) {
	tb.Helper()
	acted := false
	m, err := sn.Snapshot(testContext(tb), func(p Progress) {
		if p.Phase == PhaseSave && !acted {
			acted = true
			act()
		}
	})
	if !acted {
		tb.Fatalf("the snapshot never came to its save: %v", err)
	}
	return m, err
}

// wantError checks reason and text of an error; want is a part of the text.
func wantError(tb testing.TB, err error, reason status.Reason, want string) {
	tb.Helper()
	if err == nil {
		tb.Fatalf("no error, want %s: …%s…", reason, want)
	}
	if got := status.ReasonOf(err); got != reason || !strings.Contains(err.Error(), want) {
		tb.Fatalf("error %s: %v\nwant %s: …%s…", got, err, reason, want)
	}
}

// wantKeys checks what the store holds: these keys and no others.
func wantKeys(tb testing.TB, s Store, want ...string) {
	tb.Helper()
	var got []string
	err := s.List(testContext(tb), "", func(key string, _ int64, _ time.Time) error {
		got = append(got, key)
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		tb.Fatalf("the store holds %q, want %q", got, want)
	}
}

// plainRDB writes the plain data of a snapshot to a file dump.rdb in a directory
// of its own and returns its path.
func plainRDB(tb testing.TB, c *Catalogue, m Manifest) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "dump.rdb")
	f, err := os.Create(path)
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	if err := c.readVerified(testContext(tb), m, f, nil); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return path
}

// serverOf starts a server on the plain data of a snapshot.
func serverOf(tb testing.TB, c *Catalogue, m Manifest) *testenv.Redis {
	tb.Helper()
	dir := filepath.Dir(plainRDB(tb, c, m))
	r := testenv.StartRedisIn(tb, dir)
	testenv.Eventually(tb, 20*time.Second, func() error {
		if in, err := askInfo(testContext(tb), r.Client(tb), "persistence"); err != nil || in.Get("loading") != "0" {
			return fmt.Errorf("loading: %q, %w", in.Get("loading"), err)
		}
		return nil
	})
	return r
}

// fillRandom writes n keys with values of size random bytes, which do not
// compress.
func fillRandom(tb testing.TB, r *testenv.Redis, n, size int) {
	tb.Helper()
	c := r.Client(tb)
	value := make([]byte, size)
	for i := 0; i < n; {
		var cmds [][]string
		for ; i < n && len(cmds) < 100; i++ {
			rand.Read(value)
			cmds = append(cmds, []string{"SET", "random:" + strconv.Itoa(i), string(value)})
		}
		if _, err := c.Pipeline(testContext(tb), cmds...); err != nil {
			tb.Fatal(err)
		}
	}
}

// endless is a delay of slowSave with which no save of a test ends by itself while
// the test wants it to run, also where something stands still for seconds. It is for
// saves that are then killed: the end of a server waits for its child.
const endless = 100_000

// slowSave makes every key of a save take so many microseconds.
func slowSave(tb testing.TB, r *testenv.Redis, microseconds int) {
	tb.Helper()
	r.Do(tb, "CONFIG", "SET", "rdb-key-save-delay", strconv.Itoa(microseconds))
}

// killSave kills the server's fork child, as the kernel does when memory is
// short.
func killSave(tb testing.TB, r *testenv.Redis) {
	tb.Helper()
	signalSave(tb, r, syscall.SIGKILL)
}

// signalSave sends a signal to the server's fork child.
func signalSave(tb testing.TB, r *testenv.Redis, sig syscall.Signal) {
	tb.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", r.Pid, r.Pid))
	if err != nil {
		tb.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		tb.Fatalf("children of redis-server: %q", b)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		tb.Fatal(err)
	}
}

// busyWith sends a command that has the server fork, and makes sure that its child
// ran right after.
func busyWith(tb testing.TB, r *testenv.Redis, command ...string) {
	tb.Helper()
	replies, err := r.Client(tb).Pipeline(testContext(tb), command, []string{"INFO", "persistence"})
	if err != nil {
		tb.Fatal(err)
	}
	if in, err := infoReply(replies[1]); err != nil || busy(in) == "" {
		tb.Fatalf("%q: %v, and no child runs; %v", command, replies[0], err)
	}
}

// waitTempFile waits until the child of a save has made its file, and returns its
// name.
func waitTempFile(tb testing.TB, r *testenv.Redis) (name string) {
	tb.Helper()
	testenv.Eventually(tb, 20*time.Second, func() error {
		files, err := filepath.Glob(filepath.Join(r.Dir, "temp-*.rdb"))
		if err != nil || len(files) != 1 {
			return fmt.Errorf("files %v, %w", files, err)
		}
		name = filepath.Base(files[0])
		return nil
	})
	return name
}

// waitLog waits until the server's log, which comes through a pipe, has a text.
func waitLog(tb testing.TB, r *testenv.Redis, text string) {
	tb.Helper()
	testenv.Eventually(tb, 20*time.Second, func() error {
		if log := r.Log(); !strings.Contains(log, text) {
			return fmt.Errorf("no %q in the log of the server:\n%s", text, log)
		}
		return nil
	})
}

// waitSave waits until a save of the server runs, or until none does.
func waitSave(tb testing.TB, r *testenv.Redis, runs bool) {
	tb.Helper()
	c := r.Client(tb)
	testenv.Eventually(tb, 30*time.Second, func() error {
		in, err := askInfo(testContext(tb), c, "persistence")
		if err != nil {
			return err
		}
		if (busy(in) != "") != runs {
			return fmt.Errorf("busy: %q", busy(in))
		}
		return nil
	})
}
