//go:build !amd64

package rdb

// updateCRC continues the checksum, which begins with 0. Redis does not invert
// the value before and after, as hash/crc64 does.
func updateCRC(crc uint64, p []byte) uint64 { return updateLanes(crc, p) }
