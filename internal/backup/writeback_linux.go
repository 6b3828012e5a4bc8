package backup

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback has the kernel begin to write a range of a file to its disk,
// without waiting: what is left for fsync at the end is little. Its errors show
// themselves there.
func startWriteback(f *os.File, from, n int64) {
	_ = unix.SyncFileRange(int(f.Fd()), from, n, unix.SYNC_FILE_RANGE_WRITE)
}
