package store

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"
)

// GetVersioned implements Store. The version is the SHA-256 of the bytes.
func (d *Dir) GetVersioned(ctx context.Context, key string) ([]byte, string, error) {
	if err := errors.Join(contextError(ctx), checkKey(key)); err != nil {
		return nil, "", d.error("get", key, err)
	}
	root, err := d.open()
	if err != nil {
		return nil, "", d.error("get", key, err)
	}
	defer func() { _ = root.Close() }()
	data, err := readRecord(root, key)
	if err != nil {
		return nil, "", d.error("get", key, err)
	}
	return data, contentVersion(data), nil
}

func readRecord(root *os.Root, key string) ([]byte, error) {
	if _, err := statRegular(root, key); err != nil { // as in Get
		return nil, err
	}
	f, err := root.Open(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, absent{}
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err == nil && len(data) > maxRecord {
		err = tooLarge(int64(len(data)))
	}
	return data, err
}

func contentVersion(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// PutIf implements Store. Writers, also those of other processes and, on a
// network file system that has locks, of other hosts, take turns by a lock on a
// file beside the object; the kernel gives it back when its holder dies.
func (d *Dir) PutIf(ctx context.Context, key string, data []byte, version string) (string, error) {
	if err := errors.Join(contextError(ctx), checkKey(key)); err != nil {
		return "", d.error("put", key, err)
	}
	if len(data) > maxRecord {
		return "", d.error("put", key, tooLarge(int64(len(data))))
	}
	root, err := d.open()
	if err != nil {
		return "", d.error("put", key, err)
	}
	defer func() { _ = root.Close() }()
	unlock, err := d.lock(ctx, root, path.Join(path.Dir(key), lockName))
	if err != nil {
		return "", d.error("put", key, err)
	}
	err = d.replace(ctx, root, key, data, version)
	unlock()
	removeEmptyParents(root, key)
	if err != nil {
		return "", d.error("put", key, err)
	}
	return contentVersion(data), nil
}

// replace does PutIf's work under its lock.
func (d *Dir) replace(ctx context.Context, root *os.Root, key string, data []byte, version string) error {
	now := ""
	switch there, err := readRecord(root, key); {
	case err == nil:
		now = contentVersion(there)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if now != version {
		return otherVersionError{}
	}
	temp := path.Join(path.Dir(key), tempPrefix+rand.Text())
	f, err := d.create(root, temp)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, bytes.NewReader(data))
	if err = errors.Join(err, contextError(ctx)); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = root.Rename(temp, key)
	}
	if err != nil {
		_ = root.Remove(temp)
		return err
	}
	return syncDir(root, path.Dir(key))
}

const (
	lockName = tempPrefix + "lock" // in the directory of each object of PutIf, while it runs

	// lockPatience bounds the wait for other writers, each of which needs
	// milliseconds.
	lockPatience = 15 * time.Second
	lockPause    = 5 * time.Millisecond
)

// lock takes the lock of a directory, which it makes if need be.
func (d *Dir) lock(ctx context.Context, root *os.Root, name string) (unlock func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockPatience, errors.New("another process holds the lock "+path.Join(d.path, name)))
	defer cancel()
	for {
		unlock, err := tryLock(root, name)
		if unlock != nil || err != nil {
			return unlock, err
		}
		if sleep(ctx, lockPause) != nil {
			return nil, contextError(ctx)
		}
	}
}

// tryLock returns nil and no error when somebody else has the lock. Its holder
// removes the file before it lets go, so that none is left; whoever got the lock
// of a file that has gone meanwhile has nothing.
func tryLock(root *os.Root, name string) (unlock func(), err error) {
	if err := mkdirAll(root, path.Dir(name)); err != nil {
		return nil, err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil // a Delete took the directory away
	}
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		_ = f.Close()
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, syscall.EINTR):
			return nil, nil
		case errors.Is(err, syscall.ENOLCK), errors.Is(err, errors.ErrUnsupported):
			return nil, fmt.Errorf("the file system has no locks: %w (%w)", errors.ErrUnsupported, err)
		}
		return nil, err
	}
	mine, err := f.Stat()
	if err == nil {
		var there fs.FileInfo
		if there, err = root.Lstat(name); err == nil && os.SameFile(mine, there) {
			return func() { _ = root.Remove(name); _ = f.Close() }, nil
		}
	}
	_ = f.Close()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return nil, nil
}
