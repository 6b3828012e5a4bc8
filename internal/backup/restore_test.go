package backup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/redis-sidecar/redis-sidecar/internal/rdb"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
	"github.com/redis-sidecar/redis-sidecar/internal/testenv"
)

// restorable is a snapshot of a real server in a store.
type restorable struct {
	t      *testing.T // that made it
	cat    *Catalogue
	url    string // of the store
	root   string // its directory, when it is one
	m      Manifest
	rdb    []byte
	digest string // DEBUG DIGEST of the server
}

const restorableInstance = "prod/cache"

// newRestorable makes a snapshot of every kind of data, in two databases, in a
// directory store.
func newRestorable(t *testing.T) *restorable {
	t.Helper()
	root := t.TempDir()
	return newRestorableIn(t, "file://"+root, root, store.Options{})
}

func newRestorableIn(t *testing.T, url, root string, opts store.Options) *restorable {
	t.Helper()
	server := testenv.StartRedis(t)
	server.Fill(t, "key", 3000, 200)
	for _, command := range []string{
		"SET soon value EX 86400",
		"HSET hash a 1 b 2",
		"RPUSH list one two three",
		"ZADD zset 1 a 2 b",
		"SADD set 1 2 3",
		"XADD stream 1-1 field value",
		"COPY hash again DB 3",
		"COPY soon later DB 3",
	} {
		server.Do(t, strings.Fields(command)...)
	}
	server.Do(t, "FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('f', function() return 1 end)")
	s, err := store.Open(t.Context(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	cat, err := NewCatalogue(s, restorableInstance)
	if err != nil {
		t.Fatal(err)
	}
	r := &restorable{t: t, cat: cat, url: url, root: root, digest: server.Digest(t)}
	r.m = mustSnapshot(t, newTestSnapshotter(t, server, s, func(o *SnapshotOptions) { o.Instance = restorableInstance }))
	server.Stop(t)
	if r.rdb, err = os.ReadFile(plainRDB(t, cat, r.m)); err != nil {
		t.Fatal(err)
	}
	return r
}

// add puts one more snapshot of the same data into the store; edit may change
// its manifest.
func (r *restorable) add(t *testing.T, at time.Time, compression string, edit func(*Manifest)) Manifest {
	t.Helper()
	object := r.rdb
	if compression == CompressionZstd {
		z, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		object = z.EncodeAll(r.rdb, nil)
		_ = z.Close()
	}
	summary, err := rdb.Scan(bytes.NewReader(r.rdb))
	if err != nil {
		t.Fatal(err)
	}
	m := Manifest{
		FormatVersion: FormatVersion,
		ID:            NewID(at, "redis-0"),
		Instance:      r.cat.Instance(),
		CreatedAt:     at.UTC(),
		Tool:          "test",
		Source:        SourceBGSave,
		Server:        Server{Pod: "redis-0", RunID: "run", Role: "master", Version: "7.0.15"},
		RDB:           describeRDB(summary),
		Object: Object{
			Name: objectName(compression, EncryptionNone), Compression: compression, Encryption: EncryptionNone,
			Size: int64(len(object)), SHA256: hexSHA256(object),
		},
	}
	m.RDB.Size, m.RDB.SHA256 = int64(len(r.rdb)), hexSHA256(r.rdb)
	if edit != nil {
		edit(&m)
	}
	if _, err := r.cat.store.Put(t.Context(), r.cat.ObjectKey(m), bytes.NewReader(object)); err != nil {
		t.Fatal(err)
	}
	if err := r.cat.publish(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	return m
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// restore restores and returns the log, too.
func (r *restorable) restore(t *testing.T, opts RestoreOptions) (RestoreResult, string, error) {
	t.Helper()
	var log bytes.Buffer
	result, err := Restore(t.Context(), opts, r.cat, textLog(&log), nil)
	return result, log.String(), err
}

func textLog(b *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// mustRestore restores into dir and expects that to work.
func (r *restorable) mustRestore(t *testing.T, opts RestoreOptions) RestoreResult {
	t.Helper()
	result, log, err := r.restore(t, opts)
	if err != nil {
		t.Fatalf("restore: %v\n%s", err, log)
	}
	if result.Skipped != "" {
		t.Fatalf("restore: skipped: %s", result.Skipped)
	}
	return result
}

// loads starts a real server on a copy of dir and compares all it holds.
func (r *restorable) loads(t *testing.T, dir string, args ...string) {
	t.Helper()
	server := startIn(t, copyOf(t, dir), args...)
	r.holds(t, server)
	server.Kill(t)
}

// holds compares what a server holds with the snapshot.
func (r *restorable) holds(t *testing.T, server *testenv.Redis) {
	t.Helper()
	if got := server.Digest(t); got != r.digest {
		t.Errorf("digest is %s after the restore, was %s; the server has %d keys, its log says:\n%s", got, r.digest, server.DBSize(t), server.Log())
	}
	if got := server.Do(t, "FCALL", "f", "0"); got != int64(1) {
		t.Errorf("FCALL f: %v", got)
	}
}

// startIn starts a real server in dir and waits until it has loaded all its data:
// before that, it answers and DEBUG DIGEST works already.
func startIn(t *testing.T, dir string, args ...string) *testenv.Redis {
	t.Helper()
	server := testenv.StartRedisIn(t, dir, args...)
	loaded(t, server)
	return server
}

func loaded(t *testing.T, server *testenv.Redis) {
	t.Helper()
	client := server.Client(t)
	testenv.Eventually(t, 20*time.Second, func() error {
		_, err := client.Do(t.Context(), "PING")
		return err
	})
}

// copyOf copies a directory; hard links become files of their own.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

// tree lists all files below dir.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// wantNoFiles wants no file below dir.
func wantNoFiles(t *testing.T, dir string) {
	t.Helper()
	if left := tree(t, dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

func write(t *testing.T, text string, path ...string) {
	t.Helper()
	name := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	ai, err := os.Stat(a)
	if err != nil {
		t.Fatal(err)
	}
	bi, err := os.Stat(b)
	if err != nil {
		t.Fatal(err)
	}
	return os.SameFile(ai, bi)
}

func TestRestoreLoadsUnderEitherSetting(t *testing.T) {
	r := newRestorable(t)
	for _, test := range []struct {
		name  string
		names DataNames
		args  []string
		files []string
	}{
		{
			name:  "default names",
			files: []string{"appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.manifest", "dump.rdb"},
		},
		{
			name:  "names of a redis.conf",
			names: DataNames{DBFilename: "data.rdb", AppendDirname: "aof", AppendFilename: "log"},
			args:  []string{"--dbfilename", "data.rdb", "--appenddirname", "aof", "--appendfilename", "log"},
			files: []string{"aof/log.1.base.rdb", "aof/log.manifest", "data.rdb"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			result := r.mustRestore(t, RestoreOptions{Dir: dir, Names: test.names, RedisVersion: "7.0.15"})
			if diff := cmp.Diff(test.files, tree(t, dir)); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if !sameFile(t, filepath.Join(dir, test.files[0]), filepath.Join(dir, test.files[2])) {
				t.Error("the dump and the base are two files")
			}
			r.loads(t, dir, append(test.args, "--appendonly", "yes")...)
			r.loads(t, dir, append(test.args, "--appendonly", "no")...)

			want := RestoreResult{
				ID: r.m.ID, CreatedAt: r.m.CreatedAt, Keys: 3008, Expiring: 2, Bytes: r.m.RDB.Size, Stored: r.m.Object.Size,
				Instance: restorableInstance, Store: r.url, Server: "7.0.15", Format: "REDIS 10",
				Layout: fmt.Sprintf("%s and %s, one file under both names", test.files[2], filepath.Dir(test.files[0])),
			}
			want.Expired.Known = true
			if result.Elapsed <= 0 {
				t.Errorf("it took %s", result.Elapsed)
			}
			result.Elapsed = 0
			if diff := cmp.Diff(want, result); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

// The base and the dump are one inode. A server that wrote into either in place
// would damage the other.
func TestRestoredHardLinkSurvivesTheServersOwnSavesAndRewrites(t *testing.T) {
	r := newRestorable(t)
	want := hexSHA256(r.rdb)
	sum := func(path ...string) string {
		b, err := os.ReadFile(filepath.Join(path...))
		if err != nil {
			t.Fatal(err)
		}
		return hexSHA256(b)
	}
	idle := func(server *testenv.Redis) {
		testenv.Eventually(t, 20*time.Second, func() error {
			info := server.Do(t, "INFO", "persistence").(string)
			for _, busy := range []string{"rdb_bgsave_in_progress:1", "aof_rewrite_in_progress:1", "aof_rewrite_scheduled:1"} {
				if strings.Contains(info, busy) {
					return fmt.Errorf("%s", busy)
				}
			}
			return nil
		})
	}
	const base1, base2 = "appendonlydir/appendonly.aof.1.base.rdb", "appendonlydir/appendonly.aof.2.base.rdb"

	t.Run("save, then rewrite", func(t *testing.T) {
		dir := t.TempDir()
		r.mustRestore(t, RestoreOptions{Dir: dir})
		server := startIn(t, dir, "--appendonly", "yes")
		server.Do(t, "SET", "more", "1")
		server.Do(t, "BGSAVE")
		idle(server)
		if sum(dir, base1) != want || sum(dir, "dump.rdb") == want {
			t.Error("BGSAVE wrote into the base, or did not replace the dump")
		}
		server.Do(t, "BGREWRITEAOF")
		idle(server)
		if sameFile(t, filepath.Join(dir, base2), filepath.Join(dir, "dump.rdb")) {
			t.Error("the new base is the dump")
		}
		before := server.Digest(t)
		server.Restart(t)
		loaded(t, server)
		if server.Digest(t) != before {
			t.Error("the data changed over a restart")
		}
	})
	t.Run("rewrite, then save", func(t *testing.T) {
		dir := t.TempDir()
		r.mustRestore(t, RestoreOptions{Dir: dir})
		server := startIn(t, dir, "--appendonly", "yes")
		server.Do(t, "SET", "more", "1")
		server.Do(t, "BGREWRITEAOF")
		idle(server)
		if sum(dir, "dump.rdb") != want {
			t.Error("BGREWRITEAOF changed the dump")
		}
		server.Do(t, "SAVE")
		if exists(filepath.Join(dir, base1)) || sum(dir, base2) == want {
			t.Error("the rewrite left the restored base in use")
		}
	})
	t.Run("appendonly no, turned on later", func(t *testing.T) {
		dir := t.TempDir()
		r.mustRestore(t, RestoreOptions{Dir: dir})
		server := startIn(t, dir, "--appendonly", "no")
		server.Do(t, "SET", "more", "1")
		server.Do(t, "SAVE")
		if sum(dir, base1) != want {
			t.Error("SAVE wrote into the base")
		}
		before := server.Digest(t)

		// Now a start with appendonly yes would go back in time: warned of at the
		// next start of the pod, and avoided by turning it on in the running server.
		_, log, err := r.restore(t, RestoreOptions{Dir: dir})
		if err != nil || !strings.Contains(log, "a start with appendonly yes would load the old ones") {
			t.Errorf("no warning of the old append-only files: %v\n%s", err, log)
		}
		server.Do(t, "CONFIG", "SET", "appendonly", "yes")
		idle(server)
		server.Kill(t)
		again := startIn(t, dir, "--appendonly", "yes")
		if again.Digest(t) != before {
			t.Error("the data changed when append-only files were turned on")
		}
		if _, log, err := r.restore(t, RestoreOptions{Dir: dir}); err != nil || strings.Contains(log, "WARN") {
			t.Errorf("still warned: %v\n%s", err, log)
		}
	})
}

// A server before Redis 7 appends to its only file. Redis 7 takes that file up.
func TestRestoreForAServerBeforeRedis7(t *testing.T) {
	r := newRestorable(t)
	// Redis 6.2 could not read this snapshot: the version comes from its manifest.
	old := r.add(t, r.m.CreatedAt.Add(time.Second), CompressionZstd, func(m *Manifest) { m.Server.Version = "6.2.14" })
	dir := t.TempDir()
	result := r.mustRestore(t, RestoreOptions{Dir: dir})
	if result.ID != old.ID || result.Layout != "dump.rdb and appendonly.aof (as before Redis 7)" {
		t.Errorf("restored %s as %s", result.ID, result.Layout)
	}
	if diff := cmp.Diff([]string{"appendonly.aof", "dump.rdb"}, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if sameFile(t, filepath.Join(dir, "appendonly.aof"), filepath.Join(dir, "dump.rdb")) {
		t.Error("an old server would append to the dump")
	}
	r.loads(t, dir, "--appendonly", "yes")
	r.loads(t, dir, "--appendonly", "no")
}

// Where files cannot be linked, the base is a copy. To this test, a name that is
// taken stands for such a file system.
func TestRestoreWithoutHardLinks(t *testing.T) {
	r := newRestorable(t)
	dir := t.TempDir()
	taken := filepath.Join(dir, stagingName, "link")
	result := r.mustRestore(t, RestoreOptions{Dir: dir, step: func(step string) {
		switch step {
		case "begun":
			write(t, "", taken)
		case "downloading":
			if exists(taken) {
				t.Error("the trial link is still there")
			}
		}
	}})
	if result.Layout != "dump.rdb and appendonlydir" {
		t.Errorf("layout: %s", result.Layout)
	}
	r.complete(t, dir)
	if sameFile(t, filepath.Join(dir, "appendonlydir/appendonly.aof.1.base.rdb"), filepath.Join(dir, "dump.rdb")) {
		t.Error("one file")
	}
	r.loads(t, dir, "--appendonly", "yes")
	r.loads(t, dir, "--appendonly", "no")
}

func TestRestoreWithoutCompression(t *testing.T) {
	r := newRestorable(t)
	plain := r.add(t, r.m.CreatedAt.Add(time.Second), CompressionNone, nil)
	dir := t.TempDir()
	if result := r.mustRestore(t, RestoreOptions{Dir: dir}); result.ID != plain.ID {
		t.Errorf("restored %s", result.ID)
	}
	r.loads(t, dir, "--appendonly", "yes")
}

func TestRestoreFromS3(t *testing.T) {
	s3 := testenv.StartS3(t)
	s3.CreateBucket(t, "backups")
	r := newRestorableIn(t, s3.URL("backups", "here"), "", store.Options{Getenv: s3.Getenv})
	dir := t.TempDir()
	var seen []RestoreProgress
	_, err := Restore(t.Context(), RestoreOptions{Dir: dir}, r.cat, slog.New(slog.DiscardHandler), func(p RestoreProgress) { seen = append(seen, p) })
	if err != nil {
		t.Fatal(err)
	}
	r.loads(t, dir, "--appendonly", "yes")
	r.loads(t, dir, "--appendonly", "no")

	var phases []Phase
	for _, p := range seen {
		if len(phases) == 0 || phases[len(phases)-1] != p.Phase {
			phases = append(phases, p.Phase)
		}
		if p.Phase == PhaseDownload && p.Total != r.m.Object.Size {
			t.Errorf("total is %d of %d bytes", p.Total, r.m.Object.Size)
		}
	}
	if diff := cmp.Diff([]Phase{PhaseFind, PhaseDownload, PhasePlace}, phases); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	if last := seen[len(seen)-2]; last.Done != r.m.Object.Size {
		t.Errorf("the last report of the download: %+v", last)
	}
}

func TestRestoreWarns(t *testing.T) {
	r := newRestorable(t)
	for what, edit := range map[string]struct {
		at    time.Time
		slots []SlotRange
	}{
		"is dated in the future":       {at: time.Now().AddDate(1, 0, 0)},
		"is of one shard of a cluster": {at: time.Now(), slots: []SlotRange{{0, 5460}}},
	} {
		m := r.add(t, edit.at, CompressionZstd, func(m *Manifest) { m.Slots = edit.slots })
		_, log, err := r.restore(t, RestoreOptions{Dir: t.TempDir(), From: m.ID})
		if err != nil || strings.Count(log, "WARN") != 1 || !strings.Contains(log, what) {
			t.Errorf("%v, want one warning: %s:\n%s", err, what, log)
		}
	}
}

func TestRestoreChoosesTheSnapshot(t *testing.T) {
	r := newRestorable(t)
	noon := time.Date(2026, 1, 23, 12, 0, 0, 0, time.UTC)
	first := r.add(t, noon, CompressionZstd, nil)
	r.add(t, noon.Add(time.Hour), CompressionZstd, nil)
	for _, test := range []struct{ from, want string }{
		{"", r.m.ID},
		{"latest", r.m.ID},
		{first.ID, first.ID},
		{"2026-01-23T12:30:00Z", first.ID},
		{"2026-01-23T13:30:00+01:00", first.ID},
	} {
		if got := r.mustRestore(t, RestoreOptions{Dir: t.TempDir(), From: test.from}).ID; got != test.want {
			t.Errorf("from %q: %s, want %s", test.from, got, test.want)
		}
	}
}

func TestRestoreDryRunChangesNothing(t *testing.T) {
	r := newRestorable(t)
	dir := t.TempDir()
	write(t, "x", dir, "temp-123.rdb")
	result, log, err := r.restore(t, RestoreOptions{Dir: dir, DryRun: true})
	if err != nil || !result.DryRun || result.ID != r.m.ID || result.Keys != 3008 {
		t.Errorf("%+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"temp-123.rdb"}, tree(t, dir)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	want := `level=INFO msg="leftover of a killed redis-server; it takes space and is safe to remove" file=temp-123.rdb bytes=1
level=INFO msg="the server's version is not known: not checked whether it can read the snapshot" rdb_version=10 made_by=7.0.15 hint="set restore.redis-version, or restore.redis-server to its binary"
level=INFO msg="would restore" snapshot=` + r.m.ID + ` age=AGE keys=3008 bytes=` + fmt.Sprint(r.m.RDB.Size) + ` dir=` + dir + ` layout="dump.rdb and appendonlydir, one file under both names" expiring_keys=2 note="keys whose time to live has passed since the snapshot are dropped by the server"
`
	log = regexp.MustCompile(`age=\d+s`).ReplaceAllString(log, "age=AGE")
	if diff := cmp.Diff(want, log); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
}

// An init container runs at every start of its pod.
func TestRestoreAgainLeavesTheDataAlone(t *testing.T) {
	r := newRestorable(t)
	for _, appendonly := range []string{"yes", "no"} {
		dir := t.TempDir()
		r.mustRestore(t, RestoreOptions{Dir: dir})
		server := startIn(t, dir, "--appendonly", appendonly)
		server.Do(t, "SET", "more", "1")
		if appendonly == "no" {
			server.Do(t, "SAVE")
		}
		before := server.Digest(t)
		server.Stop(t)
		result, log, err := r.restore(t, RestoreOptions{Dir: dir})
		if err != nil || !strings.HasPrefix(result.Skipped, "the directory holds data: appendonlydir (") || !strings.HasSuffix(result.Skipped, " files), dump.rdb") {
			t.Errorf("%+v, %v\n%s", result, err, log)
		}
		server.Start(t)
		loaded(t, server)
		if server.Digest(t) != before {
			t.Errorf("appendonly %s: the second restore changed the data", appendonly)
		}
	}
}

func TestRestoreExcludesAnother(t *testing.T) {
	r := newRestorable(t)
	dir := t.TempDir()
	var second error
	opts := RestoreOptions{Dir: dir, step: func(step string) {
		if step == "downloading" {
			_, _, second = r.restore(t, RestoreOptions{Dir: dir})
		}
	}}
	r.mustRestore(t, opts)
	if second == nil || second.Error() != "restore: another restore is at work in "+dir {
		t.Errorf("second restore: %v", second)
	}
	r.loads(t, dir, "--appendonly", "yes")
}

func TestRestoreStoppedBySignalLeavesNothing(t *testing.T) {
	r := newRestorable(t)
	for _, at := range []string{"begun", "downloading", "downloaded", "staged"} {
		dir := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Restore(ctx, RestoreOptions{Dir: dir, step: func(step string) {
			if step == at {
				cancel()
			}
		}}, r.cat, slog.New(slog.DiscardHandler), nil)
		cancel()
		checkError(t, err, "canceled", context.Canceled.Error(), "")
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("stopped after %q: left %v", at, left)
		}
	}
}
