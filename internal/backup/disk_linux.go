package backup

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// reserve claims room for a file of size bytes, which stays as long as it is: what
// does not fit is known before it is fetched, and writing takes half of the time
// (ext4). A file system that cannot is let pass.
func reserve(f *os.File, size int64) error {
	for {
		err := unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, size)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
			return err
		default:
			return nil // not to be had here; writing says what is wrong
		}
	}
}

// startWriteback has the kernel begin to write a range of a file to its disk,
// without waiting: what is left for fsync at the end is little. Its errors show
// themselves there.
func startWriteback(f *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
