package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// A child that is stopped, and a context that ends.
func TestSnapshotStalls(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	slowSave(t, r, endless)
	s, _ := dirStore(t)
	_, err := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.StallTimeout = 50 * time.Millisecond }).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonSave, "snapshot: the save made no progress for 50ms")
	wantKeys(t, s)
	killSave(t, r)
}

func TestSnapshotCanceled(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 300, 1000)
	slowSave(t, r, endless)
	for name, open := range testStores() {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			ctx, cancel := context.WithCancel(testContext(t))
			defer cancel()
			var at time.Time
			_, err := newTestSnapshotter(t, r, s).Snapshot(ctx, func(p Progress) {
				if p.Phase == PhaseSave {
					cancel()
					at = time.Now()
				}
			})
			wantError(t, err, status.ReasonCanceled, "context canceled")
			if took := time.Since(at); took > 4*time.Second { // upload.abort waits for five, if for anything
				t.Errorf("it took %s to end", took)
			}
			wantKeys(t, s)
			killSave(t, r)
		})
	}
}

// The store fails before the server is troubled: no fork for nothing.
func TestSnapshotStoreErrors(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 100, 10)
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, testBucket)

	wrongKey := func(name string) string {
		if name == "AWS_SECRET_ACCESS_KEY" {
			return "wrong"
		}
		return s3.Getenv(name)
	}
	_, err := newTestSnapshotter(t, r, openStore(t, s3.URL(testBucket, ""), wrongKey)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonStoreDenied, "snapshot: list snapshots: list test/snapshots/ in s3://snapshots")
	_, err = newTestSnapshotter(t, r, openStore(t, s3.URL("no-such-bucket", ""), s3.Getenv)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonStoreMissing, "snapshot: list snapshots: list test/snapshots/ in s3://no-such-bucket")
	_, err = newTestSnapshotter(t, r, openStore(t, "file:///nonexistent/dir", nil)).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonStoreMissing, "snapshot: list snapshots: list test/snapshots/ in file:///nonexistent/dir: the directory does not exist")

	s := openStore(t, s3.URL(testBucket, ""), s3.Getenv)
	s3.Stop(t)
	_, err = newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonStoreUnreachable, "snapshot: list snapshots: list test/snapshots/ in s3://snapshots")
	if status.HintOf(err) == "" {
		t.Error("no hint")
	}
	if in, err := askInfo(testContext(t), r.Client(t), "persistence"); err != nil || in.Get("rdb_saves") != "0" {
		t.Errorf("rdb_saves %s, %v", in.Get("rdb_saves"), err)
	}
	s3.Start(t)
	mustSnapshot(t, newTestSnapshotter(t, r, s))
}

// The connection to the store breaks in the middle of the upload, for good.
func TestSnapshotUploadCut(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 2400, 10_000)
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, testBucket)
	proxy := testenv.StartProxy(t, s3.Addr())
	s, err := store.Open(testContext(t), testenv.StoreURL(proxy.URL(), s3.Region, testBucket, "")+"&part-size=5MiB",
		store.Options{Getenv: s3.Getenv, Patience: 500 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	sn := newTestSnapshotter(t, r, s)

	for _, after := range []int64{1 << 20, 12 << 20, 22 << 20} {
		proxy.Set(testenv.Fault{Kind: testenv.Cut, AfterUpload: after})
		_, err := sn.Snapshot(testContext(t), nil)
		wantError(t, err, status.ReasonStoreUnreachable, "snapshot: ")
		proxy.Set(testenv.Fault{})
		if ids, err := sn.Catalogue().IDs(testContext(t)); err != nil || len(ids) != 0 {
			t.Fatalf("cut after %d: snapshots %v, %v", after, ids, err)
		}
	}
	m := mustSnapshot(t, sn)
	if latest, err := sn.Catalogue().Find(testContext(t), "latest"); err != nil || latest.ID != m.ID {
		t.Errorf("latest %s, %v, want %s", latest.ID, err, m.ID)
	}
	if _, err := sn.Catalogue().Verify(testContext(t), m.ID, nil); err != nil {
		t.Error(err)
	}
}

// What the store returns is not what was sent: no manifest, nothing left.
func TestSnapshotAlteredInStore(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 100, 1000)
	tests := []struct {
		name  string
		alter func(path string) error
	}{
		{"a byte", func(path string) error {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			b := make([]byte, 1)
			if _, err := f.ReadAt(b, 5000); err != nil {
				return err
			}
			b[0] ^= 1
			_, err = f.WriteAt(b, 5000)
			return err
		}},
		{"truncated", func(path string) error { return os.Truncate(path, 7000) }},
		{"empty", func(path string) error { return os.Truncate(path, 0) }},
		{"longer", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			_, err = f.WriteString("x")
			return err
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inner, s3 := s3Store(t)
			s := &hookedStore{Store: inner, afterPut: func(key string) {
				if err := tt.alter(filepath.Join(s3.Root, testBucket, "pre/fix", key)); err != nil {
					t.Error(err)
				}
			}}
			_, err := newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
			wantError(t, err, status.ReasonVerify, "snapshot: read back: the store returns other bytes than were sent: ")
			wantKeys(t, inner)
		})
	}
}

// The object is gone before it is read back; the manifest cannot be written or
// is altered.
func TestSnapshotPublishFails(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 100, 1000)
	broken := status.WithReason(status.ReasonStoreDenied, errors.New("access denied"))
	tests := []struct {
		name     string
		before   func(s Store, op, key string) error
		afterPut func(s Store, key string)
		reason   status.Reason
		want     string
	}{
		{
			name:   "data denied",
			before: func(_ Store, op, _ string) error { return iff(op == "put", broken) },
			reason: status.ReasonStoreDenied, want: "snapshot: access denied",
		},
		{
			name:   "read back denied",
			before: func(_ Store, op, _ string) error { return iff(op == "get", broken) },
			reason: status.ReasonStoreDenied, want: "snapshot: read back: access denied",
		},
		{
			name: "manifest denied",
			before: func(_ Store, op, key string) error {
				return iff(op == "put" && filepath.Base(key) == manifestName, broken)
			},
			reason: status.ReasonStoreDenied, want: "snapshot: write manifest: access denied",
		},
		{
			name: "manifest altered",
			afterPut: func(s Store, key string) {
				if filepath.Base(key) == manifestName {
					put(t, s, key, "{}")
				}
			},
			reason: status.ReasonVerify, want: "snapshot: read manifest back: not the ",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inner, _ := dirStore(t)
			s := &hookedStore{Store: inner}
			if tt.before != nil {
				s.before = func(op, key string) error { return tt.before(inner, op, key) }
			}
			if tt.afterPut != nil {
				s.afterPut = func(key string) { tt.afterPut(inner, key) }
			}
			_, err := newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
			wantError(t, err, tt.reason, tt.want)
			wantKeys(t, inner)
		})
	}
}

// A manifest whose writing was given up can still arrive. Its data is there then.
func TestSnapshotManifestComesLate(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 100, 1000)
	inner, _ := dirStore(t)
	var late func()
	s := &lateStore{Store: inner, late: &late}
	sn := newTestSnapshotter(t, r, s)
	_, err := sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonStoreUnreachable, "snapshot: write manifest: timeout")
	if ids, err := sn.Catalogue().IDs(testContext(t)); err != nil || len(ids) != 0 {
		t.Fatalf("snapshots %v, %v", ids, err)
	}
	late()
	m, err := sn.Catalogue().Find(testContext(t), "latest")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sn.Catalogue().Verify(testContext(t), m.ID, nil); err != nil {
		t.Error(err)
	}
}

// lateStore gives up the writing of a manifest, which late does then.
type lateStore struct {
	store.Store
	late *func()
}

func (s *lateStore) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if filepath.Base(key) != manifestName {
		return s.Store.Put(ctx, key, r)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		return 0, err
	}
	*s.late = func() { _, _ = s.Store.Put(context.WithoutCancel(ctx), key, strings.NewReader(string(text))) }
	return 0, status.WithReason(status.ReasonStoreUnreachable, errors.New("timeout"))
}

func iff(cond bool, err error) error {
	if cond {
		return err
	}
	return nil
}

// A store that reads nothing and answers nothing is given up.
func TestSnapshotStoreHangs(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 100, 1000)
	inner, _ := dirStore(t)
	s := &hangingStore{Store: inner}
	_, err := newTestSnapshotter(t, r, s, func(o *SnapshotOptions) { o.StallTimeout = 4 * time.Second }).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonStoreUnreachable, "snapshot: the store took or sent nothing for 4s")
	wantKeys(t, inner)
}

// hangingStore takes objects until it is told to stop.
type hangingStore struct{ Store }

func (*hangingStore) Put(ctx context.Context, _ string, _ io.Reader) (int64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// A Sentinel has no data, and is not asked for more than that tells.
func TestSnapshotSentinel(t *testing.T) {
	r := testenv.StartSentinel(t)
	s, _ := dirStore(t)
	_, err := newTestSnapshotter(t, r, s).Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonRejected, "the server is a Sentinel: it holds no data")
	if stats := r.Do(t, "INFO", "stats").(string); !strings.Contains(stats, "total_error_replies:0\r\n") {
		t.Errorf("an error reply in:\n%s", stats)
	}
}

// With too little space the server is not asked to save.
func TestSnapshotDiskFull(t *testing.T) {
	r := testenv.StartRedis(t)
	fillRandom(t, r, 100, 1000)
	s, _ := dirStore(t)
	sn := newTestSnapshotter(t, r, s)
	f, err := learn(testContext(t), r.Client(t), "")
	if err != nil {
		t.Fatal(err)
	}
	// A dump of the last time that is larger than the disk, without the disk.
	free, err := availableBytes(r.Dir)
	if err != nil {
		t.Fatal(err)
	}
	sparse, err := os.Create(filepath.Join(r.Dir, f.dbfilename))
	if err != nil {
		t.Fatal(err)
	}
	defer sparse.Close()
	if err := sparse.Truncate(free); err != nil {
		t.Fatal(err)
	}
	_, err = sn.Snapshot(testContext(t), nil)
	wantError(t, err, status.ReasonDiskFull, "snapshot: "+r.Dir+" has ")
	if in, err := askInfo(testContext(t), r.Client(t), "persistence"); err != nil || in.Get("rdb_saves") != "0" {
		t.Errorf("rdb_saves %s, %v", in.Get("rdb_saves"), err)
	}
}

// Without inotify the directory is polled.
func TestFindWithoutInotify(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 1000, 100)
	slowSave(t, r, endless)
	ctx := testContext(t)
	c := r.Client(t)
	f, err := learn(ctx, c, "")
	if err != nil {
		t.Fatal(err)
	}
	b := bgsave{redis: c, facts: f, busyTimeout: time.Minute}
	old, err := b.tempFiles("")
	if err != nil {
		t.Fatal(err)
	}
	s, err := b.command(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	find := finder{bgsave: &b, save: s, old: old, serverPid: s.at.info.Get("process_id")}
	if s.f, err = find.find(ctx); err != nil {
		t.Fatal(err)
	}
	defer s.close()
	if name := filepath.Base(s.f.Name()); !isChildTemp(name, "") {
		t.Errorf("opened %s", name)
	}
	killSave(t, r)
}

// The child was killed before its file was found, and the file that is there is
// that of somebody else's save.
func TestFindOtherSave(t *testing.T) {
	r := testenv.StartRedis(t)
	r.Fill(t, "key", 1000, 100)
	slowSave(t, r, endless)
	ctx := testContext(t)
	c := r.Client(t)
	f, err := learn(ctx, c, "")
	if err != nil {
		t.Fatal(err)
	}
	b := bgsave{redis: c, facts: f, busyTimeout: time.Minute}
	s, err := b.command(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	killSave(t, r)
	waitSave(t, r, false)
	r.Do(t, "BGSAVE")
	find := finder{bgsave: &b, save: s, serverPid: s.at.info.Get("process_id")}
	testenv.Eventually(t, 10*time.Second, func() error { // until the other child has made its file
		names, err := b.tempFiles(find.serverPid)
		if len(names) == 0 {
			return fmt.Errorf("no file, %w", err)
		}
		return nil
	})
	if file, err := find.find(ctx); !errors.Is(err, errNotSeen) {
		if file != nil {
			_ = file.Close()
		}
		t.Errorf("find: %v, want %v", err, errNotSeen)
	}
	killSave(t, r)
}

func TestIsChildTemp(t *testing.T) {
	for name, want := range map[string]bool{
		"temp-123.rdb": true, "temp-7.rdb": false, "temp-1700000000.123.rdb": false, "temp-rewriteaof-bg-123.aof": false,
		"temp-.rdb": false, "temp-123.rdb.gz": false, "dump.rdb": false, "temp--1.rdb": false, "xtemp-123.rdb": false,
	} {
		if got := isChildTemp(name, "7"); got != want {
			t.Errorf("isChildTemp(%s) = %v", name, got)
		}
	}
}

// An intact RDB that is not the one that was asked for.
func TestConfirm(t *testing.T) {
	began := time.Unix(1_800_000_000, 0)
	at := &moment{runID: "a", began: began, before: keyCount{keys: 5}, after: keyCount{keys: 5}}
	ctime := func(at time.Time) map[string]string {
		return map[string]string{"ctime": strconv.FormatInt(at.Unix(), 10)}
	}
	for _, tt := range []struct {
		name  string
		runID string
		aux   map[string]string
		keys  uint64
		want  string // "" is no error
	}{
		{"it is the one", "a", ctime(began), 5, ""},
		{"a coarse clock", "a", ctime(began.Add(-time.Second)), 5, ""},
		{"a server that writes no time", "a", nil, 5, ""},
		{"another process", "b", ctime(began), 5, "the server was restarted during the save"},
		{"an older save", "a", ctime(began.Add(-2 * time.Second)), 5, "the file is of an older save: ctime "},
		{"no time", "a", map[string]string{"ctime": "x"}, 5, "the file is of an older save: ctime "},
		{"too few keys", "a", ctime(began), 4, "the file holds 4 keys"},
	} {
		summary := rdb.Summary{Aux: tt.aux, Walked: true, Databases: []rdb.Database{{Keys: tt.keys}}}
		err := at.confirm(tt.runID, summary)
		if tt.want != "" {
			wantError(t, err, status.ReasonSave, tt.want)
		} else if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestPlausible(t *testing.T) {
	n := func(keys, expires uint64) keyCount { return keyCount{keys, expires} }
	tests := []struct {
		keys          uint64
		before, after keyCount
		ok            bool
	}{
		{0, n(0, 0), n(0, 0), true},
		{2, n(2, 0), n(2, 0), true},
		{0, n(2, 0), n(2, 0), false},
		{1, n(2, 0), n(2, 0), false},
		{0, n(2, 2), n(2, 2), true}, // all may have expired
		{1, n(2, 1), n(2, 1), true},
		{3, n(2, 0), n(2, 0), false},
		{1000, n(1005, 0), n(1003, 0), true},
		{0, n(1_000_000, 10), n(1_000_000, 10), false},
		{980_000, n(1_000_000, 10), n(1_000_000, 10), false},
		{990_000, n(1_000_000, 0), n(1_000_000, 0), true},
	}
	for _, tt := range tests {
		if err := plausible(tt.keys, tt.before, tt.after); (err == nil) != tt.ok {
			t.Errorf("plausible(%d, %v, %v) = %v", tt.keys, tt.before, tt.after, err)
		}
	}
}
