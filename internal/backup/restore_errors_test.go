package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
	"github.com/redis-sidecar/redis-sidecar/internal/store"
)

// checkError compares reason and, as far as they are given, parts of message and
// hint.
func checkError(t *testing.T, err error, reason status.Reason, message, hint string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want %q", message)
		return
	}
	if got := status.ReasonOf(err); got != reason {
		t.Errorf("reason %q, want %q, of: %v", got, reason, err)
	}
	if !strings.Contains(err.Error(), message) {
		t.Errorf("error %q\nwant %q", err, message)
	}
	if got := status.HintOf(err); !strings.Contains(got, hint) {
		t.Errorf("hint %q\nwant %q", got, hint)
	}
}

// damage rewrites a snapshot's object or manifest in a directory store.
func (r *restorable) damage(name string, change func([]byte) []byte) {
	r.t.Helper()
	path := filepath.Join(r.root, restorableInstance, "snapshots", r.m.ID, name)
	b, err := os.ReadFile(path)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// replace alters a manifest, whose checksum is then that of what it says.
func replace(old, with string) func([]byte) []byte {
	return func(b []byte) []byte {
		re := regexp.MustCompile(old)
		return sealedAgain(re.ReplaceAll(b, []byte(with)))
	}
}

func TestRestoreRefusesBadSnapshots(t *testing.T) {
	const zst = "dump.rdb.zst"
	for _, test := range []struct {
		name          string
		spoil         func(*restorable)
		opts          RestoreOptions
		reason        status.Reason
		message, hint string
	}{
		{
			name: "bit flip in the compressed object",
			spoil: func(r *restorable) {
				r.damage(zst, func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
			},
			reason: status.ReasonCorrupt, message: "is damaged: ", hint: "take another one",
		},
		{
			name: "bit flip in a value of an uncompressed object",
			spoil: func(r *restorable) {
				r.m = r.add(r.t, r.m.CreatedAt.Add(time.Second), CompressionNone, nil)
				r.damage("dump.rdb", func(b []byte) []byte {
					i := strings.Index(string(b), "three")
					b[i] ^= 1
					return b
				})
			},
			reason: status.ReasonCorrupt, message: "checksum", hint: "take another one",
		},
		{
			name:   "truncated object",
			spoil:  func(r *restorable) { r.damage(zst, func(b []byte) []byte { return b[:len(b)-100] }) },
			reason: status.ReasonCorrupt, message: "the stored object has ", hint: "take another one",
		},
		{
			name: "bit flip in the manifest, where nothing else would show it",
			spoil: func(r *restorable) {
				r.damage("manifest.json", func(b []byte) []byte {
					return bytes.Replace(b, []byte(r.m.RDB.SHA256), []byte("0"+r.m.RDB.SHA256[1:]), 1)
				})
				r.damage("manifest.json", func(b []byte) []byte {
					return bytes.Replace(b, []byte(`"redis_version": "7`), []byte(`"redis_version": "6`), 1)
				})
			},
			reason: status.ReasonCorrupt, message: "manifest: checksum is ", hint: "",
		},
		{
			name: "truncated object with a manifest to match",
			spoil: func(r *restorable) {
				size := r.m.Object.Size - 100
				r.damage(zst, func(b []byte) []byte { return b[:size] })
				r.damage("manifest.json", replace(`"size": `+fmt.Sprint(r.m.Object.Size), `"size": `+fmt.Sprint(size)))
			},
			reason: status.ReasonCorrupt, message: "decompress: ", hint: "take another one",
		},
		{
			name: "something after the object's end",
			spoil: func(r *restorable) {
				r.damage(zst, func(b []byte) []byte { return append(b, "more"...) })
				r.damage("manifest.json", replace(`"size": `+fmt.Sprint(r.m.Object.Size), `"size": `+fmt.Sprint(r.m.Object.Size+4)))
			},
			reason: status.ReasonCorrupt, message: "is damaged: ", hint: "take another one",
		},
		{
			name: "wrong checksum of the object in the manifest",
			spoil: func(r *restorable) {
				r.damage("manifest.json", replace(r.m.Object.SHA256, strings.Repeat("ab", 32)))
			},
			reason: status.ReasonCorrupt, message: "sha256 of the stored bytes: ", hint: "take another one",
		},
		{
			name: "wrong checksum of the RDB in the manifest",
			spoil: func(r *restorable) {
				r.damage("manifest.json", replace(r.m.RDB.CRC64, strings.Repeat("ab", 8)))
			},
			reason: status.ReasonCorrupt, message: "crc64: ", hint: "take another one",
		},
		{
			name: "wrong key count in the manifest",
			spoil: func(r *restorable) {
				r.damage("manifest.json", replace(`"keys": 3008`, `"keys": 3009`))
				r.damage("manifest.json", replace(`"keys": 3006`, `"keys": 3007`))
			},
			reason: status.ReasonCorrupt, message: "keys: 3008, the manifest says 3009", hint: "take another one",
		},
		{
			name: "more data than the manifest says",
			spoil: func(r *restorable) {
				r.damage("manifest.json", replace(`"size": `+fmt.Sprint(r.m.RDB.Size), `"size": 1000`))
			},
			reason: status.ReasonCorrupt, message: "is damaged: the RDB is larger than the 1000 bytes that the manifest says", hint: "take another one",
		},
		{
			name: "manifest of a future format version",
			spoil: func(r *restorable) {
				r.damage("manifest.json", replace(`"format_version": 1`, `"format_version": 2`))
			},
			reason: status.ReasonCorrupt, message: "format_version 2, this program knows up to 1: written by a newer redis-sidecar",
			hint: "upgrade this one",
		},
		{
			name: "manifest that is none",
			spoil: func(r *restorable) {
				r.damage("manifest.json", func([]byte) []byte { return []byte("{") })
			},
			reason: status.ReasonCorrupt, message: "not a manifest", hint: "another snapshot",
		},
		{
			name: "object gone",
			spoil: func(r *restorable) {
				if err := r.cat.store.Delete(r.t.Context(), r.cat.ObjectKey(r.m)); err != nil {
					r.t.Fatal(err)
				}
			},
			reason: status.ReasonCorrupt, message: "snapshot %s: ", hint: "the manifest is there but its data is not",
		},
		{
			name:   "newer than the server can read",
			spoil:  func(*restorable) {},
			opts:   RestoreOptions{RedisVersion: "6.2.14"},
			reason: status.ReasonRejected, message: "redis 6.2.14 cannot read its format, REDIS 10, written by a server of version 7.0.15",
			hint: "or restore an older snapshot",
		},
		{
			name:   "unknown id",
			spoil:  func(*restorable) {},
			opts:   RestoreOptions{From: "20260101T000000Z-redis-0-aaaaaa"},
			reason: status.ReasonStoreMissing, message: "snapshot 20260101T000000Z-redis-0-aaaaaa: no such snapshot",
			hint: "there are: %s",
		},
		{
			name:   "not an id",
			spoil:  func(*restorable) {},
			opts:   RestoreOptions{From: "yesterday"},
			reason: status.ReasonStoreMissing, message: `"yesterday" is neither "latest" nor an id nor a time`, hint: `give "latest", an id`,
		},
		{
			name:   "before the first",
			spoil:  func(*restorable) {},
			opts:   RestoreOptions{From: "2020-01-01T00:00:00Z"},
			reason: status.ReasonStoreMissing, message: "none is as old as 2020-01-01T00:00:00Z, the oldest is %s", hint: "there are: %s",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRestorable(t)
			test.spoil(r)
			dir := t.TempDir()
			test.opts.Dir = dir
			_, _, err := r.restore(t, test.opts)
			id := func(s string) string { return strings.ReplaceAll(s, "%s", r.m.ID) }
			checkError(t, err, test.reason, id(test.message), id(test.hint))
			wantNoFiles(t, dir)
		})
	}
}

// Whatever bit of an object has flipped, it is not restored.
func TestRestoreRefusesEveryFlippedBit(t *testing.T) {
	r := newRestorable(t)
	const flips = 100
	for i := range int64(flips) {
		at := i * r.m.Object.Size / flips
		flip := func(b []byte) []byte { b[at] ^= 1 << (i % 8); return b }
		r.damage("dump.rdb.zst", flip)
		dir := t.TempDir()
		_, _, err := r.restore(t, RestoreOptions{Dir: dir})
		checkError(t, err, status.ReasonCorrupt, "snapshot "+r.m.ID+" is damaged: ", "")
		if left := tree(t, dir); len(left) > 0 {
			t.Errorf("byte %d: left %v", at, left)
		}
		r.damage("dump.rdb.zst", flip)
	}
	r.mustRestore(t, RestoreOptions{Dir: t.TempDir()})
}

// The newest snapshot being damaged is no reason to go back further by itself.
func TestRestoreNamesTheSnapshotBeforeADamagedOne(t *testing.T) {
	r := newRestorable(t)
	older := r.add(t, r.m.CreatedAt.Add(-time.Hour), CompressionZstd, nil)
	r.add(t, r.m.CreatedAt.Add(-2*time.Hour), CompressionZstd, nil)
	r.damage("dump.rdb.zst", func(b []byte) []byte { return b[1:] })
	_, _, err := r.restore(t, RestoreOptions{Dir: t.TempDir()})
	checkError(t, err, status.ReasonCorrupt, r.m.ID, "; the one before it is "+older.ID)
}

// failingStore cuts every read short with an error of the store.
type failingStore struct{ Store }

func (s failingStore) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	r, size, err := s.Store.Get(ctx, key)
	if err != nil || !strings.Contains(key, "dump.rdb") {
		return r, size, err
	}
	cut := iotest.ErrReader(status.WithHint(status.ReasonStoreUnreachable, "look at the store", errors.New("connection reset")))
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r, size/2), cut), r}, size, nil
}

func TestRestoreWhenTheStoreFailsMidway(t *testing.T) {
	r := newRestorable(t)
	for _, compression := range []string{CompressionZstd, CompressionNone} {
		m := r.add(t, r.m.CreatedAt.Add(time.Minute), compression, nil)
		cat, err := NewCatalogue(failingStore{r.cat.store}, r.cat.Instance())
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		_, err = Restore(t.Context(), RestoreOptions{Dir: dir, From: m.ID}, cat, slog.New(slog.DiscardHandler), nil)
		checkError(t, err, status.ReasonStoreUnreachable, "snapshot "+m.ID+": connection reset", "look at the store")
		wantNoFiles(t, dir)
	}
}

func TestRestoreWithoutSnapshots(t *testing.T) {
	root := t.TempDir()
	s, err := store.Open(t.Context(), "file://"+root, store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := NewCatalogue(s, "prod/new")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	_, err = Restore(t.Context(), RestoreOptions{Dir: dir}, cat, slog.New(slog.DiscardHandler), nil)
	checkError(t, err, status.ReasonStoreMissing, "instance prod/new in "+s.String()+": no snapshot yet", "for a new installation set restore.if-none to empty")
	if !errors.Is(err, ErrNoSnapshots) {
		t.Errorf("%v is not ErrNoSnapshots", err)
	}

	result, err := Restore(t.Context(), RestoreOptions{Dir: dir, IfNone: IfNoneEmpty}, cat, slog.New(slog.DiscardHandler), nil)
	if err != nil || result.Skipped != "there is no snapshot yet" {
		t.Errorf("%+v, %v", result, err)
	}
	wantNoFiles(t, dir)

	// Who asks for a certain one knows that there is one: not a new installation.
	_, err = Restore(t.Context(), RestoreOptions{Dir: dir, IfNone: IfNoneEmpty, From: "20260101T000000Z-redis-0-aaaaaa"}, cat, slog.New(slog.DiscardHandler), nil)
	checkError(t, err, status.ReasonStoreMissing, "no such snapshot", "the instance has no snapshot: check backup.store and backup.instance")
	_, err = Restore(t.Context(), RestoreOptions{Dir: dir, IfNone: IfNoneEmpty, From: "2026-11-23T06:15:30Z"}, cat, slog.New(slog.DiscardHandler), nil)
	checkError(t, err, status.ReasonStoreMissing, "no snapshot yet", "check backup.store and backup.instance")
}

// A node of a lost cluster whose restore.shard is not set has no snapshots of its
// own: that is no first installation.
func TestRestoreDoesNotStartEmptyBesideTheSnapshotsOfShards(t *testing.T) {
	st, _ := dirStore(t)
	cat := newTestCatalogue(t, st)
	shard, err := cat.Shard("05461")
	if err != nil {
		t.Fatal(err)
	}
	m := testManifest(time.Now(), 1)
	m.Instance, m.Slots = shard.Instance(), []SlotRange{{5461, 10922}}
	putSnapshot(t, shard, m)
	result, err := Restore(t.Context(), RestoreOptions{Dir: t.TempDir(), IfNone: IfNoneEmpty}, cat, slog.New(slog.DiscardHandler), nil)
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "instance test in ") || !strings.Contains(err.Error(), "it is that of a cluster") ||
		!strings.Contains(status.HintOf(err), "restore.shard") || !strings.Contains(status.HintOf(err), "test/shards/05461") {
		t.Errorf("%+v, %v, hint %q", result, err, status.HintOf(err))
	}
}

func TestRestoreRefusesBadDirectories(t *testing.T) {
	r := newRestorable(t)
	base := t.TempDir()
	write(t, "x", base, "file")
	for _, test := range []struct {
		name          string
		opts          RestoreOptions
		message, hint string
	}{
		{"none", RestoreOptions{}, "no data directory is given", "set restore.dir"},
		{"missing", RestoreOptions{Dir: filepath.Join(base, "missing")}, "data directory " + base + "/missing does not exist", "mount the server's data volume there"},
		{"a file", RestoreOptions{Dir: filepath.Join(base, "file")}, "data directory " + base + "/file is not a directory", "mount the server's data volume there"},
		{"below a file", RestoreOptions{Dir: filepath.Join(base, "file", "x")}, "data directory: stat " + base + "/file/x: not a directory", ""},
		{"a path for a name", RestoreOptions{Dir: base, Names: DataNames{DBFilename: "../x"}}, `dbfilename "../x" cannot be restored to`, "a plain file name"},
		{"a name that needs quotes", RestoreOptions{Dir: base, Names: DataNames{AppendFilename: "a b"}}, `appendfilename "a b" cannot be restored to`, "a plain file name"},
		{"one name twice", RestoreOptions{Dir: base, Names: DataNames{AppendDirname: "dump.rdb"}}, `dbfilename and the append-only name are both "dump.rdb"`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := r.restore(t, test.opts)
			checkError(t, err, status.ReasonFile, test.message, test.hint)
		})
	}
}
