package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// ExportOptions say what to write where.
type ExportOptions struct {
	Selection

	To    string // a file; its directory must exist
	Force bool   // replace a file of that name

	// Out gets the RDB in place of To. What it got is good only when Export
	// returns nil: the last bytes come before the verdict.
	Out io.Writer
}

// partialSuffix ends the name of a file that Export is writing. One name, so that
// however often it is killed, one file is left, which the next run takes over.
const partialSuffix = ".redis-sidecar-partial"

// Export writes the plain RDB of a snapshot to a file, which gets its name when
// all of it has been verified and is on disk. progress may be nil.
func Export(ctx context.Context, opts ExportOptions, cat *Catalogue, progress func(RestoreProgress)) (RestoreResult, error) {
	if progress == nil {
		progress = func(RestoreProgress) {}
	}
	mt := newMeter(progress)
	result, err := export(ctx, opts, cat, mt)
	if err != nil {
		if ctx.Err() != nil {
			err = status.WithReason(status.ReasonCanceled, err)
		}
		return RestoreResult{}, fmt.Errorf("restore to %s: %w", opts.to(), err)
	}
	result.Elapsed = time.Since(mt.began)
	return result, nil
}

func (o ExportOptions) to() string {
	if o.Out != nil {
		return "standard output"
	}
	return o.To
}

func export(ctx context.Context, opts ExportOptions, cat *Catalogue, mt *meter) (RestoreResult, error) {
	if opts.Out == nil {
		if err := opts.check(); err != nil {
			return RestoreResult{}, err
		}
	}
	mt.phase(PhaseFind, 0)
	m, err := cat.Select(ctx, opts.Selection)
	if err != nil {
		return RestoreResult{}, err
	}
	result := describeResult(m)
	result.Layout = opts.to()
	if opts.Out != nil {
		mt.phase(PhaseDownload, m.Object.Size)
		return result, cat.readVerified(ctx, m, opts.Out, func(stored, _ int64) { mt.at(stored) })
	}
	return result, opts.write(ctx, cat, m, mt)
}

// check refuses what cannot end well, before anything is downloaded.
func (o ExportOptions) check() error {
	info, err := os.Stat(o.To)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return diskError("look at the file", err)
	case info.IsDir():
		return status.WithHint(status.ReasonFile, "name a file, such as "+filepath.Join(o.To, "dump.rdb"), errors.New("it is a directory"))
	case !info.Mode().IsRegular():
		return status.WithHint(status.ReasonFile, "name a plain file, or - for standard output", errors.New("it is no plain file"))
	case !o.Force:
		return errTaken()
	}
	return nil
}

// fileExistsError is ErrHasData of a single file.
type fileExistsError struct{}

func (fileExistsError) Error() string        { return "the file exists" }
func (fileExistsError) Is(target error) bool { return target == ErrHasData }

func errTaken() error {
	return status.WithHint(status.ReasonFile, "name another file; --force replaces it", fileExistsError{})
}

func (o ExportOptions) write(ctx context.Context, cat *Catalogue, m Manifest, mt *meter) (err error) {
	dir, temp := filepath.Dir(o.To), o.To+partialSuffix
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return diskError("write file", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return status.WithHint(status.ReasonFile, "wait for it to end", errors.New("another restore writes this file"))
	}
	closed := false
	defer func() {
		if err != nil {
			_ = os.Remove(temp)
		}
		if !closed {
			_ = f.Close() // err is there already
		}
	}()
	if err := f.Truncate(0); err != nil {
		return diskError("write file", err)
	}
	free, err := availableBytes(dir)
	if err != nil {
		return diskError("free space of "+dir, err)
	}
	if need := m.RDB.Size; need > free {
		return status.WithHint(status.ReasonDiskFull, "choose another place or remove files from it",
			fmt.Errorf("%s has %s free, the RDB needs %s", dir, human.Bytes(free), human.Bytes(need)))
	}
	dump, err := newDumpFile(f, m)
	if err != nil {
		return err
	}
	mt.phase(PhaseDownload, m.Object.Size)
	if err := cat.readVerified(ctx, m, dump, func(stored, _ int64) { mt.at(stored) }); err != nil {
		return err
	}
	mt.phase(PhasePlace, 0)
	if err := f.Sync(); err != nil {
		return diskError("write file", err)
	}
	closed = true
	if err := f.Close(); err != nil {
		return diskError("write file", err)
	}
	if err := o.name(temp); err != nil {
		return err
	}
	return syncDir(dir)
}

// name gives the finished file its name. Without Force a file that has appeared
// meanwhile stays; where files cannot be linked, unless it does so this moment.
func (o ExportOptions) name(temp string) error {
	if o.Force {
		return named(os.Rename(temp, o.To))
	}
	err := os.Link(temp, o.To)
	switch {
	case err == nil:
		return named(os.Remove(temp))
	case errors.Is(err, fs.ErrExist), exists(o.To):
		return errTaken()
	}
	return named(os.Rename(temp, o.To))
}

func named(err error) error {
	if err != nil {
		return diskError("name the file", err)
	}
	return nil
}
