package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

// Dir is a store in a directory: one file per object. Files have mode 0600 and
// directories 0700, because a snapshot is as secret as the data. The directory
// itself must exist: making it could fill the container's own file system when
// a volume is not mounted. Symbolic links in it are not objects.
//
// Calls into a hung network file system cannot be interrupted.
type Dir struct {
	path string

	// create opens a new temporary file. Tests replace it to fill the disk.
	create func(root *os.Root, name string) (*os.File, error)
}

var _ Store = (*Dir)(nil)

func newDir(path string) *Dir {
	return &Dir{path: path, create: func(root *os.Root, name string) (*os.File, error) {
		return root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	}}
}

const (
	tempPrefix = ".incomplete-" // + random text: a file that Put is writing
	copyBuffer = 256 << 10
)

// isTemporary tells whether some element of key is a name that Put makes up.
func isTemporary(key string) bool {
	return strings.HasPrefix(key, tempPrefix) || strings.Contains(key, "/"+tempPrefix)
}

// String implements Store.
func (d *Dir) String() string { return "file://" + d.path }

// Close implements Store.
func (d *Dir) Close() error { return nil }

// open opens the directory for one call, so that a volume mounted later or
// again is seen. Names cannot lead out of an os.Root.
func (d *Dir) open() (*os.Root, error) {
	root, err := os.OpenRoot(d.path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, status.WithHint(status.ReasonStoreMissing,
			fmt.Sprintf("make the directory %s, or mount the volume there", d.path), errors.New("the directory does not exist"))
	}
	return root, err
}

// Put implements Store: temporary file in the object's directory, fsync,
// rename, fsync of the directory.
func (d *Dir) Put(ctx context.Context, key string, r io.Reader) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, d.error("put", key, err)
	}
	root, err := d.open()
	if err != nil {
		return 0, d.error("put", key, err)
	}
	defer func() { _ = root.Close() }()

	temp := path.Join(path.Dir(key), tempPrefix+rand.Text())
	f, err := d.createTemp(root, temp)
	if err != nil {
		return 0, d.error("put", key, err)
	}
	size, err := d.fill(ctx, f, key, r)
	if err != nil {
		_ = f.Close()
		_ = root.Remove(temp)
		removeEmptyParents(root, key)
		return 0, err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		_ = root.Remove(temp)
		return 0, d.error("put", key, err)
	}
	if err := root.Rename(temp, key); err != nil {
		_ = root.Remove(temp)
		return 0, d.error("put", key, err)
	}
	if err := syncDir(root, path.Dir(key)); err != nil {
		return 0, d.error("put", key, err)
	}
	return size, nil
}

// createTemp makes the directories and the file. A concurrent Delete may remove
// a directory that is still empty, hence the attempts.
func (d *Dir) createTemp(root *os.Root, name string) (f *os.File, err error) {
	for range 5 {
		if err := mkdirAll(root, path.Dir(name)); err != nil {
			return nil, err
		}
		f, err = d.create(root, name)
		if !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	return nil, err
}

// mkdirAll is root.MkdirAll, with each new directory on disk when it returns.
func mkdirAll(root *os.Root, dir string) error {
	if dir == "." {
		return nil
	}
	err := root.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := mkdirAll(root, path.Dir(dir)); err != nil {
			return err
		}
		err = root.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return syncDir(root, path.Dir(dir))
}

func syncDir(root *os.Root, dir string) error {
	f, err := root.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	return f.Sync()
}

// fill copies r to f and returns a complete error.
func (d *Dir) fill(ctx context.Context, f *os.File, key string, r io.Reader) (size int64, err error) {
	buf := make([]byte, copyBuffer)
	for {
		if err := contextError(ctx); err != nil {
			return 0, d.error("put", key, err)
		}
		n, rerr := r.Read(buf)
		if _, err := f.Write(buf[:n]); err != nil {
			return 0, d.error("put", key, err)
		}
		size += int64(n)
		if rerr == io.EOF {
			return size, nil
		}
		if rerr != nil {
			return 0, readError(key, rerr)
		}
	}
}

// Get implements Store.
func (d *Dir) Get(ctx context.Context, key string) (io.ReadCloser, int64, error) {
	if err := checkKey(key); err != nil {
		return nil, 0, d.error("get", key, err)
	}
	root, err := d.open()
	if err != nil {
		return nil, 0, d.error("get", key, err)
	}
	defer func() { _ = root.Close() }()
	// A look before the open: opening a FIFO would wait for a writer.
	st, err := statRegular(root, key)
	if err != nil {
		return nil, 0, d.error("get", key, err)
	}
	f, err := root.Open(key)
	if err != nil {
		return nil, 0, d.error("get", key, err)
	}
	return &dirReader{ctx: ctx, dir: d, key: key, file: f, left: st.Size()}, st.Size(), nil
}

// dirReader adds the key to errors and stops when ctx ends.
type dirReader struct {
	ctx  context.Context //nolint:containedctx // an io.Reader has nowhere else to get it from
	dir  *Dir
	key  string
	file *os.File
	left int64 // bytes
}

func (r *dirReader) Read(p []byte) (int, error) {
	if err := contextError(r.ctx); err != nil {
		return 0, r.dir.error("get", r.key, err)
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // it was longer when it was opened
	}
	if err != nil {
		err = r.dir.error("get", r.key, err)
	}
	return n, err
}

func (r *dirReader) Close() error { return r.file.Close() }

// Stat implements Store.
func (d *Dir) Stat(_ context.Context, key string) (int64, error) {
	if err := checkKey(key); err != nil {
		return 0, d.error("stat", key, err)
	}
	root, err := d.open()
	if err != nil {
		return 0, d.error("stat", key, err)
	}
	defer func() { _ = root.Close() }()
	st, err := statRegular(root, key)
	if err != nil {
		return 0, d.error("stat", key, err)
	}
	return st.Size(), nil
}

func statRegular(root *os.Root, key string) (fs.FileInfo, error) {
	st, err := root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !st.Mode().IsRegular() {
		return nil, absent{}
	}
	return st, err
}

// List implements Store.
func (d *Dir) List(ctx context.Context, prefix string, fn func(string, int64, time.Time) error) error {
	if err := checkPrefix(prefix); err != nil {
		return d.error("list", prefix, err)
	}
	root, err := d.open()
	if err != nil {
		return d.error("list", prefix, err)
	}
	defer func() { _ = root.Close() }()

	var fnErr error
	err = walk(ctx, root, prefix, func(key string, info fs.FileInfo) error {
		if isTemporary(key) {
			return nil
		}
		fnErr = fn(key, info.Size(), info.ModTime())
		return fnErr
	})
	if fnErr != nil {
		return fnErr
	}
	if err != nil {
		return d.error("list", prefix, err)
	}
	return nil
}

// walk calls fn for every regular file whose path starts with prefix. It holds
// a few hundred names in memory, however many there are.
func walk(ctx context.Context, root *os.Root, prefix string, fn func(string, fs.FileInfo) error) error {
	start := "."
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		start = prefix[:i]
	}
	return walkDir(ctx, root, start, prefix, fn)
}

func walkDir(ctx context.Context, root *os.Root, dir, prefix string, fn func(string, fs.FileInfo) error) error {
	// Not Open alone: the start may be an object or a FIFO.
	if st, err := root.Lstat(dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !st.IsDir() {
		return nil // nothing there, or not any more
	}
	f, err := root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	for {
		if err := contextError(ctx); err != nil {
			return err
		}
		entries, err := f.ReadDir(256)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // fn removed the last file, and the directory went with it
		}
		if err != nil && err != io.EOF {
			return err
		}
		for _, entry := range entries {
			name := path.Join(dir, entry.Name())
			switch {
			case entry.IsDir() && (strings.HasPrefix(name, prefix) || strings.HasPrefix(prefix, name+"/")):
				if err := walkDir(ctx, root, name, prefix, fn); err != nil {
					return err
				}
			case entry.Type().IsRegular() && strings.HasPrefix(name, prefix):
				info, err := root.Lstat(name)
				if errors.Is(err, fs.ErrNotExist) {
					continue // deleted meanwhile
				}
				if err != nil {
					return err
				}
				if err := fn(name, info); err != nil {
					return err
				}
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// Delete implements Store. Directories that become empty go too.
func (d *Dir) Delete(_ context.Context, key string) error {
	if err := checkKey(key); err != nil {
		return d.error("delete", key, err)
	}
	root, err := d.open()
	if err != nil {
		return d.error("delete", key, err)
	}
	defer func() { _ = root.Close() }()
	if _, err := statRegular(root, key); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return d.error("delete", key, err)
	}
	if err := root.Remove(key); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.error("delete", key, err)
	}
	// The order of deletions must survive a crash: a manifest that comes back
	// after its data is gone would be a lie.
	if err := syncDir(root, path.Dir(key)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return d.error("delete", key, err)
	}
	removeEmptyParents(root, key)
	return nil
}

// removeEmptyParents removes the directories above name, up to the root, as
// long as they are empty. It is tidiness: errors do not matter.
func removeEmptyParents(root *os.Root, name string) {
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if root.Remove(dir) != nil {
			return
		}
	}
}

// Sweep implements Store.
func (d *Dir) Sweep(ctx context.Context, olderThan time.Duration, _ func(key string) bool) (removed int, err error) {
	root, err := d.open()
	if err != nil {
		return 0, d.error("sweep", "", err)
	}
	defer func() { _ = root.Close() }()
	limit := time.Now().Add(-olderThan)
	err = walk(ctx, root, "", func(name string, info fs.FileInfo) error {
		if !isTemporary(name) || info.ModTime().After(limit) {
			return nil
		}
		if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		removeEmptyParents(root, name)
		removed++
		return nil
	})
	if err != nil {
		return removed, d.error("sweep", "", err)
	}
	return removed, nil
}

// error classifies a cause and says what was done to what.
func (d *Dir) error(op, key string, cause error) error {
	// os.Root's errors repeat a path that is said already.
	if p, ok := errors.AsType[*fs.PathError](cause); ok {
		cause = p.Err
	} else if l, ok := errors.AsType[*os.LinkError](cause); ok {
		cause = l.Err
	}
	err := opError(op, key, d, cause)
	switch {
	case errors.Is(cause, syscall.ENOSPC), errors.Is(cause, syscall.EDQUOT):
		return status.WithHint(status.ReasonDiskFull, fmt.Sprintf("make room in %s, or lower backup.retention", d.path), err)
	case errors.Is(cause, syscall.EROFS):
		return status.WithHint(status.ReasonStoreDenied, fmt.Sprintf("mount %s writable", d.path), err)
	case errors.Is(cause, fs.ErrPermission):
		return status.WithHint(status.ReasonStoreDenied,
			fmt.Sprintf("let the user with uid %d read and write %s", os.Geteuid(), d.path), err)
	}
	if known, ok := errors.AsType[*status.Error](cause); ok {
		return status.WithHint(known.Reason, known.Hint, err)
	}
	return status.WithReason(status.ReasonStore, err)
}
