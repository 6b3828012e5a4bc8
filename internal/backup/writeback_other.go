//go:build !linux

package backup

import "os"

// startWriteback leaves it to the system.
func startWriteback(*os.File, int64, int64) {}
