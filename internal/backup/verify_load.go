package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// LoadServer loads an RDB into a server of its own.
type LoadServer interface {
	// Load loads dir/dump.rdb, which needs so many databases, and returns what the
	// server counts, expired keys included. Its error carries status.ReasonCorrupt
	// when the server calls the file damaged.
	Load(ctx context.Context, dir string, databases int, progress func(bytes int64)) (version string, counts []Database, err error)
}

// VerifyOptions say how deep a verification goes, and who verifies.
type VerifyOptions struct {
	// Load also loads the snapshot; nil does not. That needs as much disk as the
	// RDB is large, in TempDir, and as much memory as the data takes.
	Load LoadServer
	// TempDir is where; empty is the system's own (TMPDIR).
	TempDir string
	// Tool and Pod are for the record.
	Tool, Pod string
	Scheduled bool
	// Progress may be nil; it is called from the same goroutine, often.
	Progress func(Progress)
	// Log is told of a read that is done again, and of a record that cannot be
	// written; nil: nobody is.
	Log *slog.Logger
}

// VerifyAndRecord is Verify, which see, with what the options say, and writes down
// beside the snapshot what it found, for others to know.
//
// An error that carries status.ReasonCorrupt says that the snapshot is damaged; that
// is recorded, too. Data that are not what the manifest says are read a second time
// before: a proxy or a memory cell that fails once is no damage of the snapshot.
// ErrNotFound is of one that was deleted meanwhile. Any other error says that it
// could not be verified, as deep as asked for; what was verified before is recorded.
// Where the snapshot passed or is damaged, and that could not be recorded, the error
// also wraps ErrNotRecorded: of the two, damage is what gives the reason.
func (c *Catalogue) VerifyAndRecord(ctx context.Context, id string, o VerifyOptions) (Manifest, Verification, error) {
	began := time.Now()
	v := Verification{Tool: o.Tool, Pod: o.Pod, Scheduled: o.Scheduled}
	m, err := c.Get(ctx, id)
	if err != nil {
		return Manifest{}, v, fmt.Errorf("verify: %w", err)
	}
	v.ObjectSHA256 = m.Object.SHA256
	err = c.verifyTwice(ctx, m, o, &v)
	if err != nil && c.gone(ctx, id) {
		return m, Verification{}, fmt.Errorf("verify: snapshot %s was deleted meanwhile: %w", id, ErrNotFound)
	}
	if status.ReasonOf(err) == status.ReasonCorrupt {
		v.Level, v.Damage = cmp.Or(v.Level, c.Level(m)), damageText(err)
	}
	if err == nil && o.Load != nil && v.Level == LevelStored {
		err = status.WithHint(status.ReasonKey, "set backup.encryption.identity-file", fmt.Errorf("verify: snapshot %s is encrypted: without its key it cannot be loaded, only its stored bytes were verified", id))
	}
	if v.Level == "" {
		return m, v, err // nothing was found out
	}
	v.VerifiedAt, v.Duration = time.Now().UTC().Truncate(time.Millisecond), seconds(time.Since(began))
	if recordErr := c.record(ctx, id, v); recordErr != nil {
		if c.gone(ctx, id) {
			return m, Verification{}, fmt.Errorf("verify: snapshot %s was deleted meanwhile: %w", id, ErrNotFound)
		}
		o.logger().Warn("what the verification found could not be recorded", "snapshot", id, "damage", v.Damage,
			"reason", string(status.ReasonOf(recordErr)), "error", recordErr, "hint", status.HintOf(recordErr))
		err = notRecorded(err, v, recordErr)
	}
	return m, v, err
}

// notRecorded adds to the error of a verification that what it found could not be
// recorded.
func notRecorded(err error, v Verification, recordErr error) error {
	reason := status.ReasonOf(recordErr)
	if err != nil {
		reason = status.ReasonOf(err)
	}
	if err == nil || !v.OK() {
		recordErr = fmt.Errorf("%w: %w", ErrNotRecorded, recordErr)
	}
	return status.WithReason(reason, joined(err, recordErr))
}

func (o VerifyOptions) logger() *slog.Logger {
	if o.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Log
}

// verifyTwice verifies as deep as asked for, and what was read amiss once more. The
// level that was reached is in v.
func (c *Catalogue) verifyTwice(ctx context.Context, m Manifest, o VerifyOptions, v *Verification) error {
	log := o.logger()
	first := c.verifyOnce(ctx, m, o, v)
	// With a level it was read well; then it is the server that does not like it.
	if status.ReasonOf(first) != status.ReasonCorrupt || v.Level != "" || c.gone(ctx, m.ID) {
		return first
	}
	log.Warn("what was read of a snapshot is not what its manifest says: it is read a second time", "snapshot", m.ID, "error", first)
	err := c.verifyOnce(ctx, m, o, v)
	if v.Level != "" {
		log.Warn("the second read of the snapshot was good: something between the store and this process alters data now and then", "snapshot", m.ID, "first", first)
	}
	return err
}

func (c *Catalogue) verifyOnce(ctx context.Context, m Manifest, o VerifyOptions, v *Verification) error {
	if o.Load != nil && c.Level(m) == LevelFull {
		return c.verifyLoaded(ctx, m, o, v)
	}
	_, err := c.Verify(ctx, m.ID, o.Progress)
	if err == nil {
		v.Level = c.Level(m)
	}
	return err
}

// gone tells whether a snapshot was deleted: a store that does not answer does not
// say so.
func (c *Catalogue) gone(ctx context.Context, id string) bool {
	_, err := c.store.Stat(ctx, c.manifestKey(id))
	return errors.Is(err, fs.ErrNotExist)
}

// ErrNotRecorded is wrapped by the error for a verification whose result, good or
// bad, could not be written down.
var ErrNotRecorded = errors.New("verified, but not recorded")

// damageText is what a record says of damage: one line, of limited length.
func damageText(err error) string {
	const limit = 500
	text := strings.ToValidUTF8(strings.TrimPrefix(err.Error(), "verify: "), "?")
	if len(text) > limit {
		text = strings.ToValidUTF8(text[:limit], "") + "…"
	}
	return text
}

// verifyLoaded writes the RDB of a snapshot to a file, verifying it on the way,
// and loads it. The level that was reached is in v.
func (c *Catalogue) verifyLoaded(ctx context.Context, m Manifest, o VerifyOptions, v *Verification) error {
	if len(m.RDB.Modules) > 0 {
		if _, err := c.Verify(ctx, m.ID, o.Progress); err != nil {
			return err
		}
		v.Level = LevelFull
		return status.WithHint(status.ReasonRejected, "verify it without loading",
			fmt.Errorf("verify: snapshot %s holds data of modules (%s), and a scratch server has none", m.ID, strings.Join(m.RDB.Modules, ", ")))
	}
	dir, release, err := scratchDir(o.TempDir, m.RDB.Size)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	defer release()
	if err := c.writeVerified(ctx, m, filepath.Join(dir, "dump.rdb"), o.Progress); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	v.Level = LevelFull
	databases := 0
	for _, db := range m.RDB.Databases {
		databases = max(databases, db.Index+1)
	}
	progress := func(n int64) {
		if o.Progress != nil {
			o.Progress(Progress{Phase: PhaseLoad, Plain: n, Stored: n, Total: m.RDB.Size, Keys: m.RDB.Keys})
		}
	}
	progress(0)
	version, counts, err := o.Load.Load(ctx, dir, databases, progress)
	if status.ReasonOf(err) == status.ReasonCorrupt {
		v.Level = LevelLoaded
		return fmt.Errorf("verify: %w", damaged(m.ID, err))
	}
	if err != nil {
		return fmt.Errorf("verify: snapshot %s: %w", m.ID, err)
	}
	v.Level, v.Server = LevelLoaded, version
	if !m.RDB.Walked {
		return nil // it loads; nobody has counted before
	}
	if diff := countsDiffer(m.RDB.Databases, counts); diff != nil {
		return fmt.Errorf("verify: %w", damaged(m.ID, fmt.Errorf("loaded by %s: %w", version, diff)))
	}
	return nil
}

// countsDiffer compares the keys of every database.
func countsDiffer(want, got []Database) error {
	count := func(dbs []Database, i int) Database {
		for _, db := range dbs {
			if db.Index == i {
				return db
			}
		}
		return Database{Index: i}
	}
	var errs []error
	seen := map[int]bool{}
	for _, dbs := range [][]Database{want, got} {
		for _, db := range dbs {
			if seen[db.Index] {
				continue
			}
			seen[db.Index] = true
			w, g := count(want, db.Index), count(got, db.Index)
			errs = append(errs,
				differs(fmt.Sprintf("keys in database %d", db.Index), w.Keys, g.Keys),
				differs(fmt.Sprintf("keys with a time to live in database %d", db.Index), w.Expires, g.Expires))
		}
	}
	return joined(errs...)
}

// writeVerified writes the plain RDB of a snapshot to a new file.
func (c *Catalogue) writeVerified(ctx context.Context, m Manifest, path string, progress func(Progress)) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return status.WithReason(status.ReasonFile, err)
	}
	err = c.readVerified(ctx, m, localWriter{f}, func(stored, plain int64) {
		if progress != nil {
			progress(Progress{Phase: PhaseVerify, Stored: stored, Plain: plain, Total: m.Object.Size, Keys: m.RDB.Keys})
		}
	})
	if closeErr := f.Close(); err == nil && closeErr != nil {
		err = status.WithReason(status.ReasonFile, closeErr)
	}
	return err
}

// localWriter gives the errors of a file their reasons.
type localWriter struct{ f *os.File }

// Write implements io.Writer.
func (w localWriter) Write(p []byte) (int, error) {
	n, err := w.f.Write(p)
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		err = status.WithHint(status.ReasonDiskFull, "set TMPDIR to a directory with more room", err)
	case err != nil:
		err = status.WithReason(status.ReasonFile, err)
	}
	return n, err
}

// scratchPrefix begins the names of the directories that scratch servers run in.
const scratchPrefix = "redis-sidecar-verify-"

// scratchDir makes a private directory with room for an RDB. It first removes
// those whose processes were killed: each is locked while it is in use.
func scratchDir(parent string, size int64) (dir string, release func(), err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	sweepScratch(parent)
	const spare = 64 << 20 // for others
	free, err := availableBytes(parent)
	if err != nil {
		return "", nil, status.WithHint(status.ReasonFile, "set TMPDIR to a directory that can be written to", fmt.Errorf("%s: %w", parent, err))
	}
	if free < size+size/20+spare {
		return "", nil, status.WithHint(status.ReasonDiskFull, "set TMPDIR to a directory with more room",
			fmt.Errorf("%s has %s free; to load the snapshot takes %s", parent, human.Bytes(free), human.Bytes(size+size/20+spare)))
	}
	if dir, err = os.MkdirTemp(parent, scratchPrefix); err != nil {
		return "", nil, status.WithHint(status.ReasonFile, "set TMPDIR to a directory that can be written to", err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	}
	release = func() {
		_ = os.RemoveAll(dir)
		_ = lock.Close()
	}
	if err != nil {
		release()
		return "", nil, status.WithReason(status.ReasonFile, fmt.Errorf("lock %s: %w", dir, err))
	}
	return dir, release, nil
}

// sweepScratch removes what processes that were killed left behind.
func sweepScratch(parent string) {
	const young = time.Minute // its owner may not have locked it yet
	dirs, err := filepath.Glob(filepath.Join(parent, scratchPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range dirs {
		lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|syscall.O_NOFOLLOW, 0)
		if err != nil {
			continue
		}
		st, err := lock.Stat()
		if err == nil && time.Since(st.ModTime()) > young && syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) == nil {
			_ = os.RemoveAll(dir)
		}
		_ = lock.Close()
	}
}
