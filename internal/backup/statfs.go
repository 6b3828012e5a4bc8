package backup

import "golang.org/x/sys/unix"

// availableBytes returns how much an ordinary user may still write to the file
// system of dir.
func availableBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:unconvert // not an int64 on every system
}
