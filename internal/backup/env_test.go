package backup

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

var _ Store = store.Store(nil)

const testBucket = "snapshots"

// openStore opens a store of the test's own by URL.
func openStore(tb testing.TB, url string, getenv func(string) string) store.Store {
	tb.Helper()
	s, err := store.Open(context.Background(), url, store.Options{Getenv: getenv, Version: "test", Stall: 5 * time.Second, Patience: 5 * time.Second})
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
	opts := SnapshotOptions{
		Instance: "test",
		Pod:      "redis-0",
		Tool:     "redis-sidecar test",
		Log:      slog.New(slog.NewTextHandler(tb.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, c := range change {
		c(&opts)
	}
	sn, err := NewSnapshotter(opts, r.Client(tb), s)
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
		tb.Fatalf("%v (hint: %s)", err, status.HintOf(err))
	}
	return m
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

// noSnapshots checks that the store holds nothing at all.
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
	if len(got) != len(want) {
		tb.Fatalf("the store holds %q, want %q", got, want)
	}
	for _, key := range want {
		found := false
		for _, g := range got {
			found = found || g == key
		}
		if !found {
			tb.Fatalf("the store holds %q, want %q", got, want)
		}
	}
}

// serverHolds starts a server on the plain RDB of a snapshot and calls check
// with it.
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

var _ = rdb.Scan
