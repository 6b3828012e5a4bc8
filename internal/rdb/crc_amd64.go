package rdb

import (
	"sync"

	"golang.org/x/sys/cpu"
)

// foldLane is how many bytes a register of fold holds, and foldLanes how many
// registers work side by side: one multiplication takes the time in which the core
// begins several.
const (
	foldLane  = 16
	foldLanes = 8
)

// powers are what fold multiplies by: powers of x modulo the polynomial, in the
// order of bits of the sum. Those of a distance of n bits are x^(n+63) for the
// first eight bytes of a register, which stand 64 bits further from the end, and
// x^(n-1) for the other eight. It is 63 and not 64, -1 and not 0, because the
// product of two numbers whose bits are in reverse is the reverse of the product
// times x.
type powers struct {
	lanes [2]uint64 // a distance of all lanes
	lane  [2]uint64 // of one
}

// foldPowers are made at the first use.
//
//nolint:gochecknoglobals // a table that only its first use writes
var foldPowers = sync.OnceValue(func() *powers {
	const x63 = 1 // the lowest bit is the highest power
	zeros := make([]byte, foldLanes*foldLane)
	distance := func(size int) [2]uint64 { // a byte of zeros multiplies by x^8
		return [2]uint64{tables().serial(x63, zeros[:size]), tables().serial(x63, zeros[:size-8])}
	}
	return &powers{lanes: distance(foldLanes * foldLane), lane: distance(foldLane)}
})

// updateCRC continues the checksum, which begins with 0. Redis does not invert
// the value before and after, as hash/crc64 does.
//
// Nearly every amd64 CPU since 2010 multiplies polynomials (PCLMULQDQ). Then it
// sums 13 GB/s, where updateLanes makes 3.7 and hash/crc64 1.8 (one core of an AMD
// EPYC, 128 KiB in its cache).
func updateCRC(crc uint64, p []byte) uint64 {
	if cpu.X86.HasPCLMULQDQ {
		return updateFolded(crc, p)
	}
	return updateLanes(crc, p)
}

// updateFolded needs PCLMULQDQ. It replaces the front of a long p by 16 bytes that
// have the same sum, and sums those and the rest.
func updateFolded(crc uint64, p []byte) uint64 {
	t := tables()
	if len(p) >= foldLanes*foldLane {
		var rest [foldLane]byte
		n := len(p) &^ (foldLane - 1)
		fold(&rest, crc, p[:n], foldPowers())
		crc = t.serial(0, rest[:])
		p = p[n:]
	}
	return t.serial(crc, p)
}

// fold writes 16 bytes to rest whose checksum, begun with 0, is that of p, begun
// with crc. The length of p is a multiple of 16, and at least 128.
//
// It is folding as in V. Gopal et al., "Fast CRC Computation for Generic
// Polynomials Using PCLMULQDQ Instruction", Intel, 2009: bytes n bits before the
// end are worth their polynomial times x^n modulo that of the checksum. So they
// are multiplied by this constant and added to bytes further back, until only the
// last 16 remain.
//
//go:noescape
func fold(rest *[foldLane]byte, crc uint64, p []byte, by *powers)
