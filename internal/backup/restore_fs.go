package backup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/redis-sidecar/redis-sidecar/internal/human"
	"github.com/redis-sidecar/redis-sidecar/internal/status"
)

const hintSpace = "make the volume larger or remove files from it"

// diskError classifies an error of the file system.
func diskError(what string, err error) error {
	err = fmt.Errorf("%s: %w", what, err)
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return status.WithHint(status.ReasonDiskFull, hintSpace, err)
	case errors.Is(err, unix.EFBIG):
		return status.WithHint(status.ReasonFile, "raise the limit on the size of a file (ulimit -f), or use another file system", err)
	case errors.Is(err, fs.ErrPermission):
		return status.WithHint(status.ReasonFile,
			fmt.Sprintf("this runs as uid %d: run it as the server's uid, or as root", os.Geteuid()), err)
	case errors.Is(err, unix.EROFS):
		return status.WithHint(status.ReasonFile, "mount the volume writable", err)
	}
	return status.WithReason(status.ReasonFile, err)
}

// lockDir keeps a second restore out of a data directory. File systems that
// cannot lock a directory are let pass.
func lockDir(dir string) (unlock func(), err error) {
	if _, err := statDir(dir); err != nil {
		return nil, err
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, diskError("open data directory", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		_ = f.Close()
		return nil, status.WithHint(status.ReasonFile, "wait for it to end", fmt.Errorf("another restore is at work in %s", dir))
	}
	return func() { _ = f.Close() }, nil
}

// syncDir makes the names in a directory durable, where the file system can.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return diskError("sync directory", err)
	}
	defer func() { _ = f.Close() }() // only read
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOTSUP) {
		return diskError("sync directory", err)
	}
	return nil
}

// exists reports whether path is there, or may be.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}

// writeFile writes a new file, durably.
func writeFile(path, text string, owner ownership) error {
	return createFile(path, owner, func(f *os.File) error {
		_, err := f.WriteString(text)
		return err
	})
}

// copyFile copies a file to a new one, durably; by reference where the file
// system can.
func copyFile(to, from string, owner ownership) error {
	src, err := os.Open(from)
	if err != nil {
		return diskError("copy the dump", err)
	}
	defer func() { _ = src.Close() }() // only read
	return createFile(to, owner, func(f *os.File) error {
		_, err := io.Copy(f, src)
		return err
	})
}

func createFile(path string, owner ownership, fill func(*os.File) error) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return diskError("write file", err)
	}
	err = fill(f)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return diskError("write file "+path, err)
	}
	return owner.file(path)
}

// spaceSlack is what a restore needs beside the RDB itself, in bytes.
const spaceSlack = 1 << 20

// checkSpace refuses to begin what cannot fit.
func checkSpace(dir string, copies, size int64, leftovers []leftover) error {
	free, err := availableBytes(dir)
	if err != nil {
		return diskError("free space of "+dir, err)
	}
	need := copies*size + spaceSlack
	if need <= free {
		return nil
	}
	what := human.Bytes(size)
	if copies > 1 {
		what = fmt.Sprintf("%d × %s", copies, what)
	}
	hints := []string{hintSpace}
	for _, l := range leftovers {
		hints = append(hints, fmt.Sprintf("%s (%s) is a leftover of a killed server", l.name, human.Bytes(l.size)))
	}
	return status.WithHint(status.ReasonDiskFull, strings.Join(hints, "; "),
		fmt.Errorf("%s has %s free, the restore needs %s (%s and a little)", dir, human.Bytes(free), human.Bytes(need), what))
}
